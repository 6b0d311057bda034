"""Time and memory of a decoding step against the context: `python -m jaxml.tnl.decoding OUT.json`.

    python -m jaxml.tnl.decoding OUT.json --preset 385m --contexts 2048 16384 131072 1048576

Needs jax, optax and flax, no data. TNL reads random tokens; the cache of the Transformer of its
size is filled with random keys and values, since what a step costs does not depend on them. Both
decode greedily, in alternation, with parameters in the dtype of the computation.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import check, tree
from jaxml.report import timing
from jaxml.report.timing import Row
from jaxml.tnl import model, serve, softmax, speed
from jaxml.tnl.config import PRESETS, TNLConfig, same_size
from jaxml.tnl.generate import read
from jaxml.tnl.language_model import LanguageModel

CONSTANT = 1.05
"""Asked: most time of a step after the longest context over that after the shortest."""
READ = 8192
"""Tokens of a context that are read at once."""


@dataclasses.dataclass
class Decoder:
    """A model in the middle of a text; every call goes on where the last one stopped.

    Attributes:
      lm: the model.
      params: its parameters.
      state: after what was read.
      ids: the token that comes next [b].
      read: the state after the context alone.
    """

    lm: LanguageModel
    params: Any
    state: Any = None
    ids: Any = None
    read: Any = None

    @classmethod
    def of(cls, lm: LanguageModel, dtype: str) -> "Decoder":
        """One with random parameters, and nothing read."""
        params = jax.jit(lambda key: serve.narrow(lm.init(key), dtype))(jax.random.key(0))
        return cls(lm, params)

    def begin(self, context: int, room: int) -> float:
        """Puts the model behind `context` tokens; tokens read per second, NaN for a filled cache.

        A TNL goes on from the shorter context it has read before.
        """
        self.ids = jnp.zeros((1,), jnp.int32)
        if self.lm.room is not None:
            self.state = None  # the old cache goes before the new one comes
            self.state = speed.filled(self.lm.start(1, context + room), context)
            return float("nan")
        state = self.lm.start(1, 0) if self.read is None else self.read
        whole, rest = divmod(context - int(state.position), READ)
        _read(self.lm, self.params, state, [READ] * min(whole, 1) + [rest])  # compiles
        begun = time.perf_counter()
        self.read = _read(self.lm, self.params, state, [READ] * whole + [rest])
        self.state = jax.tree.map(jnp.copy, self.read)
        return (whole * READ + rest) / (time.perf_counter() - begun)

    def seconds(self, num_tokens: int) -> float:
        """Of one step, the mean of `num_tokens`."""
        begun = time.perf_counter()
        self.ids, self.state = _decode(self.params, self.state, self.ids, self.lm, num_tokens)
        jax.block_until_ready(self.ids)
        return (time.perf_counter() - begun) / num_tokens


def _read(lm: LanguageModel, params: Any, state: Any, sizes: Sequence[int]) -> Any:
    """The state after pieces of random tokens."""
    for size in filter(None, sizes):
        ids = jax.random.randint(jax.random.key(1), (1, size), 0, lm.vocab_size, jnp.int32)
        state = read(params, state, ids, None, model=lm).state
    return jax.block_until_ready(state)


def _scan(
    params: Any, state: Any, ids: jax.Array, lm: LanguageModel, num_tokens: int
) -> tuple[jax.Array, Any]:
    def one(carry: tuple[Any, jax.Array], _: None) -> tuple[tuple[Any, jax.Array], None]:
        hidden, state = lm.step(params, *carry)
        return (state, jnp.argmax(lm.logits(params, hidden), -1).astype(jnp.int32)), None

    (state, ids), _ = jax.lax.scan(one, (state, ids), length=num_tokens)
    return ids, state


_decode = jax.jit(_scan, static_argnums=(3, 4), donate_argnums=(1,))


@dataclasses.dataclass(frozen=True)
class Found:
    """Of one model after one context; None where the device had no memory for it."""

    step_s: float | None
    state_bytes: int
    read_per_s: float = float("nan")


def measure(
    cfg: TNLConfig,
    preset: str,
    contexts: Sequence[int],
    num_tokens: int = 64,
    repeats: int = 5,
    names: Sequence[str] = ("TNL", "Transformer"),
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Step time and state of both models after every context, ascending."""
    check.positive(num_tokens=num_tokens, repeats=repeats)
    if cfg.softmax_layers:
        raise ValueError(f"softmax_layers must be empty here; got {cfg.softmax_layers}.")
    contexts = sorted(contexts)
    makers = {
        "TNL": lambda: model.language_model(cfg),
        "Transformer": lambda: softmax.language_model(same_size(cfg)),
    }
    for name in names:
        check.one_of(makers, models=name)
    decoders = {name: Decoder.of(makers[name](), cfg.dtype) for name in names}
    found: dict[tuple[str, int], Found] = {}
    room = (repeats + 1) * num_tokens
    for context in contexts:
        times, rates = _together(decoders, context, room, num_tokens, repeats)
        for name, one in decoders.items():
            size = tree.num_bytes(
                jax.eval_shape(lambda one=one: one.lm.start(1, context + room))  # noqa: B023
            )
            seconds = statistics.median(times[name]) if name in times else None
            found[name, context] = Found(seconds, size, rates.get(name, float("nan")))
            told = "no memory" if seconds is None else f"{1e3 * seconds:.3f} ms a step"
            say(f"{name} after {context}: {told}, {size / 2**20:.1f} MiB of state")
    return rows(preset, contexts, found)


