"""Scores of multi-object tracking: HOTA (Luiten et al. 2021) and CLEAR (MOTA, MOTP, switches)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

ALPHAS = np.arange(0.05, 0.99, 0.05)
_EPS = np.finfo(float).eps


class TrackFrames(NamedTuple):
    """One sequence, frame by frame.

    Attributes:
      truth: identities 0, 1, ... of the labels of each frame, int [n_t].
      found: identities 0, 1, ... of the tracker's boxes of each frame, int [m_t].
      similarity: overlap of each label with each box [n_t, m_t].
    """

    truth: Sequence[np.ndarray]
    found: Sequence[np.ndarray]
    similarity: Sequence[np.ndarray]

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of identities.

        Raises:
          ValueError: unlike numbers of frames, or an identity twice in one frame.
        """
        if not len(self.truth) == len(self.found) == len(self.similarity):
            raise ValueError("truth, found and similarity must have one entry per frame.")
        for rows in (self.truth, self.found):
            if any(len(set(ids.tolist())) != len(ids) for ids in rows):
                raise ValueError("an identity may appear once in a frame.")
        return _count(self.truth), _count(self.found)


def _count(rows: Sequence[np.ndarray]) -> int:
    return max((int(ids.max()) + 1 for ids in rows if len(ids)), default=0)


def hota(frames: TrackFrames) -> dict[str, float]:
    """HOTA and its parts, means over the 19 localisation thresholds, in [0, 1].

    Returns:
      `{"HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA"}`.
    """
    num_gt, num_found = frames.sizes
    total_gt, total_found = (sum(map(len, x)) for x in (frames.truth, frames.found))
    names = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr")
    if not total_gt or not total_found:
        return {**dict.fromkeys(names, 0.0), "LocA": 1.0}
    common, seen_gt, seen_found = _overlap_of_tracks(frames, num_gt, num_found)
    alike = common / (seen_gt[:, None] + seen_found[None] - common)
    tp, where = np.zeros(len(ALPHAS)), np.zeros(len(ALPHAS))
    pairs = np.zeros((len(ALPHAS), num_gt, num_found))
    for gt, found, similarity in zip(*frames, strict=True):
        if not len(gt) or not len(found):
            continue
        rows, cols = linear_sum_assignment(-alike[np.ix_(gt, found)] * similarity)
        value = similarity[rows, cols]
        good = value[None] >= ALPHAS[:, None] - _EPS
        tp += good.sum(1)
        where += (good * value[None]).sum(1)
        pairs[:, gt[rows], found[cols]] += good
    return _hota_scores(pairs, tp, where, (total_gt, total_found), (seen_gt, seen_found))


def _overlap_of_tracks(
    frames: TrackFrames, num_gt: int, num_found: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much each pair of tracks shares over time, and their lengths."""
    common = np.zeros((num_gt, num_found))
    seen_gt, seen_found = np.zeros(num_gt), np.zeros(num_found)
    for gt, found, similarity in zip(*frames, strict=True):
        union = similarity.sum(0)[None] + similarity.sum(1)[:, None] - similarity
        share = np.divide(similarity, union, out=np.zeros_like(union), where=union > _EPS)
        common[np.ix_(gt, found)] += share
        seen_gt[gt] += 1
        seen_found[found] += 1
    return common, seen_gt, seen_found


def _hota_scores(pairs, tp, where, totals, seen) -> dict[str, float]:
    fn, fp = totals[0] - tp, totals[1] - tp
    det_a = tp / np.maximum(1, tp + fn + fp)
    gt, found = seen[0][None, :, None], seen[1][None, None]
    denominators = {"AssA": gt + found - pairs, "AssRe": gt, "AssPr": found}
    out = {
        name: (pairs * pairs / np.maximum(1, under)).sum((1, 2)) / np.maximum(1, tp)
        for name, under in denominators.items()
    }
    out |= {
        "HOTA": np.sqrt(det_a * out["AssA"]),
        "DetA": det_a,
        "DetRe": tp / np.maximum(1, tp + fn),
        "DetPr": tp / np.maximum(1, tp + fp),
        "LocA": np.maximum(1e-10, where) / np.maximum(1e-10, tp),
    }
    return {name: float(value.mean()) for name, value in out.items()}


def clear_mot(frames: TrackFrames, threshold: float = 0.5) -> dict[str, float]:
    """CLEAR scores at one overlap.

    Returns:
      `{"MOTA", "MOTP", "IDSW", "TP", "FP", "FN", "Frag"}`; MOTA may be negative.
    """
    num_gt, _ = frames.sizes
    tp = fp = fn = switches = 0
    total = 0.0
    known = np.full(num_gt, -1)  # tracker identity when last matched
    before = np.full(num_gt, -1)  # in the frame just before
    begun = np.zeros(num_gt, int)
    for gt, found, similarity in zip(*frames, strict=True):
        if not len(gt) or not len(found):
            fp, fn = fp + len(found), fn + len(gt)
            continue  # as the reference: such a frame does not end a pairing
        rows, cols = _assign(similarity, before[gt][:, None] == found[None], threshold)
        mine, theirs = gt[rows], found[cols]
        switches += int(((known[mine] >= 0) & (known[mine] != theirs)).sum())
        now = np.full(num_gt, -1)
        now[mine] = known[mine] = theirs
        begun += (before < 0) & (now >= 0)
        before = now
        tp, fn, fp = tp + len(rows), fn + len(gt) - len(rows), fp + len(found) - len(rows)
        total += float(similarity[rows, cols].sum())
    out = {"MOTA": (tp - fp - switches) / max(1, tp + fn), "MOTP": total / max(1, tp)}
    fragments = int((begun[begun > 0] - 1).sum())
    return {**out, "IDSW": switches, "TP": tp, "FP": fp, "FN": fn, "Frag": fragments}


def _assign(similarity: np.ndarray, kept: np.ndarray, threshold: float):
    """Keeps yesterday's pairs first, then maximises overlap."""
    score = np.where(similarity < threshold - _EPS, 0, 1000.0 * kept + similarity)
    rows, cols = linear_sum_assignment(-score)
    good = score[rows, cols] > _EPS
    return rows[good], cols[good]
