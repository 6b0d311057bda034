import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.univilm import beam, decoder, evaluate, metric
from tests.univilm import oracle

MAX_LEN = 6


@pytest.fixture(scope="module")
def memory(cfg):
    draw = np.random.default_rng(4)
    hidden = draw.standard_normal((3, 7, cfg.width)).astype(np.float32)
    return hidden, np.arange(7)[None] < np.array([7, 4, 6])[:, None]


@pytest.fixture(scope="module")
def whole(cfg):
    """The whole-prefix decoder at one shape: [1, t] per prefix."""
    return jax.jit(functools.partial(_prefix, cfg=cfg))


def _prefix(p, ids, hidden, mask, cfg):
    return decoder.decode_logits(p, cfg, ids, hidden, mask)


def step_of(cfg, params, whole, memory, clip):
    """`prefixes -> log-probabilities`, each by a run over the whole prefix."""
    hidden, mask = memory

    def step(prefixes):
        rows = []
        for ids in prefixes:
            filled = np.zeros((1, MAX_LEN + 1), np.int32)
            filled[0, : len(ids)] = ids
            out = np.asarray(whole(params, filled, hidden[clip : clip + 1], mask[clip : clip + 1]))
            rows.append(oracle.log_softmax(out[0, len(ids) - 1].astype(np.float64)))
        return np.stack(rows)

    return step


def test_cached_steps_equal_the_whole_prefix(cfg, params, memory, whole):
    hidden, mask = memory
    ids = np.random.default_rng(0).integers(5, cfg.vocab_size, (3, 4, MAX_LEN + 1)).astype(np.int32)
    stored = decoder.remember(params, cfg, hidden, mask)

    def run(cache, t):
        logits, cache = decoder.step(params, cfg, ids_k[:, :, t], t, stored, cache)
        return cache, logits

    ids_k = jnp.asarray(ids)
    start = decoder.empty_cache(cfg, 3, 4, MAX_LEN + 1)
    _, got = jax.lax.scan(run, start, jnp.arange(MAX_LEN + 1))
    for k in range(4):
        for n in range(3):
            want = whole(params, ids[n : n + 1, k], hidden[n : n + 1], mask[n : n + 1])
            np.testing.assert_allclose(got[:, n, k], want[0], rtol=1e-5, atol=2e-5)


def search(cfg, beams, **options):
    return jax.jit(
        lambda p, h, m: beam.beam_search(p, cfg, h, m, beams=beams, max_len=MAX_LEN, **options)
    )


def test_one_beam_is_greedy(cfg, params, memory, whole):
    found = search(cfg, 1)(params, *memory)
    for n in range(3):
        step, ids = step_of(cfg, params, whole, memory, n), [cfg.cls_id]
        while len(ids) <= MAX_LEN and ids[-1] != cfg.sep_id:
            ids.append(int(step([ids])[0].argmax()))
        want = [w for w in ids[1:] if w != cfg.sep_id]
        assert np.asarray(found.ids[n])[: len(want)].tolist() == want


@pytest.mark.parametrize("end", [3, 9, 17])
@pytest.mark.parametrize("mode", ["reference", "frozen"])
def test_beams_are_those_of_a_plain_search(cfg, params, memory, whole, end, mode):
    cfg = dataclasses.replace(cfg, sep_id=end)  # other ends make short and long captions
    found = search(cfg, 3, reference_mode=mode == "reference")(params, *memory)
    plain = {"reference": oracle.beam_reference, "frozen": oracle.beam_frozen}[mode]
    for n in range(3):
        step = step_of(cfg, params, whole, memory, n)
        want, score = plain(step, 3, MAX_LEN, cfg.cls_id, end)
        assert np.asarray(found.ids[n])[: len(want)].tolist() == want
        assert not np.asarray(found.ids[n])[len(want) :].any()
        assert float(found.scores[n]) == pytest.approx(score, rel=1e-4)


