"""What of Emu is re-measured: intents of sentences in eleven languages, with labels in English."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxml.core import config, files
from jaxml.emu import claims, data, model, pictures, study
from jaxml.emu.config import PRESETS
from jaxml.emu.data import Corpus
from jaxml.emu.encoder import Encoder
from jaxml.emu.inputs import Inputs
from jaxml.emu.laser import LaserConfig, laser_lstm
from jaxml.emu.rows import Row, Rows
from jaxml.emu.scope import Scope, ScopeConfig, measure
from jaxml.emu.study import StudyConfig
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.report.recipe import Context, Figure, Outcome, Recipe, Table

SMALL = LaserConfig(256, 16, 8, 1)
"""The untrained encoder of a machine without a pre-trained one."""


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """One scale.

    Attributes:
      study: what is compared.
      tasks: pairs of encoder and corpus ("toy" needs nothing); the first one is drawn.
      scope: rejection on CLINC150; None: not measured.
    """

    study: StudyConfig
    tasks: tuple[tuple[str, str], ...] = (("use", "xsid"),)
    scope: ScopeConfig | None = None


def task(encoder: str, corpus: str) -> tuple[Encoder, Corpus, str]:
    """Encoder, corpus, and why they are not the real ones if they are not."""
    try:
        if corpus == "toy":
            raise DataNotFoundError("this scale checks the code")
        return model.encoder_named(encoder), data.load(corpus), ""
    except DataNotFoundError as error:
        why = str(error)
    return laser_lstm(jax.random.key(0), SMALL, 12), data.toy(), why


def run(cfg: RecipeConfig, context: Context) -> Outcome:
    """Specialises by every arm and seed, scores every language; then rejection."""
    seeds = tuple(context.seed + s for s in cfg.study.seeds)
    cfg = dataclasses.replace(cfg, study=dataclasses.replace(cfg.study, seeds=seeds))
    folder = context.folder / config.fingerprint(cfg)
    found: dict[str, Rows] = {}
    figures, tables, sources, why = list[Figure](), list[Table](), [], ""
    for names in cfg.tasks:
        encoder, corpus, lacking = task(*names)
        inputs, rows = _studied(cfg.study, encoder, corpus, folder, context, lacking)
        if not found:
            figures += [pictures.bars(rows), *_pictures(_drawn(folder), inputs)]
            why = lacking
        found[rows.path.stem] = rows
        title = f"Intents of {corpus.name}, {encoder.name}"
        tables.append(pictures.accuracies(rows, encoder.languages, title))
        about = corpus.provenance
        sources.append((about.name, about.where, about.sha256, about.licence))
    scopes = _scopes(cfg, folder, context) if cfg.scope and not why else []
    tables += [pictures.rejection(scopes)] if scopes else []
    return Outcome(
        claims.verdicts(found, context.scale, why, scopes), figures, tables, [],
        list(dict.fromkeys(sources)),
    )  # fmt: skip


def _studied(
    plan: StudyConfig, encoder: Encoder, corpus: Corpus, folder: Path, context: Context, why: str
) -> tuple[Inputs, Rows]:
    used = study.labelled(corpus, plan.per_class)
    context.say(f"{corpus.name}: {len(used.text)} labelled sentences; {why or encoder.name}")
    inputs = Inputs(encoder, corpus, used, plan.emu.trainable, folder=context.folder / "features")
    rows, drawn = Rows(folder / f"{corpus.name}-{encoder.name}.jsonl"), _drawn(folder)

    def keep(row: Row, found: Any) -> None:
        if row.arm == claims.FINAL and row.seed == plan.seeds[0] and not drawn.exists():
            _remember(drawn, inputs, found)

    study.run(plan, inputs, rows, say=context.say, keep=keep)
    return inputs, rows


def _scopes(cfg: RecipeConfig, folder: Path, context: Context) -> list[Scope]:
    """Rejection for every seed, each kept; none where the data is not here."""
    assert cfg.scope is not None
    encoder, corpus, why = task(cfg.tasks[0][0], "clinc150")
    if why:
        context.say(why)
        return []
    scope, kept, found = cfg.scope, folder / "scope.json", []
    features = context.folder / "features"
    for seed in cfg.study.seeds:

        def one(seed: int = seed) -> Scope:
            return measure(encoder, corpus, scope, seed, features)

        found.append(Scope(*study.chosen(kept, str(seed), one)))
        context.say(f"clinc150 {seed}: AUROC {found[-1].auroc:.1f} % (original "
                    f"{found[-1].auroc_before:.1f} %)")  # fmt: skip
    return found


def _drawn(folder: Path) -> Path:
    return folder / "pictures.npz"


def _remember(path: Path, made: Inputs, found: Any) -> None:
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


def _pictures(path: Path, made: Inputs) -> list[Figure]:
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as kept:
        shown = pictures.maps(
            kept["before"], kept["after"], kept["label"], kept["lang"],
            [str(x) for x in kept["names"]], made.corpus.labels,
        )  # fmt: skip
        steps = [{"step": float(s), "disc_accuracy": float(a)} for s, a in kept["steps"]]
    if steps:
        shown.append(pictures.curves(steps, len(made.corpus.languages)))
    return shown


_ALONE = dataclasses.replace(PRESETS["laptop"], lambda_adv=0.0, steps=300)
SCALES: Mapping[str, RecipeConfig] = {
    "tiny": RecipeConfig(
        StudyConfig(
            PRESETS["tiny"], per_class=5, seeds=(0,), arms=("l2+center", "targeted", "guessed"),
            lambdas=(0.3,),
        ),
        (("laser", "toy"),),
    ),
    "laptop": RecipeConfig(
        StudyConfig(PRESETS["laptop"], lambdas=(0.3, 1.0, 2.0)), scope=ScopeConfig(_ALONE)
    ),
    "h100": RecipeConfig(
        study.LARGE, (("use", "xsid"), ("e5", "xsid"), ("use", "mtod")), ScopeConfig(_ALONE)
    ),
}  # fmt: skip
"""The scale "h100" is what `python -m jaxml.emu.h100` runs from packed data, study by study."""

RECIPE = Recipe(
    system="emu",
    title="Semantic specialisation of sentence embeddings",
    about="USE-multilingual is specialised with 1,920 English sentences of 16 intents and "
    "unlabelled ones of eleven other languages (xSID), by seven ways with equal steps; every "
    "language is scored by its nearest neighbours, within it and in English. A model of CLINC150's "
    "150 intents rejects what is none of them.",
    scales=SCALES,
    run=run,
)
