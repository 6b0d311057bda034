"""A small encoder and a small task that tests share."""

import dataclasses

import jax
import pytest

from jaxml import cap
from jaxml.cap import data, encoder
from jaxml.models.bert import BertConfig

MODEL = BertConfig(128, 16, 2, 4, 24, 16)


@pytest.fixture(scope="session")
def small():
    return encoder.random(jax.random.key(0), MODEL)


@pytest.fixture(scope="session")
def task():
    return data.load("generated", data.words(128), max_len=12, num_train=40, num_valid=32)


@pytest.fixture(scope="session")
def tiny():
    return cap.PRESETS["tiny"]


@pytest.fixture(scope="session")
def gradual(tiny):
    """The tiny run by movement."""
    prune = cap.PruneConfig("movement", 0.1, 2)
    tune = dataclasses.replace(tiny.tune, steps=6)
    return dataclasses.replace(tiny, prune=prune, tune=tune)


@pytest.fixture(scope="session")
def teacher(small, task, tiny):
    return cap.teach(small, task, tiny, say=lambda text: None)
