"""A long training from a bare command line: `python -m jaxml.jsp.pretrain FOLDER --minutes 8`.

Needs jax, numpy, optax and flax. Call it again with the same folder to go on.
"""

import argparse
import dataclasses
import gzip
import json
import shutil
import time
from pathlib import Path

import jax
import numpy as np

from jaxml.core import files
from jaxml.jsp import evaluation, policy
from jaxml.jsp import train as training
from jaxml.jsp.benchmark import gap
from jaxml.jsp.config import PRESETS, SLIMConfig
from jaxml.jsp.instance import JSPInstance

SETS = ("ta", "la", "dmu")


def instances_of(path: Path, prefix: str = "") -> list[JSPInstance]:
    """The instances of a benchmark file (JSON or gzipped JSON, by name)."""
    raw = path.read_bytes()
    table = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    return [
        JSPInstance(np.asarray(r["machines"]), np.asarray(r["durations"]), name, r["lb"], r["ub"])
        for name, r in table.items()
        if name.startswith(prefix)
    ]


def benchmark(
    params: training.PyTree, cfg: SLIMConfig, path: Path, samples: int, until: float, out: Path
) -> None:
    """Solves Taillard's, Lawrence's and Demirkol's instances; writes gaps and sequences."""
    rows, sequences = [], {}
    for prefix in SETS:
        instances = instances_of(path, prefix)
        key = jax.random.key(12345)
        found = evaluation.evaluate(
            params, cfg.model, instances, key, samples, until=until, say=say
        )
        by_name = {i.name: i for i in instances}
        for result in found:
            shop = by_name[result.name]
            rows.append(
                {
                    "name": result.name,
                    "shape": list(shop.shape),
                    "ub": shop.ub,
                    "greedy": result.greedy,
                    "best": result.best,
                    "greedy_gap": round(gap(result.greedy, shop), 4),
                    "best_gap": round(gap(result.best, shop), 4),
                    "seconds": round(result.seconds, 4),
                }
            )
            sequences[result.name] = result.seq.astype(np.int8)
        if found:
            say(
                f"{prefix} ({len(found)} of {len(instances)}), best of {samples}: "
                f"{evaluation.mean_gaps(found, instances)}"
            )
    files.write_text(out / f"benchmark-{samples}.json", json.dumps(rows, indent=0) + "\n")
    with files.aside(out / f"sequences-{samples}.npz") as part, part.open("wb") as handle:
        np.savez_compressed(handle, **sequences)


def say(line: str) -> None:
    """Prints with the seconds since the start."""
    print(f"[{time.monotonic() - _BEGUN:6.1f} s] {line}", flush=True)


_BEGUN = time.monotonic()


def main() -> None:
    """Parses the flags, trains, evaluates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="h100", choices=sorted(PRESETS))
    parser.add_argument("--start", type=Path, help="a run.safetensors to go on from")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="of training, compilation included"
    )
    parser.add_argument("--plan-minutes", type=float, help="of all runs together, for the rate")
    parser.add_argument("--benchmarks", type=Path, help="a benchmark file to solve at the end")
    parser.add_argument("--samples", type=int, nargs="*", default=[128])
    parser.add_argument("--total-minutes", type=float, default=9.5, help="no shape is begun later")
    for field in ("batch", "num_samples", "num_steps", "eval_every", "seed"):
        parser.add_argument(f"--{field.replace('_', '-')}", type=int)
    for field in ("lr", "final_lr"):
        parser.add_argument(f"--{field.replace('_', '-')}", type=float)
    parser.add_argument("--rollout-dtype", choices=("float32", "bfloat16"))
    args = parser.parse_args()
    names = [
        f.name for f in dataclasses.fields(SLIMConfig) if getattr(args, f.name, None) is not None
    ]
    cfg = dataclasses.replace(PRESETS[args.preset], **{n: getattr(args, n) for n in names})
    if args.start is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
        for name in ("run.safetensors", "best.safetensors", "metrics.jsonl", "config.json"):
            if (args.start.parent / name).exists():
                shutil.copy(args.start.parent / name, args.folder / name)
    say(f"{jax.devices()}, jax {jax.__version__}")
    left = args.minutes - (time.monotonic() - _BEGUN) / 60
    done = training.train(cfg, args.folder, minutes=left, plan_minutes=args.plan_minutes, say=say)
    say(f"{done.steps} updates, best validation gap {done.score:.3f} %")
    policy.save(args.folder / "best.safetensors", done.best, cfg.model)
    until = _BEGUN + 60 * args.total_minutes
    for samples in args.samples if args.benchmarks else ():
        benchmark(done.best, cfg, args.benchmarks, samples, until, args.folder)
    say("done")


if __name__ == "__main__":
    main()
