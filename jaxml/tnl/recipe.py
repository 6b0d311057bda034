"""What of TransNormerLLM is re-measured: quality beside a Transformer, cost against length."""

import dataclasses

from jaxml.dist.mesh import MeshConfig
from jaxml.report import figure
from jaxml.report.recipe import Context, Outcome, Recipe, Sample, Table
from jaxml.tnl import cost, phases, quality
from jaxml.tnl import train as training
from jaxml.tnl.config import PRESETS
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """One scale of the recipe: the trainings, and the timings."""

    quality: quality.QualityConfig
    cost: cost.CostConfig


def run(cfg: RecipeConfig | phases.GPUConfig, context: Context) -> Outcome:
    """Trains both architectures over the learning rates, then times both against length.

    At full size, see `phases`.
    """
    if isinstance(cfg, phases.GPUConfig):
        return phases.run(cfg, context)
    tnl, corpus = quality.measure(cfg.quality, context, "tnl")
    softmax, _ = quality.measure(cfg.quality, context, "transformer")
    length_claims, length_figures, tables = cost.against_length(cfg.cost, context)
    decode_claims, decode_figures = cost.decoding(cfg.cost, context)
    curves = figure.lines(
        "tnl-loss",
        "Training loss",
        "Both at their best learning rate, first seed.",
        {quality.NAMES["tnl"]: tnl.curve, quality.NAMES["transformer"]: softmax.curve},
        x="updates",
        y="nats per token",
    )
    rates = tuple(
        (f"{lr:g}", f"{tnl.by_rate[lr]:.3f}", f"{softmax.by_rate[lr]:.3f}")
        for lr in cfg.quality.lrs
    )
    columns = ("rate", *quality.NAMES.values())
    where = corpus.provenance
    return Outcome(
        claims=[
            quality.compare(tnl, softmax, context.scale),
            quality.absolute(tnl, corpus, context.scale),
            *length_claims,
            *decode_claims,
            cost.against_quadratic(cfg.cost, context),
        ],
        figures=[curves, *length_figures, *decode_figures],
        tables=[
            Table(
                "Validation loss in nats, by learning rate",
                columns,
                rates,
            ),
            *tables,
        ],
        samples=[Sample("Text drawn from the trained TNL (temperature 0.8, top-p 0.95)", tnl.text)],
        data=[(where.name, where.where, where.sha256, where.licence)],
    )


_RUN = training.TrainConfig(
    model=PRESETS["laptop"],
    optim=OptimConfig(lr=1e-2, warmup_steps=50, weight_decay=0.1),
    run=RunConfig(num_steps=600, save_every=300, log_every=10),
    batch_size=8,
    mesh=MeshConfig(),
    eval_every=0,
)
_LAPTOP = RecipeConfig(
    quality.QualityConfig(_RUN, lrs=(2e-3, 5e-3, 1e-2, 2e-2), num_seeds=3, sample_tokens=500),
    cost.CostConfig(
        lengths=(1024, 2048, 4096, 8192, 16384),
        ratio=(2048, 16384),
        contexts=(1024, 4096, 16384, 65536),
        naive_length=8192,
        repeats=5,
    ),
)
_SHORT = dataclasses.replace(
    _RUN,
    model=PRESETS["tiny"],
    optim=OptimConfig(lr=1e-2),
    run=RunConfig(num_steps=4, save_every=2, log_every=1),
    eval_batches=2,
)
_TINY = RecipeConfig(
    quality.QualityConfig(_SHORT, lrs=(1e-2,), num_seeds=1, sample_tokens=20),
    cost.CostConfig((64, 512), (64, 512), contexts=(64, 256), naive_length=256, repeats=2),
)

RECIPE = Recipe(
    system="tnl",
    title="Lightning attention and TransNormerLLM",
    about="A small character language model on real English text, TNL and a softmax "
    "Transformer of the same size on the same tokens; then the cost of both against the length. "
    "On an H100: 385M and 1B against the length and beside another trainer, decoding, quality and "
    "ablations at 40M.",
    scales={"tiny": _TINY, "laptop": _LAPTOP, "h100": phases.GPUConfig()},
    run=run,
)
