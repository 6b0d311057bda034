"""Named models and packages, and where their numbers come from.

Of the paper's architecture section only the abstracts could be read. So `default` holds orders of
magnitude of public sources, and `paper_v1` is calibrated by us to the two ratios of the first
version's abstract. Neither is a configuration of the paper.
"""

import dataclasses
from typing import Literal

from jaxml.chiplet.config import DieConfig, EnergyConfig, LinkConfig, Mesh2D, ModelShape, System
from jaxml.core import check

_SHAPES = """
bert-large     1024  24  16  16   4096 0  512
bloom-1.7b     2048  24  16  16   8192 0 2048
gpt3-6.7b      4096  32  32  32  16384 0 2048
tinyllama-1.1b 2048  22  32   4   5632 1 2048
llama2-7b      4096  32  32  32  11008 1 4096
llama2-13b     5120  40  40  40  13824 1 4096
llama2-70b     8192  80  64   8  28672 1 4096
llama3.1-405b 16384 126 128   8  53248 1 8192
"""


def _shapes() -> dict[str, ModelShape]:
    rows = (line.split() for line in _SHAPES.strip().splitlines())
    return {name: ModelShape(*map(int, numbers)) for name, *numbers in rows}


MODELS: dict[str, ModelShape] = _shapes()
"""Published shapes: width, layers, heads, key-value heads, feed-forward width, gated, length."""

FAMILIES: dict[str, tuple[tuple[str, int], ...]] = {
    "v1": (("bert-large", 4), ("bloom-1.7b", 8), ("gpt3-6.7b", 16), ("llama2-70b", 32)),
    "v2": (("tinyllama-1.1b", 4), ("llama2-7b", 8), ("llama2-70b", 16), ("llama3.1-405b", 32)),
}
"""Weak scaling: models whose width doubles, with the side of the square mesh that trains each."""

SEQUENCES_PER_BATCH = 256


def default(rows: int = 16, cols: int = 16) -> System:
    """Orders of magnitude of public sources.

    UCIe standard package at 16 GT/s: 32 GB/s per module and direction, 0.5 pJ/bit; 10 ns a hop
    with router (ours); DDR5-6400 channels of 51.2 GB/s; SRAM about 1.75 pJ/byte at 7-12 nm.
    """
    return System(mesh=Mesh2D(rows, cols))


def paper_v1(rows: int = 32, cols: int = 32) -> System:
    """The package calibrated by us to the abstract's 4.98 x time and 2.35 x energy on Llama2-70B.

    Changed against `default`: 8 arrays of 32 x 32 (16.4 TFLOP/s a die), 20 ns a hop, 0.5 pJ a
    multiply-add, 1.1 W static power a die.
    """
    base = default(rows, cols)
    return dataclasses.replace(
        base,
        die=dataclasses.replace(base.die, num_arrays=8, array_rows=32, array_cols=32),
        link=LinkConfig(latency_s=20e-9),
        energy=EnergyConfig(mac_pj=0.5, static_w=1.1),
    )


SYSTEMS = {"default": default, "paper_v1": paper_v1}


def ucie(package: Literal["standard", "advanced"], gts: float, latency_s: float = 10e-9) -> System:
    """The default package with the links of a UCIe module.

    Args:
      package: "standard" has 16 lanes and 0.5 pJ/bit, "advanced" 64 lanes and 0.25 pJ/bit.
      gts: transfers per second and lane, in GT/s.
      latency_s: of a hop, router included.

    Raises:
      ValueError: an unknown package, or a rate that is not positive.

    >>> ucie("advanced", 32).link.bandwidth_bytes_s / 1e9
    256.0
    """
    check.one_of(("standard", "advanced"), package=package)
    check.positive(gts=gts)
    lanes, pj = {"standard": (16, 0.5), "advanced": (64, 0.25)}[package]
    return dataclasses.replace(
        default(),
        link=LinkConfig(bandwidth_bytes_s=lanes * gts * 1e9 / 8, latency_s=latency_s),
        energy=EnergyConfig(nop_pj_bit=pj),
    )


TINY_DIE = DieConfig(num_arrays=2, array_rows=8, array_cols=8)
"""A die for tests and examples."""
