"""What dispatch needs to know of one call, all of it static."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Problem:
    """Sizes, dtype and features of a call, and the device it would run on."""

    batch: int
    seq_len: int
    num_heads: int
    key_width: int
    value_width: int
    dtype: str
    packed: bool
    platform: str
    device_kind: str
    state_dtype: str = "float32"


def describe(
    q_bthc: jax.Array, v_bthe: jax.Array, packed: bool, state: jax.Array | None = None
) -> Problem:
    """The problem of concrete or traced arguments."""
    batch, seq_len, num_heads, key_width = q_bthc.shape
    return Problem(
        batch=batch,
        seq_len=seq_len,
        num_heads=num_heads,
        key_width=key_width,
        value_width=v_bthe.shape[-1],
        dtype=jnp.dtype(q_bthc.dtype).name,
        packed=packed,
        platform=jax.default_backend(),
        device_kind=jax.devices()[0].device_kind,
        state_dtype="float32" if state is None else jnp.dtype(state.dtype).name,
    )
