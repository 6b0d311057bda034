import dataclasses

import numpy as np
import pytest

from jaxml.emu import guess, train


def test_an_assignment_is_the_scaled_classifier_with_the_wanted_shares():
    """Margins and the form `p = a_n e^logit b_k` determine it."""
    draw = np.random.default_rng(0)
    logits, share = draw.normal(size=(40, 4)), np.array([0.4, 0.3, 0.2, 0.1])
    p = guess.assignment(logits, share)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(p.sum(0), 40 * share, rtol=1e-6)
    scale = np.log(p) - logits
    np.testing.assert_allclose(scale, scale[:, :1] + scale[:1] - scale[0, 0], atol=1e-9)


def test_shares_undo_a_classifier_that_leans_to_one_intent():
    draw = np.random.default_rng(1)
    label = np.repeat(np.arange(3), 30)
    logits = 2.0 * np.eye(3)[label] + 0.3 * draw.normal(size=(90, 3)) + np.array([5.0, 0, 0])
    assert (logits.argmax(1) == label).mean() < 0.5
    p = guess.assignment(logits, np.full(3, 1 / 3))
    found = guess.surest(p)
    assert (found == label).mean() > 0.95
    some = guess.surest(p, keep=0.5)
    assert (some >= 0).mean() == pytest.approx(0.5, abs=0.02)
    sure = p.max(1)
    assert sure[some >= 0].min() >= sure[some < 0].max()


def test_guesses_are_made_for_the_named_languages_and_trained_on(small, tiny, prepared):
    cfg = dataclasses.replace(tiny, lambda_guess=1.0)
    first = train.fit(small, dataclasses.replace(cfg, lambda_guess=0.0), prepared)
    taught = guess.with_guesses(small, cfg, prepared, first, ("de",), keep=0.5)
    assert set(taught.guess) == {"de"} and (taught.guess["de"] >= 0).sum() == 10
    again = train.fit(small, cfg, taught)
    found = guess.adapt(small, cfg, prepared, ("de",), rounds=1, keep=0.5)
    kernels = [np.asarray(x.params["head"]["kernel"]) for x in (first, again, found)]
    np.testing.assert_array_equal(kernels[1], kernels[2])
    assert (kernels[0] != kernels[1]).any()
    assert guess.adapt(small, cfg, prepared, (), first=first) is first
    with pytest.raises(ValueError, match="lambda_guess must be > 0"):
        guess.adapt(small, tiny, prepared, ("de",))


def test_bad_shares_are_named():
    with pytest.raises(ValueError, match="positive and of sum 1; got sum 0.5000"):
        guess.assignment(np.zeros((3, 2)), np.array([0.25, 0.25]))
    with pytest.raises(ValueError, match="share_k must have shape"):
        guess.assignment(np.zeros((3, 2)), np.array([1.0]))
