"""The corpus packed for trainings on another machine: bytes by domain, selections, canaries.

Near duplicates go first, over all domains, so that what counts as new bytes is new, and no test
document has a copy in training. All choices that need text are made here, on the CPU.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxml.curate import dedup, dsir, substring
from jaxml.curate import text as texts_
from jaxml.inputs import source

MIXED = ("docs_python", "essays", "scripture", "code_javascript")
"""Domains of the mixing law."""
TARGET = "docs_postgres"
NUM_CANARIES, NUM_COPIES, CANARY_BYTES = 64, 64, 64
_MEMORY_BYTES = 8_000_000


def _documents(limit: int | None) -> tuple[list[str], np.ndarray]:
    """Texts and domains of the corpus without near duplicates, in a fixed random order."""
    rows = source.records("corpus", "train")
    order = np.random.default_rng(0).permutation(len(rows))[:limit]
    found = [rows[int(i)] for i in order]
    texts, names = [row["text"] for row in found], np.array([row["domain"] for row in found])
    labels = dedup.components(dedup.lsh_edges(dedup.minhash(texts_.pack(texts))), len(texts))
    keep = dedup.survivors(labels) & dedup.exact(texts)
    return [t for t, k in zip(texts, keep, strict=True) if k], names[keep]


def _bytes(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer("\n\n".join(texts).encode(), np.uint8)


def plant(texts: Sequence[str], seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Documents with random strings, each put at the end of many: texts, and canaries uint8 [c, b].

    Args:
      texts: documents.
      seed: of the strings and of their places.
    """
    generator = np.random.default_rng(seed)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789", np.uint8)
    canaries = generator.choice(letters, (NUM_CANARIES, CANARY_BYTES))
    planted = list(texts)
    for canary in canaries:
        word = canary.tobytes().decode()
        for i in generator.integers(0, len(planted), NUM_COPIES):
            planted[i] += f"\n{word}\n"
    return planted, canaries


def _selection(texts: list[str], names: np.ndarray) -> dict[str, np.ndarray]:
    """A tenth of the pool by DSIR and at random; the target's other documents to judge by."""
    target = [t for t, n in zip(texts, names, strict=True) if n == TARGET]
    third = len(target) // 3
    fit, judge, inside = target[:third], target[third : 2 * third], target[2 * third :]
    pool = [t for t, n in zip(texts, names, strict=True) if n != TARGET] + inside
    model = dsir.dsir_fit(pool, fit)
    logw = dsir.dsir_weights(model, pool)
    eligible = np.flatnonzero(np.isfinite(logw))
    num = len(eligible) // 10
    chosen = dsir.gumbel_top_k(jax.random.key(0), logw, num)
    chance = np.random.default_rng(1).choice(eligible, num, replace=False)
    return {
        "dsir_tenth": _bytes([pool[i] for i in chosen]),
        "random_tenth": _bytes([pool[i] for i in chance]),
        "dsir_target": _bytes(judge),
    }


def pack(say: Callable[[str], None], limit: int | None = None) -> dict[str, np.ndarray]:
    """Arrays of `h100`: `DOMAIN/train`, `DOMAIN/test`, selections, and text with canaries.

    Args:
      say: gets lines of progress.
      limit: documents of the corpus that are used.

    Raises:
      DataNotFoundError: the corpus is not there.
    """
    texts, names = _documents(limit)
    say(f"{len(texts)} documents without near duplicates")
    out: dict[str, np.ndarray] = {}
    for name in sorted(set(names.tolist())):
        mine = [t for t, n in zip(texts, names, strict=True) if n == name]
        test = max(len(mine) // 20, 1)
        out[f"{name}/test"], out[f"{name}/train"] = _bytes(mine[:test]), _bytes(mine[test:])
    out |= _selection(texts, names)
    say("selection: done")
    size = np.cumsum([len(t) for t in texts])
    planted, canaries = plant(texts[: int(np.searchsorted(size, _MEMORY_BYTES)) + 1])
    struck = substring.strike(planted, CANARY_BYTES // 2, keep="first")
    out |= {"memory_before": _bytes(planted), "memory_after": _bytes(struck), "canaries": canaries}
    left = sum(b"".join(t.encode() for t in struck).count(c.tobytes()) for c in canaries)
    say(f"canaries: {NUM_COPIES * NUM_CANARIES} planted, {left} left")
    return out
