"""Operations of a training step per token: what model FLOPs utilisation is measured against.

A product of matrices counts two operations per weight forward and four backward. What the backward
pass recomputes is not counted, nor are norms and activations.
"""

from jaxml.core import param, tree
from jaxml.nn import attention
from jaxml.tnl.config import TNLConfig, TransformerConfig


def tnl(cfg: TNLConfig, seq_len: int) -> float:
    """Of a TransNormerLLM; only its softmax layers, if any, depend on the length.

    A lightning layer's state takes 2 c^2 operations per head to write and 2 c^2 to read.

    >>> from jaxml.tnl.config import PRESETS
    >>> round(tnl(PRESETS["385m"], 2048) / 1e9, 2)
    2.35
    """
    weights = cfg.vocab_size * cfg.width
    mixing = 0.0
    for stretch in cfg.stretches:
        glu = 3 * cfg.width * cfg.glu_width
        if stretch.softmax:
            weights += stretch.num * (_attention_weights(cfg) + glu)
            mixing += stretch.num * _softmax_mixing(cfg.width, seq_len)
        else:
            weights += stretch.num * (_lightning_weights(cfg) + glu)
            keys = cfg.head_dim * (2 if stretch.lrpe else 1)
            mixing += stretch.num * 3 * 4 * cfg.num_heads * keys * cfg.head_dim
    return 6.0 * weights + mixing


def transformer(cfg: TransformerConfig, seq_len: int) -> float:
    """Of the baseline; causal attention, half of the pairs."""
    layer = 4 * cfg.width**2 + 3 * cfg.width * cfg.mlp_width
    weights = cfg.vocab_size * cfg.width + cfg.num_layers * layer
    return 6.0 * weights + cfg.num_layers * _softmax_mixing(cfg.width, seq_len)


def _softmax_mixing(width: int, seq_len: int) -> float:
    """Scores and sums over half of `seq_len` keys, 2 operations each, and twice that backward."""
    return 3 * 4 * width * seq_len / 2


def _attention_weights(cfg: TNLConfig) -> int:
    return tree.num_elements(param.abstract(attention.params(cfg.attention)))


def _lightning_weights(cfg: TNLConfig) -> int:
    parts = 4 if cfg.gate and cfg.gate_rank is None else 3
    low_rank = 0 if cfg.gate_rank is None else 2 * cfg.width * cfg.gate_rank
    return (parts + 1) * cfg.width**2 + low_rank
