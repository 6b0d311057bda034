"""What of UniVL is re-measured: words that find videos, and words written for them."""

import dataclasses

import numpy as np

from jaxml.core import config
from jaxml.report.recipe import Context, Figure, Outcome, Recipe, Sample
from jaxml.univilm import claims, evaluate, moving, pictures, plans, study, words
from jaxml.univilm.config import PRESETS, Setting
from jaxml.univilm.h100 import base
from jaxml.univilm.study import Material, Study, StudyConfig


def run(cfg: StudyConfig, context: Context) -> Outcome:
    """Trains the extractor, pre-trains, fine-tunes, scores on the 200 unseen combinations."""
    seeds = tuple(context.seed + s for s in cfg.seeds)
    cfg = dataclasses.replace(cfg, seeds=seeds)
    folder = context.folder / config.fingerprint(cfg)
    folder.mkdir(parents=True, exist_ok=True)
    found = study.material(cfg, folder, say=context.say)
    jobs = Study(cfg, found, folder, together=context.scale == "h100")
    stages = cfg.setting.stages
    if context.scale == "h100":
        joint = stages["joint"]
        jobs.run(plans.gpu_plan(stages, joint.batch_size * joint.n_pair), context.say)
    else:
        jobs.run(plans.laptop_plan(stages), context.say)
    about = found.about
    why = "" if about.name == "mnist" else "MNIST is not here; set JAXML_DATA"
    figures = [f for f in (pictures.gains(jobs.rows), _clips(cfg, jobs, found)) if f]
    return Outcome(
        claims.verdicts(jobs.rows, context.scale, why),
        figures,
        [pictures.scores(jobs.rows)],
        _samples(cfg, jobs, found),
        [(about.name, about.where, about.sha256, about.licence)],
    )


def _said(cfg: StudyConfig, jobs: Study, found: Material, rows: np.ndarray) -> list[str]:
    p = jobs.params("caption", cfg.seeds[0])
    # All test clips, so that the compiled search of the scores serves again.
    ids = evaluate.caption(p, cfg.setting.model, found.test).ids
    return [words.decode(found.vocab, ids)[i] for i in rows]


def _samples(cfg: StudyConfig, jobs: Study, found: Material) -> list[Sample]:
    rows = np.arange(6)
    lines = [f"is      {found.captions[i]}\nwritten {text}"
             for i, text in zip(rows, _said(cfg, jobs, found, rows), strict=True)]  # fmt: skip
    return [Sample("Captions of clips of unseen combinations", "\n\n".join(lines))]


def _clips(cfg: StudyConfig, jobs: Study, found: Material) -> Figure:
    """Three queries and the clip that each finds first."""
    sim = evaluate.joint_scores(jobs.params("joint", cfg.seeds[0]), cfg.setting.model, found.test)
    rows, best = np.arange(3), sim[:3].argmax(1)
    frames = np.asarray(moving.render(*_test_frames(cfg, best)))[:, ::2]
    titles = [f"“{found.captions[i]}” {'found' if i == k else 'found instead: clip of'}"
              + ("" if i == k else f" “{found.captions[k]}”")
              for i, k in zip(rows, best, strict=True)]  # fmt: skip
    return pictures.strip(frames, titles, "univilm-found",
                          "The first clip that a caption finds among 200.")  # fmt: skip


def _test_frames(cfg: StudyConfig, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    digits = moving.digits("test")[0]
    videos = moving.make(moving.mmc_split()[1], digits, 200, 1)
    return digits.image[videos.digits[rows]], videos.path[rows]


def _tiny() -> StudyConfig:
    plans = tuple(dataclasses.replace(p, steps=3, batch_size=4) for p in PRESETS["laptop"].plans)
    small = dataclasses.replace(
        PRESETS["laptop"].model, width=16, num_heads=1, hidden=16, video_layers=1, cross_layers=1,
        decoder_layers=1,
    )  # fmt: skip
    return StudyConfig(Setting(small, 19, 10, plans), 24, 8, 0, 3, 2, 4, (0,))


RECIPE = Recipe(
    system="univilm",
    title="Finding and describing videos",
    about="Clips of two moving MNIST digits with captions of 720 combinations of digits, motions "
    "and speeds, 200 of them never trained on: MIL-NCE pre-training of text and video encoder, "
    "then captions from a tenth of the labels with and without it.",
    scales={"tiny": _tiny(), "laptop": StudyConfig(PRESETS["laptop"]), "h100": base()},
    run=run,
)
