"""Tables of the recipe."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxml.chiplet import field, measured, presets
from jaxml.chiplet.cluster import Cluster, simulate_cluster
from jaxml.chiplet.fit import Fit
from jaxml.chiplet.frontier import Frontier
from jaxml.chiplet.method import TITLES
from jaxml.chiplet.model import Report
from jaxml.chiplet.search import BudgetFound
from jaxml.chiplet.study import Gain
from jaxml.report.recipe import Table


def constants() -> Table:
    """What is calibrated."""
    base, ours = presets.default(32, 32), presets.paper_v1()
    changed = [
        (path, f"{field.get(base, path):.4g}", f"{field.get(ours, path):.4g}")
        for path in field.paths(ours)
        if field.get(base, path) != field.get(ours, path)
    ]
    return Table(
        "What is calibrated",
        ("constant", "public orders of magnitude", "calibrated"),
        tuple(changed),
        "Set by us so that Llama2-70B on 32 x 32 dies comes near the abstract's two ratios; all "
        "other constants are the public ones. The paper's own could not be read.",
    )


def methods(found: Mapping[str, Report], mixed: tuple[Report, Mapping[str, str]]) -> Table:
    """Every method on the headline case, those that beat Hecaton included."""
    ours = found["hecaton"]
    best, chosen = mixed
    every = [(TITLES[name], report) for name, report in found.items()]
    every.append((TITLES["mixed"], best))
    rows = [
        (
            name,
            f"{r.time_s:.1f}",
            f"{r.energy_j / 1e3:.0f}",
            f"{100 * r.mfu:.1f}",
            f"{r.time_s / ours.time_s:.2f}",
            f"{r.energy_j / ours.energy_j:.2f}",
            f"{r.chunk_tokens:.0f}",
        )
        for name, r in every
    ]
    words = ", ".join(f"{matrix} {method}" for matrix, method in chosen.items())
    return Table(
        "Llama2-70B on 32 x 32 dies, all methods",
        ("method", "s", "kJ", "MFU %", "time ratio", "energy ratio", "chunk"),
        tuple(rows),
        "Ideally pipelined SUMMA beats Hecaton in this model, even when its keys and values are "
        "charged: large chunks of tokens pay for moving weights. Ratios are over Hecaton. Best by "
        f"matrix: {words}.",
    )


def sensitivity(found: Mapping[str, tuple[Gain, Gain]], base: Gain) -> Table:
    """The two ratios with each constant halved and doubled."""
    rows = [
        ("as calibrated", *(f"{x:.2f}" for x in (base.time, base.time, base.energy, base.energy)))
    ]
    rows += [
        (
            path,
            f"{half.time:.2f}",
            f"{double.time:.2f}",
            f"{half.energy:.2f}",
            f"{double.energy:.2f}",
        )
        for path, (half, double) in found.items()
    ]
    return Table(
        "Sensitivity of the ratios to the constants",
        ("constant", "time, halved", "time, doubled", "energy, halved", "energy, doubled"),
        tuple(rows),
    )


def family_rows(family: str, gains: Sequence[Gain], dies: Sequence[int]) -> list[tuple[str, ...]]:
    """Rows of one family."""
    return [
        (
            model,
            f"{n:,}",
            f"{g.time:.2f}",
            f"{g.energy:.2f}",
            f"{g.report.compute_s / g.report.nop_s:.2f}",
            f"{100 * g.report.mfu:.1f}",
        )
        for (model, _), n, g in zip(presets.FAMILIES[family], dies, gains, strict=True)
    ]


def weak_scaling(rows: Sequence[tuple[str, ...]]) -> Table:
    """Both families."""
    return Table(
        "Models and meshes growing together",
        ("model", "dies", "time ratio", "energy ratio", "compute / links", "MFU %"),
        tuple(rows),
        "Ratios are flat ring over Hecaton; below 1 the flat ring is faster.",
    )


def ablations(found: Mapping[str, Gain]) -> Table:
    """One thing changed at a time, in both methods."""
    rows = [
        (
            name,
            f"{g.time:.2f}",
            f"{g.energy:.2f}",
            f"{g.report.time_s:.1f}",
            f"{g.report.dram_s / (g.report.compute_s + g.report.nop_s):.2f}",
            "yes" if g.report.feasible else "no",
        )
        for name, g in found.items()
    ]
    return Table(
        "Ablations, Llama2-70B on 32 x 32 dies",
        ("change", "time ratio", "energy ratio", "Hecaton, s", "DRAM / on package", "fits"),
        tuple(rows),
        "Ratios are flat ring over Hecaton, both with the change.",
    )


def ours(found: Mapping[str, tuple[Gain, Report]]) -> Table:
    """Our additions."""
    rows = [
        (name, f"{gain.time:.2f}", f"{gain.energy:.2f}", f"{report.time_s:.1f}")
        for name, (gain, report) in found.items()
    ]
    return Table(
        "Our additions, Llama2-70B on 1,024 dies",
        ("scheme", "time ratio", "energy ratio", "s"),
        tuple(rows),
        "Against the flat ring on the square mesh.",
    )


def packages() -> Table:
    """The largest model over several packages."""
    model, system = presets.MODELS["llama3.1-405b"], presets.paper_v1()
    rows = []
    for pipeline, data, micro in (
        (1, 1, 1),
        (2, 1, 16),
        (7, 1, 32),
        (1, 4, 1),
        (2, 4, 16),
        (7, 4, 32),
    ):
        cluster = Cluster(pipeline=pipeline, data=data, micro_batches=micro)
        r = simulate_cluster(model, system, cluster)
        rows.append(
            (
                f"{pipeline} x {data}",
                f"{micro}",
                f"{float(r.time_s):.1f}",
                f"{float(r.energy_j) / 1e6:.2f}",
                f"{100 * float(r.mfu):.1f}",
                f"{100 * float(r.bubble_s / r.time_s):.1f}",
                f"{100 * float((r.messages_s + r.gradients_s) / r.time_s):.1f}",
            )
        )
    return Table(
        "Llama3.1-405B over several packages of 32 x 32 dies",
        ("stages x copies", "micro-batches", "s", "MJ", "MFU %", "idle %", "network %"),
        tuple(rows),
        "400 GB/s a package to the network (ours).",
    )


def iterations(names: Sequence[str], seconds: np.ndarray, fitted: Fit, held: Fit) -> Table:
    """Measured and predicted iterations."""
    rows = [
        (
            f"{name}, {'full' if i % 2 == 0 else 'selective'} recomputation",
            f"{seconds[i]:.2f}",
            f"{fitted.predicted[i]:.2f}",
            f"{100 * fitted.error[i]:+.1f}",
            f"{held.predicted[i]:.2f}",
            f"{100 * held.error[i]:+.1f}",
        )
        for i, name in enumerate(names)
    ]
    return Table(
        "Seconds per iteration on A100, measured and predicted",
        ("run", "measured", "fitted", "error %", "held out", "error %"),
        tuple(rows),
        "Two constants are fitted: efficiency of products and of links. Held out: fitted to the "
        "other three models.",
    )


def kernels() -> Table:
    """Products and all-reduces, measured and predicted.

    Raises:
      DataNotFoundError: the data set `chiplet_measured` is not there.
    """
    parts = {
        "products, A100 (start-up, peak, bandwidth)": measured.fit_gemm("A100"),
        "products, MI210": measured.fit_gemm("MI210"),
        "all-reduce, 4 x A100 (latency, bandwidth)": measured.fit_all_reduce(),
    }
    rows = [
        (
            name,
            f"{len(fitted.error)}",
            *(f"{100 * x:.1f}" for x in (fitted.mean, fitted.worst, held.mean, held.worst)),
        )
        for name, (fitted, held) in parts.items()
    ]
    return Table(
        "Closed forms against measured kernels",
        ("kernel", "points", "mean %", "worst %", "held out, mean %", "held out, worst %"),
        tuple(rows),
        "Data set chiplet_measured. The all-reduce's protocol changes with the size, which one "
        "latency and one bandwidth do not follow.",
    )


def searched(found: BudgetFound) -> Table:
    """The design within the budgets."""
    base = presets.paper_v1()
    rows = [
        (name, "1" if name == "mesh.aspect" else f"{field.get(base, name):.4g}", f"{value:.4g}")
        for name, value in found.found.values.items()
    ]
    return Table(
        "Hardware found by gradients",
        ("number", "calibrated package", "found"),
        tuple(rows),
        f"Within {found.budget.area_mm2:.0f} mm² and {found.budget.power_w:.0f} W, the silicon and "
        "power of the calibrated package; smooth model, area by constants of ours.",
    )


def big(found: Sequence[Frontier]) -> Table:
    """Grids streamed on this device."""
    rows = [
        (
            name,
            f"{f.num_designs:,}",
            f"{f.seconds:.1f}",
            f"{f.designs_s:,.0f}",
            f"{f.num_survivors:,}",
            f"{len(f.indices)}",
        )
        for name, f in zip(("energy", "area"), found, strict=True)
    ]
    return Table(
        "Fronts of streamed grids",
        ("time against", "designs", "s", "designs/s", "computed again in float64", "on the front"),
        tuple(rows),
    )
