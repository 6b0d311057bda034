"""The policy: encoder once per instance, decoder once per step; and its weights on disk."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import config, param, weights
from jaxml.core.types import Array, Key, PyTree
from jaxml.core.weights import Rule, linear
from jaxml.jsp import decoder, encoder, features
from jaxml.jsp import state as states
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.problem import Facts, Problem, facts
from jaxml.jsp.state import State


def params(cfg: SPNConfig) -> dict[str, PyTree]:
    """Declared parameters: 376,961 numbers in the default sizes."""
    return {"encoder": encoder.params(cfg), "decoder": decoder.params(cfg)}


def init_params(key: Key, cfg: SPNConfig) -> PyTree:
    """Random parameters, distributed as the reference initialises them.

    >>> from jaxml.core import tree
    >>> tree.num_elements(init_params(jax.random.key(0), SPNConfig()))
    376961
    """
    return param.init(key, params(cfg))


def encode(tree: PyTree, cfg: SPNConfig, problem: Problem, known: Facts | None = None) -> Array:
    """Embeddings [n, m, 15 + embed] of one instance's operations."""
    known = facts(problem) if known is None else known
    x = features.op_features(problem, cfg.feature_version, known)
    return encoder.apply(tree["encoder"], cfg, problem, known, x)


def decode_logits(tree: PyTree, cfg: SPNConfig, problem: Problem, state: State) -> Array:
    """Logits [n] in a state by the plain decoder; finished jobs have `decoder.MASKED`."""
    known = facts(problem)
    embedding = encode(tree, cfg, problem, known)
    rows = jnp.arange(problem.lengths.shape[0])
    chosen = embedding[rows, states.ready(problem, state)]
    context = states.context_features(problem, known, state)
    out = decoder.plain_logits(tree["decoder"], cfg, chosen, context, known.job_mask)
    return jnp.where(states.valid(problem, state), out, decoder.MASKED)


class Prepared(NamedTuple):
    """A policy made ready for one instance.

    Attributes:
      problem: the instance.
      known: its facts.
      folded: the decoder.
      operations: what every operation adds to the hidden layer, [n, m, classifier].
    """

    problem: Problem
    known: Facts
    folded: decoder.Folded
    operations: Array


def prepare(tree: PyTree, cfg: SPNConfig, problem: Problem) -> Prepared:
    """Encodes an instance and folds the decoder."""
    known, folded = facts(problem), decoder.fold(tree["decoder"], cfg)
    embedding = encode(tree, cfg, problem, known)
    return Prepared(problem, known, folded, decoder.operation_part(folded, embedding))


def logits(
    ready: Prepared, cfg: SPNConfig, state: State, dtype: jnp.dtype | str = jnp.float32
) -> Array:
    """Logits [n] in a state; finished jobs have `decoder.MASKED`."""
    problem = ready.problem
    rows = jnp.arange(problem.lengths.shape[0])
    chosen = ready.operations[rows, states.ready(problem, state)]
    context = states.context_features(problem, ready.known, state)
    out = decoder.logits(ready.folded, cfg, chosen, context, ready.known.job_mask, dtype)
    return jnp.where(states.valid(problem, state), out, decoder.MASKED)


@functools.cache
def _rules() -> tuple[Rule, ...]:
    found: list[Rule] = []
    for theirs, ours in (("embedding1", "first"), ("embedding2", "second")):
        for side, name in (("lin_l", "source"), ("lin_r", "target")):
            path = f"encoder/{ours}/{name}"
            found.append(linear(f"enc.{theirs}.{side}.weight", f"{path}/kernel"))
            found.append(Rule(f"enc.{theirs}.{side}.bias", f"{path}/bias"))
        found.append(
            Rule(
                f"enc.{theirs}.att", f"encoder/{ours}/attention", lambda x: x[0], lambda x: x[None]
            )
        )
        found.append(Rule(f"enc.{theirs}.bias", f"encoder/{ours}/bias"))
    pairs = (("linear1", "lift"), ("linear2", "mix"), ("linear3", "hidden"), ("linear4", "score"))
    for theirs, ours in (*pairs, ("self_attn.out_proj", "out")):
        found.append(linear(f"dec.{theirs}.weight", f"decoder/{ours}/kernel"))
        found.append(Rule(f"dec.{theirs}.bias", f"decoder/{ours}/bias"))
    found.append(linear("dec.self_attn.in_proj_weight", "decoder/qkv/kernel"))
    found.append(Rule("dec.self_attn.in_proj_bias", "decoder/qkv/bias"))
    return tuple(found)


def params_from_torch_arrays(tensors: Mapping[str, np.ndarray], cfg: SPNConfig) -> PyTree:
    """Parameters from the reference's state dicts, as arrays named `enc.*` and `dec.*`.

    Raises:
      WeightsError: names what is missing, extra or of the wrong shape.
    """
    return weights.import_tree(tensors, _rules(), param.abstract(params(cfg)))


def torch_arrays_from_params(tree: PyTree) -> dict[str, np.ndarray]:
    """The inverse of `params_from_torch_arrays`."""
    return weights.export_tree(tree, _rules())


def save(path: Path | str, tree: PyTree, cfg: SPNConfig) -> None:
    """Writes parameters and their sizes as one safetensors file."""
    from jaxml.core import tree as trees

    meta = {name: str(value) for name, value in config.to_dict(cfg).items()}
    weights.write(path, trees.flatten(tree), meta)


def load(path: Path | str, cfg: SPNConfig | None = None) -> PyTree:
    """Parameters that `save` wrote.

    Raises:
      FileNotFoundError: no such file.
      WeightsError: damaged, or of other sizes than `cfg`.
    """
    from jaxml.core import tree as trees

    cfg = SPNConfig() if cfg is None else cfg
    tree = trees.unflatten(weights.read(path))
    try:
        trees.check_match(tree, param.abstract(params(cfg)), str(path))
    except ValueError as error:
        raise weights.WeightsError(str(error)) from None
    return jax.tree.map(jnp.asarray, tree)


def shipped() -> PyTree:
    """The parameters that come with the package, for the default `SPNConfig`.

    They are those of 25 minutes of training on one H100, on random shops only: 12 of preset `h100`
    (six shapes from 10 jobs and 10 machines to 20 and 20), then 13 of `h100-wide` (also 30 jobs,
    and routes in two sets). `benchmarks/results/jsp-training-h100.jsonl` is the log. No benchmark
    instance was used to train or to choose them.

    Raises:
      FileNotFoundError: a package without them.
    """
    return load(Path(__file__).with_name("spn.safetensors"))
