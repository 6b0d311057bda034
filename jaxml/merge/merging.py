"""Merging N trained networks of one architecture into one: align all to a reference, average."""

import concurrent.futures
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.merge import align, basis, repair
from jaxml.merge.align import Alignment
from jaxml.merge.blocks import align_blocks
from jaxml.merge.config import MergeConfig
from jaxml.merge.covariance import (
    CovarianceState,
    Moments,
    Pairs,
    covariance_finalize,
    covariance_init,
    covariance_update,
)
from jaxml.merge.network import Network, jitted
from jaxml.merge.spec import Node, check_models
from jaxml.merge.weights import weight_matching
from jaxml.merge.zipit import zipit_align

type Alignments = list[dict[str, Alignment]]
"""For each network, its change of basis by node."""


class MergeResult(NamedTuple):
    """The merged network, and how it was made.

    Attributes:
      variables: a tree like the networks', on the host.
      alignments: of each network, in the order given; the reference's are the identity, except
        under `zipit`.
      diagnostics: by node: mean canonical correlation (NaN where the method has none), largest
        condition number of a change of basis, most dead channels of a network.
    """

    variables: PyTree
    alignments: Alignments
    diagnostics: dict[str, dict[str, float]]


def feature_moments(
    network: Network,
    models: Sequence[PyTree],
    batches: Iterable[Array],
    pairs: Pairs = "reference",
) -> dict[str, Moments]:
    """Moments of the features of every node, the first network being the reference.

    Args:
      network: the architecture.
      models: variables of each network.
      batches: training inputs, each [b, ...].
      pairs: as in `covariance_init`.

    Raises:
      ValueError: no batch, or features that are nowhere finite.
    """
    forward, states = jitted(network.forward), dict[str, CovarianceState]()
    for x in batches:
        features = [forward(variables, x)[1] for variables in models]
        if not states:
            _check_finite(features)
            states = _start(features, pairs)
        states = _accumulate(states, features)
    if not states:
        raise ValueError("batches must hold at least one batch; got none.")
    return {name: covariance_finalize(state) for name, state in states.items()}


def _check_finite(features: list[dict[str, Array]]) -> None:
    for k, one in enumerate(features):
        for name, values in one.items():
            if not bool(jnp.isfinite(values).all()):
                raise ValueError(f"features of node {name!r} of model {k} must be finite.")


@functools.partial(jax.jit, static_argnums=1)
def _start(features: list[dict[str, Array]], pairs: Pairs) -> dict[str, CovarianceState]:
    stacked = {name: jnp.stack([one[name] for one in features]) for name in features[0]}
    return {name: covariance_init(x, pairs=pairs) for name, x in stacked.items()}


@functools.partial(jax.jit, donate_argnums=0)
def _accumulate(
    states: dict[str, CovarianceState], features: list[dict[str, Array]]
) -> dict[str, CovarianceState]:
    stacked = {name: jnp.stack([one[name] for one in features]) for name in states}
    return {name: covariance_update(states[name], x) for name, x in stacked.items()}


def alignments_from_moments(
    network: Network, moments: Mapping[str, Moments], cfg: MergeConfig
) -> Alignments:
    """The changes of basis that `cca`, `permute`, `ot` or `zipit` take from moments.

    Raises:
      ValueError: another method; `zipit` without the moments of all pairs, or on blocks.
    """
    found: Alignments = [{} for _ in range(len(next(iter(moments.values())).mean))]
    # LAPACK leaves the interpreter's lock, so that nodes are decomposed side by side.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        nodes = list(network.spec)
        every = list(pool.map(lambda pair: _of_node(pair[1], moments[pair[0]], cfg), nodes))
    for (name, _), per_model in zip(nodes, every, strict=True):
        for k, alignment in enumerate(per_model):
            found[k][name] = alignment
    return found


def _of_node(node: Node, m: Moments, cfg: MergeConfig) -> list[Alignment]:
    num, d = m.mean.shape
    method = "permute" if node.rigid and cfg.method in ("cca", "zipit") else cfg.method
    if method == "zipit":
        return _zipit(node, m, cfg)
    check.one_of(("cca", "permute", "ot"), method=method)
    if method == "cca" and node.block == 1:
        return [align.identity(d), *_cca_all(m, cfg)]
    pair = PAIRS[method]
    return [align.identity(d), *(pair(node, m, k, cfg) for k in range(1, num))]


def _zipit(node: Node, m: Moments, cfg: MergeConfig) -> list[Alignment]:
    if m.full is None:
        raise ValueError("zipit needs feature_moments(..., pairs='all').")
    if node.block > 1:
        raise ValueError(
            f"zipit cannot merge blocks; got a node with block={node.block} (use cca or permute)."
        )
    similar = align.correlation(m.full, m.full, m.full)
    return zipit_align(similar, len(m.mean), cfg.alpha, cfg.beta)


def _cca_all(m: Moments, cfg: MergeConfig) -> list[Alignment]:
    """Every other network to the reference, whose covariance is decomposed once."""
    relative, roots = cfg.gamma_mode == "relative", None
    if np.diag(m.own[0]).min() > align.DEAD * np.trace(m.own[0]) / len(m.own[0]):
        roots = align.regularised_roots(m.own[0], cfg.gamma, relative=relative)
    return [
        align.cca_align(
            m.own[0],
            m.own[k],
            m.cross[k],
            cfg.gamma,
            relative=relative,
            reference_roots=roots,
        )
        for k in range(1, len(m.mean))
    ]


