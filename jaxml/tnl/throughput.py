"""Training speed and memory against the length, at equal tokens per step: `python -m ... OUT.json`.

    python -m jaxml.tnl.throughput OUT.json --preset 385m --tokens 131072 \
        --lengths 2048 8192 32768 131072

Needs jax, optax and flax, no data: tokens are random. TNL and a Transformer of its size (softmax
attention by cuDNN where there is a GPU) make the same updates in alternation, length by length.
"""

import argparse
import dataclasses
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import check, rng
from jaxml.report import timing
from jaxml.report.timing import Row
from jaxml.tnl import model, objective, softmax
from jaxml.tnl.config import PRESETS, TNLConfig, same_size
from jaxml.tnl.language_model import LanguageModel
from jaxml.train import metric, optim, state, step
from jaxml.train.optim import OptimConfig

FLAT, SPEED, FALL, MEMORY = 0.97, {"385m": 175e3, "1b": 65e3}, 1 / 3, 1.05
"""Asked of an H100: slowest over fastest length, tokens/s, the Transformer's fall, most memory."""


@dataclasses.dataclass
class Trainee:
    """A model in training: its state moves on, whatever the length.

    Attributes:
      name: of its rows.
      lm: the model.
      now: parameters and optimiser.
      step: the compiled step of the current length.
      bytes: of the step's arguments and temporaries.
      loss: of the last update.
    """

    name: str
    lm: LanguageModel
    now: Any
    update: Callable[..., Any]
    step: Any = None
    bytes: int = 0
    loss: float = math.nan

    def compiled(self, batch: Any) -> Any:
        """The step for the shapes of a batch; may run beside others."""
        return self.update.lower(self.now, batch).compile()  # pyright: ignore

    def use(self, compiled: Any) -> None:
        """Updates take this step from now on."""
        self.step, self.bytes = compiled, step_bytes(compiled)

    def compile(self, batch: Any) -> None:
        """Updates take the step for the shapes of a batch from now on."""
        self.use(self.compiled(batch))

    def seconds(self, batch: Any) -> float:
        """Of one update."""
        begun = time.perf_counter()
        self.now, metrics = self.step(self.now, batch)
        self.loss = float(metrics["loss"])
        if math.isnan(self.loss):
            raise RuntimeError(f"{self.name}: the loss is not a number.")
        return time.perf_counter() - begun


def step_bytes(compiled: Any) -> int:
    """Bytes on one device of a compiled step's arguments, results and temporaries."""
    used = compiled.memory_analysis()
    new = used.output_size_in_bytes - used.alias_size_in_bytes
    return used.argument_size_in_bytes + used.temp_size_in_bytes + new


def trainee(name: str, lm: LanguageModel, optimizer: Any = None, seed: int = 0) -> Trainee:
    """A fresh one, by default with AdamW and clipping."""
    key = jax.random.key(seed)
    if optimizer is None:
        cfg = OptimConfig(lr=1e-4, schedule="constant", warmup_steps=0, weight_decay=0.1)
        optimizer = optim.make(cfg, optim.matrices(lm.declared))
    now = state.create(key, jax.jit(lm.init)(rng.fold(key, "init")), optimizer)
    return Trainee(name, lm, now, step.make_step(objective.loss_fn(lm), optimizer))


def trainees(cfg: TNLConfig, names: Sequence[str]) -> list[Trainee]:
    """TNL, the Transformer of its size, or both."""
    fast = "cudnn" if jax.default_backend() == "gpu" else None
    made = {
        "TNL": lambda: model.language_model(cfg),
        "Transformer": lambda: softmax.language_model(same_size(cfg), fast),
    }
    for name in names:
        check.one_of(made, models=name)
    return [trainee(name, made[name]()) for name in names]


def random_batch(lm: LanguageModel, rows: int, seq_len: int) -> dict[str, jax.Array]:
    """Random tokens: `inputs` and `targets` int32 [rows, seq_len]."""
    ids = jax.random.randint(jax.random.key(1), (rows, seq_len + 1), 0, lm.vocab_size, jnp.int32)
    return {"inputs": ids[:, :-1], "targets": ids[:, 1:]}


