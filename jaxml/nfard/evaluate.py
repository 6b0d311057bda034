"""A detector on a zoo: every victim against every suspect, thresholds from references alone."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxml.core.types import PyTree
from jaxml.inputs.splits import Images
from jaxml.nfard import access, detector, measure, networks, reuse
from jaxml.nfard.access import Answer
from jaxml.nfard.config import DetectorConfig
from jaxml.nfard.detector import Calibration, Verdict
from jaxml.nfard.score import Score, score
from jaxml.nfard.suite import Suite, select_suite
from jaxml.nfard.zoo import Built, ZooEntry


class Row(NamedTuple):
    """One pair: the kind as the victim sees it, the truth, the verdict."""

    victim: str
    suspect: str
    kind: str
    reuse: bool
    verdict: Verdict


class Evaluation(NamedTuple):
    """All pairs, and what each victim was calibrated with."""

    rows: list[Row]
    calibrations: dict[str, Calibration]

    def part(self, keep: Callable[[Row], bool]) -> "Evaluation":
        """Some of the pairs."""
        return self._replace(rows=[r for r in self.rows if keep(r)])

    def score(self) -> Score:
        """F1 of the verdicts, and AUC of what `rank` orders by."""
        reuse = [r.reuse for r in self.rows]
        return score(reuse, [r.verdict.reuse for r in self.rows], rank(self.rows))

    def test_scores(self) -> dict[str, Score]:
        """The same of each test alone, over the pairs that it applies to."""
        names = dict.fromkeys(f.test for r in self.rows for f in r.verdict.tests)
        found = {}
        for name in names:
            pairs = [(r.reuse, f) for r in self.rows for f in r.verdict.tests if f.test == name]
            truth = [t for t, _ in pairs]
            if any(truth) and not all(truth):
                said, d = [f.reuse for _, f in pairs], [_deviation(f) for _, f in pairs]
                found[name] = score(truth, said, d)
        return found


def _deviation(found: detector.Finding) -> float:
    """Distance as a share of its threshold, so that victims can be pooled."""
    return found.distance / max(found.threshold, 1e-12)


def rank(rows: Sequence[Row]) -> list[float]:
    """What suspects are ordered by: the deciding test's distance as a share of its threshold."""
    return [r.verdict.distance / max(r.verdict.threshold, 1e-12) for r in rows]


def kind_of(entry: ZooEntry, victim: ZooEntry) -> str:
    """What the suspect is to this victim."""
    if entry.source == victim.name or entry.kind == "victim":
        return entry.kind if entry.source else "other_victim"
    if entry.source:
        return "other_victim"
    return entry.kind if entry.arch == victim.arch else "other_arch"


