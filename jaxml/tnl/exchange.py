"""Runs' folders from released checkpoints, and checkpoints from runs."""

from pathlib import Path
from typing import Any

from jaxml.core import config
from jaxml.inputs import tokenizer
from jaxml.tnl import train as training
from jaxml.tnl import weights


def adopt(
    checkpoint: Path | str, folder: Path | str, tokens: Path | str | None = None, **how: Any
) -> training.TrainConfig:
    """Makes a released checkpoint a run's folder, which `generate`, `eval` and `train` take.

    Args:
      checkpoint: a file, an index of shards, or their folder.
      folder: to be made; a run that lies there stays untouched.
      tokens: its tokenizer, a `tokenizer.json` or GPT-2's `vocab.json` beside its `merges.txt`;
        None: it lies beside the checkpoint.
      **how: see `weights.sizes`.

    Returns:
      The configuration that the folder holds.

    Raises:
      FileExistsError: the folder holds a run.
      FileNotFoundError: no checkpoint or no tokenizer there.
      WeightsError: see `weights.load`.
      ValueError: a tokenizer with more ids than the checkpoint.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise FileExistsError(f"{folder} holds a run already; choose another folder.")
    beside = Path(checkpoint) if Path(checkpoint).is_dir() else Path(checkpoint).parent
    words = tokenizer.load(beside if tokens is None else Path(tokens))
    model, params = weights.load(checkpoint, **how)
    cfg = training.TrainConfig(model=model, vocab="model")
    training.build(cfg, words.vocab_size)
    weights.save(folder / training.WEIGHTS, model, params)
    words.save(folder / "tokenizer.json")
    config.save(cfg, folder / "config.json")
    return cfg


def export(folder: Path | str, out: Path | str, **how: Any) -> None:
    """Writes a run's newest parameters under the released names.

    Args:
      folder: of the run.
      out: a file `*.safetensors`, or a folder, which gets shards, sizes and the tokenizer.
      **how: `dtype` and `max_bytes`, see `weights.save`.

    Raises:
      FileNotFoundError, CheckpointError: see `train.load`.
      ValueError: the softmax baseline, or options that no released checkpoint has.
      FileExistsError: `out` is a folder that holds weights.
    """
    cfg, lm, params, words = training.load(folder)
    if cfg.architecture != "tnl":
        raise ValueError(f"architecture must be tnl to be exported; got {cfg.architecture}.")
    sized = training.sized(cfg, lm.vocab_size)
    weights.save(out, sized, params, **how)
    if Path(out).is_dir():
        words.save(Path(out) / "tokenizer.json")
