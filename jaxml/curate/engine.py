"""Runs a pipeline in this process, part by part: out of core, restartable, in a fixed answer.

The input is cut into parts, each a Parquet file. A stage turns parts into parts; every file is
written aside and renamed, so a run that was killed goes on behind the last finished part. Stages
that compare documents keep a few numbers of each in memory, never the texts.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import check, config, files
from jaxml.curate import dedup, reader
from jaxml.curate import pipeline as pipelines
from jaxml.curate import text as texts_
from jaxml.curate.pipeline import Pipeline, Stage

type Say = Callable[[str], None]


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError(
            "curating needs the package pyarrow: pip install 'jaxml-lab[curate]'."
        ) from None
    return pyarrow


def _write(table: Any, path: Path) -> None:
    with files.aside(path) as part:
        _arrow().parquet.write_table(table, part, compression="zstd")


def _read(path: Path, columns: Sequence[str] | None = None) -> Any:
    return _arrow().parquet.read_table(path, columns=columns, memory_map=True)


def _table(documents: Sequence[reader.Document]) -> Any:
    arrow = _arrow()
    columns = list(zip(*documents, strict=True)) or [(), (), ()]
    arrays = [arrow.array(column, arrow.large_string()) for column in columns]
    return arrow.table(arrays, names=["id", "text", "meta"])


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _cut(inputs: Sequence[Path], pipe: Pipeline) -> Iterator[tuple[list, list]]:
    """Documents and unreadable records, as many as make a part."""
    good, bad, size = [], [], 0
    limits = reader.Limits(pipe.max_document_bytes)
    for path in inputs:
        for record in reader.read(path, pipe.text_field, limits):
            if isinstance(record, reader.Bad):
                bad.append(record)
                continue
            good.append(record)
            size += len(record.text)
            if len(good) >= pipe.part_docs or size >= pipe.part_bytes:
                yield good, bad
                good, bad, size = [], [], 0
    if good or bad:
        yield good, bad


def _ingest(inputs: Sequence[Path], pipe: Pipeline, folder: Path, say: Say) -> None:
    """Reads the input once; parts that lie there already are not written again."""
    if (folder / "done").exists():
        return
    for number, (good, bad) in enumerate(_cut(inputs, pipe)):
        target = folder / f"part-{number:06d}.parquet"
        if target.exists():
            continue
        lines = [json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in bad]
        files.write_text(folder / f"bad-{number:06d}.jsonl", "".join(lines))
        _write(_table(good), target)
        say(f"read: part {number + 1}, {len(good)} documents, {len(bad)} unreadable")
    if not _parts(folder):
        _write(_table([]), folder / "part-000000.parquet")
    files.write_text(folder / "done", "")


def _kept(table: Any, texts: list[str], reasons: Sequence[str], stage: str) -> tuple[Any, Any]:
    """The documents that stay, with their texts, and (id, stage, reason, text) of the others."""
    arrow = _arrow()
    gone = np.array([bool(reason) for reason in reasons], bool)
    table = table.set_column(1, "text", arrow.array(texts, arrow.large_string()))
    out = table.filter(arrow.array(gone))
    names = arrow.array([stage] * out.num_rows, arrow.large_string())
    why = arrow.array([r for r in reasons if r], arrow.large_string())
    excerpt = arrow.array([t[:300] for t in out["text"].to_pylist()], arrow.large_string())
    removed = arrow.table(
        [out["id"], names, why, excerpt], names=["id", "stage", "reason", "excerpt"]
    )
    return table.filter(arrow.array(~gone)), removed


def _finish(table: Any, texts: list[str], reasons: Sequence[str], name: str, target: Path) -> None:
    kept, removed = _kept(table, texts, reasons, name)
    _write(removed, target.with_name(target.name.replace("part-", "removed-")))
    _write(kept, target)


def _text_stage(stage: Stage, source: Path, folder: Path) -> None:
    run = None
    for part in _parts(source):
        target = folder / part.name
        if target.exists():
            continue
        run = run or pipelines.TEXT_STAGES[stage.kind][1](stage.cfg)
        table = _read(part)
        texts, reasons = run(table["text"].to_pylist())
        _finish(table, texts, reasons, stage.kind, target)


def _keys(stage: Stage, texts: Sequence[str]) -> np.ndarray:
    """What is compared: uint64 [n, columns]; equal in any column of one meaning a link."""
    if stage.kind == "minhash":
        sig = dedup.minhash(texts_.pack(texts), stage.cfg)
        keys = dedup.band_keys(sig, stage.cfg.num_bands)
        empty = np.all(sig == dedup.EMPTY, axis=1)
        return np.where(empty[:, None], np.uint64(0), keys)
    marks = [dedup.fingerprint(t, **dataclasses.asdict(stage.cfg)) for t in texts]
    return np.frombuffer(b"".join(marks), np.uint64).reshape(-1, 2)


def _corpus_stage(stage: Stage, source: Path, folder: Path) -> None:
    parts = _parts(source)
    for part in parts:
        target = folder / f"{part.stem}.npy"
        if not target.exists():
            keys = _keys(stage, _read(part, ["text"])["text"].to_pylist())
            with files.aside(target) as aside, aside.open("wb") as handle:
                np.save(handle, np.asfortranarray(keys), allow_pickle=False)
    if all((folder / part.name).exists() for part in parts):
        return
    order = _order(parts)
    keep = _survivors(stage, [folder / f"{part.stem}.npy" for part in parts], order)
    begin = 0
    for part in parts:
        table = _read(part)
        stays = keep[begin : begin + table.num_rows]
        begin += table.num_rows
        if not (folder / part.name).exists():
            reasons = np.where(stays, "", "duplicate").tolist()
            _finish(table, table["text"].to_pylist(), reasons, stage.kind, folder / part.name)


def _order(parts: Sequence[Path]) -> np.ndarray:
    """Positions of all documents sorted by (id, content): the same whatever the partition."""
    arrow = _arrow()
    from pyarrow import compute  # pyright: ignore[reportAttributeAccessIssue]

    pieces = []
    for part in parts:
        table = _read(part, ["id", "text"])
        marks = [reader.content_id(t) for t in table["text"].to_pylist()]
        pieces.append(arrow.table([table["id"], arrow.array(marks)], names=["id", "mark"]))
    keys = [("id", "ascending"), ("mark", "ascending")]
    return np.asarray(
        compute.sort_indices(  # pyright: ignore[reportAttributeAccessIssue]
            arrow.concat_tables(pieces), sort_keys=keys
        )
    )


def _stored(path: Path) -> np.ndarray:
    empty = path.stat().st_size <= 128  # nothing behind the header cannot be mapped
    return np.load(path, mmap_mode=None if empty else "r", allow_pickle=False)


def _survivors(stage: Stage, stored: Sequence[Path], order: np.ndarray) -> np.ndarray:
    """Which documents stay, bool [n]: the first of each component in `order`.

    Bands are taken one at a time; after each, the components so far are all that is kept.
    """
    arrays = [_stored(path) for path in stored]
    width = 2 if stage.kind == "exact" else 1
    labels = np.arange(len(order), dtype=np.int64)
    for column in range(0, arrays[0].shape[1] if arrays else 0, width):
        key = np.concatenate([np.asarray(a[:, column]) for a in arrays])[order]
        docs = np.flatnonzero(key) if width == 1 else np.arange(len(key))
        key = key[docs]
        if width == 2:  # 128 bits: number the distinct pairs
            second = np.concatenate([np.asarray(a[:, column + 1]) for a in arrays])[order]
            pairs = np.stack([key, second], 1)
            key = np.unique(pairs, axis=0, return_inverse=True)[1].astype(np.uint64).ravel()
        codes = dedup.runs(key, docs)
        edges = np.stack([codes >> np.int64(32), codes & np.int64(0xFFFFFFFF)], 1)
        known = np.flatnonzero(labels != np.arange(len(labels)))
        edges = np.concatenate([edges, np.stack([labels[known], known], 1)])
        labels = dedup.components(edges, len(labels)).astype(np.int64)
    keep = np.zeros(len(order), bool)
    keep[order[labels == np.arange(len(labels))]] = True
    return keep


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
      num_read: documents read.
      num_bad: records that could not be read, by reason.
      stages: for each stage its kind, documents in and out, and how many went for which reason.
      num_written: documents at the end.
    """

    num_read: int
    num_bad: dict[str, int]
    stages: list[dict[str, Any]]
    num_written: int


