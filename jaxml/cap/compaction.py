"""Pruned heads and neurons removed for real: smaller matrices, layer by layer, and files of them.

A layer that lost every head (or neuron) keeps one whose output is zero, so that shapes stay legal.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.cap.count import with_kernels
from jaxml.cap.importance import Masks
from jaxml.core import check, param, tree, weights
from jaxml.core.types import Array, PyTree
from jaxml.models import bert, bert_weights
from jaxml.models.bert import BertConfig


@dataclasses.dataclass(frozen=True)
class CompactConfig:
    """An encoder whose layers differ in size.

    Attributes:
      dense: the encoder it came from.
      heads: of each layer.
      neurons: of each layer.
    """

    dense: BertConfig
    heads: tuple[int, ...]
    neurons: tuple[int, ...]

    def layer(self, index: int) -> BertConfig:
        """The configuration of one layer, as an encoder of one layer."""
        size = self.dense.width // self.dense.num_heads
        return dataclasses.replace(
            self.dense,
            num_layers=1,
            num_heads=self.heads[index],
            hidden=self.neurons[index],
            head_dim=size,
        )


def compact(params: PyTree, cfg: BertConfig, masks: Masks) -> tuple[PyTree, CompactConfig]:
    """The encoder without what its masks have removed.

    Args:
      params: of the dense encoder.
      cfg: its configuration.
      masks: of heads [l, h] and neurons [l, f], 0 or 1.

    Returns:
      Parameters whose `layers` are a list of trees of different shapes, and their configuration.
    """
    check.shape("masks.heads", masks.heads, [cfg.num_layers, cfg.num_heads])
    check.shape("masks.ffn", masks.ffn, [cfg.num_layers, cfg.hidden])
    host = jax.tree.map(np.asarray, params["layers"])
    size, layers, heads, neurons = cfg.width // cfg.num_heads, [], [], []
    for index in range(cfg.num_layers):
        one = jax.tree.map(lambda x, i=index: x[i], host)
        alive, live = _places(masks.heads[index]), _places(masks.ffn[index])
        columns = (alive[:, None] * size + np.arange(size)[None]).reshape(-1)
        layers.append(_cut(one, columns, live, masks, index))
        heads.append(len(alive))
        neurons.append(len(live))
    rest = {name: leaf for name, leaf in params.items() if name != "layers"}
    made = CompactConfig(cfg, tuple(heads), tuple(neurons))
    return {**rest, "layers": jax.tree.map(jnp.asarray, layers)}, made


def _places(mask: Any) -> np.ndarray:
    alive = np.flatnonzero(np.asarray(mask) > 0)
    return alive if len(alive) else np.zeros(1, int)


def _cut(one: PyTree, columns: np.ndarray, live: np.ndarray, masks: Masks, index: int) -> PyTree:
    attention, feed = one["attention"], one["mlp"]
    some_head = np.float32(np.asarray(masks.heads[index]).any())
    some_unit = np.float32(np.asarray(masks.ffn[index]).any())
    return {
        **one,
        "attention": {
            **{
                name: {
                    "kernel": attention[name]["kernel"][:, columns],
                    "bias": attention[name]["bias"][columns],
                }
                for name in ("query", "key", "value")
            },
            "out": {
                "kernel": attention["out"]["kernel"][columns] * some_head,
                "bias": attention["out"]["bias"],
            },
        },
        "mlp": {
            "up": {"kernel": feed["up"]["kernel"][:, live], "bias": feed["up"]["bias"][live]},
            "down": {"kernel": feed["down"]["kernel"][live] * some_unit, **_bias(feed["down"])},
        },
    }


def _bias(p: PyTree) -> PyTree:
    return {"bias": p["bias"]}


def apply(
    params: PyTree,
    cfg: CompactConfig,
    ids_bt: Array,
    *,
    mask: Array | None = None,
    types: Array | None = None,
    dtype: Any = None,
) -> bert.BertOutput:
    """`bert.apply` of a compact encoder, evaluating."""
    x = bert.embed(params, cfg.dense, ids_bt, types, dtype=dtype)
    for index, layer in enumerate(params["layers"]):
        x = bert.block(layer, cfg.layer(index), x, mask=mask)
    return bert.BertOutput(x, bert.pool(params, x) if cfg.dense.pooler else None)


def fold_masks(params: PyTree, masks: Masks | dict[str, Any]) -> PyTree:
    """Dense shapes in which what was removed is zero: the same function without any mask."""
    if not isinstance(masks, Masks):
        found = tree.flatten(params["layers"])
        cut = {n: found[f"{n}/kernel"] * jnp.asarray(m, jnp.float32) for n, m in masks.items()}
        return with_kernels(params, cut)
    layers = params["layers"]
    out = layers["attention"]["out"]["kernel"]
    heads = jnp.repeat(jnp.asarray(masks.heads), out.shape[1] // masks.heads.shape[1], 1)
    down = layers["mlp"]["down"]["kernel"] * jnp.asarray(masks.ffn)[..., None]
    return with_kernels(params, {"attention/out": out * heads[..., None], "mlp/down": down})


def export(
    folder: Path | str, cfg: BertConfig, params: PyTree, masks: Masks | dict[str, Any] | None = None
) -> BertConfig:
    """Writes `config.json` and `model.safetensors` that Hugging Face's libraries load.

    Those know one feed-forward width for all layers and no missing heads. So each layer's living
    neurons are moved together and all layers cut to the longest; heads and the rest are zero.

    Returns:
      The configuration written.
    """
    folded = params if masks is None else fold_masks(params, masks)
    if isinstance(masks, Masks):
        folded, cfg = _narrow(folded, cfg, np.asarray(masks.ffn) > 0)
    bert_weights.save(folder, cfg, folded)
    return cfg


def _narrow(params: PyTree, cfg: BertConfig, alive: np.ndarray) -> tuple[PyTree, BertConfig]:
    width = max(int(alive.sum(1).max()), 1)
    order = np.argsort(~alive, 1, kind="stable")[:, :width]
    leaves = tree.flatten(params)
    up, down = "layers/mlp/up", "layers/mlp/down"
    for name, axis in ((f"{up}/kernel", 2), (f"{up}/bias", 1), (f"{down}/kernel", 1)):
        leaf = np.asarray(leaves[name])
        place = order.reshape(len(order), *(width if a == axis else 1 for a in range(1, leaf.ndim)))
        leaves[name] = jnp.asarray(np.take_along_axis(leaf, place, axis))
    return tree.unflatten(leaves), dataclasses.replace(cfg, hidden=width)


def save_head(path: Path | str, head: PyTree) -> None:
    """Writes a classifier under the names of Hugging Face's: `classifier.weight` and `.bias`."""
    kernel = np.asarray(head["kernel"]).T
    weights.write(path, {"classifier.weight": kernel, "classifier.bias": head["bias"]})


