"""Layers as pairs of functions: `params(...)` declares a tree of `Param`, `apply(p, ...)` computes.

One module per noun. Parameterless things are plain functions. Compute follows the dtype of the
input (or the `dtype` asked for); sums, norms and losses accumulate in float32.
"""
