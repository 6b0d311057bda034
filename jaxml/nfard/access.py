"""Ways to a model: parameters and a function, a table of its answers, or a call over a network.

An `Access` answers for rows of a pool of samples. What it cannot give (probabilities of a model
that returns labels, hidden activations of a black box) is None in its `Answer`.
"""

import csv
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.nfard.functionality import centred, check_probs, is_hard, nf_matrix

type Access = Callable[[np.ndarray, np.ndarray], "Answer"]
"""`(pool, rows) -> Answer` for those rows of the pool."""
type Apply = Callable[..., Any]
"""`(params, x) -> outputs`, or `-> (outputs, {layer: activations})`."""


class Answer(NamedTuple):
    """What a model says about n samples.

    Attributes:
      labels: its class, int [n].
      probs: [n, C], or None.
      hidden: NF matrix [n, d] of a layer, or None.
    """

    labels: np.ndarray
    probs: np.ndarray | None = None
    hidden: np.ndarray | None = None

    def outputs(self, eps: float = 1e-12) -> np.ndarray | None:
        """Centred log-probabilities [n, C]."""
        if self.probs is None:
            return None
        return np.asarray(centred(jnp.log(jnp.maximum(jnp.asarray(self.probs), eps))))


def answer_of(given: Any) -> Answer:
    """An answer from probabilities [n, C] or labels [n] (one-hot rows are labels), checked.

    Raises:
      ValueError: neither.
    """
    array = np.asarray(given)
    if array.ndim == 1:
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"labels must be integers; got {array.dtype}.")
        return Answer(array.astype(np.int64))
    if array.ndim == 2 and is_hard(array) and (array.sum(1) == 1).all():
        return Answer(array.argmax(1))
    return Answer(check_probs(array).argmax(1), array)


def from_params(
    apply: Apply,
    params: PyTree,
    *,
    outputs: str = "logits",
    layer: str | None = None,
    batch_size: int = 1000,
) -> Access:
    """Full access: any pure function of (params, x), such as a flax module's `apply`.

    Args:
      apply: gives outputs [b, C], and, for white-box use, a dict of activations by layer.
      params: its first argument.
      outputs: "logits" or "probs".
      layer: whose activations are read; "last" for the last of the dict (jit sorts dicts: give a
        function that is not jitted, or a name); None for none.
      batch_size: samples at a time.

    Raises:
      ValueError: when asked, if the function gives no such layer.
    """
    check.one_of(("logits", "probs"), outputs=outputs)
    check.positive(batch_size=batch_size)
    run = _compiled(apply, outputs, layer)

    def ask(pool: np.ndarray, rows: np.ndarray) -> Answer:
        return _gathered([run(params, x) for x in batches(pool, rows, batch_size)], len(rows))

    return ask


@functools.lru_cache(maxsize=64)
def _compiled(apply: Apply, outputs: str, layer: str | None) -> Callable[..., Any]:
    return jax.jit(functools.partial(parts, apply, outputs, layer))