def _cca(node: Node, m: Moments, k: int, cfg: MergeConfig) -> Alignment:
    """Block by block."""
    one = functools.partial(align.cca_align, gamma=cfg.gamma, relative=cfg.gamma_mode == "relative")

    def total(alignment: Alignment, _: tuple[np.ndarray, ...]) -> float:
        return 0.0 if alignment.correlations is None else float(alignment.correlations.sum())

    return align_blocks(m.own[0], m.own[k], m.cross[k], node.block, one, total)


def _permute(node: Node, m: Moments, k: int, cfg: MergeConfig) -> Alignment:
    del cfg
    similar = align.correlation(m.own[0], m.own[k], m.cross[k])
    return _by_scores(similar, node.block)


def _transport(node: Node, m: Moments, k: int, cfg: MergeConfig) -> Alignment:
    """Least Euclidean distance between activation vectors; uniform masses make it a permutation."""
    del cfg
    squares = [np.diag(m.own[i]) + m.mean[i] ** 2 for i in (0, k)]
    inner = m.cross[k] + np.outer(m.mean[0], m.mean[k])
    distance = np.sqrt(np.clip(squares[0][:, None] + squares[1][None] - 2 * inner, 0, None))
    return _by_scores(-distance, node.block)


def _by_scores(scores: np.ndarray, block: int) -> Alignment:
    if block == 1:
        return align.permute_align(scores)

    def inside(_: np.ndarray, __: np.ndarray, pair: np.ndarray) -> Alignment:
        return align.permute_align(pair)

    def total(alignment: Alignment, pair: tuple[np.ndarray, ...]) -> float:
        return float(pair[2][np.arange(block), alignment.order].sum())

    return align_blocks(scores, scores, scores, block, inside, total)


PAIRS = {"cca": _cca, "permute": _permute, "ot": _transport}


def align_models(
    network: Network, models: Sequence[PyTree], batches: Iterable[Array], cfg: MergeConfig
) -> Alignments:
    """The changes of basis that bring every network to the first one's.

    Raises:
      ValueError: see `merge`.
    """
    if cfg.method == "average":
        sizes = network.spec.sizes(models[0])
        return [{n: align.identity(d) for n, d in sizes.items()} for _ in models]
    if cfg.method == "weights":
        found = [
            weight_matching(network.spec, models[0], other, cfg.seed + k)
            for k, other in enumerate(models[1:])
        ]
        sizes = network.spec.sizes(models[0])
        own = {name: align.identity(d) for name, d in sizes.items()}
        return [own, *({n: align.permutation(p) for n, p in orders.items()} for orders in found)]
    pairs = "all" if cfg.method == "zipit" else "reference"
    return alignments_from_moments(network, feature_moments(network, models, batches, pairs), cfg)


def merge(
    network: Network,
    models: Sequence[PyTree],
    batches: Iterable[Array],
    cfg: MergeConfig = MergeConfig(),  # noqa: B008
) -> MergeResult:
    """Merges N networks of one architecture into one of the same size.

    Every other network is brought to the reference's basis, then parameters are averaged, then
    batch statistics are made anew.

    Args:
      network: the architecture: `network.of_mlp`, `of_vgg`, ..., or `of_function` for any.
      models: variables of the networks, all alike in paths and shapes.
      batches: training inputs; gone through twice, so a list or a `Batches`, not an iterator.
      cfg: method and options.

    Raises:
      ValueError: fewer than two networks, trees that differ (the path is named), a spec that does
        not fit, a reference out of range, weights that do not sum to one, features that are not
        finite, gamma = 0 with a singular covariance.
    """
    _check(network, models, cfg)
    order = [cfg.reference, *(k for k in range(len(models)) if k != cfg.reference)]
    found = align_models(network, [models[k] for k in order], batches, cfg)
    alignments = [found[order.index(k)] for k in range(len(models))]
    return finish(network, models, batches, cfg, alignments)


def finish(
    network: Network,
    models: Sequence[PyTree],
    batches: Iterable[Array],
    cfg: MergeConfig,
    alignments: Alignments,
    diagnose: bool = True,
) -> MergeResult:
    """Averages networks in the bases of `alignments`, and repairs the average."""
    pairs = zip(models, alignments, strict=True)
    aligned = [basis.apply_alignment(network.spec, *pair) for pair in pairs]
    merged = basis.average(aligned, cfg.weights)
    if cfg.repair == "rescale":
        merged = repair.rescale(network, merged, models, alignments, batches, cfg.weights)
    elif cfg.repair == "bn_reset" and network.batch_statistics is not None:
        merged = repair.reset_batch_stats(network, merged, batches)
    return MergeResult(merged, alignments, diagnostics_of(alignments) if diagnose else {})


def _check(network: Network, models: Sequence[PyTree], cfg: MergeConfig) -> None:
    check_models(list(models))
    network.spec.check(models[0])
    check.between(0, len(models) - 1, reference=cfg.reference)
    if cfg.weights is not None:
        basis.check_weights(cfg.weights, len(models))


def diagnostics_of(alignments: Alignments) -> dict[str, dict[str, float]]:
    """What `MergeResult.diagnostics` says, of these changes of basis."""
    report = {}
    for name in alignments[0]:
        column = [one[name] for one in alignments]
        known = [float(a.correlations.mean()) for a in column if a.correlations is not None]
        report[name] = {
            "mean_correlation": float(np.mean(known)) if known else float("nan"),
            "condition": max(a.condition for a in column),
            "num_dead": float(max(a.num_dead for a in column)),
        }
    return report
