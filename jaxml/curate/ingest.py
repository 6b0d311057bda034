"""From files to parts: what can be read becomes documents, what cannot is set apart."""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jaxml.core import files
from jaxml.curate import parts, reader
from jaxml.curate.executor import Map
from jaxml.curate.pipeline import Pipeline


def cut(inputs: Sequence[Path], pipe: Pipeline) -> Iterator[tuple[list, list]]:
    """Documents and unreadable records, as many as make a part."""
    good, bad, size = [], [], 0
    limits = reader.Limits(pipe.max_document_bytes)
    for path in inputs:
        for record in reader.read(path, pipe.text_field, limits, pipe.extractor):
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


def _groups(inputs: Sequence[Path], room: int) -> Iterator[list[str]]:
    """Files in order, together up to `room` bytes or one file: what one worker reads."""
    group, size = [], 0
    for path in inputs:
        more = path.stat().st_size
        if group and size + more > room:
            yield group
            group, size = [], 0
        group.append(str(path))
        size += more
    if group:
        yield group


def read_group(pipe: Pipeline, listing: Path) -> None:
    """Reads the files of a group into parts; parts that lie there already are not written again.

    Args:
      pipe: how documents are read, and how many make a part.
      listing: JSON list of files; the parts go beside it.
    """
    done = listing.with_suffix(".done")
    if done.exists():
        return
    inputs = [Path(path) for path in json.loads(listing.read_text())]
    group = listing.stem.removeprefix("group-")
    for number, (good, bad) in enumerate(cut(inputs, pipe)):
        target = listing.with_name(f"part-{group}-{number:05d}.parquet")
        if target.exists():
            continue
        lines = [json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in bad]
        files.write_text(target.with_name(f"bad-{group}-{number:05d}.jsonl"), "".join(lines))
        parts.write(parts.of_documents(good), target)
    files.write_text(done, "")


def ingest(
    inputs: Sequence[Path], pipe: Pipeline, folder: Path, run: Map, say: Callable[[str], None]
) -> None:
    """Reads the input once, group by group.

    Args:
      inputs: files.
      pipe: how documents are read, and how many make a part.
      folder: gets the parts.
      run: who reads.
      say: gets lines of progress.
    """
    listings = sorted(folder.glob("group-*.json"))
    if not listings:
        for number, group in enumerate(_groups(inputs, pipe.part_bytes)):
            listings.append(folder / f"group-{number:05d}.json")
            files.write_text(listings[-1], json.dumps(group))
    run(functools.partial(read_group, pipe), listings)
    if not parts.listed(folder):
        parts.write(parts.of_documents([]), folder / "part-00000-00000.parquet")
    say(f"read: {parts.num_rows(folder):,} documents in {len(parts.listed(folder))} parts")
