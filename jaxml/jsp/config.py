"""Configurations of the policy and of its training."""

import dataclasses
from typing import Literal

from jaxml.core import check


@dataclasses.dataclass(frozen=True)
class SPNConfig:
    """The self-labelled pointer network.

    Attributes:
      hidden: width per head of the first graph attention.
      embed: width of the second, whose heads are averaged.
      heads: of both graph attentions and of the decoder's attention.
      context_hidden: width per head of the decoder's attention over jobs.
      context: width of what it makes of them.
      classifier: hidden width of the network that scores a job.
      slope: of the leaky ReLU below zero.
      feature_version: "paper", or "reference" for the authors' released weights, see `features`.
    """

    hidden: int = 64
    embed: int = 128
    heads: int = 3
    context_hidden: int = 64
    context: int = 128
    classifier: int = 128
    slope: float = 0.15
    feature_version: Literal["paper", "reference"] = "paper"

    def __post_init__(self):
        check.types(self)
        check.positive(hidden=self.hidden, embed=self.embed, heads=self.heads)
        check.positive(context_hidden=self.context_hidden, context=self.context)
        check.positive(classifier=self.classifier)
        check.between(0, 1, slope=self.slope)


@dataclasses.dataclass(frozen=True)
class SLIMConfig:
    """Self-labelling training: sample, keep the best, imitate it.

    Attributes:
      model: sizes of the policy.
      shapes: (jobs, machines) of the training instances; updates take them in turn.
      low: shortest duration.
      high: longest duration.
      two_sets: share of instances whose jobs visit half of the machines before the other half.
      batch: instances per update, over all devices.
      num_samples: schedules sampled per instance, beta.
      num_steps: updates in all.
      lr: learning rate of Adam at the start, after `warmup` of the run.
      final_lr: at the end; a half cosine in between.
      warmup: share of the run in which the rate rises from 0.
      clip_norm: largest global norm of a gradient.
      ema_decay: of the running mean of the parameters, which then is the one kept; None: none.
      rollout_dtype: of the decoder's wide products while sampling; the loss is always float32.
      eval_every: updates between validations; 0: none.
      eval_instances: generated validation instances per shape.
      eval_samples: sampled schedules per validation instance, beside the greedy one.
      seed: of everything.
    """

    model: SPNConfig = dataclasses.field(default_factory=SPNConfig)
    shapes: tuple[tuple[int, int], ...] = ((10, 10),)
    low: int = 5
    high: int = 199
    two_sets: float = 0.0
    batch: int = 8
    num_samples: int = 32
    num_steps: int = 100
    lr: float = 1e-3
    final_lr: float = 2e-4
    warmup: float = 0.02
    clip_norm: float = 1.0
    ema_decay: float | None = None
    rollout_dtype: Literal["float32", "bfloat16"] = "float32"
    eval_every: int = 0
    eval_instances: int = 16
    eval_samples: int = 128
    seed: int = 0

    def __post_init__(self):
        check.types(self)
        check.positive(batch=self.batch, num_samples=self.num_samples, lr=self.lr)
        check.positive(final_lr=self.final_lr, clip_norm=self.clip_norm)
        check.positive(eval_instances=self.eval_instances, eval_samples=self.eval_samples)
        check.at_least(0, num_steps=self.num_steps, eval_every=self.eval_every, low=self.low)
        check.at_least(self.low, high=self.high)
        check.between(0, 1, warmup=self.warmup, two_sets=self.two_sets)
        if not self.shapes:
            raise ValueError("shapes must hold at least one (jobs, machines); got none.")
        for jobs, machines in self.shapes:
            check.positive(jobs=jobs, machines=machines)


PAPER_SHAPES = ((10, 10), (15, 10), (15, 15), (20, 10), (20, 15), (20, 20))
"""Shapes of the paper's training instances, 5,000 of each."""
WIDE_SHAPES = (*PAPER_SHAPES, (30, 10), (30, 15))
"""Two more, nearer to the largest instances that are solved in the end."""

PRESETS: dict[str, SLIMConfig] = {
    "tiny": SLIMConfig(
        SPNConfig(8, 16, 2, 8, 16, 16), ((4, 3), (5, 4)), batch=4, num_samples=8, num_steps=4
    ),
    "laptop": SLIMConfig(num_steps=160, lr=4e-4, final_lr=2e-4, warmup=0.08),
    "h100": SLIMConfig(
        shapes=PAPER_SHAPES,
        batch=32,
        num_samples=256,
        num_steps=100_000,
        lr=4e-4,
        final_lr=2e-5,
        warmup=0.02,
        ema_decay=0.998,
        rollout_dtype="bfloat16",
        eval_every=300,
    ),
    "h100-wide": SLIMConfig(
        shapes=WIDE_SHAPES,
        two_sets=0.35,
        batch=32,
        num_samples=256,
        num_steps=100_000,
        lr=3e-4,
        final_lr=1e-5,
        warmup=0.02,
        ema_decay=0.998,
        rollout_dtype="bfloat16",
        eval_every=200,
    ),
    "paper": SLIMConfig(
        shapes=PAPER_SHAPES,
        batch=16,
        num_samples=256,
        num_steps=37_500,
        lr=2e-4,
        final_lr=2e-4,
        warmup=0.0,
        clip_norm=1e9,
        eval_every=156,
        eval_instances=100,
    ),
}
"""Trainings by name. `paper` has the authors' settings with fresh instances at every update;
`h100-wide` goes on from `h100` with larger shops and routes in two sets."""
