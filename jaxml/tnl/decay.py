"""How fast each head of each layer forgets: fixed, never learned."""

from typing import get_args

import numpy as np

from jaxml.core import check
from jaxml.tnl.config import DecayRule


def alibi_slopes(num_heads: int) -> np.ndarray:
    """The slopes of ALiBi, float64 [h]: `2^(-8 h / H)` for a power of two.

    Otherwise those of the largest power of two below, followed by every other one of twice that.

    >>> alibi_slopes(6).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]
    """
    check.positive(num_heads=num_heads)
    power = 1 << (num_heads.bit_length() - 1)
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    if power == num_heads:
        return slopes
    return np.concatenate([slopes, alibi_slopes(2 * power)[::2][: num_heads - power]])


def log_decay(num_heads: int, num_layers: int, rule: DecayRule = "tnl") -> np.ndarray:
    """Log of the decay of every layer and head, float32 [l, h], all <= 0.

    Deeper layers forget less; the last one hardly at all.

    Args:
      num_heads: h.
      num_layers: l.
      rule: "tnl", the released code: `-alibi_h (1 - i / (L - 1) + 1e-5)` for layer i (a single
        layer takes the factor of the first); "minimax": the same over `L - 1 + 1e-5`; "paper",
        equation 10 of arXiv 2405.17381: `-(8 h / H) (1 - i / L)`, h from 1; "none": nothing is
        ever forgotten, an ablation.

    Raises:
      ValueError: another rule, or a size below 1.
    """
    check.positive(num_heads=num_heads, num_layers=num_layers)
    check.one_of(get_args(DecayRule), rule=rule)
    if rule == "none":
        return np.zeros((num_layers, num_heads), np.float32)
    layer = np.arange(num_layers)
    if rule == "paper":
        slopes = 8.0 * np.arange(1, num_heads + 1) / num_heads
        factor = 1 - layer / num_layers
    else:
        slopes = alibi_slopes(num_heads)
        depth = max(num_layers - 1, 1) if rule == "tnl" else num_layers - 1 + 1e-5
        factor = 1 - layer / depth + 1e-5
    return -(factor[:, None] * slopes).astype(np.float32)
