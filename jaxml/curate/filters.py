r"""Quality rules of Gopher, C4 and FineWeb: statistics first, thresholds apart, a reason each.

`stats` computes every number once; `first_broken` applies the rules of a configuration to one
document or to whole columns, so thresholds can be tuned without reading the text again.

>>> gopher_quality("Too short.").reason
'gopher_short_doc'
>>> gopher_repetition("one line\none line\none line").reason
'dup_line_frac'
>>> fineweb("A line with its full stop, and long enough.").keep
True
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.curate.text import words as white_space_words

type Words = Callable[[str], list[str]]

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
PUNCTUATION = frozenset(
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
    + "".join(map(chr, (*range(9), *range(11, 32), *range(127, 160))))
)
"""Characters that do not make a word (the set that FineWeb's pipeline uses)."""
_TERMINAL_CODES = (
    "21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e "
    "1735-1736 17d4-17d6 17d9-17da 1803 1809 1944-1945 1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1b7d-1b7e "
    "1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049 2e2e 2e3c 2e53-2e54 3002 a4ff a60e-a60f a6f3 a6f7 "
    "a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe52 fe56-fe57 ff01 ff0e ff1f "
    "ff61 10a56-10a57 10f55-10f59 10f86-10f89 11047-11048 110be-110c1 11141-11143 111c5-111c6 "
    "111cd 111de-111df 11238-11239 1123b-1123c 112a9 1144b-1144c 115c2-115c3 115c9-115d7 "
    "11641-11642 1173c-1173e 11944 11946 11a42-11a43 11a9b-11a9c 11c41-11c42 11ef7-11ef8 "
    "11f43-11f44 16a6e-16a6f 16af5 16b37-16b38 16b44 16e98 1bc9f 1da88"
)


def _characters(codes: str) -> tuple[str, ...]:
    spans = [[int(end, 16) for end in span.split("-")] for span in codes.split()]
    return tuple(chr(code) for span in spans for code in range(span[0], span[-1] + 1))


TERMINAL = _characters(_TERMINAL_CODES)
"""Characters with Unicode's property Sentence_Terminal."""


class Decision(NamedTuple):
    """What a filter says of a document.

    Attributes:
      keep: True to keep it.
      reason: the first rule it breaks; empty if it is kept.
      text: the document, rewritten where the filter does that.
    """

    keep: bool
    reason: str
    text: str


class Rule(NamedTuple):
    """A document breaks the rule where `low <= value <= high` does not hold for its statistic."""

    reason: str
    stat: str
    low: float = -np.inf
    high: float = np.inf


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


@dataclasses.dataclass(frozen=True)
class GopherQualityConfig:
    """Thresholds of Rae et al. (2021), table A1; strict on the far side of each."""

    min_words: int = 50
    max_words: int = 100_000
    min_word_length: float = 3.0
    max_word_length: float = 10.0
    max_symbol_ratio: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_alphabetic_words: float = 0.8
    min_stop_words: int = 2

    def rules(self) -> tuple[Rule, ...]:
        """In the order in which they are tried."""
        return (
            Rule("gopher_short_doc", "num_words", low=self.min_words),
            Rule("gopher_long_doc", "num_words", high=self.max_words),
            Rule("gopher_below_avg_threshold", "word_length", low=self.min_word_length),
            Rule("gopher_above_avg_threshold", "word_length", high=self.max_word_length),
            Rule("gopher_too_many_hashes", "hash_ratio", high=self.max_symbol_ratio),
            Rule("gopher_too_many_ellipsis", "ellipsis_ratio", high=self.max_symbol_ratio),
            Rule("gopher_too_many_bullets", "bullet_lines", high=self.max_bullet_lines),
            Rule("gopher_too_many_end_ellipsis", "ellipsis_lines", high=self.max_ellipsis_lines),
            Rule("gopher_below_alpha_threshold", "alphabetic_words", low=self.min_alphabetic_words),
            Rule("gopher_enough_stop_words", "stop_words", low=self.min_stop_words),
        )


def quality_stats(text: str, words: Words = white_space_words) -> dict[str, float]:
    """The statistics of Gopher's quality rules for one document."""
    tokens, lines = words(text), text.splitlines()
    solid = [w for w in tokens if any(c not in PUNCTUATION for c in w)]
    bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
    ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
    return {
        "num_words": len(solid),
        "word_length": _share(sum(map(len, solid)), len(solid)),
        "hash_ratio": _share(text.count("#"), len(tokens)),
        "ellipsis_ratio": _share(text.count("...") + text.count("…"), len(tokens)),
        "bullet_lines": _share(bullets, len(lines)),
        "ellipsis_lines": _share(ellipses, len(lines)),
        "alphabetic_words": _share(sum(any(map(str.isalpha, w)) for w in tokens), len(tokens)),
        "stop_words": len(STOP_WORDS.intersection(tokens)),
    }


@dataclasses.dataclass(frozen=True)
class GopherRepetitionConfig:
    """Thresholds of Rae et al. (2021), table A1: shares of elements or of characters."""

    max_paragraphs: float = 0.3
    max_paragraph_chars: float = 0.2
    max_lines: float = 0.3
    max_line_chars: float = 0.2
    max_top_grams: tuple[float, ...] = (0.2, 0.18, 0.16)
    max_duplicate_grams: tuple[float, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.1)

    def rules(self) -> tuple[Rule, ...]:
        """In the order in which they are tried."""
        top = enumerate(self.max_top_grams, 2)
        duplicate = enumerate(self.max_duplicate_grams, 5)
        return (
            Rule("dup_para_frac", "dup_paragraphs", high=self.max_paragraphs),
            Rule("dup_para_char_frac", "dup_paragraph_chars", high=self.max_paragraph_chars),
            Rule("dup_line_frac", "dup_lines", high=self.max_lines),
            Rule("dup_line_char_frac", "dup_line_chars", high=self.max_line_chars),
            *(Rule(f"top_{n}_gram", f"top_{n}_gram_chars", high=limit) for n, limit in top),
            *(
                Rule(f"duplicated_{n}_n_grams", f"dup_{n}_gram_chars", high=limit)
                for n, limit in duplicate
            ),
        )


def _repeats(parts: Sequence[str]) -> tuple[int, int]:
    """How many elements were seen before, and their characters."""
    seen, number, chars = set[str](), 0, 0
    for part in parts:
        if part in seen:
            number += 1
            chars += len(part)
        seen.add(part)
    return number, chars


def _top_gram_chars(tokens: list[str], n: int) -> int:
    grams = collections.Counter(" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
    if not grams:
        return 0
    gram, count = grams.most_common(1)[0]
    return len(gram) * count


def _duplicate_gram_chars(tokens: list[str], n: int) -> int:
    seen, chars, i = set[str](), 0, 0
    while i + n <= len(tokens):
        gram = "".join(tokens[i : i + n])
        if gram in seen:
            chars += len(gram)
            i += n
        else:
            seen.add(gram)
            i += 1
    return chars


_PARAGRAPHS, _LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")


def repetition_stats(text: str, words: Words = white_space_words) -> dict[str, float]:
    """The statistics of Gopher's repetition rules for one document."""
    out: dict[str, float] = {}
    parts = {"paragraph": _PARAGRAPHS.split(text.strip()), "line": _LINES.split(text)}
    for name, pieces in parts.items():
        number, chars = _repeats(pieces)
        out[f"dup_{name}s"] = number / len(pieces)
        out[f"dup_{name}_chars"] = _share(chars, len(text))
    tokens = words(text)
    for n in (2, 3, 4):
        out[f"top_{n}_gram_chars"] = _share(_top_gram_chars(tokens, n), len(text))
    for n in range(5, 11):
        out[f"dup_{n}_gram_chars"] = _share(_duplicate_gram_chars(tokens, n), len(text))
    return out


@dataclasses.dataclass(frozen=True)
class FineWebConfig:
    """Thresholds of Penedo et al. (2024). For unwrapped prose; not for code."""

    min_terminal_lines: float = 0.12
    max_short_lines: float = 0.67
    max_duplicate_chars: float = 0.01
    max_newlines_per_word: float = 0.3

    def rules(self) -> tuple[Rule, ...]:
        """In the order in which they are tried."""
        return (
            Rule("empty", "num_lines", low=1),
            Rule("line_punct_ratio", "terminal_lines", low=self.min_terminal_lines),
            Rule("short_line_ratio", "short_lines", high=self.max_short_lines),
            Rule("char_dup_ratio", "dup_chars", high=self.max_duplicate_chars),
            Rule("list_ratio", "newlines_per_word", high=self.max_newlines_per_word),
        )


def fineweb_stats(text: str, words: Words = white_space_words) -> dict[str, float]:
    """The statistics of FineWeb's own rules for one document."""
    lines = [line for line in text.split("\n") if line.strip()]
    return {
        "num_lines": len(lines),
        "terminal_lines": _share(sum(line.endswith(TERMINAL) for line in lines), len(lines)),
        "short_lines": _share(sum(len(line) <= 30 for line in lines), len(lines)),
        "dup_chars": _share(_repeats(lines)[1], len(text.replace("\n", ""))),
        "newlines_per_word": _share(text.count("\n"), len(words(text))),
    }


def stats(texts: Sequence[str], words: Words = white_space_words) -> dict[str, np.ndarray]:
    """Every statistic of the rules above as a column: float64 [n] by name."""
    functions = (quality_stats, repetition_stats, fineweb_stats)
    rows = [{k: v for f in functions for k, v in f(text, words).items()} for text in texts]
    names = rows[0] if rows else {k: 0 for f in functions for k in f("", words)}
    return {name: np.array([row[name] for row in rows], np.float64) for name in names}


def first_broken(columns: Mapping[str, np.ndarray | float], rules: Sequence[Rule]) -> np.ndarray:
    """The reason of the first rule that each document breaks, "" where it breaks none.

    Args:
      columns: numbers, or columns [n], by the name of the statistic; see `stats`.
      rules: `cfg.rules()` of a configuration, or your own.

    Raises:
      ValueError: a rule asks for a statistic that is not there.
    """
    for rule in rules:
        check.one_of(tuple(columns), stat=rule.stat)
    broken = [~((columns[r.stat] >= r.low) & (columns[r.stat] <= r.high)) for r in rules]
    table = np.stack([np.atleast_1d(b) for b in np.array(broken)])
    reasons = np.array([*(rule.reason for rule in rules), ""])
    return reasons[np.argmax(np.concatenate([table, np.ones_like(table[:1])]), axis=0)]


type Filter = Callable[..., Decision]
"""`(text, cfg, words=white-space words) -> Decision`; cfg has the published thresholds."""


def by_rules(stats: Callable[[str, Words], Mapping[str, float]], default: Any) -> Filter:
    """The filter that drops a document for the first rule that its statistics break.

    Args:
      stats: numbers of a document by name.
      default: configuration with `rules()`.
    """

    def decide(text: str, cfg: Any = default, words: Words = white_space_words) -> Decision:
        values = stats(text, words)
        for rule in cfg.rules():
            if not rule.low <= values[rule.stat] <= rule.high:
                return Decision(False, rule.reason, text)
        return Decision(True, "", text)

    return decide


gopher_quality: Filter = by_rules(quality_stats, GopherQualityConfig())
"""Gopher's quality rules."""
gopher_repetition: Filter = by_rules(repetition_stats, GopherRepetitionConfig())
"""Gopher's repetition rules."""
fineweb: Filter = by_rules(fineweb_stats, FineWebConfig())
"""FineWeb's own rules; `lines.unwrap` hard-wrapped text first."""
