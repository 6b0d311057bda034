"""Guessed intents of unlabelled sentences, as many of each as the source language has.

Entropic optimal transport (Sinkhorn and Knopp 1967; Cuturi 2013; for labels: Asano et al. 2020): of
all assignments with one intent a sentence and a given share of every intent, the one nearest to
what a classifier says. Without the shares, guesses of a badly aligned language fall into few.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp, softmax

from jaxml.core import check
from jaxml.emu import loss, train
from jaxml.emu.config import EmuConfig
from jaxml.emu.encoder import Encoder
from jaxml.emu.pool import Pool, head_only
from jaxml.emu.train import Specialised


def assignment(logits_nk: np.ndarray, share_k: np.ndarray, steps: int = 200) -> np.ndarray:
    """Probabilities [n, K], rows summing to 1 and columns to `n * share`.

    Args:
      logits_nk: of the intents.
      share_k: wanted share of each intent, positive, of sum 1.
      steps: of alternating scaling.

    Raises:
      ValueError: a share that is not positive, or a sum other than 1.
    """
    check.shape("share_k", share_k, [logits_nk.shape[1]])
    if share_k.min() <= 0 or abs(share_k.sum() - 1) > 1e-3:
        raise ValueError(f"share_k must be positive and of sum 1; got sum {share_k.sum():.4f}.")
    log = np.asarray(logits_nk, np.float64)
    wanted = np.log(len(log) * share_k)
    for _ in range(steps):
        log = log - logsumexp(log, 1, keepdims=True)
        log = log + wanted - logsumexp(log, 0, keepdims=True)
    return np.exp(log - logsumexp(log, 1, keepdims=True))


def surest(p_nk: np.ndarray, keep: float = 1.0) -> np.ndarray:
    """The likeliest intent of every sentence, int32 [n]; -1 for all but the surest share."""
    check.between(0.0, 1.0, keep=keep)
    sure, best = p_nk.max(1), p_nk.argmax(1).astype(np.int32)
    return np.where(sure >= np.quantile(sure, 1 - keep), best, -1).astype(np.int32)


def with_guesses(
    encoder: Encoder,
    cfg: EmuConfig,
    pool: Pool,
    found: Specialised,
    languages: Sequence[str],
    keep: float,
) -> Pool:
    """The pool with intents guessed for sentences of some languages.

    The wanted shares are those that the classifier finds among the source's unlabelled sentences.

    Args:
      encoder: as it was before.
      cfg: of the run.
      pool: what it was trained on; the source is the first of its languages.
      found: the specialised encoder whose classifier guesses.
      languages: whose sentences are guessed.
      keep: share of each language's guesses, the surest ones.
    """
    embed = head_only if cfg.trainable == "head" else _embed
    kernel, bias = (np.asarray(found.classifier[n], np.float64) for n in ("kernel", "bias"))
    alpha = float(loss.radius(cfg, found.classifier))

    def logits(lang: str) -> np.ndarray:
        return alpha * embed(encoder, pool.others[lang], found.params) @ kernel + bias

    share = softmax(logits(next(iter(pool.others))), 1).mean(0)
    made = {lang: surest(assignment(logits(lang), share), keep) for lang in languages}
    return pool._replace(guess=made)


def _embed(encoder: Encoder, ids: np.ndarray, params: object) -> np.ndarray:
    return encoder.embed(ids, params)


def adapt(
    encoder: Encoder,
    cfg: EmuConfig,
    pool: Pool,
    languages: Sequence[str],
    *,
    rounds: int = 2,
    keep: float = 0.6,
    first: Specialised | None = None,
) -> Specialised:
    """Specialises, guesses, and specialises again from the start with the guesses, some rounds.

    Args:
      encoder: as it is before.
      cfg: the run, `lambda_guess` above 0.
      pool: what it is trained on.
      languages: whose sentences are guessed: the badly aligned ones.
      rounds: of guessing.
      keep: see `with_guesses`.
      first: the run without guesses, where it was made.

    Raises:
      ValueError: `lambda_guess` is 0.
    """
    check.positive(lambda_guess=cfg.lambda_guess)
    found = first or train.fit(encoder, dataclasses.replace(cfg, lambda_guess=0.0), pool)
    for _ in range(rounds if languages else 0):
        taught = with_guesses(encoder, cfg, pool, found, languages, keep)
        found = train.fit(encoder, cfg, taught)
    return found