def batches(pool: np.ndarray, rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Batches of one size; the last is filled with its own last row."""
    size = min(batch_size, len(rows))
    full = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % size)])
    return [pool[full[i : i + size]] for i in range(0, len(full), size)]


def parts(
    apply: Apply, outputs: str, layer: str | None, params: PyTree, x: Array
) -> tuple[Array, Array | None]:
    """Probabilities in float32 and the NF matrix of the layer."""
    found = apply(params, x)
    out, layers = found if isinstance(found, tuple) else (found, {})
    probs = jax.nn.softmax(out.astype(jnp.float32), -1) if outputs == "logits" else out
    return probs, None if layer is None else nf_matrix(layers[layer_name(layer, layers)])


def layer_name(layer: str, layers: dict[str, Any]) -> str:
    """The layer of that name, or the last.

    Raises:
      ValueError: no such layer; names those there are.
    """
    if not layers:
        raise ValueError(f"apply must return (outputs, layers) to read layer={layer!r}.")
    name = list(layers)[-1] if layer == "last" else layer
    check.one_of(layers, layer=name)
    return name


def _gathered(parts: Sequence[tuple[Array, Array | None]], n: int) -> Answer:
    probs = np.concatenate([np.asarray(p) for p, _ in parts])[:n]
    if not np.isfinite(probs).all():
        raise ValueError("the model's outputs must be finite; they hold NaN or infinity.")
    hidden = None
    if parts[0][1] is not None:
        hidden = np.concatenate([np.asarray(h) for _, h in parts])[:n].astype(np.float32)
    return Answer(probs.argmax(1), probs, hidden)


def from_callable(ask: Callable[[np.ndarray], Any], batch_size: int = 100) -> Access:
    """A black box that is called, such as a client of a web service.

    Args:
      ask: samples [b, ...] -> probabilities [b, C] or labels [b].
      batch_size: samples in one call.
    """
    check.positive(batch_size=batch_size)

    def access(pool: np.ndarray, rows: np.ndarray) -> Answer:
        size = len(rows)
        parts = [ask(pool[rows[i : i + batch_size]]) for i in range(0, size, batch_size)]
        return answer_of(np.concatenate([np.asarray(part) for part in parts]))

    return access


def from_table(table: Any, index: np.ndarray | None = None) -> Access:
    """Answers that were collected before: probabilities [n, C] or labels [n].

    Args:
      table: an array, or a file: `.npz` with `probs` or `labels` and perhaps `index`; or `.csv`
        with a header and the columns `p0, p1, ...` or `label`, and perhaps `index`.
      index: the row of the pool that each row of the table is about; None: in the pool's order.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another kind of file; when asked, a row of the pool that the table lacks.
    """
    if isinstance(table, str | Path):
        table, index = _read_table(Path(table))
    known = answer_of(table)
    place = None if index is None else {int(row): i for i, row in enumerate(index)}

    def ask(pool: np.ndarray, rows: np.ndarray) -> Answer:
        if place is None and len(known.labels) != len(pool):
            raise ValueError(
                f"a table without an index must have a row for each sample; got "
                f"{len(known.labels)} rows for {len(pool)} samples."
            )
        missing = [r for r in rows if place is not None and int(r) not in place]
        if missing:
            raise ValueError(
                f"the table lacks {len(missing)} samples of the suite, the first is row "
                f"{missing[0]} (ask the model about all of them)."
            )
        at = rows if place is None else np.array([place[int(r)] for r in rows])
        return Answer(known.labels[at], None if known.probs is None else known.probs[at])

    return ask


def _read_table(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            for name in ("probs", "labels"):
                if name in arrays:
                    return arrays[name], arrays.get("index")
        raise ValueError(f"{path} must hold `probs` or `labels`.")
    if path.suffix != ".csv":
        raise ValueError(f"a table must end in .csv or .npz; got {path}.")
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    names = list(rows[0]) if rows else []
    columns = sorted(
        (n for n in names if n[:1] == "p" and n[1:].isdigit()), key=lambda n: int(n[1:])
    )
    if not columns and "label" not in names:
        raise ValueError(f"{path} must have the columns p0, p1, ... or label; got {names}.")
    try:
        table = (
            np.array([[float(r[c]) for c in columns] for r in rows])
            if columns
            else np.array([int(r["label"]) for r in rows])
        )
        index = np.array([int(r["index"]) for r in rows]) if "index" in names else None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not an intact table ({error}).") from None
    return table, index


def hard(access: Access) -> Access:
    """The same model when it gives nothing but labels."""
    return lambda pool, rows: Answer(access(pool, rows).labels)


def black(access: Access) -> Access:
    """The same model when only its probabilities are seen."""
    return lambda pool, rows: access(pool, rows)._replace(hidden=None)
