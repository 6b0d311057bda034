"""What of self-labelling for job shops is re-measured."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import rng
from jaxml.inputs.source import DataNotFoundError
from jaxml.jsp import benchmark, gantt, policy, problem, quality, release, rollout, schedule, tsp
from jaxml.jsp import train as training
from jaxml.jsp.config import PRESETS, SLIMConfig, SPNConfig
from jaxml.jsp.instance import JSPInstance
from jaxml.report import figure
from jaxml.report.claim import Claim, Promise, at_least, at_most
from jaxml.report.recipe import Context, Figure, Outcome, Recipe, Table


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """One scale of the recipe.

    Attributes:
      slim: the training.
      names: benchmark instances to solve.
      samples: schedules per instance.
      moves: tabu moves from the policy's schedule, and from a random one.
      tsp: the other problem.
      tours: its test instances.
    """

    slim: SLIMConfig
    names: tuple[str, ...]
    samples: int
    moves: int
    tsp: tsp.TSPConfig
    tours: int


UNIT = "% above the best known makespan"
LEARNS = Promise(
    "jsp",
    "learns-10x10",
    "Self-labelling learns to schedule from random instances alone (10 jobs, 10 machines, from "
    "scratch), seen on the 18 classical instances of that size",
    "direction only",
    "none",
    UNIT,
    at_most(13.5, "our bar for minutes on a laptop"),
)
RULES = Promise(
    "jsp",
    "beats-rules",
    "The policy's best sample beats the best of as many randomised runs of a dispatching rule",
    "8.38 against 14.49 on Taillard's instances, best of 128",
    "read",
    "points of mean gap",
    at_least(0.0),
)
START = Promise(
    "jsp",
    "learned-start",
    "A schedule of the policy is a better start for tabu search than a random one (ours)",
    "none",
    "none",
    "points of mean gap",
    at_least(0.0),
)
FOLD = Promise(
    "jsp",
    "folded-decoder",
    "The decoder multiplied out gives the logits of the decoder as written (ours)",
    "none",
    "none",
    "largest difference",
    at_most(1e-4),
)
TOURS = Promise(
    "jsp",
    "tsp-20",
    "The same strategy trains a model for the travelling salesman with 20 cities",
    "direction only",
    "read",
    "% above the shortest tour, best of the samples",
    at_most(5.0),
)


def run(cfg: RecipeConfig, context: Context) -> Outcome:
    """Trains on job shops and on tours, then solves instances and polishes."""
    key = rng.fold(jax.random.key(context.seed), "recipe")
    slim = dataclasses.replace(cfg.slim, seed=context.seed)
    trained = training.train(slim, context.folder / "train", say=context.say, log_every=5)
    start = policy.init_params(rng.fold(jax.random.key(slim.seed), "init"), slim.model)
    claims = [_folded(slim.model, trained.params, context)]
    figures, tables, data = [_curves(context.folder / "train" / "metrics.jsonl")], [], []
    try:
        entries = benchmark.load(cfg.names)
    except DataNotFoundError as error:
        claims += [p.missing(str(error), context.scale) for p in (LEARNS, RULES, START)]
        claims += release.missing(str(error), context.scale)
    else:
        shops = [entry.instance for entry in entries]
        context.say(f"solving {len(shops)} benchmark instances")
        more, pictures, table = _benchmarks(cfg, slim, start, trained.params, shops, key, context)
        claims, tables = claims + more, [table]
        figures += pictures
        bounds = " and ".join(sorted({entry.bounds for entry in entries}))
        data.append(("jsp", f"bounds from {bounds}", "", "CC BY-SA 4.0 (bounds)"))
    context.say("training on tours")
    claim, picture = _tours(cfg, context)
    return Outcome([*claims, claim], [*figures, picture], tables, data=data)


def _folded(cfg: SPNConfig, params: Any, context: Context) -> Claim:
    """Largest difference of folded and plain logits over the states of one schedule."""
    shop = problem.random_problems(jax.random.key(context.seed), 1, 6, 5)
    one = jax.tree.map(lambda x: x[0], shop)
    found = rollout.greedy(params, cfg, one)

    @jax.jit
    def difference(params: Any, seq: jax.Array) -> jax.Array:
        ready = policy.prepare(params, cfg, one)
        before, _ = rollout.replay(one, ready.known, seq)
        folded = jax.vmap(lambda s: policy.logits(ready, cfg, s))(before)
        plain = jax.vmap(lambda s: policy.decode_logits(params, cfg, one, s))(before)
        return jnp.max(jnp.abs(folded - plain))

    return FOLD.measured(float(difference(params, found.seqs)), context.scale)


def _benchmarks(
    cfg: RecipeConfig,
    slim: SLIMConfig,
    start: Any,
    params: Any,
    shops: list[JSPInstance],
    key: jax.Array,
    context: Context,
) -> tuple[list[Claim], list[Figure], Table]:
    samples = cfg.samples
    _, untrained = quality.of_policy(start, slim.model, shops, key, samples)
    greedy, best = quality.of_policy(params, slim.model, shops, key, samples)
    rule = quality.of_rule(shops, "MOR", None, 1)
    drawn = quality.of_rule(shops, "MOR", rng.fold(key, "rule"), samples)
    anywhere = quality.polished(shops, quality.at_random(shops, key), cfg.moves, key)
    polished = quality.polished(shops, best.seqs, cfg.moves, key)
    of_shipped, long = release.claims(shops, drawn, samples, key, context.scale)
    rows = {
        f"untrained policy, best of {samples}": untrained,
        "rule MOR (most operations remaining)": rule,
        f"rule MOR randomised, best of {samples}": drawn,
        "policy, greedy": greedy,
        f"policy, best of {samples}": best,
        f"shipped weights, best of {samples}": long,
        f"random schedule + {cfg.moves} tabu moves": anywhere,
        f"policy + {cfg.moves} tabu moves": polished,
    }
    claims = [
        LEARNS.measured(
            best.mean,
            context.scale,
            why=f"untrained {untrained.mean:.1f}, greedy {greedy.mean:.1f}",
        ),
        RULES.measured(drawn.mean - best.mean, context.scale),
        START.measured(anywhere.mean - polished.mean, context.scale),
        *of_shipped,
    ]
    shop = shops[0]
    starts = schedule.start_times(shop, polished.seqs[shop.name])
    span = schedule.validate_schedule(shop, starts)
    title = f"{shop.name}: a schedule of length {span} (best known {shop.ub})"
    chart = Figure(
        "jsp-gantt",
        "A schedule",
        "One row per machine, one colour per job; point at a bar for its times.",
        gantt.svg(shop, starts, title, embedded=True),
    )
    by_method = [(name, f"{m.mean:.2f}", f"{max(m.gaps.values()):.1f}") for name, m in rows.items()]
    caption = "Makespans are recomputed in integers from the sequences."
    columns = ("method", "mean gap in %", "largest")
    table = Table(f"{len(shops)} classical instances", columns, tuple(by_method), caption)
    return claims, [_bars(rows), chart], table


def _bars(rows: dict[str, quality.Method]) -> Figure:
    def plot(axes: Any) -> None:
        names = list(rows)[::-1]
        values = [rows[name].mean for name in names]
        axes.barh(names, values, color=figure.COLOURS[0])
        for place, value in enumerate(values):
            axes.text(value, place, f" {value:.1f}", va="center", fontsize=9)
        axes.set(xlabel="mean gap to the best known makespan in %")
        axes.grid(axis="y", visible=False)

    caption = "Lower is better."
    return figure.draw("jsp-gaps", "Gaps by method", caption, plot, (7.0, 3.4))


def _curves(path: Path) -> Figure:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [line["step"] for line in lines]
    return figure.lines(
        "jsp-training",
        "Self-labelling: loss and entropy",
        "Nats per step. The loss is that of the best sample; entropy that reached 0 would leave "
        "nothing to learn from.",
        {"loss": (steps, [x["loss"] for x in lines]),
         "entropy": (steps, [x["entropy"] for x in lines])},
        x="updates",
        y="nats per step",
    )  # fmt: skip


def _tours(cfg: RecipeConfig, context: Context) -> tuple[Claim, Figure]:
    """Trains a model for tours and compares with exact optima."""
    how = dataclasses.replace(cfg.tsp, seed=context.seed)
    params, history = tsp.train(how)
    key = rng.fold(jax.random.key(context.seed), "tours")
    xy = tsp.instances(key, cfg.tours, how.num_cities)
    draw = jax.jit(lambda p, temperature: tsp.sample(p, how, xy, key, how.num_samples, temperature))
    best = np.asarray([tsp.optimum(np.asarray(row, np.float64)) for row in xy])
    sampled, greedy = (np.asarray(draw(params, t).costs).min(1) for t in (1.0, 0.0))
    gaps = [100 * float(np.mean(found / best - 1)) for found in (sampled, greedy)]
    claim = TOURS.measured(
        gaps[0], context.scale, why=f"greedy {gaps[1]:.1f}; optima by dynamic programming"
    )
    steps = [row["step"] for row in history]
    picture = figure.lines(
        "jsp-tsp",
        f"The same loss on tours of {how.num_cities} cities",
        "Mean length of the samples and of the labels during training.",
        {"all samples": (steps, [row["cost_mean"] for row in history]),
         "labels": (steps, [row["cost"] for row in history])},
        x="updates",
        y="tour length",
    )  # fmt: skip
    return claim, picture


_TSP = tsp.TSPConfig(width=32, layers=2, batch=32, num_samples=16, num_steps=250)
_TINY_TSP = tsp.TSPConfig(8, 16, 2, 1, 8, 8, 10)
SCALES = {
    "tiny": RecipeConfig(PRESETS["tiny"], ("ft06",), 4, 20, _TINY_TSP, 4),
    "laptop": RecipeConfig(PRESETS["laptop"], benchmark.CLASSIC_10X10, 32, 300, _TSP, 16),
    "h100": RecipeConfig(
        PRESETS["h100"],
        (*benchmark.NAMES["ta"], *benchmark.NAMES["la"]),
        128,
        2000,
        tsp.TSPConfig(width=128, layers=3, batch=512, num_samples=64, num_steps=3000),
        64,
    ),
}

RECIPE = Recipe(
    system="jsp",
    title="Self-labelling for job shops",
    about="A policy that builds schedules is trained on random job shops to imitate the best of "
    "its own samples, and then solves classical instances; the same strategy learns tours.",
    scales=SCALES,
    run=run,
)
