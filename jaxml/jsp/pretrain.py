"""A long training from a bare command line: `python -m jaxml.jsp.pretrain FOLDER --minutes 8`.

Needs jax, numpy, optax and flax. Call it again with the same folder to go on.
"""

import argparse
import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import jax

from jaxml.jsp import policy, published, validation
from jaxml.jsp import train as training
from jaxml.jsp.config import PRESETS, SLIMConfig
from jaxml.report import timing
from jaxml.report.progress import BEGUN, say


def _benchmarks(args: argparse.Namespace, cfg: SLIMConfig, params: Any) -> None:
    """Solves the benchmark file and writes `benchmark.json` (a results file) and the sequences."""
    instances = published.instances_of(args.benchmarks)
    temperature = best_temperature(args.temperatures, cfg, params)
    budget = published.Budget(
        tuple(args.samples), args.both, args.starts, args.seconds, temperature
    )
    until = BEGUN + 60 * args.total_minutes
    found = published.solve_all(params, cfg.model, instances, budget, until=until, say=say)
    rows = published.rows(instances, found)
    rows.append(timing.Row("all samples", "temperature", "", temperature))
    timing.write(args.folder / "benchmark.json", rows)
    published.write_sequences(args.folder / "sequences.npz", found)
    print(timing.table([r for r in rows if "instances" in r.case]), flush=True)


def best_temperature(candidates: list[float], cfg: SLIMConfig, params: Any) -> float:
    """The temperature whose best sample is best on the generated validation instances."""
    if len(candidates) == 1:
        return candidates[0]
    measure = validation.Validation(dataclasses.replace(cfg, eval_samples=128))
    found = {t: measure(params, t)["best"] for t in candidates}
    say(f"validation gap to the lower bound by temperature: {found}")
    return min(found, key=lambda t: found[t])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("folder", type=Path)
    add("--preset", default="h100", choices=sorted(PRESETS))
    add("--start", type=Path, help="a run.safetensors to go on from, with other settings maybe")
    add("--weights", type=Path, help="do not train: solve the benchmark file with these")
    add("--minutes", type=float, default=8.0, help="of training, compilation included")
    add("--plan-minutes", type=float, help="of all runs together, which the rate follows")
    add("--plan-start", type=float, default=0.0, help="minutes before the rate begins anew")
    add("--benchmarks", type=Path, help="a benchmark file to solve at the end")
    add("--samples", type=int, nargs="*", default=[128], help="a column for each number")
    add("--both", type=int, default=0, help="samples before the tabu search, half of them mirrored")
    add(
        "--temperatures",
        type=float,
        nargs="+",
        default=[1.0],
        help="the best in validation is used",
    )
    add("--starts", type=int, default=16, help="schedules from which the tabu search starts")
    add("--seconds", type=float, default=0.5, help="of tabu search per instance")
    add("--total-minutes", type=float, default=9.3, help="no shape is begun later than this")
    for field in ("batch", "num_samples", "num_steps", "eval_every", "eval_instances", "seed"):
        add(f"--{field.replace('_', '-')}", type=int)
    for field in ("lr", "final_lr"):
        add(f"--{field.replace('_', '-')}", type=float)
    add("--rollout-dtype", choices=("float32", "bfloat16"))
    return parser.parse_args()


def main() -> None:
    """Parses the flags, trains, evaluates."""
    args = _arguments()
    fields = [f.name for f in dataclasses.fields(SLIMConfig)]
    given = {f: getattr(args, f) for f in fields if getattr(args, f, None) is not None}
    cfg = dataclasses.replace(PRESETS[args.preset], **given)
    if args.start is not None and not (args.folder / "run.safetensors").exists():
        args.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(args.start, args.folder / "run.safetensors")
    say(f"{jax.devices()}, jax {jax.__version__}")
    if args.weights is None:
        params = _train(args, cfg)
    else:
        params = policy.load(args.weights)
    if args.benchmarks is not None:
        _benchmarks(args, cfg, params)
    say("done")


def _train(args: argparse.Namespace, cfg: SLIMConfig) -> Any:
    """The parameters that did best in validation."""
    left = max(args.minutes - (time.monotonic() - BEGUN) / 60, 0.01)
    plan = args.plan_minutes
    done = training.train(
        cfg,
        args.folder,
        minutes=left,
        plan_minutes=plan,
        plan_start=args.plan_start,
        say=say,
        log_every=50,
    )
    say(f"{done.steps} updates in all, best validation gap to the lower bound {done.score:.3f} %")
    policy.save(args.folder / "best.safetensors", done.best, cfg.model)
    (args.folder / ".lock").unlink(missing_ok=True)
    return done.best


if __name__ == "__main__":
    main()
