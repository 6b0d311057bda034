"""Makes tests/curate/golden/filters.json: what datatrove's filters say of 25 documents.

Runs in the peers' environment (datatrove 0.10.1); jaxml is not imported. Words are white-space
words and sentences those of a plain rule on both sides, so that rules are compared, not tokenisers.

    python benchmarks/peers/curate_golden.py tests/curate/golden/filters.json
"""

import json
import random
import re
import sys
from pathlib import Path

WORDS = [
    "river",
    "stone",
    "house",
    "garden",
    "morning",
    "letter",
    "window",
    "paper",
    "winter",
    "music",
    "shadow",
    "market",
    "bridge",
    "story",
    "little",
    "green",
    "quiet",
    "early",
    "bright",
    "heavy",
    "walked",
    "carried",
    "opened",
    "finished",
    "wondered",
    "answered",
]
SMALL = "the of and to that with have be in on a it".split()  # noqa: SIM905


def sentence(draw, length=14, end="."):
    """A sentence of plain words."""
    words = [draw.choice(SMALL if i % 2 else WORDS) for i in range(length)]
    return " ".join(words).capitalize() + end


def prose(draw, lines=12, sentences=3):
    """Lines of sentences."""
    return "\n".join(" ".join(sentence(draw) for _ in range(sentences)) for _ in range(lines))


def documents():
    """25 documents, most of them made to break one rule."""
    draw = random.Random(0)
    line = sentence(draw, 20)
    good = prose(draw)
    return [
        good,
        prose(draw, 3, 1),
        " ".join("# " + sentence(draw, 5) for _ in range(30)),
        " ".join(sentence(draw, 5, "...") for _ in range(20)) + " " + sentence(draw),
        "\n".join("- " + sentence(draw) for _ in range(20)),
        "\n".join(sentence(draw, end="...") for _ in range(20)),
        "\n".join(" ".join(["1234", "345", "6789"] * 4 + [sentence(draw, 6)]) for _ in range(12)),
        " ".join(draw.choice(WORDS) for _ in range(120)),
        " ".join("supercalifragilistic" + str(i) for i in range(80)),
        " ".join(draw.choice(["a", "is", "it", "to", "be"]) for _ in range(90)),
        "\n".join([line] * 6 + [sentence(draw) for _ in range(6)]),
        "\n\n".join([prose(draw, 2)] * 2 + [prose(draw, 2) for _ in range(4)]),
        "\n\n".join([prose(draw, 3)] * 4 + [prose(draw, 1)]),
        " ".join(["again and again"] * 8 + [sentence(draw) for _ in range(8)]),
        " ".join([line] * 3 + [sentence(draw) for _ in range(9)]),
        good + "\n" + "Lorem ipsum dolor sit amet, this and that and the other of it.",
        good + "\nfunction(x) { return x; }",
        good + "\nPlease enable JavaScript to see the rest of the page.\nRead our privacy policy.",
        "\n".join(sentence(draw, end="") for _ in range(14)),
        "\n".join(draw.choice(WORDS) for _ in range(60)) + "\n" + prose(draw, 2),
        "\n".join(sentence(draw, 4) for _ in range(40)),
        prose(draw, 8) + "\n" + "\n".join(["Read more."] * 12),
        "Über den Fluß: "
        + prose(draw, 6).replace("river", "rivière")
        + " « Fin »[1] [citation needed].",
        "\n\n\n\n\n\n".join(sentence(draw) for _ in range(12)),
        prose(draw, 2, 2) + "\n" + "x" * 1200 + "\n" + "[edit]\nToo few.\n" + prose(draw, 1, 4),
    ]


_END = re.compile(r"[.?!…。！？]+[\"'”’)\]]*(?:\s+|$)")


def sentences(text, language=None):
    """Pieces that end in a full stop, question or exclamation mark."""
    del language
    return [piece for piece in _END.split(text) if piece.strip()]


def judged(name, text):
    """What one filter of datatrove says: [kept, reason or text]."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    made = {
        "gopher_quality": GopherQualityFilter,
        "gopher_repetition": GopherRepetitionFilter,
        "c4": C4QualityFilter,
        "c4_fineweb": lambda: C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter,
    }[name]()
    document = Document(text=text, id="0")
    found = made.filter(document)
    kept, reason = (found, "") if isinstance(found, bool) else found
    return [bool(kept), document.text if kept else reason]


def main():
    """Writes the table."""
    from importlib.metadata import version

    from datatrove.pipeline.filters import (
        c4_filters,
        fineweb_quality_filter,
        gopher_quality_filter,
        gopher_repetition_filter,
    )

    def words(text, language=None):
        del language
        return text.split()

    for module in (fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter):
        module.split_into_words = words
    c4_filters.split_into_sentences = sentences
    names = ("gopher_quality", "gopher_repetition", "c4", "c4_fineweb", "fineweb")
    rows = [{"text": t, **{n: judged(n, t) for n in names}} for t in documents()]
    table = {"reference": f"datatrove {version('datatrove')}", "rows": rows}
    Path(sys.argv[1]).write_text(json.dumps(table, indent=0, ensure_ascii=False) + "\n")
    for name in names:
        print(name, [row[name][1] if not row[name][0] else "" for row in rows])


if __name__ == "__main__":
    main()
