"""What the records of each layout look like to TFDS, and how a record is stored."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxml.inputs.codec import encode_png

type Record = dict[str, Any]


def _pictures(first: Record) -> Record:
    shape = first["image"].shape if first["image"].ndim == 3 else (*first["image"].shape, 1)
    return {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(num_classes=10),
    }


def _texts(first: Record) -> Record:
    return {name: tfds.features.Text() for name in first}


def _job_shops(first: Record) -> Record:
    table = tfds.features.Tensor(shape=(None, None), dtype=np.int32, encoding="bytes")
    number = tfds.features.Scalar(dtype=np.int32)
    words = {"name": tfds.features.Text(), "status": tfds.features.Text()}
    numbers = dict.fromkeys(("lb", "ub", "ub_paper"), number)
    return {**words, "machines": table, "durations": table, **numbers}


FEATURES: dict[str, Callable[[Record], Record]] = {
    "idx": _pictures,
    "mosaic": _pictures,
    "strips": _pictures,
    "text": _texts,
    "articles": _texts,
    "jsonl": _texts,
    "parquet": _texts,
    "jobshop": _job_shops,
}
"""TFDS features from the first record, by `DataSet.layout`."""


def stored(record: Record) -> Record:
    """The record as TFDS takes it: images as PNG bytes (arrays would go through TensorFlow)."""
    return {name: encode_png(value) if name == "image" else value for name, value in record.items()}
