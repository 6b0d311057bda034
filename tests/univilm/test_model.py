import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.core import param, tree
from jaxml.core.weights import WeightsError
from jaxml.models import bert, bert_weights
from jaxml.univilm import alignment, decoder, masking, model, words
from jaxml.univilm import weights as names
from jaxml.univilm.config import PRESETS, Setting, TrainConfig, UniVLConfig
from tests.univilm import oracle


@pytest.fixture(scope="module")
def outputs(cfg, params, clips):
    """Ours, compiled once."""

    def run(p, ids, feats, num_frames, given):
        mask = jnp.arange(feats.shape[1])[None] < num_frames[:, None]
        normed = model.normalise(p, cfg, feats)
        text, video = model.encode_text(p, cfg, ids), model.encode_video(p, cfg, normed, mask)
        hidden, pooled = model.cross_encode(p, cfg, text, video, ids != 0, mask)
        both = jnp.concatenate([ids != 0, mask], 1)
        w = ids.shape[1]
        return {
            "normed": normed, "text": text, "video": video, "cross": hidden, "pooled": pooled,
            "pool_text": model.pool_text(text, ids), "pool_video": model.pool_video(video, mask),
            "cmlm": model.cmlm_logits(p, hidden[:, :w]),
            "cmfm": model.cmfm_features(p, hidden[:, w:]),
            "decoder": decoder.decode_logits(p, cfg, given, hidden, both),
            "pairs": alignment.pair_scores(p, cfg, text, video, ids != 0, mask, chunk=2),
        }  # fmt: skip

    given = masking.decoder_pair(cfg, jnp.asarray(clips.caption))[0]
    args = (params, jnp.asarray(clips.text), clips.video, clips.num_frames, given)
    return jax.jit(run)(*args), np.asarray(given)


@pytest.fixture(scope="module")
def wanted(cfg, tensors, clips, outputs):
    """The authors' model by its tensors, in float64."""
    t, h = tensors, cfg.num_heads
    mask = np.arange(clips.video.shape[1])[None] < clips.num_frames[:, None]
    words_ = clips.text != 0
    text = oracle.text(t, clips.text, cfg.text_layers, h)
    normed, video = oracle.video(t, clips.video.astype(np.float64), mask, cfg.video_layers, h)
    hidden, pooled, both = oracle.cross(t, text, video, words_, mask, cfg.cross_layers, h)
    w, n = clips.text.shape[1], len(clips.text)
    later = words_.copy()
    later[:, 0] = False
    pairs = np.stack([
        oracle.similarity(t, oracle.cross(
            t, np.repeat(text[i : i + 1], n, 0), video, np.repeat(words_[i : i + 1], n, 0), mask,
            cfg.cross_layers, h)[1])
        for i in range(n)
    ])  # fmt: skip
    return {
        "normed": normed, "text": text, "video": video, "cross": hidden, "pooled": pooled,
        "pool_text": (text * later[..., None]).sum(1) / later.sum(1)[:, None],
        "pool_video": (video * mask[..., None]).sum(1) / mask.sum(1)[:, None],
        "cmlm": oracle.mlm(t, "cls.predictions", hidden[:, :w],
                           t["bert.embeddings.word_embeddings.weight"].T),
        "cmfm": oracle.mlm(t, "cls_visual.predictions", hidden[:, w:],
                           t["visual.embeddings.word_embeddings.weight"]),
        "decoder": oracle.decoder(t, outputs[1], hidden, both, cfg.decoder_layers, h),
        "pairs": pairs,
    }  # fmt: skip


NAMES = ("normed", "text", "video", "cross", "pooled", "pool_text", "pool_video", "cmlm", "cmfm",
         "decoder", "pairs")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_part_is_the_authors(outputs, wanted, name):
    np.testing.assert_allclose(outputs[0][name], wanted[name], rtol=2e-4, atol=2e-4)


def test_paper_size_has_the_papers_parameters():
    declared = model.params(UniVLConfig())
    poolers = 2 * (768 * 768 + 768)  # of text and video encoder, which the authors never use
    total = tree.num_elements(param.abstract(declared)) + poolers
    assert total == pytest.approx(199.5e6, rel=3e-4)
    assert PRESETS["youcook2"].model == UniVLConfig()


