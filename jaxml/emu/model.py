"""A specialised model at work: intents with a confidence, and sentences that are none of them."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax
from scipy.stats import rankdata

from jaxml.core import check, config, files, storage, tree
from jaxml.emu import e5, laser, use
from jaxml.emu.config import EmuConfig
from jaxml.emu.encoder import Encoder
from jaxml.emu.evaluate import normalised
from jaxml.emu.objective import lowest_radius
from jaxml.emu.train import Specialised

ENCODERS: dict[str, Callable[..., Encoder]] = {
    "use": use.load,
    "e5": e5.load,
    "minilm": laser.minilm,
}


def encoder_named(name: str, path: Path | str | None = None) -> Encoder:
    """A pre-trained encoder: "use", "e5" or "minilm", from its package or from `path`.

    Raises:
      ValueError: no such name.
      DataNotFoundError: its weights are not here; says how to get them.
    """
    check.one_of(ENCODERS, encoder=name)
    return ENCODERS[name](path)


@dataclasses.dataclass(frozen=True, eq=False)
class IntentModel:
    """A specialised encoder with what it answers.

    Attributes:
      encoder: with its specialised parameters.
      classifier: `kernel` [d, K], `bias` [K].
      centers: of the intents [K, d].
      labels: the intents.
      alpha: radius of the softmax.
      threshold: cosine to the nearest centre below which a sentence is no intent.
      cfg: how it was trained.
    """

    encoder: Encoder
    classifier: dict[str, np.ndarray]
    centers: np.ndarray
    labels: tuple[str, ...]
    alpha: float
    threshold: float
    cfg: EmuConfig


class Prediction(NamedTuple):
    """An answer.

    Attributes:
      intent: None where the sentence is out of scope.
      confidence: softmax probability of the most likely intent.
      closeness: cosine to the nearest centre.
      nearest: the most likely intent, in scope or not.
    """

    intent: str | None
    confidence: float
    closeness: float
    nearest: str


def build(
    encoder: Encoder,
    found: Specialised,
    cfg: EmuConfig,
    labels: Sequence[str],
    held_out: np.ndarray,
    keep: float = 0.95,
) -> IntentModel:
    """A model whose threshold keeps a share of held-out sentences in scope.

    Args:
      encoder: as it was before.
      found: from `train.fit`.
      cfg: the run.
      labels: intents by number.
      held_out: token ids of in-scope sentences that were not trained on.
      keep: share of them to accept.

    Raises:
      ValueError: `keep` outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep must lie in (0, 1]; got keep={keep}.")
    special = dataclasses.replace(encoder, params=found.params)
    classifier = {name: np.asarray(x) for name, x in found.classifier.items()}
    alpha = cfg.alpha
    if alpha is None:
        alpha = max(float(classifier["radius"]), lowest_radius(max(len(labels), 3)))
    model = IntentModel(special, classifier, found.centers, tuple(labels), alpha, -1.0, cfg)
    scores = closeness(model, special.embed(held_out))
    return dataclasses.replace(model, threshold=float(np.quantile(scores, 1 - keep)))


def closeness(model: IntentModel, u_nd: np.ndarray) -> np.ndarray:
    """Cosine of each embedding to the nearest centre, [n]."""
    return (u_nd @ normalised(model.centers, "centers").T).max(1)


def predict(model: IntentModel, texts: Sequence[str]) -> list[Prediction]:
    """Intents of sentences in any language of the encoder."""
    return answers(model, model.encoder.embed(list(texts)))


def answers(model: IntentModel, u: np.ndarray) -> list[Prediction]:
    """Intents of specialised embeddings [n, d]."""
    scores = model.alpha * (u @ model.classifier["kernel"]) + model.classifier["bias"]
    log = log_softmax(scores, axis=1)
    near = closeness(model, u)
    return [
        Prediction(
            model.labels[k] if c >= model.threshold else None,
            float(np.exp(row[k])), float(c), model.labels[k],
        )
        for row, k, c in zip(log, log.argmax(1), near, strict=True)
    ]  # fmt: skip


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Chance that a sentence in scope scores above one out of scope; ties count half.

    >>> auroc(np.array([0.9, 0.8]), np.array([0.1, 0.8]))
    0.875
    """
    check.positive(inside=len(inside), outside=len(outside))
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    wins = ranks.sum() - len(inside) * (len(inside) + 1) / 2
    return float(wins / (len(inside) * len(outside)))


def save(folder: Path | str, model: IntentModel) -> None:
    """Writes `model.json` and `weights.safetensors`; of the encoder only what was trained."""
    folder = Path(folder)
    trained: Any = model.encoder.params
    if model.cfg.trainable == "head":
        trained = {"head": trained["head"]}
    arrays = {"encoder": trained, "classifier": model.classifier, "centers": model.centers}
    storage.save(folder / "weights.safetensors", arrays)
    about = {
        "encoder": model.encoder.name,
        "labels": list(model.labels),
        "alpha": model.alpha,
        "threshold": model.threshold,
        "config": config.to_dict(model.cfg),
    }
    files.write_text(folder / "model.json", json.dumps(about, indent=1) + "\n")


def load(folder: Path | str, encoder: Encoder | None = None) -> IntentModel:
    """Reads what `save` wrote; the rest of the encoder comes from its package.

    Raises:
      FileNotFoundError: no such model.
      ValueError: damaged, or of another encoder.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise FileNotFoundError(f"{folder} holds no specialised model (no model.json there).")
    try:
        about = json.loads((folder / "model.json").read_text())
        name, labels = about["encoder"], tuple(about["labels"])
        alpha, threshold = float(about["alpha"]), float(about["threshold"])
        cfg = config.from_dict(EmuConfig, about["config"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}/model.json is not a specialised model ({error}).") from None
    encoder = encoder or encoder_named(name)
    arrays = storage.load(folder / "weights.safetensors")
    whole = {**encoder.params, **arrays["encoder"]}
    tree.check_match(whole, encoder.params, f"{folder}/weights.safetensors")
    whole = tree.map_with_path(lambda _, x: jnp.asarray(x), whole)
    special = dataclasses.replace(encoder, params=whole)
    return IntentModel(
        special, arrays["classifier"], arrays["centers"], labels, alpha, threshold, cfg
    )
