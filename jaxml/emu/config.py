"""How an encoder is specialised: losses and their weights, the discriminator, the steps."""

import dataclasses
from typing import Literal

from jaxml.core import check
from jaxml.emu.discriminator import KINDS, Fool, Kind

Semantic = Literal["l2", "softmax", "contrastive"]
Trainable = Literal["head", "top", "all"]


@dataclasses.dataclass(frozen=True)
class EmuConfig:
    """One specialisation; what is ours and not the paper's is said in the README of the spec.

    Attributes:
      semantic: L2-constrained softmax, plain softmax, or SetFit's contrast of pairs.
      alpha: radius of the L2-constrained softmax; None: learnt, from 16, above its lower bound.
      lambda_center: weight of the center loss.
      eta: rate of the centres.
      lambda_adv: weight of the adversarial loss; 0: no discriminator.
      disc: its kind.
      fool: what the encoder wants of a binary one.
      n_disc: updates of the discriminator before one of the encoder.
      hidden: of the discriminator.
      clip: of a wasserstein critic.
      adversary_weights: of each language's sentences, the source first; (): all 1.
      anchor: weight of the distance to the original embeddings of unlabelled text.
      anchor_weights: of each language's sentences; (): all 1.
      lambda_guess: weight of the loss on guessed intents of unlabelled sentences (see `guess`).
      trainable: the head on cached features, also the top layers, or all.
      lr: of the encoder.
      lr_classifier: of the classifier's weights.
      lr_disc: of the discriminator.
      steps: updates of the encoder.
      batch_size: labelled sentences a step.
      per_language: unlabelled sentences of each language a step.
      clip_norm: of the encoder's gradient.
      seed: of everything.

    Raises:
      ValueError: a value out of range.
    """

    semantic: Semantic = "l2"
    alpha: float | None = 16.0
    lambda_center: float = 0.1
    eta: float = 0.5
    lambda_adv: float = 0.3
    disc: Kind = "multiclass"
    fool: Fool = "confusion"
    n_disc: int = 1
    hidden: int = 256
    clip: float = 0.02
    adversary_weights: tuple[float, ...] = ()
    anchor: float = 0.0
    anchor_weights: tuple[float, ...] = ()
    lambda_guess: float = 0.0
    trainable: Trainable = "head"
    lr: float = 1e-4
    lr_classifier: float = 1e-3
    lr_disc: float = 1e-3
    steps: int = 150
    batch_size: int = 64
    per_language: int = 8
    clip_norm: float | None = None
    seed: int = 0

    def __post_init__(self):
        check.types(self)
        check.one_of(("l2", "softmax", "contrastive"), semantic=self.semantic)
        check.one_of(KINDS, disc=self.disc)
        check.one_of(("head", "top", "all"), trainable=self.trainable)
        if self.alpha is not None:
            check.positive(alpha=self.alpha)
        check.at_least(0, lambda_center=self.lambda_center, lambda_adv=self.lambda_adv)
        check.at_least(0, anchor=self.anchor, seed=self.seed, steps=self.steps)
        check.at_least(0, lambda_guess=self.lambda_guess)
        check.positive(n_disc=self.n_disc, hidden=self.hidden, clip=self.clip)
        check.positive(lr=self.lr, lr_classifier=self.lr_classifier, lr_disc=self.lr_disc)
        check.positive(batch_size=self.batch_size, per_language=self.per_language)
        if not 0 < self.eta <= 1:
            raise ValueError(f"eta must lie in (0, 1]; got eta={self.eta}.")

    @property
    def unlabelled(self) -> bool:
        """Whether unlabelled sentences are used."""
        return max(self.lambda_adv, self.anchor, self.lambda_guess) > 0


def arms(cfg: EmuConfig) -> dict[str, EmuConfig]:
    """The runs that a study compares: the same steps, batches and rates, other losses.

    >>> list(arms(EmuConfig()))
    ['softmax', 'contrastive', 'l2', 'l2+center', 'emu']
    """
    plain = dataclasses.replace(cfg, lambda_adv=0.0, anchor=0.0)
    bare = dataclasses.replace(plain, lambda_center=0.0)
    return {
        "softmax": dataclasses.replace(bare, semantic="softmax"),
        "contrastive": dataclasses.replace(bare, semantic="contrastive"),
        "l2": bare,
        "l2+center": plain,
        "emu": cfg,
    }


PRESETS: dict[str, EmuConfig] = {
    "tiny": EmuConfig(steps=4, batch_size=8, per_language=4, hidden=8),
    "laptop": EmuConfig(),
    "h100": EmuConfig(trainable="all", steps=600, batch_size=128, per_language=16),
}
