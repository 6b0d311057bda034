"""An evidence bundle: a folder from which a verdict can be computed again by anybody.

`evidence.json` says what was compared (hashes of models and suite), how, with which versions, and
what came out; `answers.npz` holds what every model answered on the suite. `verify` hashes
everything anew, calibrates and judges from the answers, and names each difference.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import config, files, tree
from jaxml.core.types import PyTree
from jaxml.nfard import detector
from jaxml.nfard.config import DetectorConfig
from jaxml.nfard.detector import Calibration, Verdict
from jaxml.nfard.measure import Reading
from jaxml.nfard.suite import Suite
from jaxml.report import environment

RECORD, ANSWERS = "evidence.json", "answers.npz"
TOLERANCE = 1e-4
"""Distances computed again on another machine may differ by this much, relative to their size."""


def digest(arrays: PyTree) -> str:
    """SHA-256 of a tree of arrays: paths, dtypes, shapes and bytes."""
    found = hashlib.sha256()
    for path, leaf in sorted(tree.flatten(arrays).items()):
        x = np.ascontiguousarray(leaf)
        found.update(f"{path} {x.dtype} {x.shape}\n".encode())
        found.update(x.tobytes())
    return found.hexdigest()


def write(
    folder: Path | str,
    calibration: Calibration,
    suspect: Reading,
    verdict: Verdict,
    cfg: DetectorConfig,
    *,
    samples: np.ndarray,
    models: Mapping[str, str],
    num_references: int,
    data: str = "",
) -> Path:
    """Writes the bundle; returns the record.

    Args:
      folder: is made.
      calibration: what was calibrated.
      suspect: its reading on the suite.
      verdict: on it.
      cfg: the detector.
      samples: the suite itself [N, ...], in the order of `calibration.suite.rows`.
      models: SHA-256 by role and name, such as "victim model.npz".
      num_references: how many of `calibration.controls` thresholds are made from.
      data: where the samples are from, in words.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    readings = {"victim": calibration.victim, "suspect": suspect}
    readings |= {f"control{i:03d}": r for i, r in enumerate(calibration.controls)}
    arrays: dict[str, Any] = {
        f"{name}|{part}": value
        for name, one in readings.items()
        for part, value in one._asdict().items()
        if value is not None
    }
    arrays |= {"suite|fit": calibration.suite.fit, "suite|measure": calibration.suite.measure}
    with files.aside(folder / ANSWERS) as part, part.open("wb") as out:
        np.savez_compressed(out, **arrays)
    about = environment.describe()
    record = {
        "statement": "reuse" if verdict.reuse else "no reuse found",
        "verdict": _plain(verdict),
        "thresholds": {t: x._asdict() for t, x in calibration.thresholds.items()},
        "reference_distances": calibration.distances,
        "num_references": num_references,
        "models_sha256": dict(models),
        "suite_sha256": digest({"samples": samples}),
        "answers_sha256": files.sha256(folder / ANSWERS),
        "data": data,
        "detector": config.to_dict(cfg),
        "environment": {k: about[k] for k in ("versions", "python", "device", "date", "commit")},
    }
    path = folder / RECORD
    files.write_text(path, json.dumps(record, indent=1) + "\n")
    return path


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {**verdict._asdict(), "tests": [f._asdict() for f in verdict.tests]}


def _readings(path: Path) -> tuple[Suite, dict[str, Reading]]:
    with np.load(path, allow_pickle=False) as arrays:
        held = {name: arrays[name] for name in arrays}
    suite = Suite(held.pop("suite|fit"), held.pop("suite|measure"))
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, value in held.items():
        model, part = name.split("|")
        parts.setdefault(model, {})[part] = value
    return suite, {model: Reading(**found) for model, found in parts.items()}


def verify(
    folder: Path | str,
    models: Sequence[PyTree] = (),
    samples: np.ndarray | None = None,
) -> list[str]:
    """What does not agree with the record; empty if everything does.

    Args:
      folder: of the bundle.
      models: variables whose hashes must be among the recorded ones.
      samples: the suite, whose hash must be the recorded one.

    Raises:
      FileNotFoundError: no such bundle.
      ValueError: a file that is no record.
    """
    folder = Path(folder)
    for name in (RECORD, ANSWERS):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder} holds no {name}.")
    try:
        record = json.loads((folder / RECORD).read_text())
        cfg = config.from_dict(DetectorConfig, record["detector"])
        known = set(record["models_sha256"].values())
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / RECORD} is not an evidence record ({error}).") from None
    if files.sha256(folder / ANSWERS) != record["answers_sha256"]:
        return [f"{ANSWERS} is not the file that was recorded."]
    wrong = [
        f"model {i} is none of the recorded ones (sha256 {digest(m)[:12]}...)."
        for i, m in enumerate(models)
        if digest(m) not in known
    ]
    if samples is not None and digest({"samples": samples}) != record["suite_sha256"]:
        wrong.append("the samples are not the recorded suite.")
    return wrong + _judged_again(folder, record, cfg)


def _judged_again(folder: Path, record: dict[str, Any], cfg: DetectorConfig) -> list[str]:
    suite, readings = _readings(folder / ANSWERS)
    controls = [r for name, r in sorted(readings.items()) if name.startswith("control")]
    num = record["num_references"]
    made = detector.calibrate_readings(
        suite, readings["victim"], controls[:num], cfg, controls[num:]
    )
    again, said = detector.judge(made, readings["suspect"], cfg), record["verdict"]
    wrong = []
    if (
        again.reuse != said["reuse"]
        or ("reuse" if said["reuse"] else "no reuse found") != (record["statement"])
    ):
        wrong.append(f"the verdict is recorded as {record['statement']!r}; it is {again.reuse}.")
    for name in ("distance", "threshold", "margin", "p_value"):
        _compare(wrong, name, said[name], getattr(again, name))
    for test, found in made.thresholds.items():
        for field, value in found._asdict().items():
            recorded = record["thresholds"].get(test, {}).get(field, float("nan"))
            _compare(wrong, f"{test} {field}", recorded, value)
    before = {f["test"]: f["distance"] for f in said["tests"]}
    for found in again.tests:
        _compare(
            wrong, f"{found.test} distance", before.get(found.test, float("nan")), found.distance
        )
    return wrong


def _compare(wrong: list[str], name: str, recorded: float, found: float) -> None:
    if not abs(recorded - found) <= TOLERANCE * max(1.0, abs(found)):
        wrong.append(f"{name} is recorded as {recorded:.6g}; it is {found:.6g}.")


def as_text(verdict: Verdict) -> str:
    """The verdict for people."""
    said = "REUSE" if verdict.reuse else "no reuse found"
    lines = [
        f"{said}: distance {verdict.distance:.4f}, threshold {verdict.threshold:.4f}, "
        f"margin {verdict.margin:+.4f}, p = {verdict.p_value:.2g} ({verdict.test})"
    ]
    lines += [
        f"  {f.test:<18} distance {f.distance:.4f}  threshold {f.threshold:.4f}  "
        f"p = {f.p_value:.2g}  {'reuse' if f.reuse else '-'}"
        for f in verdict.tests
    ]
    return "\n".join(lines + ([f"weaker evidence: {verdict.note}"] if verdict.weaker else []))
