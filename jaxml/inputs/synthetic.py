"""Data drawn from a key: sequence tasks, point clouds, and token streams of known entropy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check, rng
from jaxml.core.types import Array, Key


class TokenTask(NamedTuple):
    """Inputs and targets, int32 [b, t], and where the loss counts, bool [b, t]."""

    inputs: Array
    targets: Array
    mask: Array


def copy_task(key: Key, batch_size: int, length: int, vocab_size: int) -> TokenTask:
    """Random tokens, a separator, and the same tokens again.

    Token 0 is the separator; the others are drawn from [1, vocab_size). Inputs and targets are
    one sequence of `2 length + 1` tokens, shifted: [b, 2 length]. The mask keeps the second half.

    Raises:
      ValueError: sizes below 1, or fewer than two tokens.
    """
    check.positive(batch_size=batch_size, length=length)
    check.at_least(2, vocab_size=vocab_size)
    words = jax.random.randint(key, (batch_size, length), 1, vocab_size, jnp.int32)
    separator = jnp.zeros((batch_size, 1), jnp.int32)
    whole = jnp.concatenate([words, separator, words], axis=1)
    mask = jnp.broadcast_to(jnp.arange(2 * length) >= length, (batch_size, 2 * length))
    return TokenTask(whole[:, :-1], whole[:, 1:], mask)


def associative_recall(
    key: Key, batch_size: int, num_pairs: int, num_queries: int, vocab_size: int
) -> TokenTask:
    """Pairs of a name and a value, then names whose values are asked for.

    Names are distinct within a sequence, from the lower half of the vocabulary, values from the
    upper half. Inputs [b, 2 (num_pairs + num_queries)] are `n v n v ... n v`; the mask keeps the
    positions of the queried names, whose targets are their values.

    Raises:
      ValueError: sizes below 1, or fewer than `num_pairs` names in half the vocabulary.
    """
    check.positive(batch_size=batch_size, num_pairs=num_pairs, num_queries=num_queries)
    half = vocab_size // 2
    check.between(1, half, num_pairs=num_pairs)

    lots = jax.random.uniform(rng.fold(key, "names"), (batch_size, half))
    names = jax.lax.top_k(lots, num_pairs)[1]
    values = jax.random.randint(rng.fold(key, "values"), names.shape, half, vocab_size, jnp.int32)
    asked = jax.random.randint(rng.fold(key, "asked"), (batch_size, num_queries), 0, num_pairs)
    pairs = jnp.broadcast_to(jnp.arange(num_pairs), names.shape)
    order = jnp.concatenate([pairs, asked], axis=1)
    both = [jnp.take_along_axis(words, order, axis=1) for words in (names, values)]
    whole = jnp.stack(both, axis=-1).reshape(batch_size, -1)
    place = jnp.arange(whole.shape[1])
    mask = jnp.broadcast_to((place >= 2 * num_pairs) & (place % 2 == 0), whole.shape)
    return TokenTask(whole, jnp.roll(whole, -1, axis=1), mask)


class Points(NamedTuple):
    """Points float32 [n, d] and their classes int32 [n]."""

    points: Array
    labels: Array


def gaussian_clusters(
    key: Key, num_points: int, num_classes: int, width: int, spread: float = 1.0
) -> Points:
    """Points around class centres; centres are standard normal in `width` dimensions.

    Args:
      key: draws centres, classes and points.
      num_points: n.
      num_classes: centres.
      width: d.
      spread: standard deviation of a point about its centre.

    Raises:
      ValueError: a size or spread not above 0.
    """
    check.positive(num_points=num_points, num_classes=num_classes, width=width, spread=spread)
    centres = jax.random.normal(rng.fold(key, "centres"), (num_classes, width))
    labels = jax.random.randint(rng.fold(key, "labels"), (num_points,), 0, num_classes, jnp.int32)
    noise = jax.random.normal(rng.fold(key, "points"), (num_points, width))
    return Points(centres[labels] + spread * noise, labels)


def two_moons(key: Key, num_points: int, noise: float = 0.1) -> Points:
    """Two half circles that interlock, in the plane; class 1 is the lower one.

    The upper is of radius 1 about (0, 0), the lower about (1, 0.5).

    Raises:
      ValueError: no points, or negative noise.
    """
    check.positive(num_points=num_points)
    check.at_least(0, noise=noise)
    labels = jax.random.bernoulli(rng.fold(key, "labels"), 0.5, (num_points,)).astype(jnp.int32)
    angle = jax.random.uniform(rng.fold(key, "angle"), (num_points,), maxval=jnp.pi)
    upper = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    lower = jnp.asarray([[1.0, 0.5]]) - upper
    points = jnp.where(labels[:, None] == 1, lower, upper)
    return Points(points + noise * jax.random.normal(rng.fold(key, "noise"), points.shape), labels)


class MarkovChain(NamedTuple):
    """Transition probabilities [v, v] (rows sum to 1) and the stationary distribution [v]."""

    transition: Array
    stationary: Array

    @property
    def entropy(self) -> Array:
        """Nats per token of the stream: the lowest mean loss any model can reach."""
        rows = -jnp.sum(jax.scipy.special.xlogy(self.transition, self.transition), axis=1)
        return jnp.sum(self.stationary * rows)


def markov_chain(key: Key, vocab_size: int, sharpness: float = 2.0) -> MarkovChain:
    """A chain whose rows are softmaxes of normal logits.

    The stationary distribution solves `p (I - P + E) = 1`, E all ones.

    Args:
      key: draws the rows.
      vocab_size: v, at least 2.
      sharpness: standard deviation of the logits; 0 gives uniform rows, large values few likely
        successors.

    Raises:
      ValueError: fewer than two tokens, or a negative sharpness.
    """
    check.at_least(2, vocab_size=vocab_size)
    check.at_least(0, sharpness=sharpness)
    rows = jax.nn.softmax(sharpness * jax.random.normal(key, (vocab_size, vocab_size)), axis=1)
    balance = jnp.eye(vocab_size) - rows.T + 1.0
    return MarkovChain(rows, jnp.linalg.solve(balance, jnp.ones((vocab_size,))))


def markov_stream(key: Key, chain: MarkovChain, batch_size: int, length: int) -> Array:
    """Tokens of the chain, int32 [b, t], each sequence begun in the stationary distribution.

    Raises:
      ValueError: a size below 1.
    """
    check.positive(batch_size=batch_size, length=length)
    log_rows = jnp.log(chain.transition)
    start = jnp.log(chain.stationary)
    first = jax.random.categorical(rng.fold(key, "first"), start, shape=(batch_size,))

    def step(token: Array, key: Key) -> tuple[Array, Array]:
        return jax.random.categorical(key, log_rows[token]), token

    _, tokens = jax.lax.scan(step, first, jax.random.split(rng.fold(key, "rest"), length))
    return tokens.T.astype(jnp.int32)
