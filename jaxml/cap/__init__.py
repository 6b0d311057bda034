"""Contrastive pruning: an encoder made small while it keeps what it, and its past, knew.

Later work without contrast does better on the paper's tasks: SMP (2022) reports MNLI 83.7 and 81.8
at 10 % and 3 % kept. What contrast adds here is what the study measures, arm beside arm.

>>> import jax.numpy as jnp
>>> from jaxml import cap
>>> int(cap.topk_mask(jnp.arange(12.0).reshape(3, 4), keep=0.25).sum())
3
"""

from jaxml.cap.bank import Bank, draw_extra, encode, shard, take
from jaxml.cap.compaction import CompactConfig, compact, export, fold_masks
from jaxml.cap.config import (
    PRESETS,
    CAPConfig,
    ContrastConfig,
    PruneConfig,
    TuneConfig,
    arms,
    check_comparable,
)
from jaxml.cap.contrast import Contrast, contrastive_loss
from jaxml.cap.count import Sparsity, sparsity
from jaxml.cap.importance import Masks, first_order_importance, full_masks, structured_step
from jaxml.cap.masks import (
    cubic_threshold,
    masked_dense,
    nm_mask,
    score_penalty,
    sigmoid_mask,
    straight_through,
    topk_mask,
    topk_masks,
)
from jaxml.cap.objective import cap_loss, distillation
from jaxml.cap.train import Pruned, Teacher, prune, teach
from jaxml.cap.transform import pruning
from jaxml.cap.wanda import calibrated, wanda_masks

__all__ = [
    "PRESETS",
    "Bank",
    "CAPConfig",
    "CompactConfig",
    "Contrast",
    "ContrastConfig",
    "Masks",
    "PruneConfig",
    "Pruned",
    "Sparsity",
    "Teacher",
    "TuneConfig",
    "arms",
    "calibrated",
    "cap_loss",
    "check_comparable",
    "compact",
    "contrastive_loss",
    "cubic_threshold",
    "distillation",
    "draw_extra",
    "encode",
    "export",
    "first_order_importance",
    "fold_masks",
    "full_masks",
    "masked_dense",
    "nm_mask",
    "prune",
    "pruning",
    "score_penalty",
    "shard",
    "sigmoid_mask",
    "sparsity",
    "straight_through",
    "structured_step",
    "take",
    "teach",
    "topk_mask",
    "topk_masks",
    "wanda_masks",
]
