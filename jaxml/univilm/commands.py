"""`jaxml univilm pretrain`, `finetune`, `caption` and `retrieve`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxml.core import check, config
from jaxml.core import weights as tensors
from jaxml.core.types import PyTree
from jaxml.dist import mesh
from jaxml.univilm import (
    evaluate,
    index,
    metric,
    model,
    saved,
    sources,
    train,
    words,
)
from jaxml.univilm import weights as names
from jaxml.univilm.clips import Clips
from jaxml.univilm.config import PRESETS, TrainConfig
from jaxml.univilm.saved import Saved

type Task = Literal["retrieval", "retrieval_align", "caption"]


def _changed(plan: TrainConfig, steps: int | None, batch_size: int | None, lr: float | None,
             seed: int) -> TrainConfig:  # fmt: skip
    given = {"steps": steps, "batch_size": batch_size, "lr": lr}
    kept = {name: value for name, value in given.items() if value is not None}
    if batch_size is not None:
        kept["accumulate"] = 1
    return dataclasses.replace(plan, seed=seed, **kept)


def _run(plan: TrainConfig, made: sources.Source, p: PyTree, out: Path, devices: int) -> PyTree:
    folder = out / plan.stage
    path = folder / "config.json"
    if path.exists():
        config.check_same(plan, config.load(TrainConfig, path), folder)
    config.save(plan, path)
    many = (
        mesh.make(mesh.MeshConfig(data=devices), jax.devices()[:devices]) if devices > 1 else None
    )
    return train.fit(made.setting.model, plan, p, made.train, folder, mesh=many)


def pretrain(
    out: Annotated[Path, tyro.conf.Positional],
    /,
    data: str = "moving",
    preset: str = "laptop",
    stages: tuple[Literal["joint", "full"], ...] = ("joint", "full"),
    bert: Path | None = None,
    weights: Path | None = None,
    fps: float = 1.0,
    clips: int = 2600,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    devices: int = 1,
    seed: int = 0,
) -> None:
    """Pre-trains in two stages (StagedP) on narrated videos; goes on after an interruption.

    Args:
      out: folder of the model.
      data: moving, kitti, or a folder of features and captions.json (its narration, if it has
        one); `vocab.txt` of BERT in it is used, else its own words.
      preset: tiny, laptop, h100, youcook2 or msrvtt.
      stages: joint (two encoders, MIL-NCE), then full (all five objectives).
      bert: folder or file of BERT's safetensors for the text encoder.
      weights: safetensors of the authors' model, by its names.
      fps: features a second.
      clips: of moving.
      steps: of each stage, in place of the preset's.
      batch_size: videos a step, likewise.
      lr: likewise.
      devices: that a batch is split over.
      seed: of everything.
    """
    check.one_of(PRESETS, preset=preset)
    kind = "narration" if data == "moving" or _has_narration(data) else "clips"
    made = sources.gather(data, PRESETS[preset], out, None, fps, kind, clips)
    cfg = made.setting.model
    p = model.init(jax.random.key(seed), cfg)
    if bert is not None:
        p = names.load_bert(cfg, p, bert)
    if weights is not None:
        p = names.import_tensors(cfg, tensors.read(weights), p)
    for stage in stages:
        plan = _changed(made.setting.stages[stage], steps, batch_size, lr, seed)
        p = _run(plan, made, p, out, devices)
        print(f"{stage}: {plan.steps} steps of {plan.batch_size} videos x {plan.n_pair} clips")
        _keep(out, made, p)
    found = metric.retrieval_metrics(evaluate.joint_scores(p, cfg, made.test))
    print(f"by words, among {found.num} clips: {_told(found)}")


def _has_narration(data: str) -> bool:
    path = Path(data) / "captions.json"
    return path.is_file() and '"narration"' in path.read_text()


def _told(found: metric.Retrieval) -> str:
    return (f"R@1 {found.r1:.1f}, R@5 {found.r5:.1f}, R@10 {found.r10:.1f}, "
            f"median rank {found.median_rank:g}")  # fmt: skip


def _keep(out: Path, made: sources.Source, p: PyTree) -> None:
    saved.save(out, Saved(made.setting, p, made.vocab, made.extractor))


def finetune(
    task: Annotated[Task, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    /,
    start: Path | None = None,
    data: str = "moving",
    preset: str = "laptop",
    fps: float = 1.0,
    clips: int = 2600,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    devices: int = 1,
    seed: int = 0,
) -> None:
    """Fine-tunes for retrieval (two encoders or cross encoder) or captions, and scores.

    Args:
      task: retrieval, retrieval_align or caption.
      out: folder of the model.
      start: folder of a pre-trained model; None: drawn parameters.
      data: moving, kitti, or a folder of features and captions.json.
      preset: whose training is used, and whose sizes where there is no start.
      fps: features a second.
      clips: of moving.
      steps: in place of the preset's.
      batch_size: likewise.
      lr: likewise.
      devices: that a batch is split over.
      seed: of everything.
    """
    check.one_of(PRESETS, preset=preset)
    before = None if start is None else saved.load(start)
    setting = PRESETS[preset]
    if before is not None:
        setting = dataclasses.replace(before.setting, plans=setting.plans)
    made = sources.gather(
        data, setting, out, None if before is None else before.vocab, fps, "clips", clips
    )
    if before is not None and made.setting.model != before.setting.model:
        raise ValueError(f"{start} holds a model of other sizes than {data} needs.")
    cfg = made.setting.model
    p = model.init(jax.random.key(seed), cfg) if before is None else before.params
    plan = _changed(made.setting.stages[task], steps, batch_size, lr, seed)
    p = _run(plan, made, p, out, devices)
    if before is not None and before.extractor is not None:
        made = made._replace(extractor=before.extractor)
    _keep(out, made, p)
    _score(task, plan, made, p)


def _score(task: str, plan: TrainConfig, made: sources.Source, p: PyTree) -> None:
    cfg = made.setting.model
    if task == "caption":
        said = evaluate.caption(p, cfg, made.test, use_text=not plan.drop_text)
        texts = words.decode(made.vocab, said.ids)
        found = metric.caption_scores(texts, [[" ".join(words.split(c))] for c in made.captions])
        print(f"{found.num} clips: BLEU-4 {found.bleu4:.1f}, ROUGE-L {found.rouge_l:.1f}, "
              f"CIDEr-D {found.cider:.2f}, exact {found.exact:.1f} %")  # fmt: skip
        print(f"e.g. {texts[0]!r} for {made.captions[0]!r}")
    elif task == "retrieval":
        sim = evaluate.joint_scores(p, cfg, made.test, cosine=not plan.use_mil)
        print(f"among {len(sim)} clips: {_told(metric.retrieval_metrics(sim))}")
    else:
        sim = evaluate.align_scores(p, cfg, made.test)
        print(f"among {len(sim)} clips: {_told(metric.retrieval_metrics(sim))}")


def caption(
    folder: Annotated[Path, tyro.conf.Positional],
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    fps: float = 5.0,
    beams: int = 5,
    length_penalty: float = 0.0,
) -> None:
    """Writes a caption for each video file (or npy of features).

    Args:
      folder: of a model fine-tuned for captions.
      videos: files.
      fps: frames a second that are looked at.
      beams: of the search.
      length_penalty: see `beam_search`.
    """
    made = saved.load(folder)
    check.positive(videos=len(videos))
    most = made.setting.max_frames
    feats, num = [], []
    for path in videos:
        found, _, _ = index.features_of(made, path, fps)
        feats.append(np.pad(found[:most], ((0, most - min(len(found), most)), (0, 0))))
        num.append(min(len(found), most))
    text = np.zeros((len(videos), made.setting.max_words), np.int32)
    clips = Clips(np.stack(feats), np.array(num, np.int32), text, text, np.arange(len(videos)))
    out = evaluate.caption(made.params, made.setting.model, clips, beams=beams,
                           length_penalty=length_penalty)  # fmt: skip
    for path, said in zip(videos, words.decode(made.vocab, out.ids), strict=True):
        print(f"{path.name}\t{said}")


def retrieve(
    folder: Annotated[Path, tyro.conf.Positional],
    videos: Annotated[Path, tyro.conf.Positional],
    /,
    query: Sequence[str] = (),
    out: Path | None = None,
    fps: float = 5.0,
    top: int = 5,
    rebuild: bool = False,
) -> None:
    """Finds clips in a folder of videos by words; the folder is embedded once.

    Args:
      folder: of a model.
      videos: folder of video files or of npy features.
      query: what to look for.
      out: folder of the index (default: `.univilm` in that of the videos).
      fps: frames a second that are looked at.
      top: answers a query.
      rebuild: embed again.
    """
    made, where = saved.load(folder), out or videos / ".univilm"
    fresh = rebuild or not (where / "index.json").exists()
    found = index.build(made, videos, where, fps) if fresh else index.load(where)
    print(f"{len(found.video)} clips of {len(set(found.video))} videos in {where}")
    if not query:
        return
    for asked, hits in zip(query, index.search(made, found, query, top), strict=True):
        shown = Table("score", "video", "from, s", "to, s", "picture", title=asked)
        for hit in hits:
            picture = str(where / hit.thumb) if hit.thumb else "-"
            shown.add_row(f"{hit.score:.3f}", hit.video, f"{hit.start:.1f}", f"{hit.end:.1f}",
                          picture)  # fmt: skip
        Console(width=120).print(shown)
