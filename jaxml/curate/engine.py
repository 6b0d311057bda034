"""Runs a pipeline part by part: out of core, restartable, the same answer whoever does the work.

The input is cut into parts, each a Parquet file. A stage turns parts into parts; every file is
written aside and renamed, so a run that was killed goes on behind the last finished part. Stages
that compare documents keep a few numbers of each in memory, never the texts. The engine is one
word: "local" (this process), "daft" (Daft on this machine), "ray" (Daft on Ray).
"""

import dataclasses
import errno
import functools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxml.core import check, config, files
from jaxml.curate import executor, ingest, parts, rank, reader
from jaxml.curate import pipeline as pipelines
from jaxml.curate.executor import Map
from jaxml.curate.pipeline import Pipeline, Stage
from jaxml.curate.work import Work

type Say = Callable[[str], None]


class DiskFullError(OSError):
    """The disk is full; nothing that was finished is lost."""


@functools.lru_cache(maxsize=16)
def _built(stage: Stage) -> Callable[[Any], tuple[list[str], Sequence[str]]]:
    """What a stage that looks at one document at a time does to the table of a part."""
    if stage.kind in pipelines.TEXT_STAGES:
        run = pipelines.TEXT_STAGES[stage.kind][1](stage.cfg)
        return lambda table: run(parts.texts(table))
    reason = pipelines.FIELD_STAGES[stage.kind][1](stage.cfg)

    def judge(table: Any) -> tuple[list[str], Sequence[str]]:
        rows = (json.loads(meta) for meta in table["meta"].to_pylist())
        return parts.texts(table), [reason(str(row.get(stage.cfg.field) or "")) for row in rows]

    return judge


def _judge(stage: Stage, table: Any, target: Path) -> tuple[list[str], Sequence[str]]:
    del target
    return _built(stage)(table)


def _step(stage: Stage, work: Work) -> None:
    if stage.kind in pipelines.CORPUS_STAGES:
        if work.todo:
            pipelines.CORPUS_STAGES[stage.kind][1](stage.cfg, work)
    else:
        work.finish(functools.partial(_judge, stage))


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
    engine: str = "local",
    keep_work: bool = False,
    say: Say = lambda _: None,
) -> Report:
    """Runs a pipeline from files to a folder.

    The folder gets `data/` (the documents), `removed.parquet` (id, stage, reason and the first
    characters of each document that went), `quarantine.jsonl` (records that could not be read),
    `report.json`, `card.html`, and `_work/` while it runs. The same documents survive whatever the
    order of the input, the size of the parts and the engine. A run that was stopped goes on with
    the same call, with another engine if you like.

    Args:
      pipe: stages and how documents are read.
      inputs: files and folders.
      out: the folder; on several machines, one that all of them see.
      output_format: see `writer.FORMATS`.
      engine: see `executor.ENGINES`.
      keep_work: leave the parts of every stage.
      say: gets lines of progress.

    Raises:
      FileNotFoundError, ValueError: of the input; see `reader.find`.
      ValueError: the folder holds the result of another pipeline or input.
      ImportError: the engine's package is missing.
      files.FolderInUseError: another process writes there.
      DiskFullError: make room and run it again.
    """
    from jaxml.curate import writer

    check.one_of(tuple(writer.FORMATS), output_format=output_format)
    each = executor.choose(engine)
    paths, out = reader.find(inputs), Path(out).absolute()
    with files.lock(out), _room(out):
        _check_folder(pipe, paths, out)
        folders = _folders(pipe, paths, out, each, say)
        report = _report(pipe, folders)
        writer.collect(folders, out)
        writer.write(parts.listed(folders[-1]), out / "data", output_format)
        _write_report(report, out)
        if not keep_work:
            shutil.rmtree(out / "_work")
    return report


@contextmanager
def _room(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        done = len(list((out / "_work").glob("*/part-*.parquet")))
        raise DiskFullError(
            error.errno,
            f"no room left on the disk of {out}: {done} parts are finished and stay; make room "
            "and run the same command again, it goes on from there",
        ) from error


def _folders(pipe: Pipeline, paths: Sequence[Path], out: Path, each: Map, say: Say) -> list[Path]:
    """Reads, then runs every stage; the folder of the parts of each step."""
    source = out / "_work" / "00-read"
    source.mkdir(parents=True, exist_ok=True)
    ingest.ingest([path.absolute() for path in paths], pipe, source, each, say)
    if any(stage.kind in pipelines.CORPUS_STAGES for stage in pipe.stages):
        rank.assign(source, each)
    folders = [source]
    for number, stage in enumerate(pipe.stages, 1):
        folder = out / "_work" / f"{number:02d}-{stage.kind}"
        folder.mkdir(exist_ok=True)
        _step(stage, Work(stage.kind, folders[-1], folder, each))
        folders.append(folder)
        say(f"{stage.kind}: {parts.num_rows(folders[-2]):,} documents, "
            f"{parts.num_rows(folder):,} left")  # fmt: skip
    return folders


def _write_report(report: Report, out: Path) -> None:
    from jaxml.curate import card

    page = card.render(report, card.examples(out / "removed.parquet"))
    files.write_text(out / "card.html", page)
    files.write_text(out / "report.json", json.dumps(dataclasses.asdict(report), indent=1) + "\n")


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


def _report(pipe: Pipeline, folders: Sequence[Path]) -> Report:
    stages = []
    for stage, before, after in zip(pipe.stages, folders, folders[1:], strict=False):
        reasons: dict[str, int] = {}
        for path in sorted(after.glob("removed-*.parquet")):
            for reason in parts.read(path, ["reason"])["reason"].to_pylist():
                reasons[reason] = reasons.get(reason, 0) + 1
        counts = {"num_in": parts.num_rows(before), "num_out": parts.num_rows(after)}
        stages.append({"kind": stage.kind, **counts, "reasons": dict(sorted(reasons.items()))})
    bad: dict[str, int] = {}
    for path in sorted(folders[0].glob("bad-*.jsonl")):
        for line in path.read_text().splitlines():
            reason = json.loads(line)["reason"]
            bad[reason] = bad.get(reason, 0) + 1
    return Report(parts.num_rows(folders[0]), bad, stages, parts.num_rows(folders[-1]))
