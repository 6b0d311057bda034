"""Numbers about training: running means, perplexity, throughput, model FLOPs utilisation."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Self

import flax.struct
import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array


@flax.struct.dataclass
class Mean:
    """A weighted mean that grows: a tree of arrays, for use inside scan and jit.

    >>> float(Mean.empty().add(jnp.array(2.0), 3.0).add(jnp.array(6.0), 1.0).value)
    3.0
    """

    total: Array
    weight: Array

    @classmethod
    def empty(cls) -> Self:
        """The mean of nothing."""
        return cls(total=jnp.zeros(()), weight=jnp.zeros(()))

    def add(self, mean: Array, weight: Array | float = 1.0) -> "Mean":
        """Adds items by their mean and their number (or weight); weight 0 adds nothing."""
        weight = jnp.asarray(weight, jnp.float32)
        share = jnp.where(weight > 0, mean.astype(jnp.float32) * weight, 0.0)
        return Mean(total=self.total + share, weight=self.weight + weight)

    @property
    def value(self) -> Array:
        """The mean, float32 []; NaN of nothing."""
        return self.total / self.weight


def perplexity(loss: Array | float) -> Array:
    """The exponential of a mean loss in nats."""
    return jnp.exp(jnp.asarray(loss, jnp.float32))


@dataclasses.dataclass
class Throughput:
    """Items per second between one call of `rate` and the next.

    >>> ticks = iter([0.0, 2.0])
    >>> meter = Throughput(clock=lambda: next(ticks))
    >>> meter.rate(0), meter.rate(100)
    (None, 50.0)
    """

    clock: Callable[[], float] = time.perf_counter
    _last: tuple[float, float] | None = None

    def rate(self, num_items: float) -> float | None:
        """The rate since the last call, given the number of items so far; None at the first."""
        now, last = self.clock(), self._last
        self._last = (now, num_items)
        if last is None or now <= last[0]:
            return None
        return (num_items - last[1]) / (now - last[0])


PEAK_FLOPS: dict[str, tuple[float, str]] = {
    "NVIDIA H200": (989e12, "NVIDIA H200 data sheet, bfloat16 without sparsity"),
    "NVIDIA H100": (989e12, "NVIDIA H100 data sheet, SXM, bfloat16 without sparsity"),
    "NVIDIA H100 PCIe": (756e12, "NVIDIA H100 data sheet, PCIe, bfloat16 without sparsity"),
    "NVIDIA A100": (312e12, "NVIDIA A100 data sheet, bfloat16 without sparsity"),
    "TPU v4": (275e12, "Google Cloud TPU v4 page, bfloat16"),
    "TPU v5 lite": (197e12, "Google Cloud TPU v5e page, bfloat16"),
    "TPU v5p": (459e12, "Google Cloud TPU v5p page, bfloat16"),
    "TPU v6 lite": (918e12, "Google Cloud TPU v6e page, bfloat16"),
}
"""Highest bfloat16 operations per second of one device, by the start of its kind, with source."""


def peak_flops(device_kind: str | None = None) -> float | None:
    """Peak bfloat16 FLOP/s of a device kind (default: this process's); None where unknown.

    >>> peak_flops("NVIDIA H100 80GB HBM3"), peak_flops("cpu")
    (989000000000000.0, None)
    """
    kind = jax.local_devices()[0].device_kind if device_kind is None else device_kind
    known = [name for name in PEAK_FLOPS if kind.startswith(name)]
    return PEAK_FLOPS[max(known, key=len)][0] if known else None


def mfu(
    items_per_second: float,
    flops_per_item: float,
    *,
    num_devices: int | None = None,
    device_kind: str | None = None,
) -> float | None:
    """Model FLOPs utilisation: the share of the devices' peak that the model's arithmetic uses.

    Args:
      items_per_second: over all devices, e.g. tokens.
      flops_per_item: of forward and backward together, without recomputation.
      num_devices: default: all of every process.
      device_kind: default: this process's.

    Returns:
      A fraction; None where the peak is unknown.

    Raises:
      ValueError: a negative rate, or a number of FLOPs that is not above zero.

    >>> round(mfu(1e5, 6e9, num_devices=2, device_kind="NVIDIA H200"), 3)
    0.303
    """
    check.at_least(0, items_per_second=items_per_second)
    check.positive(flops_per_item=flops_per_item)
    peak = peak_flops(device_kind)
    if peak is None:
        return None
    count = jax.device_count() if num_devices is None else num_devices
    return items_per_second * flops_per_item / (peak * count)


def duration(seconds: float) -> str:
    """A length of time for people.

    >>> duration(9.2), duration(75), duration(7260), duration(float("nan"))
    ('9s', '1m 15s', '2h 01m', '?')
    """
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
