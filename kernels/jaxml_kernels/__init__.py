"""Kernels of jaxml. They know jax only; each op is a folder with its public functions.

>>> from jaxml_kernels.lightning_attention import lightning_attention

An op runs through the fastest implementation that recorded tests cover on the device at hand
(`implementation="auto"`), or through the one that is named, or raises.
"""
