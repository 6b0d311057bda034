"""A pipeline as data: stages with their settings, read from TOML; what each does to texts."""

import dataclasses
import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import check, config
from jaxml.curate import (
    classify,
    contaminate,
    duplicates,
    filters,
    lines,
    neighbours,
    pii,
    repeats,
    sample,
    url,
    web,
)
from jaxml.curate.dedup import MinHashConfig
from jaxml.curate.work import Work

type Verdicts = tuple[list[str], list[str]]
"""The texts, rewritten or not, and the reason why each goes ("" where it stays)."""
type TextStage = Callable[[Sequence[str]], Verdicts]


@dataclasses.dataclass(frozen=True)
class NoConfig:
    """A stage without settings."""


@dataclasses.dataclass(frozen=True)
class UnwrapConfig:
    """See `lines.unwrap`."""

    min_width: int = 50


@dataclasses.dataclass(frozen=True)
class ParagraphConfig:
    """See `lines.mc4_paragraphs`."""

    min_lines: int = 3
    min_length: int = 200


@dataclasses.dataclass(frozen=True)
class BadWordsConfig:
    """See `lines.bad_words`; `path` holds one word a line."""

    path: str
    keep_fraction: float = 0.0
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class ContaminationConfig:
    """See `contaminate.index`; `path` holds JSON lines with task, query and label."""

    path: str
    ngram: int = 12
    max_hits: int = 0


@dataclasses.dataclass(frozen=True)
class ScoreConfig:
    """Keeps texts whose class `label` of a stored classifier has at least probability `least`."""

    path: str
    label: int = 1
    least: float = 0.5


def _each(decide: Callable[..., filters.Decision]) -> Callable[[Any], TextStage]:
    def build(cfg: Any) -> TextStage:
        def stage(texts: Sequence[str]) -> Verdicts:
            decided = [decide(text, cfg) for text in texts]
            return [d.text for d in decided], [d.reason for d in decided]

        return stage

    return build


def _spread(decide: Callable[..., filters.Decision]) -> Callable[[Any], TextStage]:
    return _each(lambda text, cfg: decide(text, **dataclasses.asdict(cfg)))


def _nonempty(text: str, cfg: NoConfig) -> filters.Decision:
    return filters.Decision(bool(text.strip()), "" if text.strip() else "empty", text)


def _redact(text: str, cfg: NoConfig) -> filters.Decision:
    return filters.Decision(True, "", pii.redact(text).text)


def _unwrap(text: str, cfg: UnwrapConfig) -> filters.Decision:
    return filters.Decision(True, "", lines.unwrap(text, cfg.min_width))


def _bad_words(cfg: BadWordsConfig) -> TextStage:
    words = [w.strip() for w in Path(cfg.path).read_text().splitlines() if w.strip()]
    return _each(lambda text, c: lines.bad_words(text, words, c.keep_fraction, c.seed))(cfg)


