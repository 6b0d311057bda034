"""Rules that look at lines and words of a list: C4, mC4 paragraphs, bad words, unwrapping."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence

from jaxml.core import check
from jaxml.curate.filters import Decision

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_SENTENCE_END = re.compile(r"[.?!…。！？]+[\"'”’)\]]*(?:\s+|$)")


@dataclasses.dataclass(frozen=True)
class C4Config:
    """Rules of Raffel et al. (2020); FineWeb uses them with `terminal_punctuation=False`.

    Attributes:
      terminal_punctuation: drop lines that do not end in one of . ? ! " '
      min_sentences: of the kept lines.
      min_words: of a line.
      max_word_length: characters; a line with a longer word goes.
    """

    terminal_punctuation: bool = True
    min_sentences: int = 5
    min_words: int = 3
    max_word_length: int = 1000


def count_sentences(text: str) -> int:
    """Pieces of a line that end in a full stop, question or exclamation mark, or at its end.

    >>> count_sentences('He said "No." Then 3.5 miles! And')
    3
    """
    return sum(bool(piece.strip()) for piece in _SENTENCE_END.split(text))


def c4(
    text: str,
    cfg: C4Config = C4Config(),  # noqa: B008
    sentences: Callable[[str], int] = count_sentences,
) -> Decision:
    """C4's rules: drops lines, then the document if too little is left.

    Args:
      text: a document.
      cfg: rules.
      sentences: counts those of a line.

    Returns:
      The decision; its text is the kept lines.
    """
    kept, num_sentences = list[str](), 0
    for line in text.splitlines():
        line, reason = _line(line.strip(), cfg)
        if reason.startswith("document:"):
            return Decision(False, reason.removeprefix("document:"), text)
        if not reason:
            kept.append(line)
            num_sentences += sentences(line)
    if num_sentences < cfg.min_sentences:
        return Decision(False, "too_few_sentences", text)
    return Decision(True, "", "\n".join(kept).strip())


def _line(line: str, cfg: C4Config) -> tuple[str, str]:
    """The line without citations, and why it goes (`document:` if all of it goes)."""
    words = line.split()
    if any(len(word) > cfg.max_word_length for word in words):
        return line, "too_long_word"
    line = _CITATION.sub("", line)
    ends = line.endswith((".", "?", "!", '"', "'")) and not line.endswith("...")
    if cfg.terminal_punctuation and not ends:
        return line, "no_terminal_punctuation"
    if len(words) < cfg.min_words:
        return line, "too_few_words"
    lower = line.lower()
    if "lorem ipsum" in lower:
        return line, "document:lorem_ipsum"
    if "javascript" in lower:
        return line, "javascript"
    if "{" in line:
        return line, "document:curly_bracket"
    return line, "policy" if any(phrase in lower for phrase in _POLICY) else ""


def mc4_paragraphs(text: str, min_lines: int = 3, min_length: int = 200) -> Decision:
    """mC4: at least `min_lines` lines of at least `min_length` characters."""
    longest = sorted((len(line) for line in text.split("\n")), reverse=True)[:min_lines]
    keep = len(longest) == min_lines and longest[-1] >= min_length
    return Decision(keep, "" if keep else "too_few_paragraphs", text)


def bad_words(
    text: str, words: Sequence[str], keep_fraction: float = 0.0, seed: int = 0
) -> Decision:
    """Drops documents with a whole word of the list, in any case.

    Args:
      text: a document.
      words: the list.
      keep_fraction: of such documents that stay, drawn from a hash of seed and text, so that the
        draw does not depend on the order of documents.
      seed: of that draw.

    Raises:
      ValueError: an empty list, or keep_fraction outside [0, 1].
    """
    check.between(0, 1, keep_fraction=keep_fraction)
    if not words:
        raise ValueError("words must hold at least one word; got none.")
    pattern = "|".join(re.escape(word.lower()) for word in words)
    if not re.search(rf"(?:\W|^)(?:{pattern})(?:\W|$)", text.lower()):
        return Decision(True, "", text)
    digest = hashlib.blake2b(f"{seed}:{text}".encode("utf-8", "surrogatepass"), digest_size=8)
    keep = int.from_bytes(digest.digest(), "big") < keep_fraction * 2**64
    return Decision(keep, "" if keep else "bad_words", text)


_ITEM = re.compile(r"\s|[-•*>|#]|\d+[.)]\s")


def unwrap(text: str, min_width: int = 50) -> str:
    """Joins the lines of hard-wrapped paragraphs, which line rules would misjudge.

    A line is joined to the one before where that one is nearly as long as the paragraph's
    longest, at least `min_width`, and the line starts like running text.

    Args:
      text: a document.
      min_width: characters; narrower paragraphs (verse, lists) stay as they are.
    """
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.split("\n")
        wide = max(map(len, lines))
        joined = lines[:1]
        for before, line in zip(lines, lines[1:], strict=False):
            filled = len(before) + len(line.split(" ", 1)[0]) >= 0.85 * wide >= 0.85 * min_width
            if filled and line.strip() and not _ITEM.match(line):
                joined[-1] += " " + line
            else:
                joined.append(line)
        paragraphs.append("\n".join(joined))
    return "\n\n".join(paragraphs)
