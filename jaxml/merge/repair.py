"""What averaging breaks and how it is mended: batch statistics, and REPAIR's rescaling."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import tree
from jaxml.core.types import Array, PyTree
from jaxml.merge import graph as graphs
from jaxml.merge.align import Alignment
from jaxml.merge.network import Network, jitted
from jaxml.merge.rules import MOVES


def reset_batch_stats(network: Network, variables: PyTree, batches: Iterable[Array]) -> PyTree:
    """Running statistics as the plain average over one pass in training mode.

    Use training inputs: these are parameters in all but name. Each batch counts the same, as in
    torch with `momentum=None`; variances are the unbiased ones.

    Raises:
      ValueError: the network has no batch norm, or there is no batch.
    """
    if network.batch_statistics is None:
        raise ValueError("reset_batch_stats needs a network with batch norm; it has none.")
    statistics, total, count = jitted(network.batch_statistics), {}, 0
    for x in batches:
        found = {p: np.asarray(s, np.float64) for p, s in statistics(variables, x).items()}
        total = {path: total.get(path, 0.0) + s for path, s in found.items()}
        count += 1
    if not count:
        raise ValueError("batches must hold at least one batch; got none.")
    return tree.map_with_path(
        lambda path, leaf: (
            (total[path] / count).astype(np.asarray(leaf).dtype) if path in total else leaf
        ),
        variables,
    )


class _Layer(NamedTuple):
    """A product with a kernel: its node, kernel, bias, and the slot of its result."""

    node: str
    kernel: str
    bias: str
    slot: int


def rescale(
    network: Network,
    merged: PyTree,
    models: Sequence[PyTree],
    alignments: Sequence[Mapping[str, Alignment]],
    batches: Iterable[Array],
    weights: Sequence[float] | None = None,
) -> PyTree:
    """REPAIR (arXiv 2211.08403): each layer's outputs get the mean and deviation of its parents'.

    Averaged networks have outputs of too little variance. Every channel before its nonlinearity is
    scaled and shifted to the weighted mean of the aligned parents' means and deviations; scale and
    shift are folded into kernel and bias.

    Args:
      network: one without batch norm whose aligned layers have a bias.
      merged: their average.
      models: the parents, not aligned.
      alignments: of each parent.
      batches: training inputs.
      weights: share of each parent.

    Raises:
      ValueError: a node with norms, or a writer without bias; use repair="bn_reset" there.
    """
    batches = list(batches)
    shares = [1 / len(models)] * len(models) if weights is None else list(weights)
    layers = _layers(network, merged, batches[0])
    goal_mean, goal_std = dict[str, Any](), dict[str, Any]()
    for share, variables, bases in zip(shares, models, alignments, strict=True):
        for name, (mean, std) in _outputs(network, variables, bases, layers, batches).items():
            goal_mean[name] = goal_mean.get(name, 0.0) + share * mean
            goal_std[name] = goal_std.get(name, 0.0) + share * std
    seen = _normalised(network, merged, layers, batches, goal_mean, goal_std)
    leaves = tree.flatten(merged)
    new = dict[str, np.ndarray]()
    for layer in layers:
        mean, std = seen[layer.kernel]
        scale = goal_std[layer.kernel] / np.maximum(std, 1e-6 * std.mean() + 1e-30)
        new[layer.kernel] = np.asarray(leaves[layer.kernel]) * scale.astype(np.float32)
        new[layer.bias] = (goal_mean[layer.kernel] - scale * mean).astype(np.float32)
    return tree.map_with_path(lambda path, leaf: new.get(path, leaf), merged)


def _layers(network: Network, variables: PyTree, x: Array) -> list[_Layer]:
    leaves = tree.flatten(variables)
    slots = _products(graphs.trace(_only_logits(network), variables, x))
    found = []
    for name, node in network.spec:
        kernels = [site for site in node.writers if len(leaves[site.path].shape) > 1]
        paths = {site.path for site in node.writers}
        for site in kernels:
            bias = f"{site.path.rpartition('/')[0]}/bias"
            last = len(leaves[site.path].shape) - 1
            if (
                node.norms
                or bias not in paths
                or site.index is not None
                or site.axis % (last + 1) != last
            ):
                raise ValueError(
                    f"repair='rescale' needs a bias and no norm after {site.path} (output axis "
                    "last, not stacked); use repair='bn_reset' or 'none'."
                )
            found.append(_Layer(name, site.path, bias, slots[site.path]))
    return found


def _only_logits(network: Network) -> Callable[[PyTree, Array], Array]:
    return lambda variables, x: network.forward(variables, x)[0]


def _products(graph: graphs.Graph) -> dict[str, int]:
    """The result's slot of each product with a leaf, by the leaf's path."""
    source = {slot: path for path, slot in graph.leaves.items()}
    found = {}
    for op in graph.operations:
        if op.name in MOVES and op.inputs[0] in source:
            source[op.outputs[0]] = source[op.inputs[0]]
        if op.name in ("dot_general", "conv_general_dilated") and op.inputs[1] in source:
            found[source[op.inputs[1]]] = op.outputs[0]
    return found


def _moments(values: Array) -> tuple[Array, Array]:
    rows = values.reshape(-1, values.shape[-1]).astype(jnp.float32)
    mean = jnp.mean(rows, 0)
    return mean, jnp.mean(jnp.square(rows - mean[None]), 0)


def _outputs(
    network: Network,
    variables: PyTree,
    bases: Mapping[str, Alignment],
    layers: Sequence[_Layer],
    batches: Sequence[Array],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and deviation of a parent's aligned pre-activations, by kernel."""
    matrices = {
        layer.kernel: jnp.asarray(bases[layer.node].matrix, jnp.float32) for layer in layers
    }

    @jax.jit
    def measure(variables: PyTree, x: Array) -> dict[str, tuple[Array, Array]]:
        graph = graphs.trace(_only_logits(network), variables, x)
        slots = [layer.slot for layer in layers]
        _, values = graphs.run(graph, variables, x, read=slots)
        leaves, found = tree.flatten(variables), {}
        for layer in layers:
            z = values[layer.slot]
            z = z + jnp.broadcast_to(leaves[layer.bias], z.shape)
            found[layer.kernel] = _moments(z @ matrices[layer.kernel].T)
        return found

    every = [measure(variables, x) for x in batches]
    result = {}
    for layer in layers:
        means = np.stack([np.asarray(one[layer.kernel][0], np.float64) for one in every])
        variances = np.stack([np.asarray(one[layer.kernel][1], np.float64) for one in every])
        result[layer.kernel] = (means.mean(0), np.sqrt(variances.mean(0) + means.var(0)))
    return result