def answers(
    zoo: Built,
    entries: Sequence[ZooEntry],
    images: np.ndarray,
    rows: np.ndarray,
    mesh: Mesh | None = None,
    batch_size: int = 1000,
) -> dict[str, Answer]:
    """White-box answers of many members, those of one architecture in one program.

    Args:
      zoo: the members' normalisation.
      entries: members.
      images: the pool, uint8.
      rows: of the pool.
      mesh: splits the members of an architecture over its `data` axis.
      batch_size: images at a time.
    """  # fmt: skip
    groups: dict[object, list[ZooEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.arch, []).append(entry)
    found: dict[str, Answer] = {}
    for members in groups.values():
        run, stacked = _together(zoo, members, mesh)
        parts = [run(stacked, x) for x in access.batches(images, rows, batch_size)]
        probs, hidden = (np.concatenate([np.asarray(p[i]) for p in parts], 1) for i in (0, 1))
        for k, entry in enumerate(members):
            p, h = probs[k, : len(rows)], hidden[k, : len(rows)]
            found[entry.name] = Answer(p.argmax(1), p, h)
    return found


def _together(zoo: Built, members: Sequence[ZooEntry], mesh: Mesh | None) -> tuple:
    params = [e.params for e in members]
    size = 1 if mesh is None else mesh.shape["data"]
    params += [params[-1]] * (-len(params) % size)
    stacked: PyTree = networks.stacked(params)
    if mesh is not None:
        stacked = jax.device_put(stacked, NamedSharding(mesh, PartitionSpec("data")))
    # One after the other on the device, where convolutions with other kernels each are slow.
    several = mesh is not None or members[0].arch.kind == "mlp"
    return _reader(members[0].arch, zoo.norm, several), stacked


@functools.lru_cache(maxsize=16)
def _reader(arch: networks.ArchConfig, norm: networks.Norm, several: bool) -> Callable:
    one = functools.partial(access.parts, networks.evaluator(arch, norm), "logits", "last")
    if several:
        return jax.jit(jax.vmap(one, in_axes=(0, None)))
    return jax.jit(lambda stacked, x: jax.lax.map(lambda params: one(params, x), stacked))


def evaluate_zoo(
    zoo: Built,
    test: Images,
    cfg: DetectorConfig,
    suites: dict[str, Suite] | None = None,
    known: dict[str, dict[str, Answer]] | None = None,
) -> Evaluation:
    """Every victim against every member that is no reference and that a test applies to.

    Args:
      zoo: members.
      test: the pool; its labels are not looked at.
      cfg: the detector.
      suites: by victim, if they are chosen already.
      known: answers on them, by victim and member.
    """
    references, controls = zoo.of("reference"), zoo.of("reference_half")
    rows, calibrations = [], {}
    for victim in zoo.of("victim"):
        suite = (suites or {}).get(victim.name) or suite_of(zoo, victim, test, cfg)
        given = (known or {}).get(victim.name) or answers(zoo, zoo.entries, test.image, suite.rows)
        read = {name: measure.reading(a, cfg) for name, a in given.items()}
        calibration = detector.calibrate_readings(
            suite,
            read[victim.name],
            [read[r.name] for r in references],
            cfg,
            [read[c.name] for c in controls],
        )
        calibrations[victim.name] = calibration
        for entry in zoo.entries:
            if entry.kind.startswith("reference") or entry.name == victim.name:
                continue
            if detector.tests_of(calibration, read[entry.name], cfg):
                verdict = detector.judge(calibration, read[entry.name], cfg)
                kind = kind_of(entry, victim)
                rows.append(
                    Row(victim.name, entry.name, kind, entry.source == victim.name, verdict)
                )
    return Evaluation(rows, calibrations)


def suite_of(zoo: Built, victim: ZooEntry, test: Images, cfg: DetectorConfig) -> Suite:
    """The suite that the victim chooses."""
    pool = np.arange(len(test.label))
    probs = zoo.access(victim)(test.image, pool).probs
    assert probs is not None
    return select_suite(probs, cfg.n_suite, cfg.strategy, jax.random.key(0))


def homogeneous(row: Row) -> bool:
    """Not a re-trained copy, and no attacker's: negatives all stay."""
    return not row.reuse or row.kind in reuse.HOMOGENEOUS


def same_labels(row: Row) -> bool:
    """The suspect has the victim's label set."""
    return row.kind != "transfer" and not row.suspect.startswith("transfer")


def plain(row: Row) -> bool:
    """No adaptive attacker, and none of the kinds beside the zoo."""
    return not row.suspect.startswith((*reuse.ATTACKS, *reuse.BESIDE))


def by_kind(rows: Sequence[Row]) -> dict[str, tuple[int, int, float, float]]:
    """For each kind: pairs, those called reuse, mean distance and mean threshold."""
    found: dict[str, list[Row]] = {}
    order = [*reuse.KINDS, *reuse.ATTACKS, *reuse.BESIDE, *reuse.NEGATIVES]
    for row in sorted(rows, key=lambda r: order.index(r.kind) if r.kind in order else 99):
        found.setdefault(row.kind, []).append(row)
    return {
        kind: (
            len(group),
            sum(r.verdict.reuse for r in group),
            float(np.mean([r.verdict.distance for r in group])),
            float(np.mean([r.verdict.threshold for r in group])),
        )
        for kind, group in found.items()
    }
