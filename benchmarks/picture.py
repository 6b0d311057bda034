"""Draws results/tnl-length-cpu.svg, the picture of the README, from the results file beside it.

python benchmarks/picture.py
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

from jaxml.core import files  # noqa: E402
from jaxml.report import figure  # noqa: E402


def svg(record: dict) -> str:
    """Microseconds per token of both models, from the rows `forward B1 N...`."""
    rows = [row for row in record["rows"] if row["metric"] == "fwd_ms"]
    lengths = [int(re.findall(r"N(\d+)", row["case"])[0]) for row in rows]

    def per_token(field: str) -> list[float]:
        return [1e3 * row[field] / n for row, n in zip(rows, lengths, strict=True)]

    peer = per_token("peer_value")
    series = {"TNL": (lengths, per_token("jaxml")), "Transformer": (lengths, peer)}
    drawn = figure.lines(
        "length", "Time per token", "", series, x="tokens in the row", y="us per token", log="xy"
    )
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    text = drawn.svg.replace("<svg ", head, 1).replace("currentColor", "#7a828c")
    return text.replace("<g ", '<g font-family="sans-serif" ', 1) + "\n"


if __name__ == "__main__":
    found = json.loads((HERE / "results" / "tnl-length-cpu.json").read_text())
    files.write_text(HERE / "results" / "tnl-length-cpu.svg", svg(found))