def _normalised(
    network: Network,
    merged: PyTree,
    layers: Sequence[_Layer],
    batches: Sequence[Array],
    goal_mean: Mapping[str, np.ndarray],
    goal_std: Mapping[str, np.ndarray],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and deviation of the merged products when all before them are already mended."""

    @jax.jit
    def measure(variables: PyTree, x: Array) -> dict[str, tuple[Array, Array]]:
        graph = graphs.trace(_only_logits(network), variables, x)
        leaves, found = tree.flatten(variables), {}

        def mend(layer: _Layer) -> Callable[[Array], Array]:
            def change(z: Array) -> Array:
                mean, variance = found[layer.kernel] = _moments(z)
                goals = (goal_mean[layer.kernel], goal_std[layer.kernel])
                shift, scale = (jnp.broadcast_to(jnp.asarray(g, z.dtype), z.shape) for g in goals)
                low, deviation = (
                    jnp.broadcast_to(m, z.shape) for m in (mean, jnp.sqrt(variance + 1e-12))
                )
                centred = (z - low) / deviation
                return centred * scale + shift - jnp.broadcast_to(leaves[layer.bias], z.shape)

            return change

        changes = {layer.slot: mend(layer) for layer in layers}
        graphs.run(graph, variables, x, change=changes)
        return found

    every = [measure(merged, x) for x in batches]
    result = {}
    for layer in layers:
        means = np.stack([np.asarray(one[layer.kernel][0], np.float64) for one in every])
        variances = np.stack([np.asarray(one[layer.kernel][1], np.float64) for one in every])
        result[layer.kernel] = (means.mean(0), np.sqrt(variances.mean(0)))
    return result
