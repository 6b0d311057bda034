"""Merging trained networks: canonical correlation (CCA Merge) and every alternative.

Any network given as `(variables, x) -> logits` will do; its feature spaces are read off its trace:

>>> import jax
>>> import jax.numpy as jnp
>>> from jaxml import merge
>>> def apply(p, x):
...     return jnp.maximum(x @ p["a"], 0) @ p["b"]
>>> def init(seed):
...     keys = jax.random.split(jax.random.key(seed))
...     return {"a": jax.random.normal(keys[0], (4, 6)), "b": jax.random.normal(keys[1], (6, 3))}
>>> x = jax.random.normal(jax.random.key(9), (64, 4))
>>> network = merge.network.of_function(apply, init(0), x)
>>> result = merge.merge(network, [init(0), init(1)], [x], merge.MergeConfig("cca"))
>>> apply(result.variables, x).shape
(64, 3)
"""

from jaxml.merge import network
from jaxml.merge.align import Alignment, cca_align, permute_align
from jaxml.merge.basis import apply_alignment, average
from jaxml.merge.config import METHODS, MergeConfig
from jaxml.merge.covariance import (
    covariance_finalize,
    covariance_init,
    covariance_update,
)
from jaxml.merge.evaluate import accuracy, barrier, curve, ensemble_logits, interpolate
from jaxml.merge.families import bert_spec, mlp_spec, resnet_spec, vgg_spec
from jaxml.merge.infer import infer_spec
from jaxml.merge.merging import MergeResult, merge
from jaxml.merge.network import Network
from jaxml.merge.repair import rescale, reset_batch_stats
from jaxml.merge.siblings import dare, slerp, task_arithmetic, ties
from jaxml.merge.spec import MergeSpec, Node, ParamAxis
from jaxml.merge.weights import weight_matching
from jaxml.merge.zipit import zipit_match

__all__ = [
    "METHODS",
    "Alignment",
    "MergeConfig",
    "MergeResult",
    "MergeSpec",
    "Network",
    "Node",
    "ParamAxis",
    "accuracy",
    "apply_alignment",
    "average",
    "barrier",
    "bert_spec",
    "cca_align",
    "covariance_finalize",
    "covariance_init",
    "covariance_update",
    "curve",
    "dare",
    "ensemble_logits",
    "infer_spec",
    "interpolate",
    "merge",
    "mlp_spec",
    "network",
    "permute_align",
    "rescale",
    "reset_batch_stats",
    "resnet_spec",
    "slerp",
    "task_arithmetic",
    "ties",
    "vgg_spec",
    "weight_matching",
    "zipit_match",
]
