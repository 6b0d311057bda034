"""Configurations of the TransNormerLLM and of the softmax Transformer it is compared with."""

import dataclasses
from typing import Literal, NamedTuple

from jaxml.core import check
from jaxml.nn.attention import AttentionConfig

DecayRule = Literal["tnl", "paper", "minimax", "none"]


class Stretch(NamedTuple):
    """Consecutive layers of one kind.

    Attributes:
      first: index of the first layer.
      num: how many.
      lrpe: with the learned rotary code.
      softmax: softmax attention in place of lightning attention.
    """

    first: int
    num: int
    lrpe: bool
    softmax: bool


@dataclasses.dataclass(frozen=True)
class TNLConfig:
    """A TransNormerLLM (arXiv 2405.17381).

    Attributes:
      vocab_size: v.
      width: d, of the residual stream.
      num_layers: l.
      num_heads: h; divides `width`.
      glu_width: f, hidden width of the gated linear unit.
      lrpe_layers: layers with the learned rotary code LRPE, which doubles their key width; the
        released models have it in layer 0 only.
      decay_rule: how slopes depend on head and layer, see `decay.log_decay`.
      scale_embedding: multiply token embeddings by sqrt(d).
      gate: multiply what a layer mixes by a linear gate before its output projection.
      gate_rank: of the gate's matrix, as two factors (TNL3); None: a full matrix.
      softmax_layers: layers with softmax attention instead, as in MiniMax-01, see `hybrid`.
      eps: of the norms.
      init_std: of every matrix.
      dtype: of the computation; parameters stay float32.
      remat: what the backward pass recomputes of each layer: "none", "full" or "dots" (all but
        the matrix products).
    """

    vocab_size: int
    width: int = 512
    num_layers: int = 9
    num_heads: int = 4
    glu_width: int = 1408
    lrpe_layers: tuple[int, ...] = (0,)
    decay_rule: DecayRule = "tnl"
    scale_embedding: bool = True
    gate: bool = True
    gate_rank: int | None = None
    softmax_layers: tuple[int, ...] = ()
    eps: float = 1e-6
    init_std: float = 0.02
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "full", "dots"] = "none"

    def __post_init__(self):
        check.types(self)
        check.positive(vocab_size=self.vocab_size, width=self.width, num_layers=self.num_layers)
        check.positive(glu_width=self.glu_width, eps=self.eps, init_std=self.init_std)
        check.divides(num_heads=self.num_heads, width=self.width)
        for layer in self.lrpe_layers:
            check.between(0, self.num_layers - 1, lrpe_layer=layer)
        for layer in self.softmax_layers:
            check.between(0, self.num_layers - 1, softmax_layer=layer)
        both = set(self.lrpe_layers) & set(self.softmax_layers)
        if both:
            raise ValueError(f"softmax_layers must not share layers with lrpe_layers; got {both}.")
        if self.gate_rank is not None:
            check.positive(gate_rank=self.gate_rank)
            if not self.gate:
                raise ValueError("gate_rank needs gate=True; got gate=False.")

    @property
    def head_dim(self) -> int:
        """Width of one head, c."""
        return self.width // self.num_heads

    @property
    def attention(self) -> AttentionConfig:
        """The softmax layers: heads of the same width, rotated by position."""
        return AttentionConfig(width=self.width, num_heads=self.num_heads)

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """The layers as stretches of one kind, in order."""
        found: list[Stretch] = []
        for layer in range(self.num_layers):
            kind = layer in self.lrpe_layers, layer in self.softmax_layers
            if found and found[-1][2:] == kind:
                found[-1] = found[-1]._replace(num=found[-1].num + 1)
            else:
                found.append(Stretch(layer, 1, *kind))
        return tuple(found)


def hybrid(cfg: TNLConfig, every: int = 8) -> TNLConfig:
    """One layer in `every` with softmax attention, the others lightning, as in MiniMax-01.

    >>> hybrid(TNLConfig(vocab_size=8, num_layers=16)).softmax_layers
    (7, 15)
    """
    check.at_least(2, every=every)
    layers = tuple(range(every - 1, cfg.num_layers, every))
    kept = tuple(layer for layer in cfg.lrpe_layers if layer not in layers)
    return dataclasses.replace(cfg, softmax_layers=layers, lrpe_layers=kept)


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The baseline: a causal Transformer with RoPE, SwiGLU, RMSNorm and tied embeddings.

    Attributes:
      vocab_size: v.
      width: d.
      num_layers: l.
      num_heads: h; divides `width`.
      mlp_width: f, of the SwiGLU.
      eps: of the norms.
      init_std: of every matrix.
      dtype: of the computation.
      remat: as in `TNLConfig`.
    """

    vocab_size: int
    width: int = 512
    num_layers: int = 9
    num_heads: int = 4
    mlp_width: int = 1579
    eps: float = 1e-6
    init_std: float = 0.02
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "full", "dots"] = "none"

    def __post_init__(self):
        check.types(self)
        check.positive(vocab_size=self.vocab_size, width=self.width, num_layers=self.num_layers)
        check.positive(mlp_width=self.mlp_width, eps=self.eps, init_std=self.init_std)
        check.divides(num_heads=self.num_heads, width=self.width)


def same_size(cfg: TNLConfig) -> TransformerConfig:
    """The Transformer with the matrices of `cfg`: what the gate has there, the MLP has here.

    A TNL layer holds 5 d^2 + 3 d f, a Transformer layer 4 d^2 + 3 d f'; so f' = f + d / 3.
    """
    return TransformerConfig(
        vocab_size=cfg.vocab_size,
        width=cfg.width,
        num_layers=cfg.num_layers,
        num_heads=cfg.num_heads,
        mlp_width=round(cfg.glu_width + cfg.width / 3),
        eps=cfg.eps,
        init_std=cfg.init_std,
        dtype=cfg.dtype,
        remat=cfg.remat,
    )


PRESETS: dict[str, TNLConfig] = {
    "tiny": TNLConfig(vocab_size=64, width=32, num_layers=3, num_heads=2, glu_width=48),
    "laptop": TNLConfig(65, 64, 3, 4, 128, init_std=0.1),  # at this width 0.02 learns slowly
    "40m": TNLConfig(16_384, dtype="bfloat16"),
    "385m": TNLConfig(50_272, 1024, 24, 8, 2816, dtype="bfloat16"),
    "1b": TNLConfig(64_000, 2048, 16, 16, 5632, dtype="bfloat16"),
    "3b": TNLConfig(64_000, 2560, 32, 20, 6912, dtype="bfloat16", remat="full"),
    "7b": TNLConfig(64_000, 4096, 30, 32, 11_008, dtype="bfloat16", remat="full"),
    "15b": TNLConfig(100_280, 5120, 42, 40, 13_824, dtype="bfloat16", remat="full"),
}
"""Sizes by name. 385m, 1b and 3b are released shapes, 7b is one as recalled; of 15b width, layers
and heads are the paper's, its GLU width and vocabulary are ours, and so are the small ones."""
