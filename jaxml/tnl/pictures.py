"""Pictures and tables of the studies on one H100, from their results files."""

import re
from collections.abc import Mapping
from typing import Any

from jaxml.report import figure
from jaxml.report.recipe import Figure, Table

type Record = Mapping[str, Any]


def _at(record: Record, metric: str, start: str, mark: str) -> dict[int, dict[str, Any]]:
    """Rows of a metric by the number behind a mark in their case."""
    found = {}
    for row in record["rows"]:
        match = re.search(rf"{mark}(\d+)", row["case"])
        if row["metric"] == metric and row["case"].startswith(start) and match:
            found[int(match[1])] = row
    return found


def speeds(record: Record, preset: str) -> Figure:
    """Tokens per second of both models against the length."""
    series = {}
    for name in ("TNL", "Transformer"):
        rows = _at(record, "tokens_s", f"{name} {preset} N", " N")
        if rows:
            series[name] = (list(rows), [row["jaxml"] for row in rows.values()])
    return figure.lines(
        f"tnl-speed-{preset}",
        f"Training speed against the length, {preset}",
        f"Tokens per second of whole updates with as many tokens at every length; "
        f"{record['device']}.",
        series,
        x="tokens in a row",
        y="tokens per second",
        log="xy",
    )


def steps(record: Record) -> Figure:
    """Milliseconds of a decoding step of both models against the context."""
    rows = _at(record, "step_ms", "decode", "context ")
    series = {"TNL": (list(rows), [row["jaxml"] for row in rows.values()])}
    peer = {n: row["peer_value"] for n, row in rows.items() if row["peer_value"] is not None}
    if peer:
        series["Transformer"] = (list(peer), list(peer.values()))
    return figure.lines(
        "tnl-decode-step",
        "Decoding against the context",
        f"One row, greedy, parameters in bfloat16; where the Transformer's line ends, its cache no "
        f"longer fitted; {record['device']}.",
        series,
        x="tokens of context",
        y="milliseconds per token",
        log="xy",
    )


def losses(record: Record) -> Figure:
    """Test loss of every arm, a dot a seed."""
    arms = record["arms"]

    def plot(axes: Any) -> None:
        for place, found in enumerate(arms.values()):
            values = list(found["test"].values())
            axes.plot(values, [place] * len(values), "o", color=figure.COLOURS[place % 6])
        axes.set_yticks(range(len(arms)), list(arms))
        axes.invert_yaxis()
        axes.set(xlabel="nats per token, test documents")

    about = "Each at the learning rate that validation chose, a dot a seed"
    return figure.draw("tnl-quality", "Quality at 40M", f"{about}; {record['device']}.", plot)


def training_table(record: Record, preset: str) -> Table:
    """Tokens per second, share of the peak and memory by model and length."""
    rows = []
    for name in ("TNL", "Transformer"):
        start = f"{name} {preset} N"
        rates = _at(record, "tokens_s", start, " N")
        shares, sizes = (_at(record, metric, start, " N") for metric in ("mfu", "step_bytes"))
        for n, row in rates.items():
            share = f"{100 * shares[n]['jaxml']:.1f} %" if n in shares else "-"
            size = f"{sizes[n]['jaxml'] / 2**30:.1f}" if n in sizes else "-"
            rows.append((name, f"{n:,}", f"{row['jaxml']:,.0f}", share, size))
    columns = ("model", "tokens in a row", "tokens/s", "of the peak", "GiB")
    return Table(f"Training, {preset}", columns, tuple(rows))


def decoding_table(record: Record) -> Table:
    """Step time and state of both models by context."""
    times, sizes = (_at(record, m, "decode", "context ") for m in ("step_ms", "state_bytes"))

    def cell(value: float | None, scale: float, form: str) -> str:
        return "no memory" if value is None else format(value / scale, form)

    rows = tuple(
        (
            f"{n:,}",
            cell(row["jaxml"], 1, ".3f"),
            cell(row["peer_value"], 1, ".3f"),
            cell(sizes[n]["jaxml"], 2**20, ",.0f"),
            cell(sizes[n]["peer_value"], 2**20, ",.0f"),
        )
        for n, row in times.items()
    )
    columns = ("context", "TNL ms", "Transformer ms", "TNL MiB", "Transformer MiB")
    return Table("A decoding step", columns, rows)


def beside_table(record: Record, title: str, metric: str, form: str) -> Table:
    """Ours beside a peer, row by row."""
    rows = tuple(
        (
            row["case"],
            format(row["jaxml"], form),
            "-" if row["peer_value"] is None else format(row["peer_value"], form),
            "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
        )
        for row in record["rows"]
        if row["metric"] == metric
    )
    return Table(title, ("case", "jaxml", "jax-linear-attention", "ratio"), rows)


def of_studies(records: Mapping[str, Record]) -> tuple[list[Figure], list[Table]]:
    """All that can be shown of the studies that are there."""
    figures, tables = [], []
    for preset in ("385m", "1b"):
        if record := records.get(f"throughput-{preset}"):
            figures.append(speeds(record, preset))
            tables.append(training_table(record, preset))
    if record := records.get("decode-385m"):
        figures.append(steps(record))
        tables.append(decoding_table(record))
    if record := records.get("quality"):
        figures.append(losses(record))
    if record := records.get("training"):
        tables.append(beside_table(record, "Training beside a peer, tokens/s", "tokens_s", ",.0f"))
    if record := records.get("curves"):
        tables.append(beside_table(record, "Last losses beside a peer", "last_loss", ".4f"))
    return figures, tables
