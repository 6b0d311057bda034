"""Effects of data on a real training of a byte model: repetition, mixing, selection, memory.

Each study takes a `Trainer` and arrays of bytes and returns plain numbers; `h100` runs them at
size, tests with a tiny model.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from jaxml.core import check
from jaxml.core.types import Array, Key, PyTree
from jaxml.curate import doremi, mixlaw, scale, training


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """How every model is trained.

    Attributes:
      seq_len: bytes that a row predicts.
      batch_size: rows of an update.
      lr: highest learning rate; rises over 2 % of the updates, then falls to a tenth as a cosine.
      eval_rows: rows of each evaluation, at most.
    """

    seq_len: int = 512
    batch_size: int = 64
    lr: float = 2e-3
    eval_rows: int = 2048

    def __post_init__(self):
        check.types(self)
        check.positive(**dataclasses.asdict(self))


def rows_of(flat: np.ndarray, seq_len: int) -> np.ndarray:
    """Bytes as rows of `seq_len + 1`, each ending where the next begins: uint8 [n, t + 1].

    Raises:
      ValueError: too few bytes for a row.
    """
    num = (len(flat) - 1) // seq_len
    check.at_least(1, num_rows=num)
    starts = np.arange(num)[:, None] * seq_len
    return np.asarray(flat)[starts + np.arange(seq_len + 1)]


class Trainer:
    """One model and its training, compiled once for each number of updates."""

    def __init__(self, model: Any, cfg: TrainerConfig):
        """Takes a `LanguageModel` of bytes: `init`, `hidden` and `logits` are used."""
        self.model, self.cfg = model, cfg
        self.loss = functools.partial(_token_loss, model)
        self._mean = jax.jit(lambda p, rows: jnp.mean(self.loss(p, rows)))
        self._optimizers: dict[int, optax.GradientTransformation] = {}

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        """AdamW with its schedule over so many updates; one object for each number."""
        if num_steps not in self._optimizers:
            self._optimizers[num_steps] = self._adamw(num_steps)
        return self._optimizers[num_steps]

    def _adamw(self, num_steps: int) -> optax.GradientTransformation:
        warmup = max(num_steps // 50, 1)
        rate = optax.warmup_cosine_decay_schedule(
            0.0, self.cfg.lr, warmup, max(num_steps, warmup + 1), 0.1 * self.cfg.lr
        )
        adam = optax.adamw(rate, b2=0.99, weight_decay=0.01)
        return optax.chain(optax.clip_by_global_norm(1.0), adam)

    def steps(self, num_bytes: float) -> int:
        """Updates that read so many bytes."""
        return max(round(num_bytes / (self.cfg.seq_len * self.cfg.batch_size)), 1)

    def train(
        self, seed: int, rows: np.ndarray, num_bytes: float, among: range | None = None
    ) -> PyTree:
        """Parameters after reading so many bytes of the rows, epoch after epoch.

        Args:
          seed: of start and order.
          rows: uint8 [n, t + 1].
          num_bytes: to read in all.
          among: the rows that are read, all by default; trainings that differ only in this share
            one compilation.
        """
        among = range(len(rows)) if among is None else among
        order = training.epochs(seed, len(among), self.steps(num_bytes), self.cfg.batch_size)
        order += among.start
        start = self.model.init(jax.random.key(seed))
        optimizer = self.optimizer(len(order))
        return training.train_in_order(start, self.loss, rows, order, optimizer)[0]

    def mixed(
        self, key: Key, start: PyTree, domains: Sequence[np.ndarray], alpha: Any, num_bytes: float
    ) -> PyTree:
        """Parameters after training on rows drawn from a mixture of domains."""
        steps = self.steps(num_bytes)
        return training.train_on_mixture(
            key, start, self.loss, domains, alpha, self.optimizer(steps), steps, self.cfg.batch_size
        )

    def evaluate(self, params: PyTree, rows: np.ndarray) -> float:
        """Mean loss of rows, nats per byte."""
        size = min(self.cfg.batch_size, len(rows))
        used = min(len(rows), self.cfg.eval_rows) // size
        return float(np.mean([self._mean(params, rows[i * size : (i + 1) * size])
                              for i in range(used)]))  # fmt: skip


def _token_loss(model: Any, params: PyTree, rows_bt: Array) -> Array:
    """Loss of every byte behind the first: float32 [b, t - 1]."""
    ids = rows_bt.astype(jnp.int32)
    logits = model.logits(params, model.hidden(params, ids[:, :-1]))
    return optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:])


def repetition(
    trainer: Trainer, rows: np.ndarray, test: np.ndarray, num_bytes: float, epochs: Sequence[float]
) -> list[dict[str, float]]:
    """The same number of bytes read from fewer different ones: test loss by number of epochs."""
    out = []
    for number in epochs:
        unique = max(int(len(rows) / number), 1)
        params = trainer.train(0, rows, num_bytes, range(unique))
        out.append({
            "epochs": float(number), "n_params": float(trainer.model.num_params()),
            "n_tokens": num_bytes, "n_unique": num_bytes / number,
            "loss": trainer.evaluate(params, test),
        })  # fmt: skip
    return out


def repetition_law(fresh: Sequence[Mapping], repeated: Sequence[Mapping]) -> dict[str, Any]:
    """Chinchilla's law of fresh runs, and R_D* and R_N* of the repeated ones under it."""
    columns = ("n_params", "n_tokens", "loss")
    law = scale.fit_chinchilla(*([row[name] for row in fresh] for name in columns))
    names = ("n_params", "n_tokens", "n_unique", "loss")
    fit = scale.fit_repetition(*([row[name] for row in repeated] for name in names), law=law.law)
    return {
        "law": [float(x) for x in law.law],
        "minima": [[*m.params.tolist(), m.objective] for m in fit.minima[:5]],
        "r2": list(fit.r2),
    }