def compiled_steps(
    models: Sequence[Trainee], lengths: Sequence[int], tokens: int
) -> dict[tuple[str, int], Any]:
    """The step of every model at every length, compiled side by side."""

    def one(model: Trainee, length: int) -> Any:
        shapes = jax.eval_shape(lambda: random_batch(model.lm, tokens // length, length))
        return model.compiled(shapes)

    todo = [(model, length) for length in lengths for model in models]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        made = pool.map(lambda args: one(*args), todo)
        return {
            (model.name, length): step for (model, length), step in zip(todo, made, strict=True)
        }


def measure(
    cfg: TNLConfig,
    preset: str,
    names: Sequence[str],
    lengths: Sequence[int],
    tokens: int,
    repeats: int,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Tokens per second, share of the device's peak, and bytes, of every model and length."""
    for length in lengths:
        check.divides(length=length, tokens=tokens)
    found: dict[tuple[str, int], tuple[float, float | None, int]] = {}
    models = trainees(cfg, names)
    begun = time.perf_counter()
    programs = compiled_steps(models, lengths, tokens)
    say(f"{len(programs)} steps compiled in {time.perf_counter() - begun:.1f} s")
    for length in lengths:
        batch = random_batch(models[0].lm, tokens // length, length)
        for one in models:
            one.use(programs.pop((one.name, length)))
            one.seconds(batch)
        seconds: dict[str, list[float]] = {one.name: [] for one in models}
        for _ in range(repeats):
            for one in models:
                seconds[one.name].append(one.seconds(batch))
        for one in models:
            rate = tokens / statistics.median(seconds[one.name])
            flops = one.lm.flops_per_token
            share = None if flops is None else metric.mfu(rate, flops(length))
            found[one.name, length] = rate, share, one.bytes
            say(f"{one.name} {length}: {rate:,.0f} tokens/s, {one.bytes / 2**30:.1f} GiB")
            one.step = None
    return rows(preset, names, lengths, tokens, found)


def rows(
    preset: str,
    names: Sequence[str],
    lengths: Sequence[int],
    tokens: int,
    found: dict[tuple[str, int], tuple[float, float | None, int]],
) -> list[Row]:
    """The rows of the results file, with what is asked of them."""
    made = []
    for name in names:
        rates = {n: found[name, n][0] for n in lengths}
        for length in lengths:
            rate, share, used = found[name, length]
            case = f"{name} {preset} N{length} B{tokens // length}"
            row = Row(case, "tokens_s", "/s", rate)
            if name == "TNL" and preset in SPEED:
                goal = SPEED[preset]
                row = Row(case, "tokens_s", "/s", rate, "goal", goal, rate / goal, 1.0)
            made.append(row)
            if share is not None:
                made.append(Row(case, "mfu", "", share))
            made.append(Row(case, "step_bytes", "B", float(used)))
        flat = min(rates.values()) / max(rates.values())
        case = f"{name} {preset}, {min(lengths)} to {max(lengths)} tokens"
        fall = rates[max(lengths)] / rates[min(lengths)]
        most = max(found[name, n][2] for n in lengths) / min(found[name, n][2] for n in lengths)
        if name == "TNL":
            made.append(Row(case, "slowest_over_fastest", "", flat, "goal", FLAT, flat / FLAT, 1.0))
            made.append(Row(case, "most_memory", "x", most, "goal", MEMORY, MEMORY / most, 1.0))
        else:
            made.append(Row(case, "longest_over_shortest", "", fall, "paper says <=", FALL))
    return made


def main() -> None:
    """Parses the flags, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("out", type=Path)
    add("--preset", default="385m", choices=sorted(PRESETS))
    add("--tokens", type=int, default=131_072, help="of a step, rows times length")
    add("--lengths", type=int, nargs="+", default=[2048, 8192, 32_768, 131_072])
    add("--models", nargs="+", default=["TNL", "Transformer"])
    add("--repeats", type=int, default=5)
    add("--remat", choices=("none", "full", "dots"))
    args = parser.parse_args()
    cfg = PRESETS[args.preset]
    if args.remat is not None:
        cfg = dataclasses.replace(cfg, remat=args.remat)
    found = measure(cfg, args.preset, args.models, args.lengths, args.tokens, args.repeats)
    timing.write(args.out, found)
    print(timing.table(found))


if __name__ == "__main__":
    main()
