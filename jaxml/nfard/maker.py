"""Making a zoo's members: group by group, kept on disk, scored on the test images."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxml.core import files, rng, storage
from jaxml.core.types import PyTree
from jaxml.inputs.order import generator
from jaxml.inputs.splits import Images, Splits
from jaxml.nfard import access, networks, reuse
from jaxml.nfard.members import Built, Order, OutOfTimeError, ZooConfig, ZooEntry
from jaxml.nfard.train import Job, train


class Maker:
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


def accuracy(order: Order, variables: PyTree, test: Images, norm: networks.Norm) -> float:
    """Percent right on the test images, of the member's own label set."""
    ask = access.from_params(networks.evaluator(order.arch, norm), variables)
    labels = test.label
    if reuse.KINDS.get(order.kind, reuse.KINDS["ft_all"]).targets == "groups":
        labels = reuse.groups(labels, 2 * order.arch.num_classes)
    got = ask(test.image, np.arange(len(labels))).labels
    return 100 * float(np.mean(got == labels))
