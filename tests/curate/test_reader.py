"""Files of every kind, whole, broken, and hostile."""

import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxml.curate import engine, pipeline, reader
from jaxml.curate.pipeline import Pipeline, Stage

EMPTY = Pipeline((Stage("empty", pipeline.NoConfig()),))
PAGE = """<html><head><title>t</title><script>var a = 1;</script></head><body>
<nav><a href="/">Home</a> <a href="/about">About</a></nav><article><h1>Rivers</h1>
<p>{}</p><p>A second paragraph says more about the river and its long way to the sea.</p>
</article><footer>Copyright</footer></body></html>"""


def test_a_decompression_bomb_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "_FREE_BYTES", 1000)
    for suffix in ("jsonl", "warc", "html"):
        path = tmp_path / f"bomb.{suffix}.gz"
        with gzip.open(path, "wb") as handle:
            handle.write(b'{"text": "first"}\n')
            handle.write(b"0" * 3_000_000)
    limits = reader.Limits(10_000, 10.0)
    got = list(reader.read(tmp_path / "bomb.jsonl.gz", limits=limits))
    assert got[-1].reason == "decompression"
    assert "grows beyond the limit" in got[-1].content
    truncated = tmp_path / "cut.jsonl.gz"
    truncated.write_bytes((tmp_path / "bomb.jsonl.gz").read_bytes()[:200])
    assert list(reader.read(truncated))[-1].reason in ("decompression", "malformed_json")


def test_a_zstd_bomb_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "_FREE_BYTES", 1000)
    path = tmp_path / "bomb.jsonl.zst"
    with pa.output_stream(str(path), compression="zstd") as handle:
        handle.write(b"0" * 3_000_000)
    (got,) = list(reader.read(path, limits=reader.Limits(10_000_000, 10.0)))
    assert got.reason == "decompression"


def test_long_documents_of_parquet_come_singly(tmp_path):
    rows = {"text": ["x" * 3000, "y" * 10, "z" * 3000]}
    pq.write_table(pa.table(rows), tmp_path / "x.parquet", row_group_size=1)
    got = list(reader.read(tmp_path / "x.parquet", limits=reader.Limits(1000)))
    assert [getattr(r, "reason", "good") for r in got] == ["too_long", "good", "too_long"]
    stored = pq.ParquetFile(tmp_path / "x.parquet")
    assert reader._batch_size(stored) == 256


