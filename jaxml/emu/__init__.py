"""Semantic specialisation of multilingual sentence embeddings: labels in one language only.

>>> import jax.numpy as jnp
>>> from jaxml import emu
>>> emu.unit(jnp.array([[0.0, 2.0]])).tolist()
[[0.0, 1.0]]
"""

from jaxml.emu.config import PRESETS, EmuConfig, arms
from jaxml.emu.discriminator import LanguageDiscriminator, adversarial_loss, discriminator_loss
from jaxml.emu.encoder import Encoder, compact
from jaxml.emu.evaluate import acc_at_1, alignment, language_probe, leave_one_out, nearest
from jaxml.emu.loss import make_loss
from jaxml.emu.model import IntentModel, build, encoder_named, load, predict, save
from jaxml.emu.objective import (
    anchor_loss,
    center_loss,
    class_means,
    l2_softmax_loss,
    lowest_radius,
    pair_loss,
    softmax_loss,
    unit,
    update_centers,
)
from jaxml.emu.pool import Batches, Pool, prepare
from jaxml.emu.train import Specialised, fit

__all__ = [
    "PRESETS",
    "Batches",
    "EmuConfig",
    "Encoder",
    "IntentModel",
    "LanguageDiscriminator",
    "Pool",
    "Specialised",
    "acc_at_1",
    "adversarial_loss",
    "alignment",
    "anchor_loss",
    "arms",
    "build",
    "center_loss",
    "class_means",
    "compact",
    "discriminator_loss",
    "encoder_named",
    "fit",
    "l2_softmax_loss",
    "language_probe",
    "leave_one_out",
    "load",
    "lowest_radius",
    "make_loss",
    "nearest",
    "pair_loss",
    "predict",
    "prepare",
    "save",
    "softmax_loss",
    "unit",
    "update_centers",
]
