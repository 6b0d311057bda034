"""What reading gives: documents, and records that could not be read."""

import hashlib
from typing import NamedTuple


class Document(NamedTuple):
    """A text.

    Attributes:
      id: of the source, else 128 bits of the text in hex; survivors are chosen by it.
      text: the document.
      meta: all other fields as JSON.
    """

    id: str
    text: str
    meta: str


class Bad(NamedTuple):
    r"""A record that could not be read.

    Attributes:
      file: where it was.
      place: line, row or record, from 1; 0 for the whole file.
      reason: a word.
      content: the record's first 4,096 bytes, what is not UTF-8 as `\xNN`; of a page its address.
    """

    file: str
    place: int
    reason: str
    content: str


class Limits(NamedTuple):
    """What is refused.

    Attributes:
      document_bytes: a longer line or text is set apart.
      ratio: of decompressed to compressed bytes, beyond the first 256 MiB.
    """

    document_bytes: int = 1 << 26
    ratio: float = 200.0


LIMITS = Limits()


class DecompressionError(ValueError):
    """A compressed file that grows beyond the limit, or is broken."""


def shown(content: bytes) -> str:
    """The beginning of a record, fit for a report."""
    return content[:4096].rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def content_id(text: str) -> str:
    """128 bits of the text in hex."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