def save(path: Path | str, params: PyTree, cfg: CompactConfig) -> None:
    """Writes a compact encoder as one safetensors file."""
    layers = {str(i): layer for i, layer in enumerate(params["layers"])}
    about = {"compact": json.dumps(dataclasses.asdict(cfg))}
    weights.write(path, tree.flatten({**params, "layers": layers}), about)


def load(path: Path | str) -> tuple[PyTree, CompactConfig]:
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: no such file.
      WeightsError: damaged, of another kind, or tensors that do not fit the configuration.
    """
    import safetensors

    leaves = weights.read(path)
    with safetensors.safe_open(str(path), "numpy") as stored:
        about = (stored.metadata() or {}).get("compact")
    if about is None:
        raise weights.WeightsError(f"{path} is no compact encoder.")
    values = json.loads(about)
    cfg = CompactConfig(
        BertConfig(**values["dense"]), tuple(values["heads"]), tuple(values["neurons"])
    )
    found = tree.unflatten({name: jnp.asarray(leaf) for name, leaf in leaves.items()})
    found["layers"] = [found["layers"][str(i)] for i in range(len(cfg.heads))]
    _check_sizes(path, found["layers"], cfg)
    return found, cfg


def _check_sizes(path: Path | str, layers: Sequence[PyTree], cfg: CompactConfig) -> None:
    for index, layer in enumerate(layers):
        want = param.abstract(bert.params(cfg.layer(index))["layers"])
        want = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), want)
        try:
            tree.check_match(layer, want, f"layer {index}")
        except ValueError as error:
            raise weights.WeightsError(f"{path} does not fit its configuration: {error}") from None
