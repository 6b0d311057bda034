"""Pictures of the recipe."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxml.chiplet import wires
from jaxml.chiplet.method import TITLES
from jaxml.chiplet.model import Report
from jaxml.chiplet.study import Gain
from jaxml.report import figure
from jaxml.report.recipe import Figure


def _bars(
    id: str,
    title: str,
    caption: str,
    parts: Mapping[str, Sequence[float]],
    names: Sequence[str],
    unit: str,
) -> Figure:
    """Stacked horizontal bars: `parts` by label, a bar for each name."""

    def plot(axes: Any) -> None:
        left = np.zeros(len(names))
        for label, values in parts.items():
            axes.barh(names, values, left=left, label=label)
            left = left + np.asarray(values)
        axes.invert_yaxis()
        axes.set(xlabel=unit)
        axes.legend(loc="lower right")

    return figure.draw(id, title, caption, plot, size=(7.0, 4.0))


def time_breakdown(found: Mapping[str, Report]) -> Figure:
    """Where the time of a batch goes, by method."""
    rows = list(found.values())
    parts = {
        "compute": [r.compute_s for r in rows],
        "package links": [r.nop_s for r in rows],
        "DRAM beyond both": [r.time_s - r.compute_s - r.nop_s for r in rows],
    }
    parts["DRAM beyond both"] = [max(0.0, x) for x in parts["DRAM beyond both"]]
    return _bars(
        "chiplet-time",
        "Time of a batch by method",
        "Llama2-70B, 256 sequences, 32 x 32 dies of the calibrated package. Dual overlaps its "
        "gathers with its scatters.",
        parts,
        [TITLES[m] for m in found],
        "seconds",
    )


def energy_breakdown(found: Mapping[str, Report]) -> Figure:
    """Where the energy of a batch goes, by method."""
    labels = {
        "mac_j": "multiply-adds",
        "sram_j": "SRAM",
        "nop_j": "package links",
        "dram_j": "DRAM",
        "static_j": "static",
    }
    parts = {
        label: [getattr(r.energy, name) / 1e3 for r in found.values()]
        for name, label in labels.items()
    }
    return _bars(
        "chiplet-energy",
        "Energy of a batch by method",
        "The same batch. Most of what a faster method saves is static power.",
        parts,
        [TITLES[m] for m in found],
        "kJ",
    )


def weak_scaling(times: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> Figure:
    """Time per FLOP of a die against the dies, models growing with the mesh."""
    return figure.lines(
        "chiplet-weak",
        "Weak scaling",
        "Width doubles as the dies quadruple; level is perfect. Relative to Hecaton's smallest.",
        times,
        x="dies",
        y="time per FLOP of a die, relative",
        log="xy",
    )


def tornado(found: Mapping[str, tuple[Gain, Gain]], base: Gain) -> Figure:
    """The two headline ratios with each constant halved and doubled."""
    names = list(found)

    def plot(axes: Any) -> None:
        at = np.arange(len(names))
        for shift, kind in ((-0.2, "time"), (0.2, "energy")):
            middle = getattr(base, kind)
            for which, label in ((0, "halved"), (1, "doubled")):
                values = [getattr(found[n][which], kind) - middle for n in names]
                colour = figure.COLOURS[(0 if kind == "time" else 2) + which]
                axes.barh(
                    at + shift, values, 0.36, left=middle, color=colour, label=f"{kind}, {label}"
                )
            axes.axvline(middle, color=figure.INK, linewidth=0.8)
        axes.set_yticks(at, names)
        axes.invert_yaxis()
        axes.set(xlabel="flat ring over Hecaton", xlim=(0, None))
        axes.legend(loc="center left")

    return figure.draw(
        "chiplet-tornado",
        "How much the ratios hang on each constant",
        "Llama2-70B on 1,024 dies; every constant of the calibrated package halved and doubled.",
        plot,
        size=(7.5, 4.6),
    )


def front(points: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Pareto fronts in time and area."""

    def plot(axes: Any) -> None:
        for label, (xs, ys) in points.items():
            axes.step(xs, ys, where="post", marker=".", label=label)
        axes.set(xlabel="seconds per batch", ylabel="silicon of the package, mm²")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend()

    return figure.draw(
        "chiplet-front",
        "Least silicon for a time",
        "Exact Pareto fronts of one grid of designs (mesh, arrays, buffers, clock, links), "
        "Llama2-70B; area by constants of ours.",
        plot,
    )


