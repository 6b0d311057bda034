"""The language discriminator: tells from an embedding which language it came from.

Three kinds. `multiclass`: one answer per language, the encoder is drawn to the uniform answer.
`binary`: one detector for each language beside the source (language 0). `wasserstein`: one critic
of source against all others, its weights clipped.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from jaxml.core import check, param
from jaxml.core.types import Array, Key, PyTree
from jaxml.emu.objective import check_labels
from jaxml.nn import linear

Kind = Literal["multiclass", "binary", "wasserstein"]
KINDS = ("multiclass", "binary", "wasserstein")
Fool = Literal["confusion", "flip"]


@dataclasses.dataclass(frozen=True)
class LanguageDiscriminator:
    """An MLP d -> hidden -> leaky ReLU -> answers.

    Attributes:
      kind: see the module.
      num_languages: n >= 2; language 0 is the one with labels.
      width: d.
      hidden: of the MLP.
      fool: what the encoder wants of a binary one: the answer 1/2, or the wrong label ("flip",
        which is known to collapse; kept to show it).
      clip: largest weight of a wasserstein critic.

    Raises:
      ValueError: fewer than two languages, or a value out of range.
    """

    kind: Kind
    num_languages: int
    width: int
    hidden: int = 256
    fool: Fool = "confusion"
    clip: float = 0.02

    def __post_init__(self):
        check.one_of(KINDS, kind=self.kind)
        check.one_of(("confusion", "flip"), fool=self.fool)
        check.positive(width=self.width, hidden=self.hidden, clip=self.clip)
        if self.num_languages < 2:
            raise ValueError(
                "num_languages must be >= 2, a discriminator needs something to tell apart; "
                f"got num_languages={self.num_languages}."
            )

    @property
    def num_answers(self) -> int:
        """Outputs of the MLP."""
        n = self.num_languages
        return {"multiclass": n, "binary": n - 1, "wasserstein": 1}[self.kind]


def params(cfg: LanguageDiscriminator) -> PyTree:
    """Declares `hidden` and `answer`."""
    return {
        "hidden": linear.params(cfg.width, cfg.hidden),
        "answer": linear.params(cfg.hidden, cfg.num_answers),
    }


def init(key: Key, cfg: LanguageDiscriminator) -> PyTree:
    """Makes the parameters; a critic's within its clip."""
    return clipped(param.init(key, params(cfg)), cfg)


def clipped(p: PyTree, cfg: LanguageDiscriminator) -> PyTree:
    """Parameters of a wasserstein critic within +-clip; of the others as they are."""
    if cfg.kind != "wasserstein":
        return p
    return jax.tree.map(lambda x: jnp.clip(x, -cfg.clip, cfg.clip), p)


def apply(p: PyTree, u_bd: Array) -> Array:
    """Answers [b, num_answers] as logits (or the critic's value)."""
    return linear.apply(p["answer"], jax.nn.leaky_relu(linear.apply(p["hidden"], u_bd), 0.2))


def discriminator_loss(p: PyTree, cfg: LanguageDiscriminator, u_bd: Array, lang_b: Array) -> Array:
    """What the discriminator minimises, []: it does not move the encoder.

    Args:
      p: its parameters.
      cfg: its kind.
      u_bd: normalised embeddings, as many of each language.
      lang_b: languages in [0, n).

    Raises:
      ValueError: a language outside [0, n).
    """
    check_labels(lang_b, cfg.num_languages, "lang")
    answers = apply(p, jax.lax.stop_gradient(u_bd))
    if cfg.kind == "multiclass":
        return -jnp.mean(_pick(jax.nn.log_softmax(answers), lang_b))
    if cfg.kind == "binary":
        truth, used = _detectors(lang_b, cfg.num_answers)
        return jnp.sum(_logistic(answers, truth) * used) / jnp.maximum(used.sum(), 1)
    return _gap(answers[:, 0], lang_b, None)


def adversarial_loss(
    p: PyTree,
    cfg: LanguageDiscriminator,
    u_bd: Array,
    lang_b: Array,
    weight_n: Array | None = None,
) -> Array:
    """What the encoder minimises so that the discriminator cannot tell, [].

    Multiclass: cross-entropy to the uniform answer, log(n) at best. Binary: cross-entropy to 1/2,
    or of the wrong label. Wasserstein: the critic's gap.

    Args:
      p: the discriminator, which is not moved.
      cfg: its kind.
      u_bd: normalised embeddings.
      lang_b: languages in [0, n).
      weight_n: of each language's sentences (default: 1).

    Raises:
      ValueError: a language outside [0, n).
    """
    check_labels(lang_b, cfg.num_languages, "lang")
    answers = apply(jax.lax.stop_gradient(p), u_bd)
    weight = jnp.ones(lang_b.shape, u_bd.dtype) if weight_n is None else weight_n[lang_b]
    if cfg.kind == "multiclass":
        return -jnp.mean(weight * jnp.mean(jax.nn.log_softmax(answers), -1))
    if cfg.kind == "binary":
        truth, used = _detectors(lang_b, cfg.num_answers)
        goal = 1 - truth if cfg.fool == "flip" else jnp.full_like(truth, 0.5)
        used = used * weight[:, None]
        return jnp.sum(_logistic(answers, goal) * used) / jnp.maximum(jnp.sum(used > 0), 1)
    return -_gap(answers[:, 0], lang_b, weight)


def accuracy(p: PyTree, cfg: LanguageDiscriminator, u_bd: Array, lang_b: Array) -> Array:
    """Share of languages found, []; balanced languages at 1 / n (multiclass) mean a fooled one."""
    answers = apply(p, u_bd)
    if cfg.kind == "multiclass":
        return jnp.mean(jnp.argmax(answers, -1) == lang_b)
    if cfg.kind == "binary":
        truth, used = _detectors(lang_b, cfg.num_answers)
        return jnp.sum(((answers > 0) == (truth > 0.5)) * used) / jnp.maximum(used.sum(), 1)
    middle = jnp.mean(answers)
    return jnp.mean((answers[:, 0] > middle) == (lang_b == 0))


def _pick(x_bn: Array, lang_b: Array) -> Array:
    return jnp.take_along_axis(x_bn, lang_b[:, None], -1)[:, 0]


def _detectors(lang_b: Array, num: int) -> tuple[Array, Array]:
    """Truth and use [b, num]: detector j sees the source language (0) and language j + 1 (1)."""
    own = (lang_b[:, None] == jnp.arange(1, num + 1)[None, :]).astype(jnp.float32)
    return own, jnp.maximum(own, (lang_b == 0).astype(jnp.float32)[:, None])


def _logistic(logit: Array, goal: Array) -> Array:
    return jax.nn.softplus(logit) - goal * logit


def _gap(value_b: Array, lang_b: Array, weight_b: Array | None) -> Array:
    """Mean value of the other languages minus that of the source."""
    source = (lang_b == 0).astype(value_b.dtype)
    weighted = value_b if weight_b is None else value_b * weight_b
    other = jnp.sum(weighted * (1 - source)) / jnp.maximum(jnp.sum(1 - source), 1)
    return other - jnp.sum(weighted * source) / jnp.maximum(source.sum(), 1)
