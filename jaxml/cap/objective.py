"""The loss of a model in pruning: labels, the teacher's answers, and the contrast with banks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.cap.bank import Bank
from jaxml.cap.config import ContrastConfig, TuneConfig
from jaxml.cap.contrast import contrastive_loss
from jaxml.core.types import Array
from jaxml.nn import loss


class Terms(NamedTuple):
    """The loss [] and its parts by name."""

    value: Array
    parts: dict[str, Array]


def distillation(student_bc: Array, teacher_bc: Array, temperature: float) -> Array:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch.

    >>> float(distillation(jnp.ones((2, 3)), jnp.zeros((2, 3)), 2.0))
    0.0
    """
    teacher = jax.nn.log_softmax(teacher_bc.astype(jnp.float32) / temperature)
    student = jax.nn.log_softmax(student_bc.astype(jnp.float32) / temperature)
    return temperature**2 * jnp.mean(jnp.sum(jnp.exp(teacher) * (teacher - student), -1))


def contrast_terms(
    reps_bd: Array,
    banks: Mapping[str, Bank],
    ids_b: Array,
    labels_b: Array | None,
    extra: Mapping[str, Array],
    cfg: ContrastConfig,
    weights: Mapping[str, Array] | None = None,
) -> Terms:
    """The weighted sum over the banks of `cfg.modules`, and both terms of each, unweighted.

    Args:
      reps_bd: representations of the current model.
      banks: by module: "pre", "snap", "fine"; one that is missing is skipped.
      ids_b: the batch's examples.
      labels_b: their classes, or None.
      extra: further candidates by module.
      cfg: weights, temperature, reduction.
      weights: by module, factors [2] of both terms (default: 1), so that one compiled step serves
        other weights and ablations.
    """
    total, parts = jnp.float32(0), {}
    for module in cfg.modules:
        if module not in banks:
            continue
        found = contrastive_loss(reps_bd, banks[module], ids_b, labels_b, extra[module], cfg)
        both = jnp.stack([cfg.weight_unsup * found.unsup, cfg.weight_sup * found.sup])
        total += jnp.sum(both if weights is None else weights[module] * both)
        parts |= {f"{module}_unsup": found.unsup, f"{module}_sup": found.sup}
    return Terms(total, parts)


def cap_loss(
    reps_bd: Array,
    logits_bc: Array,
    batch: Mapping[str, Any],
    tune: TuneConfig,
    contrast: ContrastConfig | None,
) -> Terms:
    """`w_CE CE + w_KD KD + contrast` of one batch.

    Args:
      reps_bd: representations of the current model.
      logits_bc: its answers.
      batch: `label` [b]; `teacher` [b, c] where there is one (else plain cross-entropy); with
        contrast `index` [b], `banks`, `extra` and perhaps `weights` by module.
      tune: weights and temperature.
      contrast: None: no contrast.

    Raises:
      ValueError: see `contrastive_loss`.
    """
    label = batch["label"]
    ce, _ = loss.cross_entropy(logits_bc.astype(jnp.float32), label)
    accuracy = jnp.mean(jnp.argmax(logits_bc, -1) == label)
    parts = {"ce": ce, "accuracy": accuracy}
    if "teacher" not in batch:
        return Terms(ce, parts)
    kd = distillation(logits_bc, batch["teacher"], tune.temperature)
    total = tune.weight_ce * ce + tune.weight_kd * kd
    parts["kd"] = kd
    if contrast is not None:
        found = contrast_terms(
            reps_bd, batch["banks"], batch["index"], label, batch["extra"], contrast,
            batch.get("weights"),
        )  # fmt: skip
        total, parts = total + found.value, parts | found.parts
    return Terms(total, parts)
