"""The verbs of `jaxml chiplet`: TOML in, table and JSON out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxml.chiplet import explorer, presets, study_file
from jaxml.chiplet.area import package_mm2
from jaxml.chiplet.method import TITLES
from jaxml.chiplet.model import Report
from jaxml.chiplet.optimize import optimize as descend
from jaxml.chiplet.pareto import front_of
from jaxml.chiplet.simulate import compare as by_method
from jaxml.chiplet.simulate import simulate as run_one
from jaxml.chiplet.sweep import grid
from jaxml.chiplet.sweep import sweep as run_sweep
from jaxml.core import check, files

type StudyPath = Annotated[Path | None, tyro.conf.Positional]


def _plain(value: Any) -> Any:
    """Named tuples and arrays as JSON values."""
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return np.asarray(value).tolist()


def _show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _write(out: Path | None, content: Any) -> None:
    if out is not None:
        files.write_text(out, json.dumps(content, indent=1) + "\n")
        print(f"numbers: {out}")


def _summary(name: str, report: Report) -> tuple[str, ...]:
    return (
        name,
        f"{float(report.time_s):.4g}",
        f"{float(report.energy_j) / 1e3:.4g}",
        f"{100 * float(report.mfu):.1f}",
        f"{float(report.compute_s):.4g}",
        f"{float(report.nop_s):.4g}",
        f"{float(report.dram_s):.4g}",
        f"{float(report.chunk_tokens):.0f}",
        "yes" if bool(report.feasible) else "no",
    )


COLUMNS = ("method", "s", "kJ", "MFU %", "compute", "links", "DRAM", "chunk", "fits")


def simulate(
    study: StudyPath = None, /, method: str | None = None, out: Path | None = None
) -> None:
    """Time and energy of a training batch.

    Args:
      study: a TOML file (see `jaxml.chiplet.study_file`); default Llama2-70B, calibrated package.
      method: instead of the file's.
      out: a JSON file to write.
    """
    asked = study_file.read(study)
    chosen = method or asked.method
    report = run_one(asked.model, asked.system, method=chosen, batch_tokens=asked.batch_tokens)
    _show("One batch", COLUMNS, [_summary(TITLES[chosen], report)])
    rows = [(name, *(f"{float(x):.4g}" for x in phase)) for name, phase in report.phases.items()]
    _show("Seconds by phase", ("phase", "compute", "links", "DRAM", "together"), rows)
    _write(out, _plain(report))


def compare(
    study: StudyPath = None,
    /,
    methods: tuple[str, ...] = ("flat_ring", "torus_ring", "optimus", "summa", "hecaton", "dual"),
    out: Path | None = None,
) -> None:
    """One batch by several methods.

    Args:
      study: a TOML file; default Llama2-70B, calibrated package.
      methods: of flat_ring, bidir_ring, torus_ring, torus_dual, optimus, summa, summa_kv, hecaton,
        dual.
      out: a JSON file to write.
    """
    asked = study_file.read(study)
    found = by_method(asked.model, asked.system, methods=methods, batch_tokens=asked.batch_tokens)
    _show("One batch", COLUMNS, [_summary(TITLES[m], r) for m, r in found.items()])
    _write(out, {method: _plain(report) for method, report in found.items()})


def sweep(
    study: StudyPath = None,
    /,
    objectives: tuple[str, ...] = ("time_s", "energy_j"),
    out: Path | None = None,
) -> None:
    """All combinations of the file's axes; prints the Pareto front.

    Args:
      study: a TOML file with [axes]; default: links and mesh of the calibrated package.
      objectives: numbers of a report that are made small.
      out: a JSON file to write: all designs, and which are on the front.
    """
    asked = study_file.read(study)
    axes = asked.axes or {
        "mesh.rows": [16, 32, 64],
        "mesh.cols": [16, 32, 64],
        "link.bandwidth_bytes_s": [16e9, 32e9, 64e9, 128e9],
    }
    values = grid(axes)
    report = run_sweep(
        asked.model, asked.system, values, method=asked.method, batch_tokens=asked.batch_tokens
    )
    front = front_of(report, objectives)
    rows = [
        (
            *(f"{values[path][i]:.4g}" for path in axes),
            *(f"{float(getattr(report, name)[i]):.4g}" for name in objectives),
        )
        for i in front
    ]
    possible = int(np.asarray(report.feasible).sum())
    title = f"{len(front)} on the front of {len(report.time_s)} designs, {possible} feasible"
    _show(title, (*axes, *objectives), rows)
    numbers = {name: _plain(getattr(report, name)) for name in (*objectives, "feasible")}
    _write(out, {"values": _plain(values), "front": front.tolist(), **numbers})


def optimize(
    study: StudyPath = None,
    /,
    objective: str = "time",
    steps: int = 200,
    out: Path | None = None,
) -> None:
    """Gradient descent over the file's free numbers, within its budget.

    Args:
      study: a TOML file with [free] and [budget]; default: the aspect of the mesh.
      objective: time, energy or edp.
      steps: of the descent.
      out: a JSON file to write.
    """
    asked = study_file.read(study)
    free = asked.free or {"mesh.aspect": (1 / 64, 64.0)}
    found = descend(
        asked.model,
        asked.system,
        free,
        objective=objective,  # pyright: ignore[reportArgumentType]
        method=asked.method,
        batch_tokens=asked.batch_tokens,
        budget=asked.budget,
        steps=steps,
    )
    rows = [(name, f"{value:.4g}") for name, value in found.values.items()]
    rows += [
        (objective, f"{found.objective:.4g}"),
        ("power, W", f"{float(found.report.energy_j / found.report.time_s):.4g}"),
        ("silicon, mm2", f"{float(package_mm2(found.system)):.4g}"),
    ]
    _show(f"Best of {steps} steps, smooth model", ("number", "value"), rows)
    report = _plain(jax.tree.map(np.asarray, found.report))
    _write(out, {"values": found.values, "objective": found.objective, "report": report})


def explore(out: Path = Path("explorer.html"), model: str = "llama2-70b") -> None:
    """Writes the interactive page.

    Args:
      out: the page.
      model: a name of the presets.
    """
    check.one_of(presets.MODELS, model=model)
    files.write_text(out, explorer.page(explorer.compute(model)))
    print(f"page: {out}")
