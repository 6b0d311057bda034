"""Which runs a study makes at each scale."""

import dataclasses
from collections.abc import Mapping

from jaxml.univilm.config import TrainConfig
from jaxml.univilm.study import Run


def gpu_plan(stages: Mapping[str, TrainConfig], num_clips: int) -> list[Run]:
    """Pre-training on narration and what it is worth: the runs that matter most come first.

    Args:
      stages: joint and full with P = 3, and fine-tuning.
      num_clips: of a step of stage I, the same for P = 1 and 3.
    """
    joint, full = stages["joint"], stages["full"]
    tune, write = stages["retrieval"], stages["caption"]
    align = stages["retrieval_align"]
    single = dataclasses.replace(joint, batch_size=num_clips, n_pair=1)
    without = dataclasses.replace(full, enhanced_v=0.0)
    plan = [
        Run("joint", joint, "narrated", "", ("retrieval", "swapped")),
        Run("full", full, "narrated", "joint", ("retrieval", "align", "caption")),
        Run("retrieval-all", tune, "all", "full", ("retrieval", "swapped")),
        Run("caption-all", write, "all", "full", ("caption", "noise")),
        Run("caption", write, "labelled", "full", ("caption", "noise")),
        Run("caption-scratch", write, "labelled", "", ("caption",)),
        Run("retrieval", tune, "labelled", "full", ("retrieval",)),
        Run("retrieval-scratch", tune, "labelled", "", ("retrieval",)),
        Run("joint-p1", single, "narrated", "", ("retrieval",)),
        Run("align-all", align, "all", "retrieval-all", ("align",)),
        Run("full-no-enhanced", without, "narrated", "joint", ("caption",)),
        Run("caption-no-enhanced", write, "labelled", "full-no-enhanced", ("caption",)),
    ]
    for loss in full.losses:
        kept = tuple(other for other in full.losses if other != loss)
        less, name = dataclasses.replace(full, losses=kept), f"full-no-{loss}"
        plan += [
            Run(name, less, "narrated", "joint"),
            Run(f"retrieval-no-{loss}", tune, "labelled", name, ("retrieval",)),
            Run(f"caption-no-{loss}", write, "labelled", name, ("caption",)),
        ]
    return plan


def laptop_plan(stages: Mapping[str, TrainConfig]) -> list[Run]:
    """One pre-training on all clips; captions from a tenth of them, with and without it."""
    return [
        Run("joint", stages["joint"], "all", "", ("retrieval", "swapped"), 1),
        Run("caption", stages["caption"], "labelled", "joint", ("caption", "noise")),
        Run("caption-scratch", stages["caption"], "labelled", "", ("caption",)),
    ]