def _contamination(cfg: ContaminationConfig) -> TextStage:
    tasks: dict[str, list[tuple[str, str]]] = {}
    for number, line in enumerate(Path(cfg.path).read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            pair = (row.get("query", ""), row["label"])
        except (ValueError, KeyError, AttributeError):
            raise ValueError(f"{cfg.path}:{number} must be JSON with query and label.") from None
        tasks.setdefault(row.get("task", "test"), []).append(pair)
    tests = contaminate.index(tasks, cfg.ngram)

    def stage(texts: Sequence[str]) -> Verdicts:
        found = contaminate.match(texts, tests)
        names = [tests.names[t] if t >= 0 else "" for t in found.task]
        over = found.hits > cfg.max_hits
        return list(texts), [f"leak_{n}" if o else "" for n, o in zip(names, over, strict=True)]

    return stage


def _score(cfg: ScoreConfig) -> TextStage:
    model = classify.load(cfg.path)

    def stage(texts: Sequence[str]) -> Verdicts:
        low = classify.score(model, texts)[:, cfg.label] < cfg.least
        return list(texts), np.where(low, "low_score", "").tolist()

    return stage


TEXT_STAGES: dict[str, tuple[type, Callable[[Any], TextStage]]] = {
    "empty": (NoConfig, _each(_nonempty)),
    "unwrap": (UnwrapConfig, _each(_unwrap)),
    "gopher_quality": (filters.GopherQualityConfig, _each(filters.gopher_quality)),
    "gopher_repetition": (filters.GopherRepetitionConfig, _each(filters.gopher_repetition)),
    "c4": (lines.C4Config, _each(lines.c4)),
    "mc4_paragraphs": (ParagraphConfig, _spread(lines.mc4_paragraphs)),
    "fineweb": (filters.FineWebConfig, _each(filters.fineweb)),
    "bad_words": (BadWordsConfig, _bad_words),
    "classifier": (ScoreConfig, _score),
    "contamination": (ContaminationConfig, _contamination),
    "pii": (NoConfig, _each(_redact)),
}
"""Stages that look at one text at a time: settings, and what builds them."""
FIELD_STAGES: dict[str, tuple[type, Callable[[Any], Callable[[str], str]]]] = {
    "url": (url.UrlConfig, url.build),
}
"""Stages that look at the field `cfg.field` of a document: settings, and what builds them."""
CORPUS_STAGES: dict[str, tuple[type, Callable[[Any, Work], None]]] = {
    "exact": (duplicates.ExactConfig, duplicates.exact),
    "minhash": (MinHashConfig, duplicates.minhash),
    "substring": (repeats.SubstringConfig, repeats.strike),
    "semantic": (neighbours.SemanticConfig, neighbours.prune),
    "resample": (sample.ResampleConfig, sample.resample),
    "perplexity": (sample.PerplexityConfig, sample.perplexity),
}
"""Stages that compare all texts with each other: settings, and what they do."""
KINDS: dict[str, type] = {
    name: row[0]
    for table in (TEXT_STAGES, FIELD_STAGES, CORPUS_STAGES)
    for name, row in table.items()
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A step: its kind, one of `KINDS`, and its settings."""

    kind: str
    cfg: Any

    def __post_init__(self):
        check.one_of(KINDS, kind=self.kind)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Stages in order, and how documents are read.

    Attributes:
      stages: at least one.
      text_field: of the input.
      extractor: of the main text of HTML pages and WARC archives.
      part_docs: documents of a part, the unit of memory, of work and of restarting.
      part_bytes: UTF-8 bytes of a part, whichever is reached first.
      max_document_bytes: longer documents are set apart.
    """

    stages: tuple[Stage, ...]
    text_field: str = "text"
    extractor: web.Extractor = "resiliparse"
    part_docs: int = 10_000
    part_bytes: int = 1 << 25
    max_document_bytes: int = 1 << 26

    def __post_init__(self):
        check.types(self)
        sizes = ("part_docs", "part_bytes", "max_document_bytes")
        check.positive(**{name: getattr(self, name) for name in sizes})
        if not self.stages:
            raise ValueError("stages must hold at least one stage; got none.")


FINEWEB = (
    "empty",
    "gopher_repetition",
    "gopher_quality",
    "c4",
    "fineweb",
    "exact",
    "minhash",
    "pii",
)
"""FineWeb's order (language and URL aside)."""


def of_names(names: Sequence[str], **settings: Any) -> Pipeline:
    """A pipeline of stages with their defaults.

    Raises:
      ValueError: no such stage; the nearest is named.
    """
    for name in names:
        check.one_of(KINDS, kind=name)
    return Pipeline(tuple(Stage(name, KINDS[name]()) for name in names), **settings)


def load(path: Path | str) -> Pipeline:
    """Reads a pipeline from TOML: settings of `Pipeline`, then `[[stage]]` with kind and settings.

    Raises:
      ValueError: not TOML, no stage, an unknown kind or setting (the nearest is named).
    """
    try:
        table = tomllib.loads(Path(path).read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}.") from None
    stages = []
    for number, row in enumerate(table.pop("stage", []), 1):
        if "kind" not in row:
            raise ValueError(f"{path}: stage {number} must have a kind, one of {', '.join(KINDS)}.")
        check.one_of(KINDS, kind=row["kind"])
        values = {name: value for name, value in row.items() if name != "kind"}
        stages.append(Stage(row["kind"], config.from_dict(KINDS[row["kind"]], values)))
    known = {field.name for field in dataclasses.fields(Pipeline)} - {"stages"}
    for name in table:
        if name not in known:
            raise ValueError(f"{path} has no setting {name!r}{check.nearest(name, known)}.")
    return Pipeline(tuple(stages), **table)


def fingerprint(pipeline: Pipeline) -> str:
    """Changes with any stage or setting but the sizes of parts."""
    fixed = dataclasses.replace(pipeline, part_docs=1, part_bytes=1)
    return config.fingerprint(fixed)
