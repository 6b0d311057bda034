"""Decisions beside datatrove's: 25 documents by five filters.

The table was made by `benchmarks/peers/curate_golden.py`, which runs datatrove and never this code.
"""

import json
from pathlib import Path

import pytest

from jaxml.curate import filters, lines

TABLE = json.loads((Path(__file__).parent / "golden" / "filters.json").read_text())
OURS = {
    "gopher_quality": filters.gopher_quality,
    "gopher_repetition": filters.gopher_repetition,
    "c4": lines.c4,
    "c4_fineweb": lambda text: lines.c4(text, lines.C4Config(terminal_punctuation=False)),
    "fineweb": filters.fineweb,
}


@pytest.mark.parametrize("name", list(OURS))
def test_decisions_reasons_and_texts_are_those_of_datatrove(name):
    for number, row in enumerate(TABLE["rows"]):
        kept, what = row[name]
        found = OURS[name](row["text"])
        assert (found.keep, found.text if found.keep else found.reason) == (kept, what), number


def test_the_table_breaks_most_rules():
    reasons = {row[name][1] for row in TABLE["rows"] for name in OURS if not row[name][0]}
    assert len(TABLE["rows"]) >= 24
    assert len(reasons) >= 20
