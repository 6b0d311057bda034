"""Tables and figures of a study."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxml.cap.study import Row
from jaxml.report import figure
from jaxml.report.recipe import Figure, Table

NAMES = {"kd": "distillation alone", "cap": "with contrast", "dense": "dense"}


def accuracies(rows: Sequence[Row], title: str) -> Table:
    """One line per arm: mean and spread over seeds."""
    body = []
    for label in dict.fromkeys(r.label for r in rows):
        same = [r for r in rows if r.label == label]
        tests = [r.test for r in same]
        spread = f" ± {statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
        kept = same[0].kept
        shares = [f"{100 * kept[k]:.1f} %" if kept else "-" for k in ("matrices", "whole")]
        probes = ", ".join(
            f"{t} {statistics.mean(r.probes[t] for r in same if r.probes):.1f}"
            for t in (same[0].probes or {})
        )
        body.append((
            NAMES.get(label[0], label[0]), label[1], f"{label[2]:g}",
            f"{statistics.mean(tests):.2f}{spread}",
            f"{statistics.mean(r.valid for r in same):.2f}", *shares, str(same[0].steps),
            probes or "-",
        ))  # fmt: skip
    columns = (
        "arm", "method", "kept", "dev accuracy", "held-out training", "of matrices",
        "of whole model", "steps", "probed",
    )  # fmt: skip
    caption = (
        "Accuracy in per cent. `of matrices` counts the prunable weights of the layers, `of whole "
        "model` also embeddings and head, which are not pruned."
    )
    return Table(title, columns, tuple(body), caption)


def losses(row: Row) -> Figure:
    """The contrastive losses along one run."""
    names = {"pre": "PrC: pre-trained", "snap": "SnC: snapshots", "fine": "FiC: fine-tuned"}
    series = {}
    for module, name in names.items():
        both = [row.losses.get(f"{module}_{kind}", []) for kind in ("unsup", "sup")]
        values = [a + b for a, b in zip(*both, strict=True)]
        points = [(i, v) for i, v in enumerate(values) if v != 0.0]
        if points:
            series[name] = ([p[0] for p in points], [p[1] for p in points])
    return figure.lines(
        "cap-losses",
        "Contrastive losses while pruning",
        "Both terms of each module added up, along all rounds; the jumps are the new masks, and "
        "snapshots exist from the second round on.",
        series,
        x="logged points",
        y="nats",
    )


def living(masks: Any) -> Figure:
    """What is left of every layer."""
    heads, ffn = (np.asarray(m) for m in masks)

    def plot(axes: Any) -> None:
        place = np.arange(len(heads))
        axes.bar(place - 0.2, 100 * heads.mean(1), 0.4, label="heads")
        axes.bar(place + 0.2, 100 * ffn.mean(1), 0.4, label="neurons")
        axes.set(xlabel="layer", ylabel="alive, %", ylim=(0, 110))
        axes.set_xticks(place, [str(i + 1) for i in place])
        axes.legend(ncols=2)

    return figure.draw(
        "cap-living",
        "What is left of each layer",
        "One ranking over all layers decides; every layer keeps at least one head.",
        plot,
    )


def arms(rows: Sequence[Row]) -> Figure:
    """Dev accuracy of every arm, one dot a seed."""
    labels = list(dict.fromkeys(r.label for r in rows))

    def plot(axes: Any) -> None:
        for place, label in enumerate(labels):
            tests = [r.test for r in rows if r.label == label]
            axes.plot(tests, [place] * len(tests), "o", color=figure.COLOURS[place % 6])
        names = [
            NAMES.get(a, a) + ("" if a == "dense" else f", {m} {100 * k:g} %") for a, m, k in labels
        ]
        axes.set_yticks(range(len(labels)), names)
        axes.invert_yaxis()
        axes.set(xlabel="dev accuracy, %")

    size = (6.4, 1.2 + 0.36 * len(labels))
    return figure.draw("cap-arms", "Every run", "One dot for each seed.", plot, size)
