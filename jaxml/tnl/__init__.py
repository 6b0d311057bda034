"""TransNormerLLM: a language model whose cost per token does not grow with the context.

Train one with `jaxml tnl train`, or compose the parts:

>>> import jax
>>> from jaxml import tnl
>>> model = tnl.language_model(tnl.PRESETS["tiny"])
>>> params = model.init(jax.random.key(0))
>>> prompt = jax.numpy.zeros((1, 4), "int32")
>>> tnl.generate(model, params, prompt, jax.random.key(1), num_tokens=8).shape
(1, 8)
"""

from jaxml.tnl.config import PRESETS, TNLConfig, TransformerConfig, hybrid, same_size
from jaxml.tnl.decay import alibi_slopes, log_decay
from jaxml.tnl.generate import generate
from jaxml.tnl.generator import Generator
from jaxml.tnl.language_model import LanguageModel
from jaxml.tnl.model import language_model
from jaxml.tnl.objective import loss_fn, next_token
from jaxml.tnl.weights import load as load_checkpoint
from jaxml.tnl.weights import save as save_checkpoint
from jaxml_kernels.lightning_attention import (
    lightning_attention,
    lightning_attention_sharded,
    lightning_attention_step,
)

__all__ = [
    "PRESETS",
    "Generator",
    "LanguageModel",
    "TNLConfig",
    "TransformerConfig",
    "alibi_slopes",
    "generate",
    "hybrid",
    "language_model",
    "lightning_attention",
    "lightning_attention_sharded",
    "lightning_attention_step",
    "load_checkpoint",
    "log_decay",
    "loss_fn",
    "next_token",
    "same_size",
    "save_checkpoint",
]
