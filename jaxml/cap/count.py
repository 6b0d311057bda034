"""How much of an encoder is left, counted against all that one may mean by that."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from jaxml.cap.importance import Masks
from jaxml.core import tree
from jaxml.core.types import PyTree
from jaxml.models.bert import BertConfig

KERNELS = (
    "attention/query", "attention/key", "attention/value", "attention/out", "mlp/up", "mlp/down",
)  # fmt: skip
"""The matrices that are pruned, below `layers` of the encoder's parameters."""


def kernels(params: PyTree) -> dict[str, Any]:
    """The prunable kernels [l, i, o] of encoder parameters, by name."""
    leaves = tree.flatten(params["layers"])
    return {name: leaves[f"{name}/kernel"] for name in KERNELS}


def with_kernels(params: PyTree, replaced: dict[str, Any]) -> PyTree:
    """Encoder parameters with other kernels."""
    leaves = tree.flatten(params)
    leaves |= {f"layers/{name}/kernel": kernel for name, kernel in replaced.items()}
    return tree.unflatten(leaves)


@dataclasses.dataclass(frozen=True)
class Sparsity:
    """Counts of weights, kept and in all.

    Attributes:
      matrices: (kept, all) of the prunable matrices.
      encoder: of all encoder-layer parameters, biases and norms included (the published count).
      whole: of the whole model, embeddings included.
      layers: share of the prunable matrices kept in each layer.
      heads: living heads of each layer (structured only).
      neurons: living feed-forward neurons of each layer (structured only).
    """

    matrices: tuple[int, int]
    encoder: tuple[int, int]
    whole: tuple[int, int]
    layers: tuple[float, ...]
    heads: tuple[int, ...] = ()
    neurons: tuple[int, ...] = ()

    def shares(self) -> dict[str, float]:
        """Kept shares by what they are of."""
        names = ("matrices", "encoder", "whole")
        return {name: getattr(self, name)[0] / getattr(self, name)[1] for name in names}

    def __str__(self) -> str:
        """One line."""
        parts = [f"{100 * share:.1f} % of {name}" for name, share in self.shares().items()]
        return f"kept {', '.join(parts)}"


def sparsity(params: PyTree, cfg: BertConfig, masks: Masks | dict[str, Any]) -> Sparsity:
    """The report of encoder parameters under masks.

    Args:
      params: of the encoder (dense shapes).
      cfg: its configuration.
      masks: of heads and neurons (`Masks`), or of single weights by kernel name, bool [l, i, o].
    """
    sizes = {name: math.prod(k.shape) for name, k in kernels(params).items()}
    all_layers = sum(leaf.size for leaf in jax.tree.leaves(params["layers"]))
    whole, matrices = tree.num_elements(params), sum(sizes.values())
    if isinstance(masks, Masks):
        heads, neurons = (np.asarray(m).sum(-1).astype(int) for m in masks)
        size = cfg.width // cfg.num_heads
        by_layer = cfg.width * (4 * size * heads + 2 * neurons)
        lost_bias = (3 * size * (cfg.num_heads - heads) + (cfg.hidden - neurons)).sum()
        named = {"heads": tuple(heads.tolist()), "neurons": tuple(neurons.tolist())}
    else:
        kept = [np.asarray(m).reshape(cfg.num_layers, -1).sum(-1) for m in masks.values()]
        by_layer, lost_bias, named = np.sum(kept, 0), 0, {}
    lost = matrices - int(by_layer.sum())
    share = tuple((by_layer / (matrices / cfg.num_layers)).tolist())
    return Sparsity(
        (matrices - lost, matrices),
        (all_layers - lost - int(lost_bias), all_layers),
        (whole - lost - int(lost_bias), whole),
        share,
        **named,
    )