HUGE = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))
from jaxml.curate import engine, pipeline
from jaxml.curate.pipeline import Pipeline, Stage
pipe = Pipeline((Stage("empty", pipeline.NoConfig()),), max_document_bytes=1 << 20)
report = engine.run(pipe, [sys.argv[1]], sys.argv[2])
print(report.num_bad, report.num_written)
"""


@pytest.mark.slow
def test_a_document_of_a_gigabyte_is_set_apart_in_600_megabytes(tmp_path):
    """One line of 1 GiB between two short ones."""
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as handle:
        handle.write(b'{"text": "before"}\n{"text": "')
        for _ in range(1024):
            handle.write(b"x" * (1 << 20))
        handle.write(b'"}\n{"text": "after"}\n')
    command = [sys.executable, "-c", HUGE.format(limit=600 << 20), str(path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path.unlink()
    assert done.stdout.split() == ["{'too_long':", "1}", "2"], done.stderr[-2000:]
    (bad,) = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    assert json.loads(bad)["place"] == 2
    assert len(json.loads(bad)["content"]) <= 4096


def test_a_line_longer_than_the_limit_is_never_held(tmp_path):
    import tracemalloc

    path = tmp_path / "huge.jsonl"
    with path.open("wb") as handle:
        handle.write(b'{"text": "' + b"x" * (24 << 20) + b'"}\n{"text": "after"}\n')
    tracemalloc.start()
    got = [getattr(r, "reason", "good") for r in reader.read(path, limits=reader.Limits(1 << 20))]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got == ["too_long", "good"]
    assert peak < 8 << 20


def test_bad_input_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        reader.find([tmp_path / "no"])
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(ValueError, match="must end in one of"):
        reader.find([tmp_path / "x.csv"])
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="text_field must be one of body; got text_field='text'"):
        list(reader.read(tmp_path / "x.parquet"))


def archive(path):
    """A WARC file: two pages, a picture, a page not found, a request."""
    warcio = pytest.importorskip("warcio")
    from io import BytesIO

    from warcio.statusandheaders import StatusAndHeaders

    del warcio
    from warcio.warcwriter import WARCWriter

    def headers(status, kind):
        return StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")

    with path.open("wb") as handle:
        writer = WARCWriter(handle, gzip=path.name.endswith(".gz"))
        for number, (status, kind, body) in enumerate((
            ("200 OK", "text/html; charset=utf-8", PAGE.format("The Café by the river. " * 12)),
            ("200 OK", "image/png", "no text"),
            ("404 Not Found", "text/html", PAGE.format("Not here. " * 20)),
            ("200 OK", "text/html", "<html><body></body></html>"),
            ("200 OK", "text/html", PAGE.format("Another page on mountains and snow. " * 9)),
        )):  # fmt: skip
            writer.write_record(writer.create_warc_record(
                f"http://www.example.org/{number}", "response",
                payload=BytesIO(body.encode()), http_headers=headers(status, kind)))  # fmt: skip
    return path


@pytest.mark.parametrize("extractor", ["resiliparse", "trafilatura"])
@pytest.mark.filterwarnings("ignore")
def test_pages_of_an_archive_become_documents(tmp_path, extractor):
    pytest.importorskip(extractor)
    path = archive(tmp_path / "crawl.warc.gz")
    got = list(reader.read(path, extractor=extractor))
    good = [r for r in got if isinstance(r, reader.Document)]
    assert [json.loads(d.meta)["url"][-2:] for d in good] == ["/0", "/4"]
    assert "Café by the river" in good[0].text
    assert "var a" not in good[0].text
    assert good[0].id.startswith("urn:uuid:")
    assert [r.reason for r in got if isinstance(r, reader.Bad)] == ["no_main_text"]
    page = tmp_path / "a.html"
    page.write_bytes(PAGE.format("Gr\xfc\xdfe vom Fluss, lang genug. " * 9).encode("latin-1"))
    (document,) = reader.read(page, extractor=extractor)
    assert "Grüße" in document.text


@pytest.mark.filterwarnings("ignore")  # of the writer
def test_a_broken_archive_loses_only_what_is_broken(tmp_path):
    pytest.importorskip("resiliparse")
    path = archive(tmp_path / "crawl.warc.gz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 300])
    got = list(reader.read(path))
    assert isinstance(got[0], reader.Document)
    assert got[-1].reason in ("decompression", "broken_warc", "broken_page")


def test_addresses_are_filtered(tmp_path):
    (tmp_path / "hosts.txt").write_text("# ours\nbad.org\n")
    (tmp_path / "words.txt").write_text("casino\n")
    (tmp_path / "soft.txt").write_text("buy\ncheap\n")
    (tmp_path / "parts.txt").write_text("xx3x\n")
    cfg = {
        k: str(tmp_path / f"{k.split('_')[0]}.txt")
        for k in ("hosts", "words", "soft_words", "parts")
    }
    urls = {
        "http://bad.org/a": "url_host", "https://www.bad.org:80/": "url_host",
        "http://notbad.org/": "", "http://a.org/casino-royale": "url_word",
        "http://a.org/casinos": "", "http://a.org/buy": "",
        "http://a.org/buy/cheap": "url_soft_words",
        "http://a.org/x-x3-x": "url_part", "http://[broken": "", "": "",
    }  # fmt: skip
    path = tmp_path / "in.jsonl"
    path.write_text(
        "".join(
            json.dumps({"id": str(i), "text": "t", "url": u}) + "\n" for i, u in enumerate(urls)
        )
    )
    from jaxml.curate.url import UrlConfig

    report = engine.run(Pipeline((Stage("url", UrlConfig(**cfg)),)), [path], tmp_path / "out")
    assert report.stages[0]["reasons"] == {
        "url_host": 2,
        "url_part": 1,
        "url_soft_words": 1,
        "url_word": 1,
    }
    rows = pq.read_table(tmp_path / "out/removed.parquet").to_pylist()
    assert {r["id"]: r["reason"] for r in rows} == {
        str(i): w for i, w in enumerate(urls.values()) if w
    }
    with pytest.raises(ValueError, match="must name a file; got none"):
        UrlConfig()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    from jaxml.curate import web

    web.extractor.cache_clear()
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    (tmp_path / "a.html").write_text("<p>x</p>")
    with pytest.raises(ImportError, match=r"trafilatura: pip install 'jaxml-lab\[curate-web\]'"):
        list(reader.read(tmp_path / "a.html", extractor="trafilatura"))
    web.extractor.cache_clear()
