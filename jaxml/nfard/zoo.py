"""A Reuse Zoo: victims, copies of every kind, thieves, independent models, all trained here.

The pool of training images is cut in two: victims train on the first part, whoever reuses them on
the second. Members are kept on disk as they are made; a second run goes on from there.
"""

from collections.abc import Callable
from pathlib import Path

from jaxml.core import check, config
from jaxml.core.types import PyTree
from jaxml.inputs.order import generator
from jaxml.inputs.splits import Splits
from jaxml.nfard import reuse
from jaxml.nfard.maker import Maker, accuracy
from jaxml.nfard.members import (
    Built,
    Order,
    OutOfTimeError,
    ZooConfig,
    ZooEntry,
    by_worth,
    groups,
    orders,
)
from jaxml.nfard.train import train

__all__ = [
    "Built",
    "Order",
    "OutOfTimeError",
    "ZooConfig",
    "ZooEntry",
    "accuracy",
    "build_zoo",
    "by_worth",
    "orders",
    "shuffled",
    "train_alone",
]


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
      OutOfTimeError: the deadline came first; what is made is kept, and if a detector can be
        judged by it, `built` of the error.
      ValueError: more rows asked for than there are, or a victim that did not learn.
    """
    total = len(data.train.label)
    check.between(1, total, rows=cfg.num_victim_rows + cfg.num_reuse_rows)
    maker = Maker(cfg, data, seed, _home(cfg, data, seed, folder), say, deadline)
    try:
        _make(maker, cfg)
    except OutOfTimeError as error:
        _attack(maker, cfg)
        error.built = maker.finished() if _can_judge(maker, cfg) else None
        raise
    _attack(maker, cfg)
    return maker.finished()


def _make(maker: Maker, cfg: ZooConfig) -> None:
    wanted = orders(cfg)
    if cfg.train.over == "loop":  # each by itself: what is worth most comes first
        for order in by_worth(wanted):
            maker.make([order])
        return
    for group in groups([o for o in wanted if not o.source], cfg):
        maker.make(group)
    for group in groups([o for o in wanted if o.source], cfg):
        maker.make(group)


def _attack(maker: Maker, cfg: ZooConfig) -> None:
    for i, a in enumerate(cfg.victims):
        tuned = f"ft_all-v{i}"
        if tuned in maker.made:
            for name in reuse.ATTACKS:
                order = Order(f"{name}-v{i}", name, f"victim{i}", cfg.archs[a], i)
                maker.attack(order, tuned)


def _can_judge(maker: Maker, cfg: ZooConfig) -> bool:
    """Every victim, every reference, and one of every kind are there."""
    needed = [o.name for o in orders(cfg) if o.kind in ("victim", "reference")]
    needed += [f"{kind}-v{i}" for i in range(len(cfg.victims)) for kind in cfg.kinds]
    return all(name in maker.made for name in needed)


def _home(cfg: ZooConfig, data: Splits, seed: int, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    # `over` and the like change no member enough to matter, but a mixed zoo would be no zoo.
    place = folder / f"{config.fingerprint(cfg)}-{data.digest()[:8]}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    return place


def train_alone(cfg: ZooConfig, data: Splits) -> PyTree:
    """The first victim, kept nowhere: what a member costs."""
    maker, order = Maker(cfg, data, 0, None, lambda text: None), orders(cfg)[0]
    return train(cfg.train, order.arch, data.train, [maker.job(order)])[0]


def shuffled(data: Splits, seed: int) -> Splits:
    """Training images in another order, so that both parts are alike."""
    rows = generator(seed, "zoo").permutation(len(data.train.label))
    return data._replace(train=data.train.rows(rows))
