"""What a zoo is made of: its configuration, the members to make, the members made."""

import dataclasses
from typing import Any, NamedTuple

from jaxml.core import check
from jaxml.core.types import PyTree
from jaxml.models.arch import ArchConfig
from jaxml.nfard import access, networks, reuse
from jaxml.nfard.access import Access
from jaxml.nfard.train import TrainConfig


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
    """The deadline came before the zoo was whole.

    Attributes:
      built: the members made so far, or None where a victim or references are missing.
    """

    built: Built | None = None


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


def groups(wanted: list[Order], cfg: ZooConfig) -> list[list[Order]]:
    """Members that may train together: one architecture, one number of rows and epochs."""
    found: dict[Any, list[Order]] = {}
    for order in wanted:
        how = reuse.KINDS.get(order.kind)
        length = "fresh" if how is None or how.start == "fresh" else "copy" if how.bits else "tune"
        pruned = how is not None and how.prune > 0
        rows = "" if how else order.kind.replace("victim", "same").replace("reference", "same")
        found.setdefault((order.arch, length, pruned, rows), []).append(order)
    return list(found.values())


def by_worth(wanted: list[Order]) -> list[Order]:
    """Members in the order in which a zoo that may have to do without the last ones is made.

    Victims and references first, then one copy of every kind, independent models, further copies.
    """
    first = ("victim", "reference")
    last = {"same": 4, "other_half": 5, "reference_half": 6}

    def place(order: Order) -> int:
        if order.kind in first:
            return first.index(order.kind)
        if order.kind in last:
            return last[order.kind]
        how, again = reuse.KINDS[order.kind], order.name.split("-v")[1].count("-")
        return 7 if again else 3 if how.start == "fresh" else 2

    return sorted(wanted, key=place)
