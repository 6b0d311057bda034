"""What merging needs of a network: logits, the features of every node, batch statistics."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import tree
from jaxml.core.types import Array, PyTree
from jaxml.merge import families, infer
from jaxml.merge.graph import run, trace
from jaxml.merge.spec import MergeSpec
from jaxml.models import bert, mlp, resnet, vgg
from jaxml.models.tap import Reader
from jaxml.nn import attention, linear, norm
from jaxml.nn import mlp as feed_forward

type Forward = Callable[[PyTree, Array], tuple[Array, dict[str, Array]]]
"""`(variables, x) -> logits [b, classes], features [..., d] by node`, in evaluation mode."""

STATISTICS = ("state/", "batch_stats/")
"""Prefixes of the paths that hold running statistics."""


class Network(NamedTuple):
    """An architecture whose trained instances can be merged.

    Attributes:
      spec: its nodes.
      forward: logits and features.
      batch_statistics: `(variables, x) -> statistics by path` of one batch in training mode
        (unbiased variances); None for a network without batch norm.
    """

    spec: MergeSpec
    forward: Forward
    batch_statistics: Callable[[PyTree, Array], dict[str, Array]] | None = None


def of_mlp(cfg: mlp.MlpConfig) -> Network:
    """A network of `jaxml.models.mlp`; its variables are `{"params": ...}`."""

    def forward(variables: PyTree, x: Array) -> tuple[Array, dict[str, Array]]:
        reader = Reader()
        return mlp.apply(variables["params"], cfg, x, tap=reader), reader.features

    return Network(families.mlp_spec(cfg), forward)


def of_vgg(cfg: vgg.VggConfig, dtype: Any = None) -> Network:
    """A network of `jaxml.models.vgg`; its variables are `{"params": ..., "state": ...}`."""
    return _image_network(families.vgg_spec(cfg), vgg.apply, cfg, cfg.batch_norm, dtype)


def of_resnet(cfg: resnet.ResNetConfig, dtype: Any = None) -> Network:
    """A network of `jaxml.models.resnet`; its variables are `{"params": ..., "state": ...}`."""
    return _image_network(families.resnet_spec(cfg), resnet.apply, cfg, True, dtype)


def _image_network(
    spec: MergeSpec, apply: Callable[..., Any], cfg: Any, normed: bool, dtype: Any
) -> Network:
    def forward(variables: PyTree, x: Array) -> tuple[Array, dict[str, Array]]:
        reader = Reader()
        call = functools.partial(apply, variables["params"], cfg, x, variables["state"])
        logits, _ = call(tap=reader, dtype=dtype)
        return logits, {name: reader.features[node.tap] for name, node in spec}

    def statistics(variables: PyTree, x: Array) -> dict[str, Array]:
        call = functools.partial(apply, variables["params"], cfg, x, variables["state"])
        _, state = call(train=True, momentum=0.0, dtype=dtype)
        return tree.flatten({"state": state})

    return Network(spec, forward, statistics if normed else None)


def of_bert(cfg: bert.BertConfig, residual: bool = False) -> Network:
    """An encoder of `jaxml.models.bert`; inputs are tokens [b, t], outputs hidden vectors.

    Its variables are `{"params": ...}`. `residual` as in `families.bert_spec`.
    """

    def forward(variables: PyTree, ids_bt: Array) -> tuple[Array, dict[str, Array]]:
        params, features = variables["params"], {}
        x = bert.embed(params, cfg, ids_bt)
        for i in range(cfg.num_layers):
            p = jax.tree.map(lambda leaf, i=i: leaf[i], params["layers"])
            context = attention.attend(*attention.project(p["attention"], cfg.attention, x))
            features[f"layer{i}_heads"] = context.reshape(*context.shape[:2], -1)
            mixed = x + attention.output(p["attention"], context)
            x = norm.layer(p["attention_norm"], mixed, cfg.eps)
            features[f"layer{i}_units"] = feed_forward.gelu(linear.apply(p["mlp"]["up"], x))
            x = x + feed_forward.apply(p["mlp"], x)
            x = norm.layer(p["mlp_norm"], x, cfg.eps)
        return x, features | ({"residual": x} if residual else {})

    return Network(families.bert_spec(cfg, residual), forward)


def of_function(
    apply_fn: Callable[[PyTree, Array], Array],
    variables: PyTree,
    x: Array,
    *,
    spec: MergeSpec | None = None,
    train_fn: Callable[[PyTree, Array], PyTree] | None = None,
) -> Network:
    """Any network, its spec inferred from the trace; a flax module's `apply` fits as it is.

    Args:
      apply_fn: `(variables, x) -> logits`, in evaluation mode.
      variables: any tree, e.g. flax's `{"params": ..., "batch_stats": ...}`.
      x: an example batch of at least two; shapes are enough.
      spec: an inferred spec, possibly edited; its taps are operations of the trace.
      train_fn: `(variables, x) -> variables` whose running statistics (under `batch_stats/` or
        `state/`) have moved towards the batch, by any fixed share; needed for batch norm.

    Raises:
      ValueError: nothing to align was found, or the spec does not fit.
    """
    spec = infer.infer_spec(apply_fn, variables, x) if spec is None else spec
    spec.check(variables)

    def forward(variables: PyTree, x: Array) -> tuple[Array, dict[str, Array]]:
        graph = trace(apply_fn, variables, x)
        slots = [infer.tap_slot(node.tap) for _, node in spec]
        outputs, values = run(graph, variables, x, read=slots)
        return outputs[0], {name: infer.read_tap(values, node.tap) for name, node in spec}

    statistics = None if train_fn is None else functools.partial(_seen, train_fn)
    return Network(spec, forward, statistics)


def _seen(
    train_fn: Callable[[PyTree, Array], PyTree], variables: PyTree, x: Array
) -> dict[str, Array]:
    """The batch's statistics, from how two known states move: new = m * old + (1 - m) * batch."""

    def after(value: float) -> dict[str, Array]:
        known = tree.map_with_path(
            lambda path, leaf: jnp.full_like(leaf, value) if is_statistic(path) else leaf,
            variables,
        )
        return {p: leaf for p, leaf in tree.flatten(train_fn(known, x)).items() if is_statistic(p)}

    zero, one = after(0.0), after(1.0)
    return {path: zero[path] / (1 - (one[path] - zero[path])) for path in zero}


def is_statistic(path: str) -> bool:
    """Whether a path holds running statistics."""
    return path.startswith(STATISTICS)


@functools.lru_cache(maxsize=64)
def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """One compiled version per function, however often it is asked for."""
    return jax.jit(function)


def logits(network: Network, variables: PyTree, batches: Iterable[Array]) -> np.ndarray:
    """Logits [n, classes] over all batches, float32."""
    forward = jitted(network.forward)
    found = [forward(variables, x)[0].astype(jnp.float32) for x in batches]
    return np.concatenate([np.asarray(y) for y in found])
