"""The training loss: next-token cross-entropy, never holding logits of the whole sequence."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxml.core.types import Array, Key, PyTree
from jaxml.tnl.language_model import LanguageModel
from jaxml.train.step import Loss


def next_token(
    model: LanguageModel, params: PyTree, batch: Mapping[str, Array], chunk: int | None = None
) -> tuple[Array, Array]:
    """Mean nats per target token and the number of targets.

    Args:
      model: the language model.
      params: its parameters.
      batch: `inputs` and `targets` int [b, t]; optional `segment_ids` (0 marks padding, which is
        not counted) and `positions`.
      chunk: time steps whose logits are in memory at once, see `loss.chunked_cross_entropy`.
    """
    more = {name: batch[name] for name in ("segment_ids", "positions") if name in batch}
    mask = batch["segment_ids"] > 0 if "segment_ids" in batch else None
    hidden = model.hidden(params, batch["inputs"], **more)
    return model.cross_entropy(hidden, model.table(params), batch["targets"], mask, chunk)


def loss_fn(model: LanguageModel) -> Callable[[PyTree, Any, Key, PyTree], Loss]:
    """The loss in the form the trainer takes."""

    def value(params: PyTree, batch: Any, key: Key, extra: PyTree) -> Loss:
        mean, count = next_token(model, params, batch)
        return Loss(mean, count)

    return value


_measure = jax.jit(next_token, static_argnums=0)


def evaluate(model: LanguageModel, params: PyTree, windows: Mapping[str, Array]) -> float:
    """Mean nats per token over stacked windows `inputs` and `targets` [n, b, t], n batches."""
    total = count = 0.0
    for index in range(windows["inputs"].shape[0]):
        mean, num = _measure(model, params, {name: x[index] for name, x in windows.items()})
        total, count = total + mean * num, count + num
    return float(total / count)
