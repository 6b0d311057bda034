"""Our detector beside the baselines: one zoo, one budget of queries, the same references."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxml.inputs.splits import Images
from jaxml.models.arch import ArchConfig
from jaxml.nfard import baselines, evaluate, networks, reuse
from jaxml.nfard.baselines import BASELINES, Pool
from jaxml.nfard.score import Score, best_f1, score
from jaxml.nfard.suite import select_suite
from jaxml.nfard.threshold import threshold
from jaxml.nfard.zoo import Built, ZooEntry


@functools.lru_cache(maxsize=64)
def _logits(arch: ArchConfig, norm: networks.Norm) -> baselines.Logits:
    apply = networks.evaluator(arch, norm)
    return lambda params, x: apply(params, x)[0]


def logits_of(entry: ZooEntry, norm: networks.Norm) -> baselines.Logits:
    """The network of a member as the baselines attack it."""
    return _logits(entry.arch, norm)


def pool_of(zoo: Built, victim: ZooEntry, test: Images) -> Pool:
    """Test images and the victim's answers."""
    probs = zoo.access(victim)(test.image, np.arange(len(test.label))).probs
    assert probs is not None
    return Pool(test.image, test.label, probs)


class Result(NamedTuple):
    """One detector on the zoo: scores, F1 at the best threshold, and each pair's row."""

    score: Score
    best_f1: float
    rows: list[tuple[str, str, str, bool, float]]


def run_baselines(
    zoo: Built,
    test: Images,
    n: int = 1000,
    names: Sequence[str] = tuple(BASELINES),
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Result]:
    """Every baseline over every pair of one label set, thresholds from the zoo's references.

    Args:
      zoo: members.
      test: the pool.
      n: queries.
      names: of `BASELINES`.
      seed: of their draws.
      say: prints progress.
    """
    asked = [e for e in zoo.entries if e.kind not in ("transfer", *reuse.ATTACKS, *reuse.BESIDE)]
    found: dict[str, list[tuple[str, str, str, bool, float, float]]] = {n: [] for n in names}
    for victim in zoo.of("victim"):
        pool, logits = pool_of(zoo, victim, test), logits_of(victim, zoo.norm)
        made: dict[Any, Any] = {}
        for name in names:
            base = BASELINES[name]
            if base.make not in made:
                key = jax.random.key(seed)
                queries = base.make(logits, victim.params, pool, n, key)
                rows = np.arange(len(queries.labels))
                made[base.make] = queries, evaluate.answers(zoo, asked, queries.images, rows)
            queries, answers = made[base.make]
            given = {k: a.probs for k, a in answers.items()}
            found[name] += _pairs(zoo, victim, asked, base, queries, given)
            say(f"{victim.name}: {name}")
    return {name: _result(rows) for name, rows in found.items()}


def _pairs(
    zoo: Built,
    victim: ZooEntry,
    asked: Sequence[ZooEntry],
    base: baselines.Baseline,
    queries: baselines.Queries,
    probs: dict[str, Any],
) -> list[tuple[str, str, str, bool, float, float]]:
    def distance(entry: ZooEntry) -> float:
        return base.distance(queries, probs[victim.name], probs[entry.name])

    references = [distance(e) for e in zoo.of("reference")]
    tau = threshold(references, rule="prediction").value
    mean = float(np.mean(references))
    rows = []
    for entry in asked:
        if entry.kind.startswith("reference") or entry.name == victim.name:
            continue
        kind, truth = evaluate.kind_of(entry, victim), entry.source == victim.name
        d = distance(entry)
        # Pairs of several victims are pooled as shares of the references' mean.
        rows.append(
            (victim.name, entry.name, kind, truth, d / max(mean, 1e-12), tau / max(mean, 1e-12))
        )
    return rows


def _result(rows: list[tuple[str, str, str, bool, float, float]]) -> Result:
    truth, d = [r[3] for r in rows], np.array([r[4] for r in rows])
    said = [r[4] <= r[5] for r in rows]
    return Result(score(truth, said, d), best_f1(truth, d), [r[:5] for r in rows])


def suite_times(
    zoo: Built,
    test: Images,
    n: int = 1000,
    repeats: int = 3,
    ipguard: bool = True,
    compiled: bool = False,
) -> dict[str, list[float]]:
    """Seconds of making a suite, in alternation: the whole of it, from images to queries.

    Ours is a pass over the pool and a ranking. The others also pass over the pool, for their
    seeds; then DeepJudge takes ten gradients of n images, IPGuard a thousand. The first round
    compiles and is left out; IPGuard has none where `compiled` says that baselines ran before.
    """
    victim = zoo.of("victim")[0]
    logits, key = logits_of(victim, zoo.norm), jax.random.key(0)

    def ours() -> None:
        select_suite(pool_of(zoo, victim, test).probs, n)

    def other(name: str) -> Callable[[], None]:
        def make() -> None:
            BASELINES[name].make(logits, victim.params, pool_of(zoo, victim, test), n, key)

        return make

    calls = {"nfard": ours, "deepjudge": other("deepjudge_jsd")}
    calls |= {"ipguard": other("ipguard")} if ipguard else {}
    found: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(repeats + 1):
        for name, call in calls.items():
            if not i and compiled and name == "ipguard":
                continue
            begun = time.perf_counter()
            call()
            if i:
                found[name].append(time.perf_counter() - begun)
    return found
