"""Who trains on which examples: the same data, or parts of it."""

from typing import Literal

import numpy as np

from jaxml.core import check
from jaxml.inputs.order import generator

type Split = Literal["none", "80-20", "dirichlet", "classes"]
SPLITS = ("none", "80-20", "dirichlet", "classes")


def class_sets(num_classes: int, num_models: int, seed: int) -> list[list[int]]:
    """Random disjoint sets of classes, one for each network, as equal as can be.

    >>> sorted(c for part in class_sets(5, 2, seed=0) for c in part)
    [0, 1, 2, 3, 4]
    """
    check.between(1, num_classes, num_models=num_models)
    order = generator(seed, "class sets").permutation(num_classes)
    return [sorted(part.tolist()) for part in np.array_split(order, num_models)]


def split_rows(split: Split, labels: np.ndarray, num_models: int, seed: int) -> list[np.ndarray]:
    """The rows that each network trains on, sorted int64.

    Args:
      split: "none": all rows for everyone; "80-20": the first network has 20 % of the lower half
        of the classes and 80 % of the upper half, the second the rest; "dirichlet": each class
        is dealt out in proportions drawn from Dirichlet(0.5); "classes": disjoint class sets.
      labels: int [n].
      num_models: networks.
      seed: of the draws.

    Raises:
      ValueError: another word, "80-20" for other than two networks, or a network without rows.
    """
    check.one_of(SPLITS, split=split)
    check.positive(num_models=num_models)
    if split == "none":
        return [np.arange(len(labels)) for _ in range(num_models)]
    if split == "80-20" and num_models != 2:
        raise ValueError(f"split 80-20 is for two networks; got num_models={num_models}.")
    num_classes = int(labels.max()) + 1
    random = generator(seed, "split", split)
    if split == "classes":
        parts = class_sets(num_classes, num_models, seed)
        rows = [np.flatnonzero(np.isin(labels, part)) for part in parts]
    else:
        dealt: list[list[np.ndarray]] = [[] for _ in range(num_models)]
        for label in range(num_classes):
            if split == "dirichlet":
                shares = random.dirichlet(np.full(num_models, 0.5))
            else:
                shares = np.array([0.2, 0.8] if label < num_classes // 2 else [0.8, 0.2])
            mine = random.permutation(np.flatnonzero(labels == label))
            cuts = np.round(np.cumsum(shares)[:-1] * len(mine)).astype(int)
            for k, part in enumerate(np.split(mine, cuts)):
                dealt[k].append(part)
        rows = [np.sort(np.concatenate(parts)) for parts in dealt]
    if any(len(part) == 0 for part in rows):
        raise ValueError(f"split {split!r} leaves a network without rows; use another seed.")
    return rows
