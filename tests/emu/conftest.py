"""A small encoder and the toy sentences that tests share."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxml.emu import data, pool
from jaxml.emu.config import PRESETS
from jaxml.emu.encoder import PAD, Encoder, identity_head
from jaxml.emu.laser import words
from jaxml.nn import linear


def _body(p, ids):
    """A bag of words and one layer: it compiles in no time."""
    present = (ids != PAD)[..., None]
    x = (p["embedding"][jnp.maximum(ids, 0)] * present).sum(1) / jnp.maximum(present.sum(1), 1)
    return jnp.tanh(x @ p["upper"])


@pytest.fixture(scope="session")
def small():
    draw = [jax.random.normal(jax.random.key(i), s) for i, s in enumerate(((64, 6), (6, 8)))]
    params = {"body": dict(zip(("embedding", "upper"), draw, strict=True))}
    params["head"] = identity_head(8)
    table = "body/embedding"
    return Encoder("bag", params, _body, linear.apply, words(64), table, 8)


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