def test_state_dict_goes_there_and_back(cfg, params):
    out = names.export_tensors(cfg, params)
    assert out["decoder.embeddings.word_embeddings.weight"].shape == (cfg.vocab_size, cfg.width)
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): x for n, x in out.items()}
    old |= {"bert.pooler.dense.weight": np.zeros((2, 2)), "visual.pooler.dense.bias": np.zeros(2)}
    again = names.import_tensors(cfg, {f"module.{n}": x for n, x in old.items()})
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, params))
    bad = {**out, "cls.predictions.decoder.weight": out["cls.predictions.decoder.weight"] + 1}
    with pytest.raises(WeightsError, match="to which the model ties it"):
        names.import_tensors(cfg, bad)
    bad = {n: x for n, x in out.items() if n != "similarity_dense.bias"}
    with pytest.raises(WeightsError, match="missing similarity_dense.bias"):
        names.import_tensors(cfg, bad)


def test_a_stage_one_checkpoint_keeps_the_rest(cfg, params):
    first = {n: x for n, x in names.export_tensors(cfg, params).items()
             if n.startswith(("bert.", "visual.", "normalize_video."))}  # fmt: skip
    base = model.init(jax.random.key(5), cfg)
    mixed = names.import_tensors(cfg, first, base)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), mixed["decoder"], base["decoder"])
    assert jax.tree.all(same)
    assert (mixed["text"]["embed"]["word"]["embedding"]
            == params["text"]["embed"]["word"]["embedding"]).all()  # fmt: skip
    part = {n: x for n, x in first.items() if "layer.1." not in n or "bert" not in n}
    with pytest.raises(WeightsError, match=r"missing bert.encoder.layer.1"):
        names.import_tensors(cfg, part, base)


def test_bert_becomes_text_encoder_and_decoder_table(cfg, params):
    full = dataclasses.replace(cfg.text, mlm=True, pooler=True)
    theirs = bert.init(jax.random.key(3), full)
    new = names.adopt_bert(cfg, params, bert_weights.export_tensors(full, theirs))
    assert (new["text"]["layers"]["mlp"]["up"]["kernel"]
            == theirs["layers"]["mlp"]["up"]["kernel"]).all()  # fmt: skip
    assert (new["cmlm"]["dense"]["kernel"] == theirs["mlm"]["dense"]["kernel"]).all()
    assert new["decoder"] is params["decoder"]


def test_masked_frames_become_the_norms_bias(cfg, params):
    feats = jnp.zeros((1, 2, cfg.video_dim))
    normed = model.normalise(params, cfg, feats)
    want = np.broadcast_to(params["video_norm"]["bias"], (2, cfg.video_dim))
    np.testing.assert_allclose(normed[0], want)


def test_only_cls_left_does_not_divide_by_zero():
    ids = jnp.array([[2, 0, 0]])
    hidden = jnp.ones((1, 3, 4))
    assert np.isfinite(model.pool_text(hidden, ids)).all()
    assert np.asarray(ids).tolist() == [[2, 0, 0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: UniVLConfig(width=10, num_heads=3), "num_heads must divide width"),
     (lambda: UniVLConfig(cls_id=40_000), "cls_id must lie in"),
     (lambda: Setting(UniVLConfig(cross_positions=90), 48, 48, {}), "max_words_and_frames"),
     (lambda: TrainConfig("both"), "stage"),
     (lambda: TrainConfig(losses=("joint", "cmln")), "did you mean 'cmlm'"),
     (lambda: TrainConfig(batch_size=10, accumulate=3), "accumulate must divide batch_size")],
)  # fmt: skip
def test_bad_settings(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_wrong_features_are_named(cfg, params):
    with pytest.raises(ValueError, match="feats_nfd must have shape"):
        model.normalise(params, cfg, jnp.zeros((1, 2, 3)))


def test_words(vocab, tmp_path):
    ids = words.encode(vocab, ["The cat sleeps.", "a zebra"], 5)
    assert ids[0, 0] == 2 and ids[0, 4] == 3 and ids[1].tolist()[2:] == [1, 3, 0]
    assert words.decode(vocab, ids) == ["the cat sleeps", "a [UNK]"]
    vocab.save(tmp_path / "words.json")
    assert words.load(tmp_path) == vocab
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "vocab.txt").write_text("\n".join([*words.SPECIALS, "cat", "##s", "run"]))
    piece = words.load(tmp_path / "b")
    assert piece.tokens("Cats run") == [5, 6, 7] and piece.text([2, 5, 6, 7, 3]) == "cats run"
    assert piece.specials == (2, 3, 4) and piece.vocab_size == 8
