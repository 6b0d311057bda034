"""Lightning attention: linear attention with a constant decay per head, O(T) in time and memory.

Recurrence, per head with decay `lam = exp(log_decay)`::

    S_t = lam * S_{t-1} + k_t v_t^T        o_t = q_t^T S_t

`reference.py` is that definition; every other file must agree with it. Arrays are laid out
[batch, time, heads, width]; states [batch, heads, key width, value width] in float32.
"""

from jaxml_kernels.lightning_attention.api import lightning_attention
from jaxml_kernels.lightning_attention.sharded import (
    lightning_attention_local,
    lightning_attention_sharded,
)
from jaxml_kernels.lightning_attention.step import lightning_attention_step

__all__ = [
    "lightning_attention",
    "lightning_attention_local",
    "lightning_attention_sharded",
    "lightning_attention_step",
]
