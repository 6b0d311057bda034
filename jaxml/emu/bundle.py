"""What a study needs, carried to another machine: an encoder and corpora as token ids.

A folder with the encoder's own arrays but only the word rows that the corpora use (`use.npz` or
`e5.bin`), a file of ids and labels for each corpus, and `about.json`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import files
from jaxml.emu import data, e5, study, use
from jaxml.emu import model as models
from jaxml.emu.data import Corpus, Sentences
from jaxml.emu.encoder import PAD, Encoder
from jaxml.emu.inputs import Inputs, tokenised
from jaxml.inputs.source import Provenance

_WEIGHTS = {"use": "use.npz", "e5": "e5.bin"}


def pack(folder: Path, encoder: str, corpora: Sequence[str], per_class: int) -> None:
    """Writes a folder.

    Args:
      folder: to write.
      encoder: "use" or "e5".
      corpora: names of `data.load`.
      per_class: most labelled sentences of an intent.

    Raises:
      DataNotFoundError: the encoder's package or a corpus is not here.
    """
    found, about, ids = models.encoder_named(encoder), {}, {}
    for name in corpora:
        task = data.load(name)
        used = study.labelled(task, per_class)
        ids[name] = tokenised(found, task, used)
        about[name] = {
            "labels": task.labels, "languages": task.languages, "parallel": task.parallel,
            "sha256": task.provenance.sha256, "licence": task.provenance.licence,
        }  # fmt: skip
        _write(folder / f"{name}.labels.npz", _labels(task, used))
    every = [x[x != PAD] for parts in ids.values() for x in parts.values()]
    rows = np.unique(np.concatenate(every))
    for name, parts in ids.items():
        small = {n: np.searchsorted(rows, x).astype(np.uint16) for n, x in parts.items()}
        length = {f"length/{n}": (x != PAD).sum(1).astype(np.uint8) for n, x in parts.items()}
        _write(folder / f"{name}.ids.npz", {**small, **length})
    if encoder == "use":
        with np.load(use.folder() / "weights.npz", allow_pickle=False) as arrays:
            _write(folder / _WEIGHTS[encoder], use.slim(dict(arrays), rows))
    else:
        files.write_bytes(folder / _WEIGHTS[encoder], e5.slim(e5.file().read_bytes(), rows))
    whole = {"encoder": encoder, "max_len": found.max_len, "corpora": about}
    files.write_text(folder / "about.json", json.dumps(whole, indent=1) + "\n")


def corpora(folder: Path) -> list[str]:
    """Names of the corpora in a folder."""
    return list(_about(folder)["corpora"])


def encoder(folder: Path) -> Encoder:
    """The encoder of a folder, in float32; it has no tokenizer."""
    about = _about(folder)
    path = folder / _WEIGHTS[about["encoder"]]
    if about["encoder"] == "use":
        with np.load(path, allow_pickle=False) as arrays:
            return use.assemble(use.import_arrays(dict(arrays)), None, max_len=about["max_len"])
    packed = e5.parse(path.read_bytes())
    params = e5.import_tensors(packed)
    return e5.of_bert("e5", packed.cfg, params, None, about["max_len"], e5.LANGUAGES)


def inputs(folder: Path, found: Encoder, name: str, trainable: str = "all") -> Inputs:
    """A corpus of a folder for its encoder.

    Raises:
      FileNotFoundError: the folder has no such corpus.
    """
    about = _about(folder)["corpora"].get(name)
    if about is None:
        raise FileNotFoundError(f"{folder} holds no corpus {name!r}; it has {corpora(folder)}.")
    labels, ids = _read(folder / f"{name}.labels.npz"), _read(folder / f"{name}.ids.npz")

    def sentences(part: str) -> Sentences:
        label = labels[f"label/{part}"]
        return Sentences(("",) * len(label), label, labels[f"pid/{part}"])

    parts = [
        {lang: sentences(f"{split}/{lang}") for lang in about["languages"]}
        for split in ("valid", "test")
    ]
    provenance = Provenance(name, "packed", about["sha256"], 0, about["licence"])
    corpus = Corpus(
        name, tuple(about["labels"]), sentences("train"), parts[0], parts[1], provenance,
        about["parallel"],
    )  # fmt: skip
    padded = {n: _padded(x, ids[f"length/{n}"]) for n, x in ids.items() if "length/" not in n}
    return Inputs(found, corpus, corpus.train, trainable, padded)


def _padded(x: np.ndarray, length: np.ndarray) -> np.ndarray:
    inside = np.arange(x.shape[1]) < length[:, None]
    return np.where(inside, x.astype(np.int32), PAD)


def _labels(task: Corpus, used: Sentences) -> dict[str, np.ndarray]:
    parts = {"train": used}
    for split in ("valid", "test"):
        parts |= {f"{split}/{lang}": s for lang, s in getattr(task, split).items()}
    named = {f"label/{name}": part.label for name, part in parts.items()}
    return named | {f"pid/{name}": part.pid for name, part in parts.items()}


def _about(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "about.json").read_text())


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with files.aside(path) as aside, aside.open("wb") as out:
        named: Any = {name.replace("/", "|"): x for name, x in arrays.items()}
        np.savez_compressed(out, **named)


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as kept:
        return {name.replace("|", "/"): kept[name] for name in kept}
