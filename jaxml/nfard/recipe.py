"""What of NFARD is re-measured: a Reuse Zoo built here, judged white-box and black-box."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxml import cap, merge
from jaxml.cap import data as texts
from jaxml.cap import encoder as encoders
from jaxml.cap import evaluate as reading
from jaxml.cap.count import kernels
from jaxml.inputs import splits
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.models.arch import ArchConfig
from jaxml.models.bert import BertConfig
from jaxml.nfard import cifar, claims, detector, pictures, study, zoo
from jaxml.nfard.access import Access, Apply, from_params
from jaxml.nfard.baselines import BASELINES
from jaxml.nfard.config import DetectorConfig
from jaxml.nfard.train import TrainConfig
from jaxml.nfard.zoo import ZooEntry
from jaxml.report.recipe import Context, Outcome, Recipe


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Text classifiers that are pruned: a kind of reuse beside the zoo.

    Attributes:
      task: of `jaxml.cap`; owner and thief have half of its training sentences each.
      model: the encoder, trained from nothing.
      run: how classifiers are trained, and how the thief prunes.
      max_len: tokens of a sentence.
      num_train: most training sentences.
      references: independent classifiers that thresholds come from.
      independent: others, which are judged.
      n_suite: sentences of the suites.
    """

    task: str = "agnews"
    model: BertConfig = BertConfig(4096, 64, 2, 4, 128, 32)  # noqa: RUF009
    run: cap.CAPConfig = cap.CAPConfig(  # noqa: RUF009
        cap.PruneConfig("structured", 0.5, 2, calibration=512, start="fine"),
        cap.TuneConfig(32, 250, 60, 5e-4, 1e-3),
        None,
    )
    max_len: int = 32
    num_train: int = 8000
    references: int = 5
    independent: int = 3
    n_suite: int = 2000


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """One scale.

    Attributes:
      dataset: of `jaxml.inputs`.
      zoo: what is built.
      n_suite: samples of our suites.
      n_queries: of every method, where methods are compared.
      baselines: compared with.
      repeats: of timings.
      text: pruned language models.
    """

    dataset: str
    zoo: zoo.ZooConfig
    n_suite: int = 2000
    n_queries: int = 1000
    baselines: tuple[str, ...] = tuple(BASELINES)
    repeats: int = 2
    text: TextConfig = TextConfig()  # noqa: RUF009


NEW_ZOO = 11
"""Added to the seed. Choices were made on the zoos of 0 and 1, and on those from 101 on: what is
measured is another zoo, named before it was built."""


def run(cfg: RecipeConfig, context: Context) -> Outcome:
    """Builds the zoo (members of an interrupted run are taken over), judges, compares, times."""
    data, why = load(cfg)
    seed = context.seed + NEW_ZOO
    data = zoo.shuffled(data, seed)
    context.say(f"{data.name}: zoo of {len(zoo.orders(cfg.zoo))} members and attacks")
    built = zoo.build_zoo(cfg.zoo, data, seed, context.folder, context.say)
    built.entries.extend(merged_members(built, data))
    measured = study.measure(
        built,
        data.test,
        cfg.n_suite,
        cfg.n_queries,
        cfg.baselines,
        cfg.repeats,
        context.say,
    )
    found = study.summary(measured)
    found["texts"], no_texts = pruned_texts(cfg.text, seed, context.say)
    about = f"{data.name}, {len(built.entries)} members"
    decided = (
        claims.missing(context.scale, why)
        if why
        else claims.decide(found, context.scale, about, {"texts": no_texts})
    )
    figures = [
        pictures.distances("nfard-black", found, "black", "output_contrast"),
        pictures.distances("nfard-cosine", found, "black, D_cos", "output"),
    ]
    tables = [
        pictures.scores(found),
        pictures.kinds(found),
        *([pictures.texts(found["texts"])] if found["texts"] else []),
        pictures.members(study.members(built)),
    ]
    source = (data.name, data.where, data.digest(), data.licence)
    return Outcome(decided, figures, tables, [], [source])


def merged_members(built: zoo.Built, data: splits.Splits) -> list[ZooEntry]:
    """Every victim averaged with an independent MLP whose neurons were permuted to its own."""
    found = []
    batches = list(splits.Batches(data.train.rows(slice(2000)), 500))
    for victim in built.of("victim"):
        others = [e for e in built.of("same") if e.arch == victim.arch]
        cfg: Any = victim.arch.model
        if victim.arch.kind != "mlp" or not others:
            continue
        network = merge.network.of_mlp(cfg)
        pair = [{"params": e.params["params"]} for e in (victim, others[0])]
        how = merge.MergeConfig("permute", repair="none")
        params = {**merge.merge(network, pair, batches, how).variables, "state": {}}
        name = f"merged-{victim.name}"
        order = zoo.Order(name, "merged", victim.name, victim.arch, 0)
        score = zoo.accuracy(order, params, data.test, built.norm)
        found.append(ZooEntry(name, "merged", victim.name, victim.arch, params, score))
    return found


