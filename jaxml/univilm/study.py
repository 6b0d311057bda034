"""A study on captioned Moving-MNIST: runs that start from each other, each scored and kept."""

import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, files, lines, tree, weights
from jaxml.core.types import Array, PyTree
from jaxml.inputs.source import Provenance
from jaxml.univilm import evaluate, frames, metric, model, moving, together, train, words
from jaxml.univilm.clips import Clips, checked
from jaxml.univilm.config import Setting, TrainConfig, UniVLConfig

Part = Literal["all", "labelled", "narrated"]


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """How much of what.

    Attributes:
      setting: model and stages.
      num_clips: captioned clips of the 520 combinations.
      num_labelled: those of them that fine-tuning with few labels sees.
      num_videos: narrated videos of pre-training.
      extractor_steps: of the frame features.
      extractor_base: its width.
      extractor_batch: frames a step.
      seeds: of runs.
      validate: split the training combinations and score on a fifth of them, with digits that the
        extractor has not seen, in place of the test; this is how settings were chosen.
    """

    setting: Setting
    num_clips: int = 2600
    num_labelled: int = 260
    num_videos: int = 0
    extractor_steps: int = 400
    extractor_base: int = 16
    extractor_batch: int = 64
    seeds: tuple[int, ...] = (0, 1, 2)
    validate: bool = False

    def __post_init__(self):
        check.positive(num_clips=self.num_clips, num_labelled=self.num_labelled)
        check.at_least(0, num_videos=self.num_videos)
        check.positive(extractor_steps=self.extractor_steps, seeds=len(self.seeds))
        check.between(1, self.num_clips, num_labelled=self.num_labelled)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
      name: unique in its plan.
      stage: what is trained.
      part: on which clips.
      start: the run whose result it begins with; "": drawn parameters.
      scores: "retrieval", "align", "caption", "swapped" (videos of the test in another order) and
        "noise" (captions of the test replaced).
      seeds: how many; None: all.
    """

    name: str
    stage: TrainConfig
    part: Part = "all"
    start: str = ""
    scores: tuple[str, ...] = ()
    seeds: int | None = None


class Material(NamedTuple):
    """Clips by part, rows of the labelled among all, and what is scored.

    Attributes:
      parts: clips by name: "all", "labelled", "narrated".
      few: rows of the labelled among all.
      test: clips to score on.
      captions: theirs, as texts.
      vocab: of all texts.
      about: where the digits are from.
    """

    parts: dict[str, Clips]
    few: np.ndarray
    test: Clips
    captions: tuple[str, ...]
    vocab: words.Words
    about: Provenance


def vocabulary() -> words.Words:
    """All words of the grammar of MMC-720 and of narration."""
    return words.Words.of([*map(moving.caption, moving.mmc720()), *moving.FILLERS])


def _split(cfg: StudyConfig) -> tuple[list[Any], list[Any]]:
    trained, test = moving.mmc_split()
    return (trained[104:], trained[:104]) if cfg.validate else (trained, test)


def material(
    cfg: StudyConfig, folder: Path | None = None, seed: int = 0, say: Callable[[str], None] = print
) -> Material:
    """Renders, extracts features (kept in `folder`), encodes texts."""
    train_digits, about = moving.digits("train")
    if cfg.validate:
        n = len(train_digits.label) * 9 // 10
        test_digits = moving.Digits(train_digits.image[n:], train_digits.label[n:])
        train_digits = moving.Digits(train_digits.image[:n], train_digits.label[:n])
    else:
        test_digits = moving.digits("test")[0]
    trained, unseen = _split(cfg)
    made = {"all": moving.make(trained, train_digits, cfg.num_clips, seed)}
    said, item = {}, {}
    if cfg.num_videos:
        told = moving.narrate(trained, train_digits, cfg.num_videos, seed)
        made["narrated"], said["narrated"], item["narrated"] = told.videos, told.said, told.item
    made["test"] = moving.make(unseen, test_digits, len(unseen), seed + 1)
    extractor = _extractor(cfg, train_digits, folder, seed, say)
    vocab, parts = vocabulary(), {}
    for name, videos in made.items():
        images = test_digits if name == "test" else train_digits
        feats = _kept(folder, name, functools.partial(frames.of_videos, extractor, videos, images))
        # Of a narrated video nobody wrote captions: what is said is all there is.
        text = words.encode(vocab, said.get(name, videos.caption), cfg.setting.max_words)
        num = np.full(len(feats), feats.shape[1], np.int32)
        items = item.get(name, np.arange(len(feats)))
        parts[name] = checked(Clips(feats, num, text, text, items))
    test = parts.pop("test")
    few = np.sort(np.random.default_rng(seed).permutation(cfg.num_clips)[: cfg.num_labelled])
    parts["labelled"] = parts["all"].rows(few)
    return Material(parts, few, test, made["test"].caption, vocab, about)


def _extractor(
    cfg: StudyConfig, digits: moving.Digits, folder: Path | None, seed: int,
    say: Callable[[str], None],
) -> PyTree:  # fmt: skip
    path = None if folder is None else folder / "frames.safetensors"
    if path is not None and path.exists():
        return frames.load(path)
    begun = time.monotonic()
    made = frames.train(digits, base=cfg.extractor_base, steps=cfg.extractor_steps,
                        batch_size=cfg.extractor_batch, seed=seed)  # fmt: skip
    if path is not None:
        frames.save(path, made)
    say(f"frame features: {cfg.extractor_steps} steps in {time.monotonic() - begun:.0f} s")
    return made


def _kept(folder: Path | None, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    path = None if folder is None else folder / f"features-{name}.npy"
    if path is not None and path.exists():
        return np.load(path, allow_pickle=False)
    feats = make()
    if path is not None:
        with files.aside(path) as part, part.open("wb") as out:
            np.save(out, feats)
    return feats


class Rows:
    """Scores of runs, in memory and as lines of JSON: `{"name", "seed", score: value}`."""

    def __init__(self, path: Path | None):
        self.path, self.rows = path, [] if path is None else lines.read(path)

    def add(self, row: dict[str, Any]) -> None:
        """Appends one."""
        self.rows.append(row)
        if self.path is not None:
            lines.append(self.path, row)

    def of(self, name: str, score: str) -> dict[int, float]:
        """Values of a score by seed."""
        return {r["seed"]: r[score] for r in self.rows if r["name"] == name and score in r}

    def has(self, name: str, seed: int) -> bool:
        """Whether a run is done."""
        return any((r["name"], r["seed"]) == (name, seed) for r in self.rows)


def score(
    kinds: Sequence[str], stage: TrainConfig, p: PyTree, cfg: UniVLConfig, found: Material
) -> dict[str, float]:
    """Values by name, e.g. "r1", "align_r1", "bleu4", "swapped_r1", "changed"."""
    test, result = found.test, {}
    if {"retrieval", "swapped"} & set(kinds):
        cosine = stage.stage == "retrieval" and not stage.use_mil
        sim = evaluate.joint_scores(p, cfg, test, cosine=cosine)
        result |= metric.retrieval_metrics(sim)._asdict()
        if "swapped" in kinds:
            order = np.random.default_rng(3).permutation(len(sim))
            result["swapped_r1"] = metric.retrieval_metrics(sim[:, order]).r1
    if "align" in kinds:
        sim = evaluate.align_scores(p, cfg, test)
        result |= {f"align_{k}": v for k, v in metric.retrieval_metrics(sim)._asdict().items()}
    if {"caption", "noise"} & set(kinds):
        said = evaluate.caption(p, cfg, test)
        texts = words.decode(found.vocab, said.ids)
        result |= metric.caption_scores(texts, [[c] for c in found.captions])._asdict()
        if "noise" in kinds:
            noise = np.random.default_rng(4).integers(5, cfg.vocab_size, test.caption.shape)
            other = test._replace(caption=noise.astype(np.int32), text=noise.astype(np.int32))
            result["changed"] = int((evaluate.caption(p, cfg, other).ids != said.ids).sum())
    return {k: float(v) for k, v in result.items()}


class Study:
    """Runs a plan; results lie in `folder` and are not made twice.

    Args:
      cfg: how much of what.
      found: `material` of it.
      folder: of results; None: they are kept in memory.
      together: train all seeds of a run side by side in one program, for a GPU.
    """

    def __init__(
        self, cfg: StudyConfig, found: Material, folder: Path | None = None, *,
        together: bool = False,
    ):  # fmt: skip
        self.cfg, self.found, self.folder, self.together = cfg, found, folder, together
        self._data: dict[str, dict[str, Array]] = {}
        self._lock = threading.Lock()
        self.rows = Rows(None if folder is None else folder / "rows.jsonl")
        self._params: dict[str, PyTree] = {}

    def run(
        self, plan: Sequence[Run], say: Callable[[str], None] = print, until: float = float("inf")
    ) -> None:
        """Every run and seed; none is begun after `until` (of `time.monotonic`)."""
        if not self.together:
            for one in plan:
                for seed in self._left(one):
                    if not self._some(one, [seed], say, until):
                        return
            return
        # A run waits for the one it starts from, which stands before it; while one program is
        # compiled, another trains.
        with futures.ThreadPoolExecutor(10) as pool:
            jobs: dict[str, futures.Future[None]] = {}
            for one in plan:
                jobs[one.name] = pool.submit(self._after, jobs.get(one.start), one, say, until)
            for job in jobs.values():
                job.result()

    def _left(self, one: Run) -> list[int]:
        return [s for s in self.cfg.seeds[: one.seeds] if not self.rows.has(one.name, s)]

    def _after(
        self, start: futures.Future[None] | None, one: Run, say: Callable[[str], None], until: float
    ) -> None:
        if start is not None:
            start.result()
        if one.start and not self.rows.has(one.start, self.cfg.seeds[0]):
            return  # its start was out of time
        if left := self._left(one):
            self._some(one, left, say, until)

    def _some(
        self, one: Run, seeds: list[int], say: Callable[[str], None], until: float
    ) -> bool:  # fmt: skip
        cfg, begun = self.cfg.setting.model, time.monotonic()
        if begun > until:
            say(f"out of time before {one.name}, seeds {seeds}")
            return False
        starts = [self.params(one.start, s) if one.start else model.init(jax.random.key(s), cfg)
                  for s in seeds]  # fmt: skip
        for seed, p in zip(seeds, self._fit(one, seeds, starts), strict=True):
            found = score(one.scores, one.stage, p, cfg, self.found)
            row = {"name": one.name, "seed": seed, **found}
            row["seconds"] = round(time.monotonic() - begun, 1)  # since all of them began
            self.keep(one.name, seed, p)
            with self._lock:
                self.rows.add(row)
            shown = {k: round(v, 2) for k, v in row.items() if k not in ("name", "seed", "num")}
            say(f"{one.name}, seed {seed}: {shown}")
        return True

    def _fit(self, one: Run, seeds: list[int], starts: list[PyTree]) -> list[PyTree]:
        cfg, clips = self.cfg.setting.model, self.found.parts[one.part]
        if not self.together:
            stages = (dataclasses.replace(one.stage, seed=s) for s in seeds)
            return [train.fit(cfg, stage, start, clips)
                    for stage, start in zip(stages, starts, strict=True)]  # fmt: skip
        few = one.part == "labelled"
        bank = "all" if few else one.part
        with self._lock:
            if bank not in self._data:
                self._data[bank] = together.put(self.found.parts[bank])
        place = self.found.few if few else None
        return together.fit(cfg, one.stage, starts, seeds, clips, self._data[bank], place)

    def keep(self, name: str, seed: int, p: PyTree) -> None:
        """Remembers parameters, in memory or as safetensors."""
        if self.folder is None:
            self._params[f"{name}-{seed}"] = p
        else:
            weights.write(self.folder / f"{name}-{seed}.safetensors", tree.flatten(p))

    def params(self, name: str, seed: int) -> PyTree:
        """Parameters of a run; those of the first seed where it was run with that alone."""
        seeds = [s for s in (seed, self.cfg.seeds[0]) if self.rows.has(name, s)]
        if not seeds:
            raise ValueError(f"start must be a run that is done; got {name!r}.")
        key = f"{name}-{seeds[0]}"
        if self.folder is None:
            return self._params[key]
        found = weights.read(self.folder / f"{key}.safetensors")
        return tree.unflatten({n: jnp.asarray(x) for n, x in found.items()})