def test_length_penalty(cfg, params, memory, whole):
    found = search(cfg, 3, length_penalty=1.0)(params, *memory)
    for n in range(3):
        step = step_of(cfg, params, whole, memory, n)
        want, score = oracle.beam_frozen(step, 3, MAX_LEN, cfg.cls_id, cfg.sep_id, 1.0)
        assert float(found.scores[n]) == pytest.approx(score, rel=1e-4)
        assert np.asarray(found.ids[n])[: len(want)].tolist() == want
    with pytest.raises(ValueError, match="length_penalty must be 0"):
        search(cfg, 3, length_penalty=1.0, reference_mode=True)(params, *memory)


def test_a_caption_never_reads_its_reference(cfg, params, clips):
    """The leak of captioning: reference captions replaced by noise change nothing."""
    noise = np.random.default_rng(1).integers(5, cfg.vocab_size, clips.caption.shape)
    run = functools.partial(evaluate.caption, params, cfg, beams=2, max_len=4, size=8)
    want = run(clips)
    for text in (clips.text, noise.astype(np.int32)):
        got = run(clips._replace(caption=noise.astype(np.int32), text=text))
        assert (got.ids == want.ids).all() and (got.scores == want.scores).all()
    told = run(clips, use_text=True)
    assert not (told.scores == want.scores).all()


def brute_ranks(sim):
    found = []
    for i, row in enumerate(sim):
        order = [sum(x > row[i] for x in row), sum(x == row[i] for x in row)]
        found.append(np.mean([1 + order[0] + k for k in range(order[1])]))
    return found


def test_ties_share_their_rank():
    sim = np.random.default_rng(0).integers(0, 4, (30, 30)).astype(float)
    assert metric.ranks(sim).tolist() == pytest.approx(brute_ranks(sim))
    flat = metric.retrieval_metrics(np.ones((200, 200)))
    assert flat.r1 == 0 and flat.median_rank == 100.5
    got = metric.retrieval_metrics(np.eye(4), np.array([0, 1, 3, 2]))
    assert got.r1 == 50
    for bad in (np.full((2, 2), np.nan), np.ones((3, 2))):
        with pytest.raises(ValueError, match="sim must"):
            metric.ranks(bad)


def test_bad_captions():
    for call in (metric.bleu, metric.rouge_l, metric.cider_d):
        with pytest.raises(ValueError, match="references for each"):
            call(["a"], [])
        with pytest.raises(ValueError, match="number 0 has none"):
            call(["a"], [[]])


def random_captions(seed, num=40):
    draw = np.random.default_rng(seed)

    def text(low):
        return " ".join(draw.choice(list("abcdefg"), draw.integers(low, 12)))

    hyps = [text(1) for _ in range(num)]
    refs = [[text(2) for _ in range(draw.integers(1, 4))] for _ in range(num)]
    refs[0] = [hyps[0], *refs[0]]
    return hyps, refs


GOLDEN = {  # BLEU-1 to 4, ROUGE-L, CIDEr-D
    0: (
        0.6397963763109029,
        0.3751716231344393,
        0.19464385597675213,
        0.13077588606579746,
        0.4292576176403921,
        1.000471287854514,
    ),
    1: (
        0.5649728458578008,
        0.3056397762578052,
        0.15777768823285945,
        0.0938651065703497,
        0.41621774002271106,
        1.1073100791687822,
    ),
}
"""Scores that pycocoevalcap 1.2 (its Python parts, no tokenizer) gave for `random_captions`."""


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_those_of_coco_caption(seed):
    hyps, refs = random_captions(seed)
    got = (*metric.bleu(hyps, refs), metric.rouge_l(hyps, refs), metric.cider_d(hyps, refs))
    assert got == pytest.approx(GOLDEN[seed], abs=1e-9)


def test_corpus_bleu_is_no_mean_of_sentences():
    hyps, refs = random_captions(2)
    mean = np.mean([metric.bleu([h], [r])[3] for h, r in zip(hyps, refs, strict=True)])
    assert abs(metric.bleu(hyps, refs)[3] - mean) > 1e-3


def test_one_clip_has_no_cider():
    assert metric.cider_d(["a b c d"], [["a b c d"]]) == 0
    both = metric.caption_scores(["a b c d", "e f g h"], [["a b c d"], ["e f g h"]])
    assert both.cider == pytest.approx(10) and both.bleu4 == pytest.approx(100, abs=1e-4)
    assert both.exact == 100 and both.rouge_l == pytest.approx(100)