def pruned_texts(
    cfg: TextConfig, seed: int, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], str]:
    """Two text classifiers before pruned copies of each and independent ones, as a black box.

    A copy has half of the heads and neurons, and was distilled on other sentences; or half of
    the single weights, and nothing else was done to it.

    Returns:
      A row for each pair, and why there is none.
    """
    try:
        task = texts.load(
            cfg.task, texts.words(cfg.model.vocab_size), max_len=cfg.max_len,
            num_train=cfg.num_train, num_valid=200,
        )  # fmt: skip
    except DataNotFoundError as error:
        return [], str(error)
    half = len(task.train.label) // 2
    own, other = (task._replace(train=task.train.rows(s)) for s in (slice(half), slice(half, None)))
    number = 2 + cfg.references + cfg.independent
    made = [_classifier(cfg, own, 100 * seed + i, say) for i in range(number)]
    victims, rest = made[:2], [taught.params for _, taught in made[2:]]
    suspects = {f"independent{i}": p for i, p in enumerate(rest[cfg.references :])}
    for i, one in enumerate(victims):
        suspects |= {f"{k}-v{i}": p for k, p in _pruned(cfg, other, one, say).items()}
    how = DetectorConfig(n_suite=cfg.n_suite)
    references = [_access(cfg.model, p) for p in rest[: cfg.references]]
    right = {name: _right(cfg.model, p, task.test) for name, p in suspects.items()}
    rows = []
    for i, (_, taught) in enumerate(victims):
        asked = _access(cfg.model, taught.params), references, task.test.ids, how
        found = detector.calibrate(*asked)
        for name, p in suspects.items():
            said = detector.detect(None, _access(cfg.model, p), task.test.ids, found, how)
            row = {"victim": f"victim{i}", "suspect": name, "reuse": name.endswith(f"-v{i}")}
            numbers = {"distance": said.distance, "threshold": said.threshold, "p": said.p_value}
            rows.append({**row, "verdict": said.reuse, **numbers, "accuracy": right[name]})
    return rows, ""


def _classifier(
    cfg: TextConfig, task: texts.Task, seed: int, say: Callable[[str], None]
) -> tuple[encoders.Encoder, cap.Teacher]:
    encoder = encoders.random(jax.random.key(seed), cfg.model)
    run = dataclasses.replace(cfg.run, seed=seed)
    return encoder, cap.teach(encoder, task, run, None, say)


def _pruned(
    cfg: TextConfig,
    task: texts.Task,
    victim: tuple[encoders.Encoder, cap.Teacher],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What a thief makes of a victim, by kind."""
    encoder, taught = victim
    said = reading.answers(taught.params, cfg.model, task.train).logits
    found = cap.prune(encoder, task, taught._replace(logits=said), cfg.run, None, say)
    whole = taught.params["encoder"]
    masks = {n: cap.topk_mask(jnp.abs(k), 0.5) for n, k in kernels(whole).items()}
    return {
        "structured": found.params,
        "weights": {**taught.params, "encoder": cap.fold_masks(whole, masks)},
    }


@functools.cache
def _apply(model: BertConfig) -> Apply:
    def apply(params: Any, ids: Any) -> Any:
        return encoders.classify(params, encoders.represent(params["encoder"], model, ids))

    return apply


def _access(model: BertConfig, params: Any) -> Access:
    return from_params(_apply(model), {k: params[k] for k in ("encoder", "head")})


def _right(model: BertConfig, params: Any, test: texts.Examples) -> float:
    return reading.accuracy(reading.answers(params, model, test).logits, test.label)


def load(cfg: RecipeConfig) -> tuple[splits.Splits, str]:
    """The images, and why they are not the real ones if they are not."""
    rows = cfg.zoo.num_victim_rows + cfg.zoo.num_reuse_rows
    try:
        return splits.load(cfg.dataset, rows, 0), ""
    except DataNotFoundError as error:
        made = splits.synthetic(max(rows, 4 * cfg.n_suite), 0, cfg.zoo.archs[0].image)
        return made, f"this run drew synthetic images: {error}"


MLPS = (ArchConfig("mlp", hidden=(128, 64)), ArchConfig("mlp", hidden=(96,)))
LAPTOP = zoo.ZooConfig(MLPS, train=TrainConfig(8, 100, lr=0.05, weight_decay=2e-3))
"""Two architectures on FashionMNIST, two victims, everything trained under `vmap`."""
TINY = RecipeConfig(
    "fashion_mnist",
    zoo.ZooConfig(
        (ArchConfig("mlp", hidden=(16, 12)), ArchConfig("mlp", hidden=(14,))),
        train=TrainConfig(8, 50, lr=0.05),
        num_victim_rows=600,
        num_reuse_rows=600,
        kinds=("ft_all", "prune50", "int8", "fp16", "transfer", "steal_labels"),
        same=1,
        other_half=1,
        references=3,
        references_half=0,
    ),
    n_suite=200,
    n_queries=100,
    baselines=("deepjudge_jsd", "akh"),
    repeats=1,
    text=TextConfig(
        "generated",
        BertConfig(256, 16, 1, 2, 16, 16),
        cap.CAPConfig(
            cap.PruneConfig("structured", 0.5, 1, calibration=32, start="fine"),
            cap.TuneConfig(16, 6, 3, 1e-3, 1e-3),
            None,
        ),
        max_len=16,
        num_train=200,
        references=3,
        independent=1,
        n_suite=100,
    ),
)

RECIPE = Recipe(
    system="nfard",
    title="Reuse detection by neuron functionality",
    about="Models are copied, fine-tuned, pruned, quantised, transferred, distilled and stolen; a "
    "detector in the manner of NFARD, calibrated with independent models, tells which.",
    scales={
        "tiny": TINY,
        "laptop": RecipeConfig("fashion_mnist", LAPTOP, repeats=1),
        "h100": RecipeConfig("cifar10_complete", cifar.zoo_config()),
    },
    run=run,
)