def link_loads(rows: int = 8, cols: int = 8) -> Figure:
    """Bytes over each directed link: a matrix and back by Hecaton, an all-reduce by a flat ring."""
    loads = {"Hecaton, one gather and scatter": wires.Wires(rows, cols)}
    blocks = {(r, c): np.zeros(8) for r in range(rows) for c in range(cols)}
    first = loads["Hecaton, one gather and scatter"]
    wires.all_gather(first, wires.columns(first), blocks)
    parts = {die: [x] * cols for die, x in blocks.items()}
    wires.reduce_scatter(first, wires.rows(first), parts)
    second = loads["flat ring, one all-reduce"] = wires.Wires(rows, cols)
    whole = {die: np.zeros(8 * rows) for die in blocks}
    wires.all_reduce(second, [wires.closed_walk(rows, cols)], whole)

    def plot(axes: Any) -> None:
        import matplotlib.cm as cm

        most = max(max(w.loads.values()) for w in loads.values())
        for i, (label, w) in enumerate(loads.items()):
            shift = i * (cols + 1.5)
            for r in range(rows):
                axes.scatter(np.arange(cols) + shift, [r] * cols, s=14, color=figure.INK, zorder=3)
            for ((r0, c0), (r1, c1)), load in w.loads.items():
                side = 0.11 if (r1 + c1 > r0 + c0) else -0.11
                dx, dy = (0, side) if r0 == r1 else (side, 0)
                axes.plot(
                    [c0 + dx + shift, c1 + dx + shift],
                    [r0 + dy, r1 + dy],
                    color=cm.viridis(load / most),  # pyright: ignore
                    linewidth=2.4,
                    solid_capstyle="butt",
                )
            axes.text(
                shift + (cols - 1) / 2,
                -0.9,
                f"{label}\n{len(w.loads)} of {2 * (2 * rows * cols - rows - cols)} links used",
                ha="center",
                va="bottom",
            )
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.axis("off")

    return figure.draw(
        "chiplet-links",
        "Which links work",
        "Both directions of every link of an 8 x 8 mesh, brighter for more bytes: rings that "
        "bypass use all links, a ring through all dies uses a quarter.",
        plot,
        size=(8.0, 4.4),
    )


def descent(history: np.ndarray, start_s: float) -> Figure:
    """Time of the best design against the steps of gradient descent."""
    xs = list(range(len(history) + 1))
    return figure.lines(
        "chiplet-descent",
        "Following the gradient to a better mesh",
        "Smooth model of Llama2-70B, dual on; the aspect of 1,024 dies is free, from a square.",
        {"time of a batch": (xs, [start_s, *history.tolist()])},
        x="steps",
        y="seconds",
    )


def predictions(
    measured: Sequence[float], fitted: Sequence[float], held: Sequence[float]
) -> Figure:
    """Predicted against measured iterations."""

    def plot(axes: Any) -> None:
        line = [min(measured), max(measured)]
        axes.plot(line, line, color=figure.INK, linewidth=0.8)
        axes.plot(measured, fitted, "o", label="fitted to all eight")
        axes.plot(measured, held, "x", markersize=9, label="fitted to the other models")
        axes.set(xlabel="measured, seconds", ylabel="predicted, seconds")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend()

    return figure.draw(
        "chiplet-measured",
        "Predicted and measured iterations",
        "Megatron on A100: 22B to 1T parameters, full recomputation and selective.",
        plot,
    )
