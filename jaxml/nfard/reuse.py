"""The ways a model is reused: what is done to the victim, and with which targets it is trained."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, rng, tree
from jaxml.core.types import Key, PyTree
from jaxml.models.arch import ArchConfig
from jaxml.nfard import networks


class Kind(NamedTuple):
    """One way of reuse.

    Attributes:
      about: in words.
      start: "victim", "head" (the victim with a fresh head), "fresh" (drawn anew), "copy" (not
        trained).
      arch: "same" or "other" than the victim's.
      targets: "labels", "groups" (another label set), "probs", "soft" (T = 4) or "votes" (the
        victim's labels).
      head_only: only the head is trained.
      prune: share of weights removed.
      bits: of a quantised copy, 0 for none.
    """

    about: str
    start: str = "victim"
    arch: str = "same"
    targets: str = "labels"
    head_only: bool = False
    prune: float = 0.0
    bits: int = 0


KINDS: dict[str, Kind] = {
    "ft_last": Kind("fine-tuned, head only", head_only=True),
    "ft_all": Kind("fine-tuned"),
    "rt_last": Kind("fresh head, head only", "head", head_only=True),
    "rt_all": Kind("fresh head, all trained", "head"),
    "prune20": Kind("20 % of weights removed, fine-tuned", prune=0.2),
    "prune50": Kind("50 % of weights removed, fine-tuned", prune=0.5),
    "prune80": Kind("80 % of weights removed, fine-tuned", prune=0.8),
    "int8": Kind("weights in 8 bits", "copy", bits=8),
    "fp16": Kind("weights in half precision", "copy", bits=16),
    "transfer": Kind("other label set, all trained", "head", targets="groups"),
    "distill": Kind("distilled (T = 4) into another architecture", "fresh", "other", "soft"),
    "steal_probs": Kind("stolen from probabilities, same architecture", "fresh", targets="probs"),
    "steal_labels": Kind("stolen from labels, other architecture", "fresh", "other", "votes"),
}
"""Every kind of reuse by name."""
HOMOGENEOUS = tuple(name for name, kind in KINDS.items() if kind.start != "fresh")
"""Kinds that keep the victim's architecture and descend from its weights."""
NEGATIVES: dict[str, str] = {
    "same": "independent: same data and architecture, other seed",
    "other_half": "independent: other part of the data",
    "other_arch": "independent: other architecture",
    "other_victim": "derived from another victim",
}
ATTACKS: dict[str, str] = {
    "permuted": "fine-tuned, then neurons reordered",
    "rescaled": "fine-tuned, then neurons rescaled",
    "reshaped": "fine-tuned, then both",
}
"""Adaptive attackers: symmetries of ReLU on top of `ft_all`."""
BESIDE: dict[str, str] = {"merged": "merged with an independent model by permutation"}
"""Kinds that a recipe adds to a zoo, with rows of their own."""
TEMPERATURE = 4.0


def fresh_head(key: Key, arch: ArchConfig, variables: PyTree) -> PyTree:
    """The variables with a new head, perhaps of another number of classes (that of `arch`)."""
    drawn, name = networks.init(key, arch), networks.head(arch)
    params = {**variables["params"], name: drawn["params"][name]}
    return {**variables, "params": params}


def magnitude_mask(params: PyTree, share: float) -> PyTree:
    """0 where a kernel's weight is among the smallest `share` of all kernels' together, else 1.

    Raises:
      ValueError: a share outside [0, 1].

    >>> magnitude_mask({"kernel": np.array([3.0, -1.0, 2.0, 0.5])}, 0.5)["kernel"].tolist()
    [1.0, 0.0, 1.0, 0.0]
    """
    check.between(0, 1, share=share)
    kernels = {n: np.abs(x) for n, x in tree.flatten(params).items() if n.endswith("kernel")}
    sizes = np.concatenate([np.ravel(k) for k in kernels.values()])
    limit = np.sort(sizes)[int(share * len(sizes))] if share < 1 else np.inf

    def one(path: str, leaf: np.ndarray) -> np.ndarray:
        kept = np.abs(leaf) >= limit if path in kernels else np.ones(leaf.shape, bool)
        return kept.astype(np.float32)

    return tree.map_with_path(one, params)


def quantised(variables: PyTree, bits: int) -> PyTree:
    """Kernels rounded to 8 bits per output channel (symmetric), or everything to float16.

    Raises:
      ValueError: bits other than 8 or 16.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits must be 8 or 16; got bits={bits}.")

    def one(path: str, leaf: np.ndarray) -> np.ndarray:
        leaf = np.asarray(leaf)
        if bits == 16:
            return leaf.astype(np.float16).astype(np.float32)
        if not path.endswith("kernel"):
            return leaf
        axes = tuple(range(leaf.ndim - 1))
        step = np.maximum(np.abs(leaf).max(axes, keepdims=True), 1e-12) / 127
        return (np.round(leaf / step) * step).astype(np.float32)

    return tree.map_with_path(one, variables)


def attacked(name: str, key: Key, arch: ArchConfig, variables: PyTree) -> PyTree:
    """The same function after an attack of `ATTACKS`; scales lie between 1/8 and 8."""
    check.one_of(ATTACKS, name=name)
    d = networks.width(arch, variables)
    order = np.asarray(jax.random.permutation(rng.fold(key, "order"), d))
    power = jax.random.uniform(rng.fold(key, "scale"), (d,), minval=-3.0, maxval=3.0)
    scale = np.asarray(2.0**power, np.float32)
    if name == "permuted":
        scale = np.ones_like(scale)
    if name == "rescaled":
        order = np.arange(d)
    return jax.tree.map(np.asarray, networks.reshaped(arch, variables, order, scale))


def groups(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Another label set: pairs of classes, in an order that mixes neighbours; int [n].

    >>> groups(np.arange(10), 10).tolist()
    [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    """
    return labels % (num_classes // 2)


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(logits / T), [n, C]."""
    return np.asarray(jax.nn.softmax(jnp.asarray(logits, jnp.float32) / temperature, -1))
