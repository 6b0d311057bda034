"""Draws the pictures of the README and of `results/` from the results files beside them.

python benchmarks/picture.py
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

import numpy as np  # noqa: E402

from jaxml.core import config, files  # noqa: E402
from jaxml.dp import pictures, study  # noqa: E402
from jaxml.report import figure  # noqa: E402

RESULTS = HERE / "results"
SHORT = {"Taillard": "TA", "Demirkol": "DMU"}


def alone(drawn: Any) -> str:
    """A figure of the report as an SVG file of its own."""
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    text = drawn.svg.replace("<svg ", head, 1).replace("currentColor", "#7a828c")
    return text.replace("<g ", '<g font-family="sans-serif" ', 1) + "\n"


def length(record: dict) -> Any:
    """Microseconds per token of both models, from the rows `forward B1 N...`."""
    rows = [row for row in record["rows"] if row["metric"] == "fwd_ms"]
    lengths = [int(re.findall(r"N(\d+)", row["case"])[0]) for row in rows]

    def per_token(field: str) -> list[float]:
        return [1e3 * row[field] / n for row, n in zip(rows, lengths, strict=True)]

    peer = per_token("peer_value")
    series = {"TNL": (lengths, per_token("jaxml")), "Transformer": (lengths, peer)}
    return figure.lines(
        "length", "Time per token", "", series, x="tokens in the row", y="us per token", log="xy"
    )


def kernel(record: dict) -> Any:
    """Milliseconds of forward with backward at D = 128 by length, ours and the peers'."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for row in record["rows"]:
        match = re.fullmatch(r"fwdbwd D128 H16 N(\d+) B\d+", row["case"])
        if match and row["metric"] == "fwdbwd_ms" and row["peer"] is not None:
            sides = {"jaxml": row["jaxml"], row["peer"]: row["peer_value"]}
            for name, ms in sides.items():
                known = series.setdefault(name, ([], []))[0]
                if int(match[1]) not in known:
                    known.append(int(match[1]))
                    series[name][1].append(ms)
    series["least traffic with memory"] = series.pop("bytes floor")

    def plot(axes: Any) -> None:
        for name, (lengths, ms) in series.items():
            axes.loglog(lengths, ms, "o-", base=2, label=name)
        lengths, most = series["jaxml"][0], max(max(ms) for _, ms in series.values())
        axes.set_xticks(lengths, [f"{n // 1024}K" for n in lengths])
        ticks = [2**i for i in range(1, int(np.log2(most)) + 2)]
        axes.set_yticks(ticks, [str(t) for t in ticks])
        axes.minorticks_off()
        axes.set(xlabel="tokens in a row (131,072 in all)", ylabel="forward and backward, ms")
        axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return figure.draw("kernel", "Forward with backward", "", plot, (7.0, 4.2))


def gaps(record: dict) -> Any:
    """Mean gap of every shape of Taillard and Demirkol, a bar per column."""
    found: dict[str, dict[str, float]] = {}
    for row in record["rows"]:
        match = re.fullmatch(r"(Taillard|Demirkol) (\d+x\d+), (.*)", row["case"])
        if match and row["metric"] == "mean_gap":
            name, shape, column = match.groups()
            found.setdefault(f"{SHORT[name]} {shape}", {})[column] = row["jaxml"]
    columns = list(dict.fromkeys(c for gaps in found.values() for c in gaps))
    columns.sort(key=lambda c: -np.mean([gaps[c] for gaps in found.values()]))

    def plot(axes: Any) -> None:
        width = 0.8 / len(columns)
        for i, column in enumerate(columns):
            places = np.arange(len(found)) + (i - (len(columns) - 1) / 2) * width
            values = [gaps[column] for gaps in found.values()]
            axes.bar(places, values, width, color=figure.COLOURS[i], label=column)
        axes.set_xticks(range(len(found)), [*found], rotation=45, ha="right", fontsize=8)
        axes.set(ylabel="mean gap to the best known makespan in %")
        axes.grid(axis="x", visible=False)
        axes.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return figure.draw("gaps", "Gaps by shape", "", plot, (9.0, 4.2))


def privacy(record: dict) -> Any:
    """Test accuracy against epsilon of the three methods."""
    cfg = config.from_dict(study.StudyConfig, record["config"])
    scores = [study.Score(**row) for row in record["scores"]]
    return pictures.against_epsilon(record["data"], cfg, scores)


PICTURES = {
    "tnl-length-cpu": length,
    "lightning-full-h100": kernel,
    "jsp-benchmarks-h100": gaps,
    "dp-study-mnist-h100": privacy,
    "dp-study-fashion_mnist-h100": privacy,
    "dp-study-cifar10-h100": privacy,
}


def svg(name: str) -> str:
    """The picture of one results file."""
    return alone(PICTURES[name](json.loads((RESULTS / f"{name}.json").read_text())))


if __name__ == "__main__":
    for name in PICTURES:
        files.write_text(RESULTS / f"{name}.svg", svg(name))
