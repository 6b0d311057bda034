"""What is trained and on what: models, dies, links, memory, energy, as records of numbers.

Every record is a pytree: `vmap`, `grad` and `jit` go through it. Units stand in the names.
"""

from typing import Any

from jaxml.chiplet.field import choice, field, record

type Number = Any
"""A Python number, an array of any shape under `vmap`, or a tracer."""


@record
class ModelShape:
    """A decoder-only Transformer (embedding and head are left out of the cost).

    Attributes:
      width: h, of the residual stream.
      num_layers: L.
      num_heads: query heads.
      num_kv_heads: key and value heads; must divide the query heads.
      ffn_width: f.
      gated: 1 for a gated feed-forward block (three matrices), 0 for a plain one (two).
      seq_len: tokens of a sequence.
    """

    width: Number = field("features", "a whole number >= 1")
    num_layers: Number = field("layers", "a whole number >= 1")
    num_heads: Number = field("heads", "a whole number >= 1")
    num_kv_heads: Number = field("heads", "a whole number >= 1")
    ffn_width: Number = field("features", "a whole number >= 1")
    gated: Number = field("", "0 or 1", default=1)
    seq_len: Number = field("tokens", "a whole number >= 1", default=4096)


@record
class Mesh2D:
    """The dies of a package: `rows` x `cols` with links to the neighbours and no wrap links."""

    rows: Number = field("dies", ">= 1", default=16)
    cols: Number = field("dies", ">= 1", default=16)

    @property
    def num_dies(self) -> Number:
        """N."""
        return self.rows * self.cols


@record
class DieConfig:
    """A computing die.

    Attributes:
      num_arrays: systolic arrays (weight stationary).
      array_rows: rows of an array: inputs.
      array_cols: columns of an array: outputs.
      clock_hz: of arrays and vector unit.
      vector_lanes: operations per cycle of the vector unit.
      weight_sram_bytes: buffer of weights and their gradients.
      activation_sram_bytes: buffer of activations; it decides how many tokens are a chunk.
      attention_efficiency: share of the peak that attention reaches.
    """

    num_arrays: Number = field("arrays", ">= 1", default=16)
    array_rows: Number = field("rows", ">= 1", default=16)
    array_cols: Number = field("columns", ">= 1", default=16)
    clock_hz: Number = field("Hz", "> 0", default=1e9)
    vector_lanes: Number = field("lanes", "> 0", default=512.0)
    weight_sram_bytes: Number = field("bytes", "> 0", default=20.0 * 2**20)
    activation_sram_bytes: Number = field("bytes", "> 0", default=8.0 * 2**20)
    attention_efficiency: Number = field("", "in (0, 1]", default=0.75)

    @property
    def peak_flop_s(self) -> Number:
        """FLOP per second of one die."""
        return 2 * self.num_arrays * self.array_rows * self.array_cols * self.clock_hz


@record
class LinkConfig:
    """A die-to-die link, one direction."""

    bandwidth_bytes_s: Number = field("bytes/s", "> 0", default=32e9)
    latency_s: Number = field("s", ">= 0", default=10e-9)


@record
class DramConfig:
    """Memory channels along the rim of the package."""

    channels_per_edge: Number = field("channels", "> 0", default=1.0)
    channel_bytes_s: Number = field("bytes/s", "> 0", default=51.2e9)
    efficiency: Number = field("", "in (0, 1]", default=0.85)


@record
class EnergyConfig:
    """Energy of one operation, one byte, one bit; and the static power of one die."""

    mac_pj: Number = field("pJ", ">= 0", default=1.0)
    sram_pj_byte: Number = field("pJ/byte", ">= 0", default=1.75)
    nop_pj_bit: Number = field("pJ/bit/hop", ">= 0", default=0.5)
    dram_pj_bit: Number = field("pJ/bit", ">= 0", default=15.0)
    static_w: Number = field("W", ">= 0", default=0.3)


@record
class FormatConfig:
    """Bytes of a number, by what it is.

    Attributes:
      activation_bytes: of an activation.
      partial_bytes: of a partial sum.
      weight_bytes: of a weight.
      gradient_bytes: of a gradient kept on the die.
      optimizer_bytes: DRAM traffic of the optimizer per parameter and batch.
    """

    activation_bytes: Number = field("bytes", "> 0", default=2.0)
    partial_bytes: Number = field("bytes", "> 0", default=2.0)
    weight_bytes: Number = field("bytes", "> 0", default=2.0)
    gradient_bytes: Number = field("bytes", "> 0", default=4.0)
    optimizer_bytes: Number = field("bytes", ">= 0", default=24.0)


@record
class TrainingConfig:
    """How the package trains.

    Attributes:
      nop_overlap: share of compute and link time that overlap (0: one after the other).
      recompute: keep no activations but each block's input; replay the forward pass in backward.
      fused: keep what passes between the layers of a block on the package.
      regather: gather the inputs again for the weight gradients, instead of keeping them gathered.
      lora_rank: 0 trains all weights; r > 0 freezes them and trains adapters of rank r.
    """

    nop_overlap: Number = field("", "in [0, 1]", default=0.0)
    recompute: bool = choice(default=False)
    fused: bool = choice(default=True)
    regather: bool = choice(default=True)
    lora_rank: int = choice(default=0)


@record
class System:
    """A package: mesh, dies, links, memory, energy, number formats, and how it trains."""

    mesh: Mesh2D = Mesh2D()
    die: DieConfig = DieConfig()
    link: LinkConfig = LinkConfig()
    dram: DramConfig = DramConfig()
    energy: EnergyConfig = EnergyConfig()
    formats: FormatConfig = FormatConfig()
    training: TrainingConfig = TrainingConfig()
