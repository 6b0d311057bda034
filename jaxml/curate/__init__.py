"""Data management for LLM training: filter, deduplicate, mix, plan, from text to training set.

Functions on texts and arrays; `engine.run` puts them together over files.

>>> from jaxml import curate
>>> texts = ["The same line.", "Another line.", "the SAME line!"]
>>> sig = curate.dedup.minhash(curate.text.pack(texts))
>>> curate.dedup.components(curate.dedup.lsh_edges(sig), len(texts)).tolist()
[0, 1, 0]
"""

from jaxml.curate import (
    attribute,
    classify,
    contaminate,
    curriculum,
    dedup,
    duplicates,
    engine,
    filters,
    lines,
    mix,
    ngram,
    pii,
    pipeline,
    prune,
    scale,
    select,
    text,
)
from jaxml.curate.dedup import MinHashConfig
from jaxml.curate.pipeline import Pipeline, Stage

__all__ = [
    "MinHashConfig",
    "Pipeline",
    "Stage",
    "attribute",
    "classify",
    "contaminate",
    "curriculum",
    "dedup",
    "duplicates",
    "engine",
    "filters",
    "lines",
    "mix",
    "ngram",
    "pii",
    "pipeline",
    "prune",
    "scale",
    "select",
    "text",
]
