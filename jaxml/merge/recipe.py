"""What of CCA Merge is re-measured: every method beside base networks and ensembles."""

import dataclasses

from jaxml.core import config
from jaxml.inputs import splits as data
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.merge import cifar, claims, pictures, study
from jaxml.merge.results import Results
from jaxml.merge.train import ArchConfig, TrainConfig
from jaxml.report.recipe import Context, Outcome, Recipe


@dataclasses.dataclass(frozen=True)
class Part:
    """One study of a recipe.

    Attributes:
      name: in titles and files.
      kind: which claims it decides (`claims.promises`); "" for none.
      dataset: of `jaxml.inputs`.
      study: the experiment.
    """

    name: str
    kind: str
    dataset: str
    study: study.StudyConfig


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """The studies of one scale."""

    parts: tuple[Part, ...]


def run(cfg: RecipeConfig, context: Context) -> Outcome:
    """Trains, merges and scores each part; what an interrupted run trained is taken over."""
    outcome = Outcome([], [], [], [], [])
    gathered = [_part(part, context) for part in cfg.parts]
    return dataclasses.replace(
        outcome,
        claims=[c for one in gathered for c in one.claims],
        figures=[f for one in gathered for f in one.figures],
        tables=[t for one in gathered for t in one.tables],
        data=list(dict.fromkeys(d for one in gathered for d in one.data)),
    )


def _part(part: Part, context: Context) -> Outcome:
    splits, why = _data(part)
    context.say(f"{part.name}: {splits.name}, {len(splits.train.label)} training images")
    shape = splits.train.image.shape[1:]
    arch = dataclasses.replace(part.study.train.arch, image=shape)
    cfg = dataclasses.replace(part.study, train=dataclasses.replace(part.study.train, arch=arch))
    folder = context.folder / f"{part.name}-{config.fingerprint(cfg)}".replace(" ", "-")
    models = study.base_networks(cfg, splits.train, folder, context.seed, context.say)
    results = study.run(cfg, splits, models, context.seed, context.say)
    if why:
        decided = claims.missing(part.kind, why, context.scale) if part.kind else []
    else:
        decided = (
            claims.decide(part.kind, results.rows, context.scale, part.name) if part.kind else []
        )
    return Outcome(decided, *_shown(part, results), [], [_provenance(splits)])


def _shown(part: Part, results: Results) -> tuple[list, list]:
    slug = part.name.replace(" ", "-").replace(",", "")
    figures, tables = [], [pictures.accuracies(part.name, results.rows)]
    if part.study.split == "classes":
        tables.append(pictures.accuracies(f"{part.name}: classes known", results.rows, "per_task"))
    if len(part.study.counts) > 1:
        title = f"Accuracy against number of networks: {part.name}"
        figures.append(pictures.against_count(f"merge-{slug}-count", title, results.rows))
    if results.curves:
        title = f"Loss between two networks: {part.name}"
        figures.append(pictures.barriers(f"merge-{slug}-barrier", title, results.curves))
    if part.kind:
        tables += [
            pictures.regularisation(f"Choice of gamma: {part.name}", results),
            pictures.nodes(f"Nodes: {part.name}", results),
        ]
    return figures, tables


def _data(part: Part) -> tuple[data.Splits, str]:
    """The images, and why they are not the real ones if they are not."""
    cfg = part.study
    try:
        return data.load(part.dataset, cfg.num_train, cfg.num_held_out), ""
    except DataNotFoundError as error:
        made = data.synthetic(cfg.num_train, cfg.num_held_out, part.study.train.arch.image)
        return made, f"this run drew synthetic images: {error}"


def _provenance(splits: data.Splits) -> tuple[str, str, str, str]:
    return (splits.name, splits.where, splits.digest(), splits.licence)


_MLP = TrainConfig(ArchConfig("mlp"), epochs=12, batch_size=200, over="unroll")
_FASHION = study.StudyConfig(
    _MLP, num_models=10, counts=(2, 3, 5, 10), num_sets=4, num_held_out=10_000
)
_SHORT = dataclasses.replace(
    _FASHION,
    train=dataclasses.replace(_MLP, epochs=1, warmup=0.3),
    num_models=4,
    counts=(2,),
    num_sets=2,
    curve_points=0,
)
_LAPTOP = RecipeConfig(
    (
        Part("MLP on FashionMNIST", "mlp", "fashion_mnist", _FASHION),
        Part("The same after one epoch", "", "fashion_mnist", _SHORT),
    )
)
_TINY = RecipeConfig(
    (
        Part(
            "MLP on FashionMNIST",
            "mlp",
            "fashion_mnist",
            study.StudyConfig(
                TrainConfig(ArchConfig("mlp", hidden=(16, 12)), 2, 50, over="unroll"),
                num_models=4,
                counts=(2, 3),
                num_sets=1,
                gammas=(0.1, 1.0),
                num_train=400,
                num_held_out=100,
                num_align=200,
                align_batch=100,
                curve_points=3,
            ),
        ),
    )
)
_GPU = RecipeConfig(
    (
        Part("VGG11 on CIFAR-10", "vgg", "cifar10_complete", cifar.study_config("vgg")),
        Part(
            "ResNet20x4 on CIFAR-10",
            "resnet",
            "cifar10_complete",
            cifar.study_config("resnet", num_models=20, counts=(2, 3, 4, 5, 10, 20), epochs=60),
        ),
        *(
            Part(
                f"VGG11 on CIFAR-10, split {split}",
                split,
                "cifar10_complete",
                cifar.study_config("vgg", num_models=8, counts=(2,), split=split),
            )
            for split in ("80-20", "classes")
        ),
    )
)

RECIPE = Recipe(
    system="merge",
    title="CCA Merge",
    about="Networks trained from different seeds are merged by canonical correlation and by five "
    "other methods, and compared with their parents and their ensemble.",
    scales={"tiny": _TINY, "laptop": _LAPTOP, "h100": _GPU},
    run=run,
)
