"""`jaxml data list` and `jaxml data prepare`."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxml.inputs import source


def list_sets(verify: bool = False) -> int:
    """Shows every data set: size, where it was found, who uses it, its licence.

    Args:
      verify: read every file found and compare checksums; exit status 1 if one differs.
    """
    from rich.console import Console
    from rich.table import Table

    console, failed = Console(), 0
    table = Table(box=None, pad_edge=False)
    for column in ("name", "MB", "found", "used by", "licence"):
        table.add_column(column, justify="right" if column == "MB" else "left")
    table.columns[0].min_width = max(map(len, source.SETS))
    if console.width > 120:
        table.add_column("what")
    for row in source.SETS.values():
        state, good = _state(row, verify)
        failed += not good
        size = f"{row.num_bytes / 1e6:.2f}" if row.files else "-"
        cells = [row.name, size, state, ", ".join(row.used_by), row.licence, row.about]
        table.add_row(*cells[: len(table.columns)])
    console.print(table)
    return int(verify and failed > 0)


def _state(row: source.DataSet, verify: bool) -> tuple[str, bool]:
    try:
        located = source.find(row)
        if verify:
            source.verify(row, located)
    except source.DataNotFoundError:
        return "not found", True
    except source.DataCorruptError as error:
        return f"corrupt: {error}", False
    return f"{located.how}{', intact' if verify and located.kind != 'package' else ''}", True


def prepare(
    name: Annotated[str, tyro.conf.Positional],
    source: Path | None = None,
    out: Path | None = None,
    force: bool = False,
) -> None:
    """Writes a data set as a TFDS directory (array_record) from its raw files.

    Args:
      name: of the set; `jaxml data list` names them.
      source: folder of the raw files; else JAXML_DATA and the other usual places.
      out: TFDS data directory; else TFDS_DATA_DIR or ~/tensorflow_datasets.
      force: replace an intact directory.
    """
    from jaxml.inputs.builders import writer

    written = writer.prepare(name, source, out, force=force)
    print(f"wrote {written}")
