"""What of Hecaton is re-measured: the abstract's ratios, openly calibrated, and what we add."""

import contextlib
import dataclasses

import jax
import numpy as np

from jaxml.chiplet import (
    brute,
    explorer,
    measured,
    picture,
    presets,
    promises,
    search,
    speed,
    study,
)
from jaxml.chiplet import tables as made
from jaxml.chiplet.frontier import frontier
from jaxml.core import files
from jaxml.inputs.source import DataNotFoundError
from jaxml.report import timing
from jaxml.report.claim import Claim
from jaxml.report.recipe import Context, Figure, Outcome, Recipe, Table


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """One scale of the recipe.

    Attributes:
      steps: of each gradient search.
      seeds: of the random searches.
      num_designs: whose speed is measured.
      front_designs: of the grids whose front is drawn and compared with float64.
      big_designs: of the grid that is streamed; 0 for none.
      designs_s: goal of designs per second.
      gradients_s: goal of gradients per second.
    """

    steps: int
    seeds: int
    num_designs: int
    front_designs: int
    big_designs: int
    designs_s: float
    gradients_s: float


type Found = tuple[list[Claim], list[Figure], list[Table]]


def headline(scale: str) -> Found:
    """The two ratios of each abstract, all methods, and what they hang on."""
    big = [(presets.MODELS["llama2-70b"], presets.paper_v1()), study.family("v2")[-1]]
    seventy, four = study.gains(big)
    quarter = study.gains([(big[0][0], presets.paper_v1(16, 16))])[0]
    methods = study.by_method(big[0])
    moved = study.sensitivity(big[0])
    why = f"constants of our package calibrated to it; 256 dies give {quarter.time:.2f} x"
    other = "not reproduced: same constants, nothing adjusted for it"
    claims = [
        promises.TIME_70B.measured(seventy.time, scale, None, why),
        promises.ENERGY_70B.measured(
            seventy.energy, scale, None, f"likewise; 256 dies give {quarter.energy:.2f} x"
        ),
        promises.TIME_405B.measured(four.time, scale, None, other),
        promises.ENERGY_405B.measured(four.energy, scale, None, other),
    ]
    figures = [
        picture.time_breakdown(methods),
        picture.energy_breakdown(methods),
        picture.tornado(moved, seventy),
        picture.link_loads(),
    ]
    tables = [
        made.constants(),
        made.methods(methods, study.choose(big[0])),
        made.sensitivity(moved, seventy),
    ]
    return claims, figures, tables


def scaling(scale: str) -> Found:
    """Weak scaling of both families."""
    claims, series, rows = [], {}, []
    for family in presets.FAMILIES:
        cases = study.family(family)
        gains = study.gains(cases)
        ours = study.work_times(cases, [g.report for g in gains])
        ring = study.work_times(cases, [g.baseline for g in gains])
        away = np.abs(ours / ours.mean() - 1).max()
        grown = f"Hecaton's grows {ours[-1] / ours[0]:.2f} x"
        claims += [
            promises.level(family).measured(away, scale),
            promises.steep(family).measured(ring[-1] / ring[0], scale, None, grown),
        ]
        dies = [int(system.mesh.num_dies) for _, system in cases]
        series[f"Hecaton, {family}"] = (dies, (ours / ours[0]).tolist())
        series[f"flat ring, {family}"] = (dies, (ring / ours[0]).tolist())
        rows += made.family_rows(family, gains, dies)
    return claims, [picture.weak_scaling(series)], [made.weak_scaling(rows)]


def variations() -> Found:
    """Ablations, our additions, several packages."""
    model = presets.MODELS["llama2-70b"]
    gains = {name: study.gains([(model, system)])[0] for name, system in study.ablations().items()}
    return [], [], [made.ablations(gains), made.ours(study.ours(model)), made.packages()]


def against_measured(scale: str) -> Found:
    """The GPU mode and measured iterations; products and all-reduces where the data is there."""
    fitted, held = measured.fit_iterations()
    _, _, seconds, names = measured.iterations()
    constants = f"eta = {fitted.params['eta']:.3f}, nu = {fitted.params['nu']:.3f}"
    claims = [
        promises.FIT.measured(
            fitted.mean, scale, None, f"{constants}; worst {100 * fitted.worst:.1f} %"
        ),
        promises.HELD.measured(held.mean, scale, None, "each of the four models left out in turn"),
        promises.HELD_WORST.measured(held.worst, scale),
    ]
    tables = [made.iterations(names, seconds, fitted, held)]
    with contextlib.suppress(DataNotFoundError):
        tables.append(made.kernels())
    line = picture.predictions(seconds.tolist(), fitted.predicted.tolist(), held.predicted.tolist())
    return claims, [line], tables


