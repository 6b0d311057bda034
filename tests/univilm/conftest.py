"""A model of four tiny components, and clips of random features."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxml.univilm import model, words
from jaxml.univilm import weights as names
from jaxml.univilm.clips import Clips
from jaxml.univilm.config import PRESETS

SENTENCES = ("a red ball rolls", "the cat sleeps", "two dogs run fast", "a bird sings",
             "rain falls", "the sun is up", "one child reads a book", "snow melts")  # fmt: skip


@pytest.fixture(scope="session")
def cfg():
    return dataclasses.replace(PRESETS["tiny"].model, vocab_size=32, cross_layers=3,
                               decoder_layers=2, text_layers=2)  # fmt: skip


@pytest.fixture(scope="session")
def params(cfg):
    """Drawn ten times wider than the initialiser does, so that nothing is near zero."""
    made = model.init(jax.random.key(1), cfg)
    draw = iter(range(10**6))

    def one(x):
        noise = np.random.default_rng(next(draw)).standard_normal(x.shape)
        return (x + 0.2 * noise).astype(x.dtype)

    return jax.tree.map(one, made)


@pytest.fixture(scope="session")
def tensors(cfg, params):
    """The same under the authors' names, in float64."""
    return {n: x.astype(np.float64) for n, x in names.export_tensors(cfg, params).items()}


@pytest.fixture(scope="session")
def vocab():
    return words.Words.of(SENTENCES)


@pytest.fixture(scope="session")
def clips(cfg, vocab):
    """Eight clips of four videos."""
    draw = np.random.default_rng(0)
    ids = words.encode(vocab, SENTENCES, 9)
    return Clips(
        draw.standard_normal((8, 5, cfg.video_dim)).astype(np.float32),
        np.array([5, 3, 4, 5, 1, 2, 5, 4], np.int32), ids, ids.copy(), np.arange(8) // 2,
    )  # fmt: skip