def _together(
    decoders: dict[str, Decoder], context: int, room: int, num_tokens: int, repeats: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of a step of every model that has the memory, in alternation; reading speeds."""
    rates = {}
    for name, one in decoders.items():
        try:
            rates[name] = one.begin(context, room)
            one.seconds(num_tokens)  # compiles
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) and "ut of memory" not in str(error):
                raise
            one.state = None
            rates.pop(name, None)
    times: dict[str, list[float]] = {name: [] for name in rates}
    for _ in range(repeats):
        for name in rates:
            times[name].append(decoders[name].seconds(num_tokens))
    return times, rates


def rows(preset: str, contexts: Sequence[int], found: dict[tuple[str, int], Found]) -> list[Row]:
    """The rows of the results file; a peer without a value had no memory for that context."""
    made = []
    for context in contexts:
        case, ours = f"decode {preset} context {context}", found["TNL", context]
        other = found.get(("Transformer", context))
        assert ours.step_s is not None  # its state is small
        size = Row(case, "state_bytes", "B", float(ours.state_bytes))
        row = Row(case, "step_ms", "ms", 1e3 * ours.step_s)
        if other is not None:
            size = _beside(size, float(other.state_bytes))
            row = _beside(row, None if other.step_s is None else 1e3 * other.step_s)
        made += [row, size]
        if ours.read_per_s == ours.read_per_s:
            made.append(Row(case, "read_tokens_s", "/s", ours.read_per_s))
    first, last = (found["TNL", n].step_s for n in (contexts[0], contexts[-1]))
    assert first is not None and last is not None
    case, more = f"decode {preset}, {contexts[0]} to {contexts[-1]} tokens of context", last / first
    goal = Row(case, "longest_over_shortest", "x", more, "goal", CONSTANT, CONSTANT / more, 1.0)
    return [*made, goal]


def _beside(row: Row, peer: float | None) -> Row:
    ratio = None if peer is None else peer / row.jaxml
    return dataclasses.replace(row, peer="Transformer", peer_value=peer, ratio=ratio)


def main(words: Sequence[str] | None = None) -> None:
    """Parses the flags, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("out", type=Path)
    add("--preset", default="385m", choices=sorted(PRESETS))
    add("--contexts", type=int, nargs="+", default=[2048, 16_384, 131_072, 524_288, 1_048_576])
    add("--tokens", type=int, default=64, help="decoded in a call")
    add("--repeats", type=int, default=5)
    add("--models", nargs="+", default=["TNL", "Transformer"])
    args = parser.parse_args(words)
    cfg = PRESETS[args.preset]
    found = measure(cfg, args.preset, args.contexts, args.tokens, args.repeats, args.models)
    timing.write(args.out, found)
    print(timing.table(found))


if __name__ == "__main__":
    main()