def run(
    pipe: Pipeline,
    inputs: Sequence[Path | str],
    out: Path | str,
    *,
    output_format: str = "parquet",
    keep_work: bool = False,
    say: Say = lambda _: None,
) -> Report:
    """Runs a pipeline from files to a folder.

    The folder gets `data/` (the documents), `removed.parquet` (id, stage, reason and the first
    characters of each document that went), `quarantine.jsonl` (records that could not be read),
    `report.json`, and `_work/` while it runs. The same documents survive whatever the order of the
    input and the size of the parts. A run that was stopped goes on with the same call.

    Args:
      pipe: stages and how documents are read.
      inputs: files and folders.
      out: the folder.
      output_format: see `writer.FORMATS`.
      keep_work: leave the parts of every stage.
      say: gets lines of progress.

    Raises:
      FileNotFoundError, ValueError: of the input; see `reader.find`.
      ValueError: the folder holds the result of another pipeline or input.
      files.FolderInUseError: another process writes there.
    """
    from jaxml.curate import card, writer

    check.one_of(tuple(writer.FORMATS), output_format=output_format)
    paths, out = reader.find(inputs), Path(out)
    with files.lock(out):
        _check_folder(pipe, paths, out)
        source = out / "_work" / "00-read"
        source.mkdir(parents=True, exist_ok=True)
        _ingest(paths, pipe, source, say)
        folders = [source]
        for number, stage in enumerate(pipe.stages, 1):
            folder = out / "_work" / f"{number:02d}-{stage.kind}"
            folder.mkdir(exist_ok=True)
            step = _corpus_stage if stage.kind in pipelines.CORPUS_STAGES else _text_stage
            step(stage, folders[-1], folder)
            folders.append(folder)
            say(f"{stage.kind}: {_rows(folders[-2])} documents, {_rows(folder)} left")
        report = _report(pipe, folders)
        writer.collect(folders, out)
        writer.write(_parts(folders[-1]), out / "data", output_format)
        page = card.render(report, card.examples(out / "removed.parquet"))
        files.write_text(out / "card.html", page)
        files.write_text(
            out / "report.json", json.dumps(dataclasses.asdict(report), indent=1) + "\n"
        )
        if not keep_work:
            shutil.rmtree(out / "_work")
    return report


