"""Sentences that are none of the intents: how well a specialised model rejects them.

CLINC150 (Larson et al. 2019): 150 intents, and sentences of no intent at all, which are neither
trained on nor used to set the threshold.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.emu import data, train
from jaxml.emu import model as models
from jaxml.emu.config import EmuConfig
from jaxml.emu.data import SOURCE, Corpus
from jaxml.emu.encoder import Encoder
from jaxml.emu.evaluate import normalised
from jaxml.emu.inputs import Inputs


@dataclasses.dataclass(frozen=True)
class ScopeConfig:
    """What is measured.

    Attributes:
      emu: the specialisation, without a discriminator: there is one language.
      per_class: labelled sentences of an intent.
      held_out: validation sentences of an intent that the threshold is set by.
      keep: share of them to accept.
    """

    emu: EmuConfig
    per_class: int = 20
    held_out: int = 5
    keep: float = 0.95

    def __post_init__(self):
        check.positive(per_class=self.per_class, held_out=self.held_out)
        if self.emu.unlabelled:
            raise ValueError("emu must have lambda_adv = anchor = 0: there is one language.")


class Scope(NamedTuple):
    """What was found on test, in per cent.

    Attributes:
      auroc: chance that a sentence in scope is closer to its nearest centre than one that is not.
      auroc_before: the same of the original encoder and its class means.
      caught: of the sentences out of scope, rejected.
      kept: of those in scope, not rejected.
      accuracy: of those in scope, answered with their intent.
      num_in: sentences in scope.
      num_out: and out of it.
    """

    auroc: float
    auroc_before: float
    caught: float
    kept: float
    accuracy: float
    num_in: int
    num_out: int


def measure(
    encoder: Encoder, corpus: Corpus, cfg: ScopeConfig, seed: int, folder: Path | None = None
) -> Scope:
    """Specialises on some sentences of every intent and answers the test sentences.

    Args:
      encoder: as it is before.
      corpus: with label -1 out of scope in its test split.
      cfg: what is measured.
      seed: of training.
      folder: keeps features for the next time.
    """
    num = len(corpus.labels)
    some = data.balanced(corpus.train, cfg.per_class, num)
    held = data.balanced(corpus.valid[SOURCE], cfg.held_out, num)
    corpus = corpus._replace(valid={SOURCE: held})
    inputs = Inputs(encoder, corpus, some, cfg.emu.trainable, folder=folder)
    run, many = dataclasses.replace(cfg.emu, seed=seed), inputs.pool()
    found = train.fit(encoder, run, many)
    model = models.build(encoder, found, run, corpus.labels, encoder.ids(held.text), cfg.keep)
    name, label = f"test/{SOURCE}", corpus.test[SOURCE].label
    after, inside = inputs.embed(name, found.params), label >= 0
    said = models.answers(model, after)
    near = np.array([p.closeness for p in said])
    first = (inputs.embed(name) @ normalised(many.means, "means").T).max(1)
    rejected = np.array([p.intent is None for p in said])
    right = np.array([p.intent == corpus.labels[k] for p, k in zip(said, label, strict=True)])
    return Scope(
        100 * models.auroc(near[inside], near[~inside]),
        100 * models.auroc(first[inside], first[~inside]),
        100 * float(rejected[~inside].mean()),
        100 * float((~rejected[inside]).mean()),
        100 * float(right[inside].mean()),
        int(inside.sum()),
        int((~inside).sum()),
    )
