"""The zoo's networks: one way to make, train and read them, and the symmetries of their neurons."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import tree
from jaxml.core.types import Array, Key, PyTree
from jaxml.inputs.image import normalise
from jaxml.models import mlp, resnet, vgg
from jaxml.models.arch import ArchConfig
from jaxml.models.tap import Reader

type Norm = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of the pixels in [0, 1], by channel."""


def init(key: Key, arch: ArchConfig) -> PyTree:
    """Variables {"params", "state"}."""
    cfg: Any = arch.model
    if arch.kind == "mlp":
        return {"params": mlp.init(key, cfg), "state": {}}
    module: Any = vgg if arch.kind == "vgg" else resnet
    return {"params": module.init(key, cfg), "state": module.init_state(cfg)}


def apply(
    arch: ArchConfig,
    params: PyTree,
    state: PyTree,
    x: Array,
    *,
    train: bool = False,
    momentum: float | Array = 0.9,
    dtype: Any = None,
) -> tuple[Array, PyTree, dict[str, Array]]:
    """Logits [b, C], new batch statistics, activations by layer, of normalised images."""
    cfg, reader = arch.model, Reader()
    if isinstance(cfg, mlp.MlpConfig):
        return mlp.apply(params, cfg, x, tap=reader, dtype=dtype), state, reader.features
    module: Any = vgg if isinstance(cfg, vgg.VggConfig) else resnet
    logits, new = module.apply(
        params, cfg, x, state, train=train, momentum=momentum, tap=reader, dtype=dtype
    )
    return logits, new, reader.features


@functools.lru_cache(maxsize=64)
def evaluator(arch: ArchConfig, norm: Norm) -> Any:
    """`(variables, uint8 images) -> (logits, layers)`, as `access.from_params` takes it.

    The same arguments give the same function, which is then compiled once.
    """

    def evaluate(variables: PyTree, images: Array) -> tuple[Array, dict[str, Array]]:
        x = normalise(images, *norm)
        logits, _, layers = apply(arch, variables["params"], variables["state"], x)
        return logits, layers

    return evaluate


def head(arch: ArchConfig) -> str:
    """Name of the last layer's parameters."""
    if arch.kind == "mlp":
        return f"layer{len(arch.hidden)}"
    return "head0" if arch.kind == "vgg" else "head"


class Site(NamedTuple):
    """An axis over the last hidden neurons; scaling them by c multiplies it by c^power."""

    path: str
    axis: int
    power: int = 0


def last_hidden(arch: ArchConfig) -> tuple[Site, ...]:
    """Every place where the last hidden neurons appear.

    A permutation of them, or a positive scaling (as ReLU commutes with it), applied at all these
    places leaves the network's function as it is.
    """
    out = Site(f"params/{head(arch)}/kernel", 0, -1)
    if arch.kind == "mlp":
        before = f"params/layer{len(arch.hidden) - 1}"
        return Site(f"{before}/kernel", 1, 1), Site(f"{before}/bias", 0, 1), out
    if arch.kind == "vgg":
        cfg: Any = arch.model
        last, scaled = len(cfg.widths) - 1, 0 if arch.batch_norm else 1
        conv = f"params/conv{last}"
        sites = (Site(f"{conv}/kernel", 3, scaled), Site(f"{conv}/bias", 0, scaled), out)
        return (*sites, *_norm(f"norm{last}")) if arch.batch_norm else sites
    return (*_last_stage(arch), out)


def _norm(name: str) -> tuple[Site, ...]:
    affine = tuple(Site(f"params/{name}/{part}", 0, 1) for part in ("scale", "bias"))
    return (*affine, *(Site(f"state/{name.replace('/norm', '')}/{m}", 0) for m in ("mean", "var")))


def _last_stage(arch: ArchConfig) -> tuple[Site, ...]:
    """The residual stream of a ResNet's last stage: what writes to it and what reads it."""
    cfg: Any = arch.model
    stage, sites = len(cfg.blocks) - 1, []
    for block in range(cfg.blocks[-1]):
        name = f"stage{stage}_block{block}"
        for part in ("second",) if block else ("second", "shortcut"):
            sites += [Site(f"params/{name}/{part}/conv/kernel", 3), *_norm(f"{name}/{part}/norm")]
        if block:
            sites.append(Site(f"params/{name}/first/conv/kernel", 2, -1))
    return tuple(sites)


def reshaped(arch: ArchConfig, variables: PyTree, order: np.ndarray, scale: np.ndarray) -> PyTree:
    """The same function with its last hidden neurons reordered and rescaled.

    Args:
      arch: of the variables.
      variables: {"params", "state"}.
      order: new neuron j is old neuron `order[j]`, int [d].
      scale: c > 0 of each new neuron, [d].
    """
    leaves = dict(tree.flatten(variables))
    for site in last_hidden(arch):
        leaf = jnp.take(jnp.asarray(leaves[site.path]), jnp.asarray(order), site.axis)
        shape = [1] * leaf.ndim
        shape[site.axis] = len(scale)
        factor = jnp.asarray(scale**site.power, leaf.dtype).reshape(shape)
        leaves[site.path] = leaf * factor
    return tree.map_with_path(lambda path, _: leaves[path], variables)


def width(arch: ArchConfig, variables: PyTree) -> int:
    """Number of last hidden neurons."""
    site = last_hidden(arch)[0]
    return tree.flatten(variables)[site.path].shape[site.axis]


def stacked(members: list[PyTree]) -> PyTree:
    """Members of one architecture as one tree with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *members)
