"""What leaves the private side: parameters, gate directions and the report, in one folder."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp

from jaxml.core import config, files, weights
from jaxml.core.types import Array
from jaxml.dp.config import ConvexReLUConfig
from jaxml.dp.privacy import PrivacyReport
from jaxml.dp.train import Trained


class Release(NamedTuple):
    """A trained model as its users see it."""

    model: ConvexReLUConfig
    v: Array
    u: Array
    report: PrivacyReport


def save(folder: Path | str, model: ConvexReLUConfig, trained: Trained) -> None:
    """Writes `model.safetensors` (v [P, d, K], u [d, P]), `model.json` and `report.json`.

    Neither keys nor earlier iterates are among them.

    Raises:
      ValueError: a training without a report is not released.
    """
    if trained.report is None:
        raise ValueError("trained must be complete and private to be released; it has no report.")
    folder = Path(folder)
    weights.write(folder / "model.safetensors", {"v": trained.v, "u": trained.u})
    config.save(model, folder / "model.json")
    text = json.dumps(dataclasses.asdict(trained.report), indent=1)
    files.write_text(folder / "report.json", text + "\n")


def load(folder: Path | str) -> Release:
    """Reads a release.

    Raises:
      FileNotFoundError: none there.
      ValueError: damaged files.
    """
    folder = Path(folder)
    if not (folder / "report.json").exists():
        raise FileNotFoundError(f"{folder} holds no released model (no report.json there).")
    arrays = weights.read(folder / "model.safetensors")
    report = PrivacyReport(**json.loads((folder / "report.json").read_text()))
    model = config.load(ConvexReLUConfig, folder / "model.json")
    return Release(model, jnp.asarray(arrays["v"]), jnp.asarray(arrays["u"]), report)
