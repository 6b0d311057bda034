"""What of contrastive pruning is re-measured: pruning with and without contrast, equal steps."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from jaxml.cap import claims, data, pictures, speed, study
from jaxml.cap import encoder as encoders
from jaxml.cap.config import PRESETS, ContrastConfig, PruneConfig, TuneConfig
from jaxml.cap.data import Task
from jaxml.cap.encoder import Encoder
from jaxml.cap.h100 import PROBES
from jaxml.cap.h100 import base as full_study
from jaxml.cap.importance import Masks
from jaxml.cap.study import Arm, StudyConfig
from jaxml.core import config
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.models.bert import BertConfig
from jaxml.report.recipe import Context, Outcome, Recipe

SMALL = BertConfig(512, 32, 2, 4, 64, 64)
"""The untrained encoder of a machine without the pre-trained one."""


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """One scale: the study, whether the real encoder and data are used, repeats of the timing."""

    study: StudyConfig
    real: bool = True
    repeats: int = 9


def run(cfg: RecipeConfig, context: Context) -> Outcome:
    """Fine-tunes, prunes by every arm, times the compacted model."""
    encoder, task, probes, why = inputs(cfg, context.scale)
    context.say(f"{task.name}: {len(task.train.label)} examples; {why or 'pre-trained encoder'}")
    shifted = dataclasses.replace(cfg.study, seeds=tuple(context.seed + s for s in cfg.study.seeds))
    folder = context.folder / config.fingerprint(shifted)
    rows = study.Rows(folder / "rows.jsonl")
    last: dict[str, Any] = {}
    kept = folder / "compact-masks.safetensors"

    def keep(name: str, found: study.Pruned) -> None:
        if isinstance(found.masks, Masks) and name.startswith("cap-structured"):
            last["masks"] = found.masks
            speed.save_masks(kept, found.masks)

    study.run(
        shifted, encoder, task, probes, rows, say=context.say, folder=folder / "phases", keep=keep
    )
    masks = last.get("masks") or (speed.load_masks(kept) if kept.exists() else None)
    speedup, tables, figures = None, [], [pictures.arms(rows.rows)]
    if masks is not None:
        times = speed.inference(encoder.params, encoder.cfg, masks, repeats=cfg.repeats)
        speedup = times["dense"].median / times["compact"].median
        tables.append(speed.table(times, encoder, masks))
        figures.append(pictures.living(masks))
    tables.insert(0, pictures.accuracies(rows.rows, f"Accuracy on {task.name}"))
    figures += [pictures.losses(r) for r in rows.rows if r.arm == "cap"][:1]
    return Outcome(
        _claims(rows.rows, speedup, context.scale, why),
        figures,
        tables,
        [],
        [(x.provenance.name, x.provenance.where, x.provenance.sha256, x.provenance.licence)
         for x in (task, *probes.values())],
    )  # fmt: skip


def _claims(rows: list[study.Row], speedup: float | None, scale: str, why: str) -> list[Any]:
    if scale == "h100" and not why:
        return claims.study(rows, speedup, scale)
    return claims.laptop(rows, speedup, scale, why)


def inputs(cfg: RecipeConfig, scale: str) -> tuple[Encoder, Task, dict[str, Task], str]:
    """Encoder, task, probed tasks, and why they are not the real ones if they are not.

    In this order: the task of the study, Reuters R8, generated opinions.
    """
    try:
        encoder, why = (encoders.load(), "") if cfg.real else (None, f"{scale} checks the code")
    except DataNotFoundError as error:
        encoder, why = None, str(error)
    if encoder is None:
        encoder = encoders.random(jax.random.key(0), SMALL)
        tokenize = data.words(SMALL.vocab_size)
    else:
        tokenize = data.wordpiece(encoder.folder or Path())
    names = (cfg.study.task, "r8", "generated") if cfg.real else ("generated",)
    for name in names:
        try:
            return encoder, _task(cfg, name, tokenize), _probes(cfg, name, tokenize), why
        except DataNotFoundError as error:
            why = why or str(error)
    raise AssertionError("the generated task is always there")


def _task(cfg: RecipeConfig, name: str, tokenize: data.Tokenize) -> Task:
    part = cfg.study
    return data.load(
        name, tokenize, max_len=part.max_len, num_train=part.num_train, num_valid=part.num_valid
    )


def _probes(cfg: RecipeConfig, name: str, tokenize: data.Tokenize) -> dict[str, Task]:
    if name != cfg.study.task:
        return {}
    return {n: data.load(n, tokenize, max_len=PROBES[n]) for n in cfg.study.probes}


def _structured(preset: str) -> tuple[Arm, ...]:
    return tuple(Arm(name, PRESETS[preset].prune) for name in ("kd", "cap"))


SCALES = {
    "tiny": RecipeConfig(
        StudyConfig(
            "generated",
            TuneConfig(8, 4, 3, 1e-3, 1e-3),
            ContrastConfig(extra=16),
            (*_structured("tiny"), Arm("cap", PruneConfig("movement", 0.1, 2))),
            structured_steps=3,
            max_len=16,
            num_train=64,
            num_valid=32,
        ),
        real=False,
        repeats=3,
    ),
    "laptop": RecipeConfig(
        StudyConfig(
            "sst2",
            PRESETS["laptop"].tune,
            ContrastConfig(extra=1024),
            _structured("laptop"),
            structured_steps=40,
            max_len=32,
            num_train=2000,
            num_valid=256,
        )
    ),
    "h100": RecipeConfig(full_study(), repeats=15),
}

RECIPE = Recipe(
    system="cap",
    title="Contrastive pruning",
    about="A pre-trained sentence encoder is fine-tuned on SST-2 and pruned to half of its heads "
    "and neurons, with distillation alone and with contrast to what it was before, in equal steps.",
    scales=SCALES,
    run=run,
)
