"""Tables and figures of a study."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxml.merge.results import Curve, Results, Row, table
from jaxml.report import figure
from jaxml.report.recipe import Figure, Table

NAMES = {
    "base": "base, mean",
    "ensemble": "ensemble",
    "cca": "CCA Merge",
    "permute": "permute",
    "weights": "weight matching",
    "zipit": "ZipIt!",
    "ot": "optimal transport",
    "average": "no alignment",
}


def accuracies(title: str, rows: Sequence[Row], key: str = "accuracy") -> Table:
    """Mean and deviation over sets, a row per method, a column per number of networks."""
    found = table(rows, key)
    counts = sorted({row.count for row in rows})
    num = {n: len({row.set for row in rows if row.count == n}) for n in counts}

    def cell(by: dict[int, tuple[float, float]], n: int) -> str:
        return f"{by[n][0]:.2f} ± {by[n][1]:.2f}" if n in by else "-"

    body = tuple((NAMES[method], *(cell(by, n) for n in counts)) for method, by in found.items())
    sets = ", ".join(f"{num[n]} sets of {n}" for n in counts)
    caption = f"Percent right on the test images, mean and deviation over {sets}."
    return Table(title, ("method", *(f"n = {n}" for n in counts)), body, caption)


def regularisation(title: str, results: Results) -> Table:
    """Held-out accuracy by gamma: what the choice was made from."""
    counts = list(results.held_out)
    gammas = sorted({g for scores in results.held_out.values() for g in scores})
    body = tuple(
        (f"{g:g}", *(f"{np.mean(results.held_out[n].get(g, [np.nan])):.2f}" for n in counts))
        for g in gammas
    )
    caption = "Percent right on held-out training images, mean over the sets that chose by it."
    return Table(title, ("gamma", *(f"n = {n}" for n in counts)), body, caption)


def nodes(title: str, results: Results) -> Table:
    """Diagnostics of the first merge of two, by node."""
    body = tuple(
        (name, f"{d['mean_correlation']:.3f}", f"{d['condition']:.3g}", f"{d['num_dead']:.0f}")
        for name, d in results.diagnostics.items()
    )
    columns = ("node", "mean canonical correlation", "condition of T", "dead channels")
    return Table(title, columns, body)


def against_count(id: str, title: str, rows: Sequence[Row]) -> Figure:
    """Accuracy against the number of networks merged."""
    found = table(rows)

    aligned = [m for m in found if m != "average"]
    lowest = min(mean for m in aligned for mean, _ in found[m].values()) - 2
    lines = {"base": ":", "ensemble": "--"}

    def plot(axes: Any) -> None:
        for method, by in found.items():
            ns = sorted(by)
            means, spreads = ([by[n][i] for n in ns] for i in (0, 1))
            own: dict[str, Any] = {"color": figure.INK} if method in lines else {}
            own |= {"ls": lines.get(method, "-"), "label": NAMES[method]}
            axes.errorbar(ns, means, spreads, marker="o", capsize=3, **own)
        axes.set(xlabel="networks merged", ylabel="% right on test images")
        axes.set_ylim(bottom=lowest)
        axes.set_xticks(sorted({row.count for row in rows}))
        axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))

    caption = "Bars: deviation over sets of networks. What lies below the picture is in the table."
    return figure.draw(id, title, caption, plot, (7.2, 3.8))


def barriers(id: str, title: str, curves: Sequence[Curve]) -> Figure:
    """Test loss on the straight way between the reference and the aligned other network."""
    caption = (
        "Left end: the reference. Right end: the other network in the reference's basis; only "
        "permutations leave its function as it was."
    )

    def plot(axes: Any) -> None:
        for curve in curves:
            label = f"{NAMES[curve.method]}\nbarrier {curve.barrier:.2f}"
            axes.plot(curve.ts, curve.losses, marker="o", label=label)
        axes.set(xlabel="share of the other network", ylabel="test loss, nats")
        axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))

    return figure.draw(id, title, caption, plot, (7.2, 3.8))
