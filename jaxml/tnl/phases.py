"""The studies of one H100, a results file each: run where there is a GPU, read where there is not.

A file that is there is not made again, so a run that was stopped goes on with the next study.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxml.core import check, config
from jaxml.inputs import source
from jaxml.report import timing
from jaxml.report.recipe import Context, Outcome
from jaxml.tnl import decoding, h100, pictures, promises, throughput
from jaxml.tnl.config import PRESETS

CHECKOUT = Path(__file__).resolve().parents[2] / "benchmarks"


@dataclasses.dataclass(frozen=True)
class GPUConfig:
    """The studies at full size.

    Attributes:
      presets: whose training speed is measured against the length.
      tokens: of every update there.
      lengths: of its rows.
      peer_lengths: of the rows beside the other trainer.
      contexts: read before decoding.
      decode_preset: of decoding and of the other trainer.
      curves_preset: of the loss curves beside the other trainer.
      curve_steps: their updates.
      quality: 40M TNL, Transformer and ablations.
      corpus: their text.
      vocab_size: of its BPE.
    """

    presets: tuple[str, ...] = ("385m", "1b")
    tokens: int = 131_072
    lengths: tuple[int, ...] = (2048, 8192, 32_768, 131_072)
    peer_lengths: tuple[int, ...] = (2048, 16_384, 131_072)
    contexts: tuple[int, ...] = (2048, 16_384, 131_072, 524_288, 1_048_576)
    decode_preset: str = "385m"
    curves_preset: str = "40m"
    curve_steps: int = 300
    quality: h100.Study = dataclasses.field(default_factory=h100.Study)
    corpus: str = "english_docs"
    vocab_size: int = 16_384

    def __post_init__(self):
        for preset in (*self.presets, self.decode_preset, self.curves_preset):
            check.one_of(PRESETS, preset=preset)


type Study = Callable[[GPUConfig, Context, Path], None]
"""Writes one results file."""


class _Missing(Exception):
    """Something that a study needs is not on this machine."""


def _throughput(preset: str) -> Study:
    def run(cfg: GPUConfig, context: Context, path: Path) -> None:
        full = dataclasses.replace(PRESETS[preset], remat="full")
        names = ["TNL", "Transformer"]
        rows = throughput.measure(full, preset, names, cfg.lengths, cfg.tokens, 5, context.say)
        timing.write(path, rows)

    return run


def _training(cfg: GPUConfig, context: Context, path: Path) -> None:
    beside = _benchmark("tnl-training")
    full = dataclasses.replace(PRESETS[cfg.decode_preset], remat="full")
    lengths = list(cfg.peer_lengths)
    timing.write(path, beside.measure(full, cfg.decode_preset, lengths, cfg.tokens, 5, "full"))


def _curves(cfg: GPUConfig, context: Context, path: Path) -> None:
    beside = _benchmark("tnl-training")
    tokens = h100.unpack(_tokens(cfg, context))
    study = dataclasses.replace(cfg.quality, preset=cfg.curves_preset, steps=cfg.curve_steps)
    timing.write(path, beside.curves(study, tokens, context.say))


def _quality(cfg: GPUConfig, context: Context, path: Path) -> None:
    h100.run(cfg.quality, _tokens(cfg, context), context.folder, say=context.say)
    (context.folder / "quality.json").replace(path)


def _decode(cfg: GPUConfig, context: Context, path: Path) -> None:
    preset = cfg.decode_preset
    rows = decoding.measure(PRESETS[preset], preset, cfg.contexts, say=context.say)
    timing.write(path, rows)


def _tokens(cfg: GPUConfig, context: Context) -> Path:
    path = context.folder / "tokens.npz"
    if not path.exists():
        try:
            h100.pack(path, cfg.corpus, cfg.vocab_size)
        except source.DataNotFoundError as error:
            raise _Missing(str(error)) from None
    return path


def _benchmark(name: str) -> Any:
    """The module of a benchmark that runs beside a peer."""
    path = CHECKOUT / f"{name}.py"
    if not path.exists():
        raise _Missing(f"it is run from a checkout, which holds benchmarks/{name}.py")
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STUDIES: dict[str, tuple[Study, str]] = {
    "throughput-385m": (_throughput("385m"), "training speed against the length, 385M"),
    "throughput-1b": (_throughput("1b"), "training speed against the length, 1B"),
    "training": (_training, "training speed beside jax-linear-attention"),
    "curves": (_curves, "loss curves beside jax-linear-attention"),
    "decode-385m": (_decode, "decoding against the context, 385M"),
    "quality": (_quality, "quality and ablations, 40M"),
}
"""By results file, in the order of running."""


def find(name: str, folders: Sequence[Path]) -> Path | None:
    """The results file of a study: `NAME.json`, or `tnl-NAME-h100.json` as committed ones."""
    names = (f"{name}.json", *(f"tnl-{name}-{device}.json" for device in ("h100", "h200")))
    paths = (folder / file for folder in folders for file in names)
    return next((path for path in paths if path.exists()), None)


def outcome(records: dict[str, Any], missing: dict[str, str], scale: str) -> Outcome:
    """Claims, pictures and tables from results files by study; `missing` says why one is not there.

    Raises:
      ValueError: a file that is no such study's.
    """
    claims = []
    for name, (decide, asked) in promises.DECIDES.items():
        if name not in records:
            why = missing.get(name, "not run")
            claims += [promise.missing(why, scale) for promise in asked]
            continue
        try:
            claims += decide(records[name], scale)
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"the results of {name} are not such a study's ({error}).") from None
    figures, tables = pictures.of_studies(records)
    return Outcome(claims=claims, figures=figures, tables=tables)


def run(cfg: GPUConfig, context: Context, here: bool | None = None) -> Outcome:
    """Runs or reads every study.

    Args:
      cfg: their sizes.
      context: of the recipe; its folder gets the results files.
      here: whether this machine may run them; None: where it has a GPU.
    """
    here = jax.default_backend() == "gpu" if here is None else here
    context.folder.mkdir(parents=True, exist_ok=True)
    config.save(cfg, context.folder / "studies.json")
    folders = [context.folder] if here else [context.folder, CHECKOUT / "results"]
    records, missing = {}, {}
    for name, (study, about) in STUDIES.items():
        path = find(name, folders)
        if path is None and here:
            context.say(f"{name}: {about}")
            path = context.folder / f"{name}.json"
            try:
                study(cfg, context, path)
            except _Missing as error:
                missing[name], path = str(error), None
        if path is None:
            missing.setdefault(name, f"it needs an NVIDIA GPU, or {name}.json in {context.folder}")
            context.say(f"{name}: not measured")
            continue
        records[name] = json.loads(path.read_text())
        context.say(f"{name}: {path.name} of {records[name]['date']}")
    found = outcome(records, missing, context.scale)
    return dataclasses.replace(found, kept=here and not missing)
