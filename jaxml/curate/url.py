"""Documents by their address: blocked hosts and words in URLs."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from jaxml.core import check

_WORDS = re.compile(r"[^a-z0-9]+")


@dataclasses.dataclass(frozen=True)
class UrlConfig:
    """What is blocked; each list is a file with one entry a line, "" for none.

    Attributes:
      hosts: such as `example.org`, with all its subdomains.
      words: a whole word of the address drops the document.
      soft_words: so many different ones do, see `soft_limit`.
      parts: letters anywhere in the address, without what is no letter or digit, do.
      soft_limit: of soft words.
      missing: what becomes of documents without an address.
      field: of the document that holds it.
    """

    hosts: str = ""
    words: str = ""
    soft_words: str = ""
    parts: str = ""
    soft_limit: int = 2
    missing: Literal["keep", "drop"] = "keep"
    field: str = "url"

    def __post_init__(self):
        check.types(self)
        check.at_least(1, soft_limit=self.soft_limit)
        if not (self.hosts or self.words or self.soft_words or self.parts):
            raise ValueError("hosts, words, soft_words or parts must name a file; got none.")


def _entries(path: str) -> frozenset[str]:
    lines = Path(path).read_text().splitlines() if path else []
    entries = (line.strip().lower() for line in lines)
    return frozenset(entry for entry in entries if entry and not entry.startswith("#"))


def _host(url: str) -> str:
    try:
        return (urlsplit(url if "://" in url else f"//{url}").hostname or "").lower()
    except ValueError:  # brackets that are no address
        return ""


def build(cfg: UrlConfig) -> Callable[[str], str]:
    """The filter `url -> reason`, "" where it stays.

    Raises:
      FileNotFoundError: a list is not there.
    """
    hosts, words, soft, inner = map(_entries, (cfg.hosts, cfg.words, cfg.soft_words, cfg.parts))
    anywhere = re.compile("|".join(map(re.escape, sorted(inner)))) if inner else None

    def reason(url: str) -> str:
        if not url:
            return "no_url" if cfg.missing == "drop" else ""
        labels = _host(url).strip(".").split(".")
        if not hosts.isdisjoint(".".join(labels[i:]) for i in range(len(labels))):
            return "url_host"
        found = set(_WORDS.split(url.lower()))
        if not words.isdisjoint(found):
            return "url_word"
        if len(soft & found) >= cfg.soft_limit:
            return "url_soft_words"
        joined = _WORDS.sub("", url.lower())
        return "url_part" if anywhere is not None and anywhere.search(joined) else ""

    return reason
