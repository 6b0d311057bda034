"""The data card of a run: what each stage removed, why, and examples, as one HTML page."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxml.curate.engine import Report

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#222;background:#fff}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}
table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
pre{white-space:pre-wrap;border-left:3px solid #888;padding-left:.8rem;margin:.3rem 0 1rem}
"""

type Examples = dict[tuple[str, str], list[tuple[str, str]]]
"""(id, first characters) of removed documents by (stage, reason)."""


def examples(removed: Path, each: int = 3) -> Examples:
    """The first few removed documents of each stage and reason."""
    import pyarrow.parquet

    found: Examples = {}
    for batch in pyarrow.parquet.ParquetFile(removed).iter_batches(batch_size=4096):
        for row in batch.to_pylist():
            rows = found.setdefault((row["stage"], row["reason"]), [])
            if len(rows) < each:
                rows.append((row["id"], row["excerpt"]))
    return found


def picture(report: "Report") -> str:
    """Documents left after each stage, as bars: an SVG element."""
    bars = [("read", report.num_read), *((s["kind"], s["num_out"]) for s in report.stages)]
    most = max(report.num_read, 1)
    rows = []
    for i, (name, count) in enumerate(bars):
        y, width = 26 * i, 420 * count / most
        rows.append(
            f'<text x="150" y="{y + 16}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="160" y="{y + 3}" width="{width:.1f}" height="18" opacity=".6"/>'
            f'<text x="{166 + width:.1f}" y="{y + 16}">{count:,}</text>'
        )
    return (
        f'<svg viewBox="0 0 700 {26 * len(bars)}" role="img" fill="currentColor" font-size="13" '
        f'aria-label="Documents left after each stage">{"".join(rows)}</svg>'
    )


def render(report: "Report", found: Examples) -> str:
    """The page; nothing is loaded from elsewhere.

    Args:
      report: of the run.
      found: `examples`.
    """
    rows = []
    for stage in report.stages:
        reasons = ", ".join(f"{escape(r)} {n:,}" for r, n in stage["reasons"].items()) or "-"
        rows.append(
            f'<tr><td>{escape(stage["kind"])}</td><td class="n">{stage["num_in"]:,}</td>'
            f'<td class="n">{stage["num_out"]:,}</td><td>{reasons}</td></tr>'
        )
    shown = []
    for (stage, reason), documents in found.items():
        shown.append(f"<h3>{escape(stage)}: {escape(reason)}</h3>")
        shown += [f"<p>{escape(id)}</p><pre>{escape(text)}</pre>" for id, text in documents]
    bad = ", ".join(f"{escape(r)} {n:,}" for r, n in report.num_bad.items()) or "none"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Data card</title>'
        f"<style>{_STYLE}</style><h1>Data card</h1>"
        f"<p>{report.num_read:,} documents read, {report.num_written:,} written. "
        f"Records that could not be read: {bad}.</p>{picture(report)}"
        f"<h2>Stages</h2><table><tr><th>stage</th><th>in</th><th>out</th><th>removed for</th></tr>"
        f"{''.join(rows)}</table><h2>Examples of what was removed</h2>{''.join(shown)}</html>\n"
    )
