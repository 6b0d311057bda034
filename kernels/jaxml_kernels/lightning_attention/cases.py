"""Named calls that tests, benchmark and tuning share."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """One call: sizes, dtype and how fast the heads forget.

    Attributes:
      slope: "alibi" (2^(-8 h / H), h from 1), "none" (decay 1), "steep" (log decay down to -8) or
        "slow" (1e-5 of alibi, the last layer of a TransNormerLLM).
    """

    name: str
    batch: int
    seq_len: int
    num_heads: int
    key_width: int
    value_width: int
    dtype: str = "bfloat16"
    slope: str = "alibi"

    @property
    def log_decay(self) -> np.ndarray:
        """Log decay of each head, float32 [h]."""
        h = np.arange(1, self.num_heads + 1)
        alibi = 2.0 ** (-8.0 * h / self.num_heads)
        rates = {
            "alibi": alibi,
            "none": np.zeros(self.num_heads),
            "steep": np.geomspace(8.0, 0.5, self.num_heads),
            "slow": 1e-5 * alibi,
        }
        return -rates[self.slope].astype(np.float32)

    def inputs(self, key: jax.Array) -> tuple[jax.Array, ...]:
        """Random q, k, v (unit variance over sqrt of the key width) and the log decay."""
        kq, kk, kv = jax.random.split(key, 3)
        dtype = jnp.dtype(self.dtype)
        wide = (self.batch, self.seq_len, self.num_heads, self.key_width)
        out = (*wide[:3], self.value_width)
        scale = self.key_width**-0.5
        q = (scale * jax.random.normal(kq, wide)).astype(dtype)
        k = jax.random.normal(kk, wide).astype(dtype)
        v = jax.random.normal(kv, out).astype(dtype)
        return q, k, v, jnp.asarray(self.log_decay)


LENGTHS = (1, 2, 7, 63, 64, 65, 127, 129, 257, 513, 1023)

SMALL = (
    *(Case(f"T{t}", 2, t, 3, 16, 24, "float32") for t in LENGTHS),
    Case("steep", 2, 257, 4, 16, 16, "float32", "steep"),
    Case("none", 1, 257, 2, 16, 16, "float32", "none"),
    Case("slow", 1, 513, 2, 32, 16, "float32", "slow"),
    Case("bf16", 2, 257, 2, 64, 64, "bfloat16"),
    Case("lrpe", 1, 129, 2, 32, 16, "float32"),
)
"""For correctness on any machine."""


def training(seq_len: int, tokens: int = 131_072, num_heads: int = 16, width: int = 128) -> Case:
    """A training call of fixed tokens: `tokens / seq_len` rows."""
    batch = max(1, tokens // seq_len)
    name = f"D{width} H{num_heads} N{seq_len} B{batch}"
    return Case(name, batch, seq_len, num_heads, width, width)
