"""A Reuse Zoo: victims, copies of every kind, thieves, independent models, all trained here.

The pool of training images is cut in two: victims train on the first part, whoever reuses them on
the second. Members are kept on disk as they are made; a second run goes on from there.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxml.core import check, config, files, rng, storage
from jaxml.core.types import PyTree
from jaxml.inputs.order import generator
from jaxml.inputs.splits import Images, Splits
from jaxml.models.arch import ArchConfig
from jaxml.nfard import access, networks, reuse
from jaxml.nfard.access import Access
from jaxml.nfard.train import Job, TrainConfig, train


@dataclasses.dataclass(frozen=True)
class ZooConfig:
    """What is in the zoo.

    Attributes:
      archs: two architectures with the same number of classes.
      victims: index of the architecture of each victim.
      train: of networks that start fresh.
      num_victim_rows: training images of victims and of independent models of the same data.
      num_reuse_rows: of whoever reuses, and of independent models of other data; from the end.
      kinds: of reuse, made from each victim.
      copies: how many of each trained kind, from different seeds.
      same: independent models per architecture, on the victims' data.
      other_half: independent models per architecture, on the other data.
      references: per architecture, on the victims' data: what an owner can train.
      references_half: likewise, each on another random half of it.
      tune_epochs: passes of fine-tuning and of a fresh head; pruning has a third, at least one.
      tune_lr: share of the peak rate.
      distill_lr: the same for distillation, whose T^2 makes gradients large.
      min_accuracy: share of the weakest victim's accuracy below which a member is rejected.
    """

    archs: tuple[ArchConfig, ArchConfig]
    victims: tuple[int, ...] = (0, 0)
    train: TrainConfig = TrainConfig()  # noqa: RUF009
    num_victim_rows: int = 12_000
    num_reuse_rows: int = 12_000
    kinds: tuple[str, ...] = tuple(reuse.KINDS)
    copies: int = 1
    same: int = 3
    other_half: int = 3
    references: int = 8
    references_half: int = 3
    tune_epochs: int = 3
    tune_lr: float = 0.3
    distill_lr: float = 0.2
    min_accuracy: float = 0.6

    def __post_init__(self):
        check.positive(num_victim_rows=self.num_victim_rows, copies=self.copies)
        check.positive(num_reuse_rows=self.num_reuse_rows, tune_epochs=self.tune_epochs)
        check.positive(tune_lr=self.tune_lr, distill_lr=self.distill_lr)
        check.between(0, 1, min_accuracy=self.min_accuracy)
        for kind in self.kinds:
            check.one_of(reuse.KINDS, kinds=kind)
        for arch in self.victims:
            check.between(0, 1, victims=arch)
        if len({a.num_classes for a in self.archs}) > 1:
            raise ValueError("archs must have the same number of classes.")


class ZooEntry(NamedTuple):
    """One member.

    Attributes:
      name: unique.
      kind: "victim", "reference", "reference_half", a key of `reuse.KINDS` or `reuse.ATTACKS`, or
        "same", "other_half" for independent models.
      source: the victim it derives from, or "".
      arch: its architecture.
      params: its variables.
      accuracy: on the test images, of its own label set, in percent.
    """

    name: str
    kind: str
    source: str
    arch: ArchConfig
    params: PyTree
    accuracy: float


class Built(NamedTuple):
    """The zoo: members that work, and (name, accuracy) of those rejected."""

    entries: list[ZooEntry]
    rejected: list[tuple[str, float]]
    norm: networks.Norm

    def of(self, *kinds: str) -> list[ZooEntry]:
        """Members of these kinds."""
        return [e for e in self.entries if e.kind in kinds]

    def access(self, entry: ZooEntry, batch_size: int = 1000) -> Access:
        """White-box access to a member."""
        return access.from_params(
            networks.evaluator(entry.arch, self.norm),
            entry.params,
            layer="last",
            batch_size=batch_size,
        )


class OutOfTimeError(RuntimeError):
    """The deadline came before the zoo was whole."""


class Order(NamedTuple):
    """A member to make."""

    name: str
    kind: str
    source: str
    arch: ArchConfig
    seed: int


def orders(cfg: ZooConfig) -> list[Order]:
    """Everything that is trained from nothing but data, then everything made from a victim."""
    found = [Order(f"victim{i}", "victim", "", cfg.archs[a], i) for i, a in enumerate(cfg.victims)]
    seed = 1000
    for kind, num in (
        ("same", cfg.same),
        ("other_half", cfg.other_half),
        ("reference", cfg.references),
        ("reference_half", cfg.references_half),
    ):
        for index, arch in enumerate(cfg.archs):
            for i in range(num):
                found.append(Order(f"{kind}-{'ab'[index]}{i}", kind, "", arch, seed))
                seed += 1
    for i, a in enumerate(cfg.victims):
        for kind in cfg.kinds:
            how = reuse.KINDS[kind]
            arch = cfg.archs[a if how.arch == "same" else 1 - a]
            if how.targets == "groups":
                arch = dataclasses.replace(arch, num_classes=arch.num_classes // 2)
            for c in range(cfg.copies if how.start != "copy" else 1):
                name = f"{kind}-v{i}" + (f"-{c}" if c else "")
                found.append(Order(name, kind, f"victim{i}", arch, seed))
                seed += 1
    return found


def build_zoo(
    cfg: ZooConfig,
    data: Splits,
    seed: int = 0,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
    deadline: float | None = None,
) -> Built:
    """Makes every member, or takes it from the folder.

    Args:
      cfg: what to make.
      data: training images are cut in two; accuracies are of the test images.
      seed: of everything.
      folder: where members are kept; None keeps none.
      say: prints progress and each member's accuracy.
      deadline: by `time.monotonic()`; nothing begins after it.

    Raises:
      OutOfTimeError: the deadline came first; what is made is kept.
      ValueError: more rows asked for than there are, or a victim that did not learn.
    """
    total = len(data.train.label)
    check.between(1, total, rows=cfg.num_victim_rows + cfg.num_reuse_rows)
    maker = _Maker(cfg, data, seed, _home(cfg, data, seed, folder), say, deadline)
    wanted = orders(cfg)
    for group in _groups([o for o in wanted if not o.source], cfg):
        maker.make(group)
    for group in _groups([o for o in wanted if o.source], cfg):
        maker.make(group)
    for i, a in enumerate(cfg.victims):
        tuned = f"ft_all-v{i}"
        if tuned in maker.made:
            for name in reuse.ATTACKS:
                order = Order(f"{name}-v{i}", name, f"victim{i}", cfg.archs[a], i)
                maker.attack(order, tuned)
    return maker.finished()


def _home(cfg: ZooConfig, data: Splits, seed: int, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    # `over` and the like change no member enough to matter, but a mixed zoo would be no zoo.
    place = folder / f"{config.fingerprint(cfg)}-{data.digest()[:8]}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _groups(wanted: Sequence[Order], cfg: ZooConfig) -> list[list[Order]]:
    """Members that may train together: one architecture, one number of rows and epochs."""
    found: dict[Any, list[Order]] = {}
    for order in wanted:
        how = reuse.KINDS.get(order.kind)
        length = "fresh" if how is None or how.start == "fresh" else "copy" if how.bits else "tune"
        pruned = how is not None and how.prune > 0
        rows = "" if how else order.kind.replace("victim", "same").replace("reference", "same")
        found.setdefault((order.arch, length, pruned, rows), []).append(order)
    return list(found.values())


class _Maker:
    """Makes members in groups and remembers them."""

    def __init__(
        self,
        cfg: ZooConfig,
        data: Splits,
        seed: int,
        folder: Path | None,
        say: Callable[[str], None],
        deadline: float | None = None,
    ):
        self.deadline = deadline
        self.cfg, self.data, self.seed, self.folder, self.say = cfg, data, seed, folder, say
        self.made: dict[str, ZooEntry] = {}
        self.norm: networks.Norm = (data.train.mean, data.train.std)
        total = len(data.train.label)
        self.victim_rows = np.arange(cfg.num_victim_rows)
        self.reuse_rows = np.arange(total - cfg.num_reuse_rows, total)
        self.logits: dict[str, np.ndarray] = {}

    def make(self, group: Sequence[Order]) -> None:
        """Trains what of the group is not there yet."""
        missing = [order for order in group if not self._load(order)]
        if not missing:
            return
        self.say(f"{len(missing)} x {missing[0].arch.kind}: {', '.join(o.name for o in missing)}")
        copies = [o for o in missing if o.kind in reuse.KINDS and reuse.KINDS[o.kind].bits]
        for order in copies:
            victim = self.made[order.source]
            self._keep(order, reuse.quantised(victim.params, reuse.KINDS[order.kind].bits))
        jobs = [(o, self.job(o)) for o in missing if o not in copies]
        alone = self.cfg.train.over == "loop"
        for part in [[j] for j in jobs] if alone else [jobs] if jobs else []:
            if self.deadline is not None and time.monotonic() > self.deadline:
                raise OutOfTimeError(f"{len(self.made)} members are made; the time is over.")
            made = train(
                self.cfg.train, part[0][0].arch, self.data.train, [j for _, j in part], self.say
            )
            for (order, _), variables in zip(part, made, strict=True):
                self._keep(order, variables)

    def attack(self, order: Order, tuned: str) -> None:
        """A symmetry of a fine-tuned copy."""
        if not self._load(order):
            key = rng.fold(jax.random.key(self.seed), order.name)
            params = self.made[tuned].params
            self._keep(order, reuse.attacked(order.kind, key, order.arch, params))

    def finished(self) -> Built:
        """Members above the mark; the others by name and accuracy."""
        victims = [e.accuracy for e in self.made.values() if e.kind == "victim"]
        chance = 100 / self.cfg.archs[0].num_classes
        if self.cfg.min_accuracy and min(victims) < 2 * chance:
            raise ValueError(
                f"every victim must learn; got accuracies {victims} (chance {chance})."
            )
        mark = self.cfg.min_accuracy * min(victims)
        kept = [e for e in self.made.values() if e.accuracy >= mark]
        rejected = [(e.name, e.accuracy) for e in self.made.values() if e.accuracy < mark]
        for name, accuracy in rejected:
            self.say(f"rejected: {name} has {accuracy:.2f} %, below {mark:.2f} %")
        return Built(kept, rejected, self.norm)

    def job(self, order: Order) -> Job:
        """How a member is trained."""
        cfg, key = self.cfg, rng.fold(jax.random.key(self.seed), order.name)
        classes = order.arch.num_classes
        how = reuse.KINDS.get(order.kind)
        if how is None:
            rows = self.reuse_rows if order.kind == "other_half" else self.victim_rows
            if order.kind == "reference_half":
                rows = generator(self.seed, order.name).permutation(rows)[: len(rows) // 2]
            targets = np.eye(classes, dtype=np.float32)[self.data.train.label[rows]]
            start = networks.init(key, order.arch)
            return Job(start, rows, targets, order.seed, cfg.train.epochs, cfg.train.lr)
        victim, rows = self.made[order.source], self.reuse_rows
        fresh, soft = how.start == "fresh", how.targets == "soft"
        start = victim.params
        if fresh:
            start = networks.init(key, order.arch)
        elif how.start == "head":
            start = reuse.fresh_head(key, order.arch, victim.params)
        epochs = cfg.tune_epochs if not how.prune else max(1, cfg.tune_epochs // 3)
        lr = cfg.train.lr * (cfg.distill_lr if soft else 1.0 if fresh else cfg.tune_lr)
        return Job(
            start,
            rows,
            self._targets(how, order),
            order.seed,
            cfg.train.epochs if fresh else epochs,
            lr,
            reuse.TEMPERATURE if soft else 1.0,
            reuse.magnitude_mask(start["params"], how.prune) if how.prune else None,
            how.head_only,
        )

    def _targets(self, how: reuse.Kind, order: Order) -> np.ndarray:
        classes, labels = order.arch.num_classes, self.data.train.label[self.reuse_rows]
        eye = np.eye(classes, dtype=np.float32)
        if how.targets == "labels":
            return eye[labels]
        if how.targets == "groups":
            return eye[reuse.groups(labels, 2 * classes)]
        logits = self._victim_logits(order.source)
        if how.targets == "votes":
            return eye[logits.argmax(1)]
        return reuse.softened(logits, reuse.TEMPERATURE if how.targets == "soft" else 1.0)

    def _victim_logits(self, name: str) -> np.ndarray:
        """What the victim answers on the rows of whoever asks."""
        if name not in self.logits:
            victim = self.made[name]
            ask = access.from_params(networks.evaluator(victim.arch, self.norm), victim.params)
            probs = ask(self.data.train.image, self.reuse_rows).probs
            assert probs is not None
            self.logits[name] = np.log(np.maximum(probs, 1e-30))
        return self.logits[name]

    def _keep(self, order: Order, variables: PyTree) -> None:
        score = accuracy(order, variables, self.data.test, self.norm)
        if self.folder is not None:
            mean, std = (np.array(x) for x in self.norm)
            whole = {**variables, "norm": {"mean": mean, "std": std}}
            storage.save(self.folder / f"{order.name}.npz", whole)
            about = {"accuracy": score, "kind": order.kind, "source": order.source}
            files.write_text(self.folder / f"{order.name}.json", json.dumps(about) + "\n")
        self._remember(order, variables, score)

    def _remember(self, order: Order, variables: PyTree, score: float) -> None:
        self.made[order.name] = ZooEntry(
            order.name, order.kind, order.source, order.arch, variables, score
        )
        self.say(f"  {order.name:<20} {score:6.2f} %")

    def _load(self, order: Order) -> bool:
        if self.folder is None:
            return False
        path = self.folder / f"{order.name}.json"
        if not path.exists():
            return False
        about = json.loads(path.read_text())
        variables = storage.load(self.folder / f"{order.name}.npz")
        variables.pop("norm", None)
        self._remember(order, {"state": {}, **variables}, about["accuracy"])
        return True


def train_alone(cfg: ZooConfig, data: Splits) -> PyTree:
    """The first victim, kept nowhere: what a member costs."""
    maker, order = _Maker(cfg, data, 0, None, lambda text: None), orders(cfg)[0]
    return train(cfg.train, order.arch, data.train, [maker.job(order)])[0]


def accuracy(order: Order, variables: PyTree, test: Images, norm: networks.Norm) -> float:
    """Percent right on the test images, of the member's own label set."""
    ask = access.from_params(networks.evaluator(order.arch, norm), variables)
    labels = test.label
    if reuse.KINDS.get(order.kind, reuse.KINDS["ft_all"]).targets == "groups":
        labels = reuse.groups(labels, 2 * order.arch.num_classes)
    got = ask(test.image, np.arange(len(labels))).labels
    return 100 * float(np.mean(got == labels))


def shuffled(data: Splits, seed: int) -> Splits:
    """Training images in another order, so that both parts are alike."""
    rows = generator(seed, "zoo").permutation(len(data.train.label))
    return data._replace(train=data.train.rows(rows))
