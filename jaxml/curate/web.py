"""Pages of the web as documents: HTML files and WARC archives, their main text extracted.

Parsing is left to packages that are kept well: warcio for archives, resiliparse or trafilatura for
the main text of a page.
"""

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal

from jaxml.core import check
from jaxml.curate.record import (
    Bad,
    DecompressionError,
    Document,
    Limits,
    content_id,
    shown,
)

type Extractor = Literal["resiliparse", "trafilatura"]
type Extract = Callable[[bytes], str]
"""The main text of a page; "" where it has none."""

EXTRACTORS = ("resiliparse", "trafilatura")
_HTML = ("text/html", "application/xhtml+xml")


def _needs(error: ImportError) -> ImportError:
    return ImportError(
        f"reading pages needs the package {error.name}: pip install 'jaxml-lab[curate-web]'."
    )


def _resiliparse() -> Extract:
    from resiliparse.extract.html2text import (  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
        extract_plain_text,
    )
    from resiliparse.parse.encoding import (  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
        bytes_to_str,
        detect_encoding,
    )

    def extract(page: bytes) -> str:
        html = bytes_to_str(page, detect_encoding(page) or "utf-8")
        return extract_plain_text(html, main_content=True, alt_texts=False).strip()

    return extract


def _trafilatura() -> Extract:
    import trafilatura  # pyright: ignore[reportMissingImports]

    def extract(page: bytes) -> str:
        found = trafilatura.extract(page, favor_precision=True, include_comments=False)
        return (found or "").strip()

    return extract


@functools.cache
def extractor(name: str) -> Extract:
    """The function that finds a page's main text.

    Raises:
      ValueError: no such extractor.
      ImportError: its package is missing; says how to get it.
    """
    check.one_of(EXTRACTORS, extractor=name)
    try:
        return _resiliparse() if name == "resiliparse" else _trafilatura()
    except ImportError as error:
        raise _needs(error) from None


def _page(
    page: bytes, extract: Extract, name: str, place: int, about: dict[str, str]
) -> Document | Bad:
    """The document of a page, with its address as other fields."""
    try:
        text = extract(page)
    except Exception as error:  # noqa: BLE001  # parsers fail in their own ways on broken pages
        return Bad(name, place, "broken_page", f"{about.get('url', '')} {error}".strip())
    if not text:
        return Bad(name, place, "no_main_text", about.get("url", "") or shown(page))
    text = text.encode("utf-8", "replace").decode()
    key = about.pop("id", None) or content_id(text)
    return Document(key, text, json.dumps(about, ensure_ascii=False))


def html(stream: BinaryIO, name: str, extract: Extract, limits: Limits) -> Document | Bad:
    """The document of one HTML file."""
    page = stream.read(limits.document_bytes + 1)
    if len(page) > limits.document_bytes:
        return Bad(name, 0, "too_long", shown(page))
    return _page(page, extract, name, 0, {"id": name})


def warc(stream: BinaryIO, name: str, extract: Extract, limits: Limits) -> Iterator[Document | Bad]:
    """The pages among the responses of an archive; other records and kinds of content pass by.

    Args:
      stream: the archive, decompressed.
      name: of the file, for reports.
      extract: see `extractor`.
      limits: longer pages are set apart.
    """
    try:
        from warcio.archiveiterator import ArchiveIterator  # pyright: ignore[reportMissingImports]
        from warcio.exceptions import ArchiveLoadFailed  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise _needs(error) from None
    place = 0
    try:
        for record in ArchiveIterator(stream):
            place += 1
            if record.rec_type == "response" and _is_page(record):
                yield _response(record, extract, name, place, limits)
    except ArchiveLoadFailed as error:
        yield Bad(name, place + 1, "broken_warc", str(error))


def _is_page(record: Any) -> bool:
    headers = record.http_headers
    if headers is None or not headers.get_statuscode().startswith("2"):
        return False
    kind = (headers.get_header("Content-Type") or "").split(";")[0].strip().lower()
    return kind in _HTML


def _response(
    record: Any, extract: Extract, name: str, place: int, limits: Limits
) -> Document | Bad:
    header = record.rec_headers.get_header
    about = {"url": header("WARC-Target-URI") or "", "date": header("WARC-Date") or ""}
    about["id"] = (header("WARC-Record-ID") or "").strip("<>")
    try:
        page = record.content_stream().read(limits.document_bytes + 1)
    except DecompressionError:
        raise
    except Exception as error:  # noqa: BLE001  # broken chunks and content encodings
        return Bad(name, place, "broken_page", f"{about['url']} {error}")
    if len(page) > limits.document_bytes:
        return Bad(name, place, "too_long", about["url"])
    return _page(page, extract, name, place, about)