def doremi_rounds(
    trainer: Trainer,
    domains: Mapping[str, np.ndarray],
    tests: Mapping[str, np.ndarray],
    first: Sequence[float],
    num_bytes: float,
    num_rounds: int = 2,
) -> list[dict[str, Any]]:
    """Rounds of DoReMi from a skewed mixture, and the losses of a model trained on each mixture."""
    every, alpha = list(domains.values()), np.asarray(first, np.float64)
    start = trainer.model.init(jax.random.key(0))
    cfg = doremi.DoremiConfig(trainer.steps(num_bytes), trainer.cfg.batch_size)
    out = []
    for number in range(num_rounds + 1):
        keys = jax.random.split(jax.random.key(number), 2)
        reference = trainer.mixed(keys[0], start, every, alpha, num_bytes)
        losses = {name: trainer.evaluate(reference, rows) for name, rows in tests.items()}
        out.append({"alpha": dict(zip(domains, alpha.tolist(), strict=True)), "loss": losses})
        if number < num_rounds:
            found = doremi.doremi(keys[1], start, reference, trainer.loss, every,
                                  trainer.optimizer(cfg.num_steps), cfg)  # fmt: skip
            alpha = found.alpha.astype(np.float64) / found.alpha.sum()
    return out


def selection(
    trainer: Trainer, choices: Mapping[str, np.ndarray], test: np.ndarray, num_bytes: float
) -> dict[str, float]:
    """The target's loss after training on each choice of data, all for the same updates."""
    rows, parts = _together(choices)
    return {
        name: trainer.evaluate(trainer.train(0, rows, num_bytes, part), test)
        for name, part in parts.items()
    }


def _together(choices: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, range]]:
    """Rows of all choices in one array, and which are whose."""
    ends = np.cumsum([0, *(len(rows) for rows in choices.values())]).tolist()
    parts = map(range, ends[:-1], ends[1:])
    return np.concatenate(list(choices.values())), dict(zip(choices, parts, strict=True))


def mixing(
    trainer: Trainer,
    domains: Sequence[np.ndarray],
    tests: Sequence[np.ndarray],
    num_bytes: float,
    num_runs: int = 26,
    num_held: int = 6,
) -> dict[str, Any]:
    """A mixing law fitted to some runs predicts the others: rank correlation of mean losses."""
    mixtures = np.random.default_rng(0).dirichlet(np.ones(len(domains)), num_runs)
    start = trainer.model.init(jax.random.key(0))
    losses = []
    for i, alpha in enumerate(mixtures):
        params = trainer.mixed(jax.random.key(i), start, domains, alpha, num_bytes)
        losses.append([trainer.evaluate(params, rows) for rows in tests])
    losses, fit = np.array(losses), slice(0, num_runs - num_held)
    held = slice(num_runs - num_held, None)
    law = mixlaw.fit_mixing_law(mixtures[fit], losses[fit])
    share = np.full(len(tests), 1 / len(tests))
    predicted, truth = law.overall(mixtures[held], share), losses[held] @ share
    return {
        "rank_correlation": float(
            np.corrcoef(stats.rankdata(predicted), stats.rankdata(truth))[0, 1]
        ),
        "mean_error": float(np.abs(predicted - truth).mean()),
        "predicted": predicted.tolist(), "measured": truth.tolist(),
        "mixtures": mixtures.tolist(), "losses": losses.tolist(),
    }  # fmt: skip


def emitted(model: Any, params: PyTree, canaries_nt: np.ndarray, num_prompt: int) -> int:
    """How many canaries the model completes, byte for byte, from their first bytes, greedily."""

    @jax.jit
    def complete(params: PyTree, prompt: Array) -> Array:
        state = model.start(len(canaries_nt), canaries_nt.shape[1])
        hidden, state = model.prefill(params, state, prompt)

        def step(carry: tuple, _: None) -> tuple[tuple, Array]:
            state, hidden = carry
            token = jnp.argmax(model.logits(params, hidden), -1).astype(jnp.int32)
            hidden, state = model.step(params, state, token)
            return (state, hidden), token

        num = canaries_nt.shape[1] - num_prompt
        return jax.lax.scan(step, (state, hidden[:, -1]), length=num)[1].T

    wanted = canaries_nt[:, num_prompt:]
    got = complete(params, jnp.asarray(canaries_nt[:, :num_prompt], jnp.int32))
    return int(np.sum(np.all(np.asarray(got) == wanted, axis=1)))


def memorisation(
    trainer: Trainer,
    before: np.ndarray,
    after: np.ndarray,
    canaries: np.ndarray,
    num_bytes: float,
) -> dict[str, int]:
    """Canaries emitted by a model of the raw text and by one of the text without duplicates."""
    out = {"canaries": len(canaries)}
    rows, parts = _together({"before": before, "after": after})
    for name, part in parts.items():
        params = trainer.train(0, rows, num_bytes, part)
        out[name] = emitted(trainer.model, params, canaries, canaries.shape[1] // 2)
    return out
