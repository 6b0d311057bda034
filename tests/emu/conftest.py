"""A small encoder and the toy sentences that tests share."""

import dataclasses

import jax
import pytest

from jaxml.emu import data, pool
from jaxml.emu.config import PRESETS
from jaxml.emu.laser import LaserConfig, laser_lstm


@pytest.fixture(scope="session")
def small():
    return laser_lstm(jax.random.key(0), LaserConfig(64, 8, 4, 1), max_len=8)


@pytest.fixture(scope="session")
def toy():
    return data.toy()


@pytest.fixture(scope="session")
def tiny():
    return dataclasses.replace(PRESETS["tiny"], lr=1e-2)


def pool_of(encoder, cfg, corpus):
    ids = {lang: encoder.ids(part.text) for lang, part in corpus.valid.items()}
    train = encoder.ids(corpus.train.text)
    return pool.prepare(encoder, cfg, train, corpus.train.label, ids, len(corpus.labels))


@pytest.fixture(scope="session")
def prepared(small, tiny, toy):
    """The pool of cached features."""
    return pool_of(small, tiny, toy)
