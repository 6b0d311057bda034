"""Cost against length: forward passes, gradients and decoding, as claims with pictures."""

import dataclasses
import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.report import claim, figure, timing
from jaxml.report.claim import Claim, Promise
from jaxml.report.recipe import Context, Figure, Table
from jaxml.tnl import objective, speed
from jaxml_kernels.lightning_attention import lightning_attention
from jaxml_kernels.lightning_attention.cases import Case

FLAT = Promise(
    "tnl",
    "cost-per-token",
    "Training speed is constant in the sequence length",
    "38,615 tokens/s at 1K, 38,596 at 92K (0.4B, per A100)",
    "read",
    "x the time for 8 x the tokens",
    claim.at_most(9.0, "time at 8 N over time at N, loss and gradient, one row"),
)
STEEP = Promise(
    "tnl",
    "transformer-cost",
    "The Transformer's speed falls with the length",
    "35,931 tokens/s at 1K, 4,078 at 92K (0.4B, FlashAttention-2)",
    "read",
    "x the time for 8 x the tokens",
    claim.at_least(16.0, "forward pass, time at 8 N over time at N, one row"),
)
DECODE = Promise(
    "tnl",
    "decode-cost",
    "Decoding costs the same at any context",
    "direction only",
    "read",
    "x the time per token",
    claim.between(0.95, 1.05, "time per token after the longest context over after the shortest"),
)
NAIVE = Promise(
    "tnl",
    "chunked-vs-naive",
    "The blocked form beats the quadratic form",
    "direction only",
    "read",
    "x faster",
    claim.at_least(10.0, "8K tokens, head width 64, forward, against masked (QK^T)V"),
)


@dataclasses.dataclass(frozen=True)
class CostConfig:
    """Which lengths are timed.

    Attributes:
      lengths: of the forward passes, ascending.
      ratio: the two lengths whose times are compared.
      contexts: read before decoding, ascending.
      naive_length: of the comparison with the quadratic form.
      repeats: of every timing of TNL.
      peer_repeats: of the Transformer's, whose calls at long lengths take seconds.
    """

    lengths: tuple[int, ...]
    ratio: tuple[int, int]
    contexts: tuple[int, ...]
    naive_length: int
    repeats: int
    peer_repeats: int = 1

    def __post_init__(self):
        check.positive(repeats=self.repeats, peer_repeats=self.peer_repeats)
        check.positive(naive_length=self.naive_length)
        missing = set(self.ratio) - set(self.lengths)
        if missing:
            raise ValueError(f"ratio must name two of lengths; got ratio={self.ratio}.")


def _gradient_call(lm: Any, params: Any, seq_len: int) -> Any:
    run = jax.jit(lambda p, b: jax.grad(lambda p: objective.next_token(lm, p, b)[0])(p))
    ids = jax.random.randint(jax.random.key(2), (1, seq_len + 1), 0, lm.vocab_size, jnp.int32)
    batch = {"inputs": ids[:, :-1], "targets": ids[:, 1:]}
    return lambda: run(params, batch)


def _ratio(found: dict[str, timing.Timing], low: str, high: str) -> tuple[float, float]:
    """The ratio of medians, and the standard deviation of the ratios pair by pair."""
    pairs = [b / a for a, b in zip(found[low].seconds, found[high].seconds, strict=True)]
    spread = statistics.stdev(pairs) if len(pairs) > 1 else 0.0
    return found[high].median / found[low].median, spread


