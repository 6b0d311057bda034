"""BERT encoder (Devlin et al. 2019): post-norm blocks, exact GELU, learned positions.

Its parts serve other encoders: `embed` makes the input, `encode` runs the blocks over any vectors.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check, param, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.nn import attention, dropout, linear, mlp, norm, position, precision, transformer
from jaxml.nn import embed as table
from jaxml.nn.initializer import normal, zeros


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """One encoder; the defaults are BERT-base, uncased.

    Attributes:
      vocab_size: v.
      width: d.
      num_layers: l.
      num_heads: h; divides d.
      hidden: f, of the feed-forward parts.
      max_len: positions.
      num_types: kinds of segment.
      eps: of the layer norms.
      dropout: of embeddings and of what each part adds; attention weights are not dropped.
      pooler: tanh layer over the first token.
      mlm: head of masked language modelling.
      head_dim: c; None: d / h, as in every published size. Pruned layers have fewer heads of it.
    """

    vocab_size: int = 30522
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden: int = 3072
    max_len: int = 512
    num_types: int = 2
    eps: float = 1e-12
    dropout: float = 0.1
    pooler: bool = True
    mlm: bool = False
    head_dim: int | None = None

    def __post_init__(self):
        check.types(self)
        for name in ("vocab_size", "width", "num_layers", "num_heads", "hidden", "max_len"):
            check.positive(**{name: getattr(self, name)})
        check.positive(num_types=self.num_types, eps=self.eps)
        if self.head_dim is None:
            check.divides(num_heads=self.num_heads, width=self.width)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1); got dropout={self.dropout}.")

    @property
    def attention(self) -> attention.AttentionConfig:
        """The attention of every layer."""
        return attention.AttentionConfig(
            self.width, self.num_heads, None, self.head_dim, causal=False, bias=True, rope=False
        )


class BertOutput(NamedTuple):
    """Last hidden vectors [b, t, d], and the pooled first one [b, d] (None without a pooler)."""

    hidden: Array
    pooled: Array | None


def params(cfg: BertConfig) -> PyTree:
    """Declares `embed`, the stacked `layers`, and `pooler` and `mlm` where configured."""
    block = {
        "attention": attention.params(cfg.attention),
        "attention_norm": norm.layer_params(cfg.width),
        "mlp": mlp.params(cfg.width, cfg.hidden),
        "mlp_norm": norm.layer_params(cfg.width),
    }
    declared = {
        "embed": {
            "word": table.params(cfg.vocab_size, cfg.width),
            "position": position.learned_params(cfg.max_len, cfg.width),
            "type": position.learned_params(cfg.num_types, cfg.width),
            "norm": norm.layer_params(cfg.width),
        },
        "layers": param.stack(_gaussian(block), cfg.num_layers),
    }
    square = linear.params(cfg.width, cfg.width, axes=("embed", None), init=normal(0.02))
    if cfg.pooler:
        declared["pooler"] = square
    if cfg.mlm:
        bias = param.Param((cfg.vocab_size,), ("vocab",), zeros)
        declared["mlm"] = {"dense": square, "norm": norm.layer_params(cfg.width), "bias": bias}
    return declared


def _gaussian(declared: PyTree) -> PyTree:
    """Every kernel drawn from N(0, 0.02^2), the published initialiser."""

    def redraw(keys: Any, p: param.Param) -> param.Param:
        kernel = keys[-1].key == "kernel"
        return dataclasses.replace(p, init=normal(0.02)) if kernel else p

    return jax.tree_util.tree_map_with_path(redraw, declared, is_leaf=param.is_param)


def init(key: Key, cfg: BertConfig) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg))


def apply(
    p: PyTree,
    cfg: BertConfig,
    ids_bt: Array,
    *,
    mask: Array | None = None,
    types: Array | None = None,
    head_mask: Array | None = None,
    ffn_mask: Array | None = None,
    key: Key | None = None,
    remat: Literal["full", "dots"] | None = None,
    implementation: attention.Implementation = None,
    dtype: Any = None,
) -> BertOutput:
    """Encodes tokens.

    Args:
      p: from `init`.
      cfg: its configuration.
      ids_bt: tokens [b, t], t at most `max_len`.
      mask: [b, t], True = a token, False = padding.
      types: segments [b, t] (default: 0).
      head_mask: [l, h], multiplies what each head contributes.
      ffn_mask: [l, f], multiplies each hidden unit after the GELU.
      key: of dropout; None evaluates.
      remat: of the blocks (`transformer.scan_layers`).
      implementation: of the attention.
      dtype: compute dtype (default: of the parameters).

    Raises:
      ValueError: a shape that does not fit.
    """
    embed_key, encode_key = dropout.split(key, 2)
    x_btd = embed(p, cfg, ids_bt, types, key=embed_key, dtype=dtype)
    hidden = encode(
        p,
        cfg,
        x_btd,
        mask=mask,
        head_mask=head_mask,
        ffn_mask=ffn_mask,
        key=encode_key,
        remat=remat,
        implementation=implementation,
    )
    return BertOutput(hidden, pool(p, hidden) if cfg.pooler else None)


def embed(
    p: PyTree,
    cfg: BertConfig,
    ids_bt: Array,
    types: Array | None = None,
    *,
    key: Key | None = None,
    dtype: Any = None,
) -> Array:
    """Word + position + type, normed: [b, t] -> [b, t, d]."""
    sizes = check.shape("ids_bt", ids_bt, ["b", "t"])
    check.between(1, cfg.max_len, t=sizes["t"])
    types = jnp.zeros_like(ids_bt) if types is None else types
    check.shape("types", types, ids_bt.shape)
    place = jnp.broadcast_to(jnp.arange(sizes["t"], dtype=jnp.int32)[None], ids_bt.shape)
    x = (
        table.apply(p["embed"]["word"], ids_bt)
        + position.learned(p["embed"]["position"], place)
        + position.learned(p["embed"]["type"], types)
    )
    x = norm.layer(p["embed"]["norm"], x, cfg.eps)
    return dropout.apply(key, x.astype(dtype or x.dtype), cfg.dropout)


def encode(
    p: PyTree,
    cfg: BertConfig,
    x_btd: Array,
    *,
    mask: Array | None = None,
    head_mask: Array | None = None,
    ffn_mask: Array | None = None,
    key: Key | None = None,
    remat: Literal["full", "dots"] | None = None,
    implementation: attention.Implementation = None,
) -> Array:
    """The blocks over embedded vectors [b, t, d] -> [b, t, d]; arguments as in `apply`."""
    if head_mask is not None:
        check.shape("head_mask", head_mask, [cfg.num_layers, cfg.num_heads])
    if ffn_mask is not None:
        check.shape("ffn_mask", ffn_mask, [cfg.num_layers, cfg.hidden])

    def layer(p: PyTree, x: Array, inputs: tuple[Array, Any, Any]) -> tuple[Array, None]:
        index, heads, units = inputs
        layer_key = None if key is None else rng.fold(key, index)
        y = block(
            p,
            cfg,
            x,
            mask=mask,
            head_mask=heads,
            ffn_mask=units,
            key=layer_key,
            implementation=implementation,
        )
        return y, None

    inputs = (jnp.arange(cfg.num_layers), head_mask, ffn_mask)
    return transformer.scan_layers(layer, p["layers"], x_btd, inputs, remat=remat)[0]


def block(
    p: PyTree,
    cfg: BertConfig,
    x_btd: Array,
    *,
    mask: Array | None = None,
    head_mask: Array | None = None,
    ffn_mask: Array | None = None,
    key: Key | None = None,
    implementation: attention.Implementation = None,
) -> Array:
    """One layer [b, t, d] -> [b, t, d]; `head_mask` [h] and `ffn_mask` [f] are its own."""
    mix_key, feed_key = dropout.split(key, 2)

    def mix(x: Array) -> Array:
        y = attention.apply(
            p["attention"],
            cfg.attention,
            x,
            mask=mask,
            head_mask=head_mask,
            implementation=implementation,
        )
        return dropout.apply(mix_key, y, cfg.dropout)

    def units(h: Array) -> Array:
        h = mlp.gelu(h)
        return h if ffn_mask is None else h * precision.along_last(ffn_mask, h)

    def feed(x: Array) -> Array:
        return dropout.apply(feed_key, mlp.apply(p["mlp"], x, units), cfg.dropout)

    def normed(name: str) -> transformer.Layer:
        return lambda x: norm.layer(p[name], x, cfg.eps)

    return transformer.post_norm(x_btd, (normed("attention_norm"), mix), (normed("mlp_norm"), feed))


def pool(p: PyTree, hidden_btd: Array) -> Array:
    """The tanh layer over the first token, [b, d]."""
    return jnp.tanh(linear.apply(p["pooler"], hidden_btd[:, 0]))


def mlm_logits(p: PyTree, cfg: BertConfig, hidden_btd: Array) -> Array:
    """Logits [b, t, v] of masked language modelling, tied to the word table, in float32."""
    x = norm.layer(p["mlm"]["norm"], mlp.gelu(linear.apply(p["mlm"]["dense"], hidden_btd)), cfg.eps)
    logits = table.attend(p["embed"]["word"], x)
    return logits + precision.along_last(p["mlm"]["bias"], logits)
