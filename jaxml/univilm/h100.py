"""The study on a GPU, from a bare command line: `python -m jaxml.univilm.h100 OUT`.

Needs jax, numpy, optax, flax, safetensors, orbax and MNIST (JAXML_DATA; without it, drawn digits).
Call it again with the same OUT to go on: runs that are done are not made again.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import jax

from jaxml.core import config, files
from jaxml.report import environment
from jaxml.report.progress import BEGUN, say
from jaxml.univilm import plans, study
from jaxml.univilm.config import PRESETS, Setting
from jaxml.univilm.study import Study, StudyConfig


def base() -> StudyConfig:
    """60,000 captioned clips, a tenth of them for few labels, 6,000 narrated videos."""
    return StudyConfig(PRESETS["h100"], 60_000, 6_000, 6_000, 4_000, 48, 256)


def smaller(cfg: StudyConfig, share: float) -> StudyConfig:
    """The same study with fewer clips and steps, and `tiny` blocks: to try the script."""
    setting = cfg.setting
    model = dataclasses.replace(
        setting.model, width=32, num_heads=1, hidden=32, text_layers=1, video_layers=1,
        decoder_layers=1, dtype="float32",
    )  # fmt: skip
    stages = tuple(
        dataclasses.replace(stage, steps=max(int(stage.steps * share), 2), batch_size=4)
        for stage in setting.plans
    )
    made = Setting(model, setting.max_words, setting.max_frames, stages)
    clips, few, videos, steps = (
        max(int(n * share), 24)
        for n in (cfg.num_clips, cfg.num_labelled, cfg.num_videos, cfg.extractor_steps)
    )
    return StudyConfig(made, clips, few, videos, steps, 4, 8, cfg.seeds, cfg.validate)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("out", type=Path, help="rows.jsonl, study.json come here")
    add("--work", type=Path, help="parameters and features (default: OUT)")
    add("--minutes", type=float, default=8.0, help="no run is begun later than this")
    add("--seeds", type=int, default=3)
    add("--share", type=float, default=1.0, help="below 1: a small model and so much of all")
    add("--validate", action="store_true", help="score on unseen training combinations")
    add("--only", nargs="*", help="names of runs")
    return parser.parse_args()


def main() -> None:
    """Parses the flags, makes the data, runs the plan, writes what was found."""
    args = _arguments()
    say(f"{jax.devices()}, jax {jax.__version__}")
    cfg = dataclasses.replace(base(), seeds=tuple(range(args.seeds)), validate=args.validate)
    if args.share < 1:
        cfg = smaller(cfg, args.share)
    work = args.work or args.out
    for folder in (work, args.out):
        folder.mkdir(parents=True, exist_ok=True)
    made = work / "study.json"
    if made.exists():
        config.check_same(cfg, config.load(StudyConfig, made), work)
    config.save(cfg, made)
    found = study.material(cfg, work, say=say)
    say(f"{found.about.name}: {', '.join(f'{k} {len(c.item)}' for k, c in found.parts.items())}")
    joint = cfg.setting.stages["joint"]
    plan = plans.gpu_plan(cfg.setting.stages, joint.batch_size * joint.n_pair)
    if args.only:
        plan = [one for one in plan if one.name in args.only]
    jobs = Study(cfg, found, work, together=True)
    jobs.run(plan, say, BEGUN + 60 * args.minutes)
    about = {**environment.describe(), "data": dataclasses.asdict(found.about)}
    files.write_text(args.out / "environment.json", json.dumps(about, indent=1) + "\n")
    files.write_text(args.out / "rows.jsonl", "".join(json.dumps(r) + "\n" for r in jobs.rows.rows))
    files.write_text(args.out / "study.json", made.read_text())
    say(f"{len(jobs.rows.rows)} rows in {args.out}")


if __name__ == "__main__":
    main()
