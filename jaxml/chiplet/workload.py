"""What one Transformer layer asks for: its four matrices, its parameters, its arithmetic."""

from typing import Literal, NamedTuple

from jaxml.chiplet.config import ModelShape, Number
from jaxml.chiplet.rounding import Rounding

Orientation = Literal["col", "row"]
BLOCKS = ("attention", "ffn")


class Linear(NamedTuple):
    """Y = X W of one layer.

    Attributes:
      name: of the matrix.
      inputs: K, width of X.
      outputs: M, width of Y.
      orientation: along which mesh axis X is gathered; the two alternate within a block.
    """

    name: str
    inputs: Number
    outputs: Number
    orientation: Orientation


class Layer(NamedTuple):
    """Widths of one layer and its matrices.

    Attributes:
      kv_width: kv, features of keys (and of values).
      head_dim: d, features of a head.
      linears: of the two blocks, in the order they are applied.
      params: weights of the two blocks.
    """

    kv_width: Number
    head_dim: Number
    linears: tuple[tuple[Linear, Linear], tuple[Linear, Linear]]
    params: tuple[Number, Number]


def layer(model: ModelShape, rounding: Rounding) -> Layer:
    """The layer of a model."""
    h, f, g = model.width, model.ffn_width, 1 + model.gated
    head_dim = rounding.ceil(h, model.num_heads)
    kv = head_dim * model.num_kv_heads
    attention = (Linear("qkv", h, h + 2 * kv, "col"), Linear("out", h, h, "row"))
    ffn = (Linear("up", h, g * f, "col"), Linear("down", f, h, "row"))
    params = (h * (h + 2 * kv) + h * h, (g + 1) * h * f)
    return Layer(kv, head_dim, (attention, ffn), params)


def num_params(model: ModelShape) -> Number:
    """Weights of all layers, without embedding, head and norms.

    >>> from jaxml.chiplet import presets
    >>> round(num_params(presets.MODELS["llama2-70b"]) / 1e9, 2)
    68.45
    """
    h, f, kv = model.width, model.ffn_width, model.width * model.num_kv_heads / model.num_heads
    return model.num_layers * (h * (h + 2 * kv) + h * h + (2 + model.gated) * h * f)


def layer_flop(model: ModelShape, params: Number, tokens: Number) -> Number:
    """FLOP of forward and backward of one layer, causal attention counted once."""
    return (6 * params + 12 * model.width * (model.seq_len + 1) / 2) * tokens
