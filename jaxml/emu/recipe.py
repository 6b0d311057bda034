"""What of Emu is re-measured: intents of sentences in eleven languages, with labels in English."""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxml.core import config, files
from jaxml.emu import claims, data, model, pictures, study
from jaxml.emu.config import PRESETS
from jaxml.emu.data import Corpus
from jaxml.emu.encoder import Encoder
from jaxml.emu.laser import LaserConfig, laser_lstm
from jaxml.emu.study import StudyConfig
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.report.recipe import Context, Outcome, Recipe

SMALL = LaserConfig(256, 16, 8, 1)
"""The untrained encoder of a machine without a pre-trained one."""


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """One scale: the study, the encoder and the corpus ("toy" needs nothing)."""

    study: StudyConfig
    encoder: str = "use"
    corpus: str = "xsid"


def inputs(cfg: RecipeConfig) -> tuple[Encoder, Corpus, str]:
    """Encoder, corpus, and why they are not the real ones if they are not."""
    try:
        if cfg.corpus == "toy":
            raise DataNotFoundError("this scale checks the code")
        return model.encoder_named(cfg.encoder), data.load(cfg.corpus), ""
    except DataNotFoundError as error:
        why = str(error)
    return laser_lstm(jax.random.key(0), SMALL, 12), data.toy(), why


def run(cfg: RecipeConfig, context: Context) -> Outcome:
    """Specialises by every arm and seed, scores every language."""
    encoder, corpus, why = inputs(cfg)
    seeds = tuple(context.seed + s for s in cfg.study.seeds)
    plan = dataclasses.replace(cfg.study, seeds=seeds)
    folder = context.folder / config.fingerprint(dataclasses.replace(cfg, study=plan))
    rows = study.Rows(folder / f"{corpus.name}-{encoder.name}.jsonl")
    used = study.labelled(corpus, plan.per_class)
    context.say(f"{corpus.name}: {len(used.text)} labelled sentences; {why or encoder.name}")
    made = study.Inputs(encoder, corpus, used, plan.emu.trainable)
    drawn = folder / "pictures.npz"

    def keep(row: study.Row, found: Any) -> None:
        if row.arm == "targeted" and row.seed == seeds[0]:
            _remember(drawn, made, found)

    study.run(plan, made, rows, say=context.say, keep=keep)
    about = corpus.provenance
    return Outcome(
        claims.verdicts(rows, context.scale, why),
        [pictures.bars(rows), *_pictures(drawn, made)],
        [pictures.accuracies(rows, encoder.languages, f"Intents of {corpus.name}, {encoder.name}")],
        [],
        [(about.name, about.where, about.sha256, about.licence)],
    )


def _remember(path: Any, made: study.Inputs, found: Any) -> None:
    """What the pictures need, so that a run that goes on has them."""
    lang = [x for x in ("en", "de", "da") if x in made.corpus.test]
    rows = slice(120)
    before, after = (
        np.concatenate([made.embed(f"test/{x}", p)[rows] for x in lang])
        for p in (None, found.params)
    )
    label = np.concatenate([made.corpus.test[x].label[rows] for x in lang])
    which = np.repeat(np.arange(len(lang)), [len(made.corpus.test[x].label[rows]) for x in lang])
    kept = [r for r in found.curve if "disc_accuracy" in r]
    steps = np.array([[r["step"], r["disc_accuracy"]] for r in kept], np.float64).reshape(-1, 2)
    with files.aside(path) as part, part.open("wb") as out:
        np.savez(out, before=before, after=after, label=label, lang=which, steps=steps,
                 names=np.array(lang))  # fmt: skip


def _pictures(path: Any, made: study.Inputs) -> list[Any]:
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as kept:
        shown = pictures.maps(
            kept["before"], kept["after"], kept["label"], kept["lang"],
            [str(x) for x in kept["names"]],
        )  # fmt: skip
        steps = [{"step": float(s), "disc_accuracy": float(a)} for s, a in kept["steps"]]
    if steps:
        shown.append(pictures.curves(steps, len(made.corpus.languages)))
    return shown


SCALES = {
    "tiny": RecipeConfig(
        StudyConfig(
            PRESETS["tiny"], per_class=5, seeds=(0,), arms=("l2+center", "targeted"),
            lambdas=(0.3,),
        ),
        corpus="toy",
    ),
    "laptop": RecipeConfig(StudyConfig(PRESETS["laptop"], lambdas=(0.3, 1.0, 2.0))),
}  # fmt: skip

RECIPE = Recipe(
    system="emu",
    title="Semantic specialisation of sentence embeddings",
    about="USE-multilingual is specialised with 1,920 English sentences of 16 intents and "
    "unlabelled ones of eleven other languages (xSID), by six losses with equal steps; every "
    "language is scored by its nearest neighbours, within it and in English.",
    scales=SCALES,
    run=run,
)