def against_length(
    cfg: CostConfig, context: Context
) -> tuple[list[Claim], list[Figure], list[Table]]:
    """Forward passes of both models at every length, and what eight times the length costs."""
    pair = speed.models()
    times: dict[str, dict[int, float]] = {name: {} for name in pair}
    for n in cfg.lengths:
        found = {}
        for name, call in speed.forward_calls(pair, n).items():
            ours = name == "TNL"  # the peer's calls, already compiled, are not warmed up
            repeats = cfg.repeats if ours else cfg.peer_repeats
            found |= timing.alternate({name: call}, repeats=repeats, warmups=int(ours))
            times[name][n] = found[name].median
        context.say(
            f"forward {n}: " + ", ".join(f"{k} {1e3 * v.median:.0f} ms" for k, v in found.items())
        )
    low, high = cfg.ratio
    lm, params = pair["TNL"]
    calls = {str(n): _gradient_call(lm, params, n) for n in cfg.ratio}
    flat = _ratio(timing.alternate(calls, repeats=cfg.repeats), str(low), str(high))
    factor = high / low
    note = f"{low} and {high} tokens; a constant cost per token would give {factor:g}"
    claims = [FLAT.measured(flat[0], context.scale, flat[1], note)]
    softmax = times["Transformer"]
    steep = softmax[high] / softmax[low]
    claims.append(
        STEEP.measured(
            steep, context.scale, None, f"{note}; plain softmax attention on this device"
        )
    )
    picture = figure.lines(
        "tnl-length",
        "Cost of a token against the length",
        "Forward pass of one row, both models of the same size; median of repeated calls.",
        {k: (list(v), [1e6 * t / n for n, t in v.items()]) for k, v in times.items()},
        x="tokens in the row",
        y="microseconds per token",
        log="xy",
    )
    rows = tuple(
        (
            f"{n:,}",
            *(f"{1e3 * times[name][n]:.1f}" for name in pair),
            f"{times['Transformer'][n] / times['TNL'][n]:.2f}",
        )
        for n in cfg.lengths
    )
    table = Table("Forward pass, milliseconds", ("tokens", *pair, "ratio"), rows)
    return claims, [picture], [table]


def decoding(cfg: CostConfig, context: Context) -> tuple[list[Claim], list[Figure]]:
    """Time per decoded token after every context."""
    pair, series = speed.models(), {}
    shortest, longest = str(cfg.contexts[0]), str(cfg.contexts[-1])
    claims = []
    for name, (lm, params) in pair.items():
        num_tokens, repeats = (256, cfg.repeats) if name == "TNL" else (16, cfg.peer_repeats)
        found = timing.alternate(
            speed.decode_calls(lm, params, cfg.contexts, num_tokens), repeats=4 * repeats
        )
        ys = [1e6 * found[str(n)].median / num_tokens for n in cfg.contexts]
        series[name] = (list(cfg.contexts), ys)
        context.say(f"decoding {name}: {', '.join(f'{y:.0f}' for y in ys)} us per token")
        if name == "TNL":
            ratio, spread = _ratio(found, shortest, longest)
            claims.append(
                DECODE.measured(
                    ratio, context.scale, spread, f"contexts of {shortest} and {longest}"
                )
            )
    picture = figure.lines(
        "tnl-decode",
        "Decoding against the context",
        "Greedy decoding after a context, one row; the Transformer keeps all keys and values.",
        series,
        x="tokens of context",
        y="microseconds per token",
        log="xy",
    )
    return claims, [picture]


def against_quadratic(cfg: CostConfig, context: Context) -> Claim:
    """The blocked kernel against the masked quadratic form."""
    n = cfg.naive_length
    q, k, v, rate = Case("naive", 1, n, 2, 64, 64, "float32").inputs(jax.random.key(0))
    calls = {
        "chunked": functools.partial(
            jax.jit(lambda q, k, v, r: lightning_attention(q, k, v, r)[0]), q, k, v, rate
        ),
        "quadratic": functools.partial(jax.jit(speed.quadratic), q, k, v, rate),
    }
    found = timing.alternate(calls, repeats=2)
    ratio = found["quadratic"].median / found["chunked"].median
    why = f"{n} tokens, 2 heads, {1e3 * found['chunked'].median:.0f} ms"
    return NAIVE.measured(ratio, context.scale, None, why)
