"""Runs the benchmarks: ratios against named peers, in one process, written as results files.

    python benchmarks/run.py [NAME ...] [--smoke] [--check] [--write]

Each file beside this one with a function `rows(smoke) -> list[Row]` is a benchmark.
"""

import importlib.util
import sys
from pathlib import Path

import tyro

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

from jaxml.core import check  # noqa: E402
from jaxml.report import timing  # noqa: E402


def available() -> dict[str, Path]:
    """Benchmarks by name."""
    return {
        p.stem: p for p in sorted(HERE.glob("*.py")) if p.stem not in ("run", "picture", "tune")
    }


def load(path: Path):
    """The module of one benchmark."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    smoke: bool = False,
    check_goals: bool = False,
    write: bool = False,
) -> int:
    """Runs benchmarks and prints their rows.

    Args:
      names: which (default: all).
      smoke: smallest sizes, to see that everything runs.
      check_goals: exit status 1 if a row misses its goal.
      write: write results/NAME-DEVICE.json.
    """
    import jax

    missed = []
    for name in names or available():
        check.one_of(available(), name=name)
        rows = load(available()[name]).rows(smoke)
        print(f"\n{name}\n{timing.table(rows)}")
        missed += timing.missed(rows)
        if write:
            device = jax.devices()[0]
            kind = device.device_kind.lower()
            known = next((k for k in ("h100", "h200") if k in kind), device.platform)
            timing.write(HERE / "results" / f"{name}-{known}.json", rows)
    for row in missed:
        print(f"below its goal: {row.case} {row.metric} {row.ratio} < {row.goal}")
    return int(check_goals and bool(missed))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
