"""Tables and figures of a study: scores by run, frames with captions, ranks."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxml.report import figure
from jaxml.report.recipe import Figure, Table
from jaxml.univilm.study import Rows

SHOWN = {
    "r1": "R@1", "r5": "R@5", "r10": "R@10", "median_rank": "MedR", "align_r1": "R@1 cross",
    "bleu4": "BLEU-4", "rouge_l": "ROUGE-L", "cider": "CIDEr-D", "exact": "exact, %",
}  # fmt: skip


def scores(rows: Rows) -> Table:
    """Every run: means over seeds, with standard deviations where there are several."""
    names = list(dict.fromkeys(r["name"] for r in rows.rows))
    kept = [k for k in SHOWN if any(k in r for r in rows.rows)]

    def cell(name: str, score: str) -> str:
        values = list(rows.of(name, score).values())
        if not values:
            return ""
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{spread}"

    body = tuple((name, *(cell(name, k) for k in kept)) for name in names)
    caption = "Captioned Moving-MNIST, 200 unseen combinations; not numbers of YouCook2 or MSR-VTT."
    return Table("Scores by run", ("run", *(SHOWN[k] for k in kept)), body, caption)


def gains(rows: Rows) -> Figure | None:
    """Captions with and without pre-training, seed by seed."""
    mine, base = rows.of("caption", "bleu4"), rows.of("caption-scratch", "bleu4")
    seeds = [s for s in mine if s in base]
    if not seeds:
        return None

    def plot(axes: Any) -> None:
        place = np.arange(len(seeds))
        axes.bar(place - 0.2, [base[s] for s in seeds], 0.38, label="from scratch")
        axes.bar(place + 0.2, [mine[s] for s in seeds], 0.38, label="pre-trained")
        axes.set_xticks(place, [f"seed {s}" for s in seeds])
        axes.set(ylabel="BLEU-4")
        axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.14))

    caption = "A tenth of the labels, equal steps, the same clips and batches."
    return figure.draw("univilm-gain", "What pre-training is worth", caption, plot)


def strip(frames_fyx: np.ndarray, titles: Sequence[str], id: str, caption: str) -> Figure:
    """Clips as rows of frames [n, f, y, x], each under its texts."""
    num, most = frames_fyx.shape[:2]

    def plot(axes: Any) -> None:
        axes.set_axis_off()
        high, wide = frames_fyx.shape[2:]
        for i, title in enumerate(titles):
            y = -i * (high + 34)
            for k in range(most):
                left = k * (wide + 4)
                axes.imshow(frames_fyx[i, k], cmap="gray", vmin=0, vmax=255,
                            extent=(left, left + wide, y - high, y))  # fmt: skip
            axes.text(0, y + 4, title, fontsize=8, va="bottom")
        axes.set_xlim(0, most * (wide + 4))
        axes.set_ylim(-num * (high + 34) + 28, 30)

    size = (7.5, 0.45 + num * 1.35)
    return figure.draw(id, "Clips of unseen combinations", caption, plot, size)
