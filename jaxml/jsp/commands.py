"""`jaxml jsp solve`, `train` and `bench`."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxml.core import check, files
from jaxml.dist import mesh as meshes
from jaxml.jsp import benchmark, gantt, parsing, policy, rules, schedule
from jaxml.jsp import train as training
from jaxml.jsp.config import PRESETS, SLIMConfig, SPNConfig
from jaxml.jsp.instance import JSPInstance
from jaxml.jsp.replan import Remainder, remainder
from jaxml.jsp.solve import Solution, SolveConfig
from jaxml.jsp.solve import solve as find


def seconds(text: str) -> float:
    """Seconds from `2`, `2s`, `500ms` or `1min`.

    Raises:
      ValueError: anything else.

    >>> seconds("500ms"), seconds("2s"), seconds("1min")
    (0.5, 2.0, 60.0)
    """
    match = re.fullmatch(r"([0-9.]+)\s*(ms|s|min)?", text.strip())
    try:
        value = float(match[1]) if match else float("nan")
    except ValueError:
        value = float("nan")
    if not match or value != value:
        raise ValueError(f"a duration is like 2s, 500ms or 1min; got {text!r}.")
    return value * {"ms": 1e-3, "s": 1.0, "min": 60.0, None: 1.0}[match[2]]


def record(instance: JSPInstance, solution: Solution) -> dict[str, Any]:
    """The schedule as plain JSON values."""
    bound = instance.trivial_bound if instance.lb is None else instance.lb
    jobs = [
        [
            {
                "operation": op,
                "machine": int(instance.machines[job, op]),
                "start": int(solution.starts[job, op]),
                "end": int(solution.starts[job, op] + instance.durations[job, op]),
            }
            for op in range(length)
        ]
        for job, length in enumerate(instance.lengths)
    ]
    return {
        "name": instance.name,
        "makespan": solution.makespan,
        "lower_bound": int(bound),
        "sequence": solution.seq.tolist(),
        "jobs": jobs,
        "stages": [
            dict(zip(("stage", "makespan", "seconds", "compile_seconds"), stage, strict=True))
            for stage in solution.stages
        ],
    }


def starts_of(instance: JSPInstance, plan: dict[str, Any]) -> np.ndarray:
    """Start times [n, k] from a record.

    Raises:
      ValueError: not the record of a schedule of this instance.
    """
    starts = np.full(instance.machines.shape, -1, np.int64)
    try:
        for job, rows in enumerate(plan["jobs"]):
            for row in rows:
                starts[job, row["operation"]] = int(row["start"])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"the plan does not fit the instance ({error!r}).") from None
    if (starts[instance.machines >= 0] < 0).any():
        raise ValueError("the plan lacks operations of the instance.")
    return starts


def solve(
    file: Annotated[Path, tyro.conf.Positional],
    /,
    samples: int = 128,
    polish: str = "2s",
    mirror: bool = True,
    seed: int = 0,
    out: Path | None = None,
    gantt_file: Annotated[Path | None, tyro.conf.arg(name="gantt")] = None,
    plan: Path | None = None,
    now: int | None = None,
    weights: Path | None = None,
) -> None:
    """Schedules a job shop: samples from the trained policy, then tabu search from the best.

    Args:
      file: the instance: standard text, Taillard's two blocks, or JSON (which may hold `release`,
        `available` and jobs of unequal length).
      samples: schedules to draw.
      polish: how long to search from them, e.g. 2s or 500ms; 0 not at all.
      mirror: draw half of the samples backwards in time.
      seed: of all draws; the same seed gives the same samples.
      out: the schedule as JSON.
      gantt_file: the schedule as a picture, SVG.
      plan: a schedule that `--out` wrote and that has begun; with `--now`.
      now: what the plan starts before this date stays, all else is planned anew.
      weights: parameters of the policy (default: those of the package).
    """
    _remember_compiled_code()
    if (plan is None) != (now is None):
        raise ValueError("plan and now belong together; got one of them.")
    whole = parsing.read_jsp(file)
    params = policy.shipped() if weights is None else policy.load(weights)
    rest = None
    if plan is not None and now is not None:
        rest = remainder(whole, starts_of(whole, json.loads(plan.read_text())), now)
    instance = whole if rest is None else rest.instance
    how = SolveConfig(samples, seconds(polish), mirror=mirror, round_up=5, seed=seed)
    found = find(instance, params, SPNConfig(), how)
    if rest is not None:
        found = _whole(rest, found)
    _tell(whole, found)
    if out is not None:
        text = json.dumps(record(whole, found), indent=1) + "\n"
        schedule.validate_schedule(whole, starts_of(whole, json.loads(text)))
        files.write_text(out, text)
    if gantt_file is not None:
        title = f"{whole.name}: {found.makespan}"
        files.write_text(gantt_file, gantt.svg(whole, found.starts, title))


def _whole(rest: Remainder, found: Solution) -> Solution:
    """The old plan with its remainder replaced, checked as one."""
    starts = rest.merge(found.starts)
    makespan = schedule.validate_schedule(rest.whole, starts)
    return Solution(starts, schedule.sequence_of(rest.whole, starts), makespan, found.stages)


def _tell(instance: JSPInstance, found: Solution) -> None:
    jobs, machines = instance.shape
    bound = instance.trivial_bound if instance.lb is None else instance.lb
    over = 100 * (found.makespan / bound - 1) if bound else 0.0
    print(f"{instance.name}: {jobs} jobs, {machines} machines, {instance.num_ops} operations")
    for name, makespan, spent, compiling in found.stages:
        print(f"  {name:<12} {makespan:>8}   {spent:.2f} s (and {compiling:.1f} s to compile)")
    print(f"makespan {found.makespan}, {over:.1f} % above the lower bound {bound}; checked.")


def _remember_compiled_code() -> None:
    """Keeps compiled code in the user's cache folder, so that only the first call waits."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "jaxml" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def of_preset(preset: str | None) -> Callable[..., None]:
    """The command `train` with the defaults of a preset."""
    check.one_of(PRESETS, preset=preset or "laptop")
    default = PRESETS[preset or "laptop"]

    def train(
        folder: Annotated[Path, tyro.conf.Positional],
        /,
        preset: str = "laptop",
        minutes: float | None = None,
        devices: int = 1,
        cfg: Annotated[SLIMConfig, tyro.conf.arg(name="")] = default,
    ) -> None:
        """Trains a policy on random instances by self-labelling, or goes on with a stopped run.

        Args:
          folder: of the run: configuration, metrics.jsonl, run.safetensors, best.safetensors.
          preset: a training (tiny, laptop, h100, paper); other flags change single settings.
          minutes: stop after this long; the run can go on later.
          devices: split every batch over this many.
          cfg: the run.
        """
        mesh = None
        if devices > 1:
            check.divides(devices=devices, batch=cfg.batch)
            mesh = meshes.make(meshes.MeshConfig(data=devices), jax.devices()[:devices])
        done = training.train(cfg, folder, minutes=minutes, mesh=mesh)
        policy.save(folder / "last.safetensors", done.params, cfg.model)
        print(f"{done.steps} updates; the run lies in {folder}, its weights in last.safetensors.")

    return train