def searches(cfg: RecipeConfig, scale: str) -> Found:
    """Gradients against the square mesh and against random search."""
    aspect = search.find_aspect(cfg.steps)
    within = search.within_budget(cfg.steps, cfg.seeds)
    best = min(within.random)
    rows, cols = aspect.mesh
    claims = [
        promises.ASPECT.measured(
            aspect.gain,
            scale,
            None,
            f"aspect {aspect.aspect:.2f} after {aspect.steps} steps, rounded to {rows} x {cols}",
        ),
        promises.BUDGET.measured(
            best / within.found.objective,
            scale,
            None,
            f"{within.found.evaluations} evaluations; {len(within.random)} random searches, "
            f"the mean one {np.mean(within.random) / within.found.objective:.2f} x; the calibrated "
            f"package itself {within.start / within.found.objective:.2f} x",
        ),
    ]
    start = float(
        study.simulate(search.MODEL, presets.paper_v1(), method="dual", smooth=True).time_s
    )
    return claims, [picture.descent(aspect.history, start)], [made.searched(within)]


def throughput(cfg: RecipeConfig, context: Context) -> list[Claim]:
    """Designs and gradients per second on all devices of this machine."""
    n, chunk = cfg.num_designs, cfg.num_designs if _on_gpu() else 8192
    calls = {"designs": speed.sweep_call(n, chunk), "gradients": speed.slopes_call(n, chunk)}
    found = timing.alternate(calls, repeats=5)
    goals = promises.speed(cfg.designs_s, cfg.gradients_s)
    claims = []
    for promise, timed in zip(goals, found.values(), strict=True):
        rates = [n / s for s in timed.seconds]
        claims.append(promise.measured(n / timed.median, context.scale, float(np.std(rates))))
        context.say(f"{promise.id}: {n / timed.median:,.0f}")
    return claims


def _on_gpu() -> bool:
    return jax.devices()[0].platform == "gpu"


def fronts(cfg: RecipeConfig, context: Context) -> Found:
    """Exact fronts, streamed and whole."""
    table, system = speed.axes(cfg.front_designs), presets.paper_v1()
    same = [
        speed.exact_front(cfg.front_designs, against)[0] for against in ("energy_j", "area_mm2")
    ]
    claims = [promises.EXACT_FRONT.measured(float(np.mean(same)), context.scale)]
    lines = {}
    for method, label in (("flat_ring", "1D, flat ring"), ("hecaton", "Hecaton"), ("dual", "dual")):
        found = frontier(
            speed.MODEL, system, table, against="area_mm2", method=method, chunk=2**14, rounds=4
        )
        lines[label] = (found.time_s.tolist(), found.cost.tolist())
        context.say(f"front of {label}: {len(found.indices)} of {found.num_designs:,} designs")
    tables = []
    if cfg.big_designs:
        big = [speed.big_front(cfg.big_designs, a, 2**21, 16) for a in ("energy_j", "area_mm2")]
        tables.append(made.big(big))
    return claims, [picture.front(lines)], tables


def run(cfg: RecipeConfig, context: Context) -> Outcome:
    """Everything, in a few minutes of compiling and little computing."""
    found: list[Found] = []
    for words, part in (
        ("ratios of the abstracts", lambda: headline(context.scale)),
        ("weak scaling", lambda: scaling(context.scale)),
        ("ablations and additions", variations),
        ("measured iterations", lambda: against_measured(context.scale)),
        ("gradient search", lambda: searches(cfg, context.scale)),
        ("fronts", lambda: fronts(cfg, context)),
    ):
        context.say(words)
        found.append(part())
    moved = promises.WIRES.measured(brute.largest_difference(), context.scale)
    data = explorer.compute()
    files.write_text(context.folder / "explorer.html", explorer.page(data))
    return Outcome(
        claims=[
            *(claim for claims, _, _ in found for claim in claims),
            moved,
            *throughput(cfg, context),
        ],
        figures=[explorer.figure(data), *(f for _, figures, _ in found for f in figures)],
        tables=[table for _, _, tables in found for table in tables],
        data=[
            (
                "iterations on A100",
                "typed into the package from arXiv 2205.05198, table 5",
                "-",
                "published facts, transcribed by Calculon (Apache-2.0)",
            )
        ],
    )


RECIPE = Recipe(
    system="chiplet",
    title="Chiplets that train language models: a cost model with gradients",
    about="An analytical model of packages of chiplets, its collectives checked by moving real "
    "arrays, its GPU mode against measured iterations. The package is calibrated by us to the "
    "abstract's ratios on Llama2-70B; nothing else is.",
    scales={
        "tiny": RecipeConfig(20, 2, 2**12, 2_000, 0, 1e3, 1e3),
        "laptop": RecipeConfig(200, 5, 2**19, 100_000, 0, 1e6, 1e5),
        "h100": RecipeConfig(200, 20, 2**22, 100_000, 10**9, 1e8, 1e7),
    },
    run=run,
)