def _check_folder(pipe: Pipeline, paths: Sequence[Path], out: Path) -> None:
    """Refuses a folder of another run; remembers this one."""
    about = {
        "pipeline": pipelines.fingerprint(pipe),
        "parts": [pipe.part_docs, pipe.part_bytes],
        "inputs": [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in paths],
    }
    path = out / "run.json"
    if path.exists() and (out / "_work").exists():
        known = json.loads(path.read_text())
        for name, value in about.items():
            if known.get(name) != value:
                raise ValueError(
                    f"{out} holds an unfinished run with other {name}; choose another folder."
                )
    elif path.exists() or (out / "data").exists():
        raise ValueError(f"{out} holds a finished run; choose another folder.")
    files.write_text(path, json.dumps({**about, "config": config.to_dict(pipe)}, indent=1) + "\n")
    (out / "_work").mkdir(exist_ok=True)


def _rows(folder: Path) -> int:
    parquet = _arrow().parquet
    return sum(parquet.read_metadata(part).num_rows for part in _parts(folder))


def _report(pipe: Pipeline, folders: Sequence[Path]) -> Report:
    stages = []
    for stage, before, after in zip(pipe.stages, folders, folders[1:], strict=False):
        reasons: dict[str, int] = {}
        for path in sorted(after.glob("removed-*.parquet")):
            for reason in _read(path, ["reason"])["reason"].to_pylist():
                reasons[reason] = reasons.get(reason, 0) + 1
        counts = {"num_in": _rows(before), "num_out": _rows(after)}
        stages.append({"kind": stage.kind, **counts, "reasons": dict(sorted(reasons.items()))})
    bad: dict[str, int] = {}
    for path in sorted(folders[0].glob("bad-*.jsonl")):
        for line in path.read_text().splitlines():
            reason = json.loads(line)["reason"]
            bad[reason] = bad.get(reason, 0) + 1
    return Report(_rows(folders[0]), bad, stages, _rows(folders[-1]))
