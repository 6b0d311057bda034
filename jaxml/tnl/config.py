"""Configurations of the TransNormerLLM and of the softmax Transformer it is compared with."""

import dataclasses
from typing import Literal

from jaxml.core import check

DecayRule = Literal["tnl", "paper", "minimax"]


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

    @property
    def head_dim(self) -> int:
        """Width of one head, c."""
        return self.width // self.num_heads

    @property
    def stretches(self) -> tuple[tuple[int, int, bool], ...]:
        """Consecutive layers of one kind: (first layer, number of layers, with LRPE)."""
        found: list[tuple[int, int, bool]] = []
        for layer in range(self.num_layers):
            lrpe = layer in self.lrpe_layers
            if found and found[-1][2] == lrpe:
                found[-1] = (found[-1][0], found[-1][1] + 1, lrpe)
            else:
                found.append((layer, 1, lrpe))
        return tuple(found)


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
