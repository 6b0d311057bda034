"""Is this model a copy of mine? Reuse detection by neuron functionality, in the manner of NFARD.

Of the paper (arXiv 2407.03883) the abstract was read; the method here is our own specification.

>>> import jax
>>> import jax.numpy as jnp
>>> import numpy as np
>>> from jaxml import nfard
>>> def apply(p, x):
...     return jnp.tanh(x @ p["a"]) @ p["b"]
>>> def init(seed):
...     keys = jax.random.split(jax.random.key(seed))
...     return {"a": jax.random.normal(keys[0], (4, 8)), "b": jax.random.normal(keys[1], (8, 3))}
>>> mine, *others = [nfard.from_params(apply, init(seed)) for seed in range(6)]
>>> x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
>>> cfg = nfard.DetectorConfig(n_suite=100)
>>> found = nfard.calibrate(mine, others, x, cfg)
>>> copy = nfard.from_params(apply, jax.tree.map(lambda w: 1.01 * w, init(0)))
>>> nfard.detect(mine, copy, x, found, cfg).reuse
True
"""

from jaxml.nfard.access import Answer, black, from_callable, from_params, from_table, hard
from jaxml.nfard.baselines import BASELINES
from jaxml.nfard.config import TESTS, DetectorConfig
from jaxml.nfard.detector import Calibration, Verdict, calibrate, detect
from jaxml.nfard.distance import Distance, nf_distance, nf_distances
from jaxml.nfard.evaluate import evaluate_zoo
from jaxml.nfard.functionality import HardLabelsError, clr_logits, nf_matrix
from jaxml.nfard.projection import (
    Projection,
    apply_projection,
    fit_projection,
    match_neurons,
)
from jaxml.nfard.score import auc, f1
from jaxml.nfard.suite import Suite, select_suite
from jaxml.nfard.threshold import Threshold, p_value, threshold
from jaxml.nfard.zoo import ZooConfig, ZooEntry, build_zoo

__all__ = [
    "BASELINES",
    "TESTS",
    "Answer",
    "Calibration",
    "DetectorConfig",
    "Distance",
    "HardLabelsError",
    "Projection",
    "Suite",
    "Threshold",
    "Verdict",
    "ZooConfig",
    "ZooEntry",
    "apply_projection",
    "auc",
    "black",
    "build_zoo",
    "calibrate",
    "clr_logits",
    "detect",
    "evaluate_zoo",
    "f1",
    "fit_projection",
    "from_callable",
    "from_params",
    "from_table",
    "hard",
    "match_neurons",
    "nf_distance",
    "nf_distances",
    "nf_matrix",
    "p_value",
    "select_suite",
    "threshold",
]