train = of_preset(None)
train.of_preset = of_preset  # pyright: ignore[reportFunctionMemberAccess]


def bench(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ("ft06", "ft10", "la21", "ta01"),
    /,
    samples: int = 128,
    polish: str = "2s",
    seed: int = 0,
    weights: Path | None = None,
) -> None:
    """Solves benchmark instances: dispatching rules, the policy, and the policy polished.

    Args:
      names: instances, or sets (ft, la, abz, orb, swv, yn, ta, dmu).
      samples: schedules to draw of each.
      polish: seconds of tabu search.
      seed: of all draws.
      weights: parameters of the policy (default: those of the package).
    """
    _remember_compiled_code()
    params = policy.shipped() if weights is None else policy.load(weights)
    wanted = [n for name in names for n in benchmark.NAMES.get(name, (name,))]
    entries = benchmark.load(wanted)
    spent = seconds(polish)
    table = Table("instance", "size", "best known", "bound from", "MWR", "policy", "polished", "s")
    for entry in entries:
        shop = entry.instance
        begun = time.perf_counter()
        found = find(shop, params, SPNConfig(), SolveConfig(samples, spent, seed=seed))
        rule = schedule.makespan(shop, rules.dispatch(shop, "MWR"))
        cells = [f"{m} ({benchmark.gap(m, shop):.1f} %)" for m in (rule, found.stages[0][1])]
        last = f"{found.makespan} ({benchmark.gap(found.makespan, shop):.1f} %)"
        taken = f"{sum(s[2] for s in found.stages):.1f}"
        size = "x".join(map(str, shop.shape))
        table.add_row(shop.name, size, str(shop.ub), entry.bounds, *cells, last, taken)
        Console().print(f"{shop.name} {time.perf_counter() - begun:.1f} s with compiling")
    Console().print(table)
