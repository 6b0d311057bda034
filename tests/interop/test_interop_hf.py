"""The folder form of BERT is reachable from interop."""

import jax
import numpy as np

from jaxml.core import param
from jaxml.interop import hf
from jaxml.models import bert


def test_save_and_load(tmp_path):
    cfg = bert.BertConfig(11, 4, 2, 2, 6, 5)
    rng = np.random.default_rng(0)
    p = jax.tree.map(
        lambda q: rng.normal(size=q.shape).astype(np.float32),
        bert.params(cfg),
        is_leaf=param.is_param,
    )
    hf.save_bert(tmp_path, cfg, p)
    got, loaded = hf.load_bert(tmp_path)
    assert got == cfg
    jax.tree.map(np.testing.assert_array_equal, loaded, p)
