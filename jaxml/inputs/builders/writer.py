"""`jaxml data prepare`: raw files in, a verified TFDS directory out."""

import contextlib
import io
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxml.core import check, files
from jaxml.inputs import arrayrecord, raw, source
from jaxml.inputs.integrity import DataCorruptError, OtherFormatError

PREPARABLE = tuple(name for name, row in source.SETS.items() if row.layout)
"""Names of the sets that can be written."""


class AlreadyPreparedError(FileExistsError):
    """A directory that is not broken is there already."""


def prepare(
    name: str | source.DataSet,
    source_path: Path | str | None = None,
    out: Path | str | None = None,
    *,
    force: bool = False,
) -> Path:
    """Writes a data set as a TFDS directory (array_record), without TensorFlow.

    Checksums of the raw files are compared before, numbers of records after; the directory
    appears whole or not at all. Records keep the order of the raw files.

    Args:
      name: one of `PREPARABLE`, or a registry row.
      source_path: where the raw files are; None looks in the usual places.
      out: TFDS data directory; None means `source.tfds_folder()`.
      force: replace what is there; a broken directory is replaced in any case.

    Returns:
      The directory written.

    Raises:
      ValueError: a set that cannot be written.
      DataNotFoundError, DataCorruptError: the raw files are not there, or not right.
      AlreadyPreparedError: a directory that is not broken is there, and not `force`.
      FolderInUseError: another process prepares into `out`.
    """
    wanted = source.dataset(name)
    if not wanted.layout:
        check.one_of(PREPARABLE, name=wanted.name)
    out = Path(out) if out else source.tfds_folder()
    target = out / wanted.tfds[0]
    if not force:
        _refuse_to_replace(target)
    located = source.find(wanted, source_path, kind="raw")
    with files.lock(out), _folder_aside(out) as aside:
        _write(wanted, located, aside)
        written = aside / wanted.tfds[0]
        _check_counts(written, wanted)
        _replace(written, target)
    return target


def _refuse_to_replace(target: Path) -> None:
    if not (target / "dataset_info.json").is_file():
        return
    try:
        counts: object = arrayrecord.check_directory(target)
    except OtherFormatError as error:
        counts = error
    except DataCorruptError:
        return
    raise AlreadyPreparedError(
        f"{target} is there and intact ({counts}); use --force to replace it, or another --out."
    )


@contextlib.contextmanager
def _folder_aside(out: Path) -> Iterator[Path]:
    aside = Path(tempfile.mkdtemp(dir=out, prefix=".prepare-"))
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(wanted: source.DataSet, located: source.Located, aside: Path) -> None:
    import tensorflow_datasets as tfds

    from jaxml.inputs.builders import features

    read = raw.LAYOUTS[wanted.layout]
    splits = {split: read(wanted, located, split) for split, _ in wanted.splits}
    shape = features.FEATURES[wanted.layout](next(iter(splits.values()))[0])
    builder = _builder_class(wanted, shape, splits)(data_dir=aside, file_format="array_record")
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # it would say "Downloading"
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )


def _builder_class(
    wanted: source.DataSet, shape: dict[str, Any], splits: dict[str, Sequence[dict[str, Any]]]
) -> type:
    import tensorflow_datasets as tfds

    from jaxml.inputs.builders.features import stored

    name, version = wanted.tfds[0].split("/")

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{wanted.about}. Licence: {wanted.licence}.",
                features=tfds.features.FeaturesDict(shape),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples(rows) for split, rows in splits.items()}

        def _generate_examples(self, rows: Sequence[dict[str, Any]]) -> Iterator[Any]:
            return zip(itertools.count(), (stored(rows[i]) for i in range(len(rows))), strict=False)

    Builder.name = name
    return Builder


def _check_counts(written: Path, wanted: source.DataSet) -> None:
    counts, expected = arrayrecord.check_directory(written), dict(wanted.splits)
    if counts != expected:
        raise DataCorruptError(
            f"records of {wanted.name} must number {expected}; wrote {counts}. "
            "Nothing was kept; get the raw files again."
        )


def _replace(written: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(written.parent / "replaced")
    written.rename(target)
