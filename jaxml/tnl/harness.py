"""Our models in EleutherAI's lm-evaluation-harness: `pip install "jaxml-lab[eval]"`.

The harness is imported when a model is wrapped, so that the rest works without it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxml.core import check
from jaxml.tnl import scoring
from jaxml.tnl.generator import Generator


def split(generator: Generator, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids of a context and of what follows it, as they are when written together.

    Spaces at the end of the context belong to the continuation, since tokens begin with them. An
    empty context is the beginning of a line.
    """
    kept = context.rstrip(" ")
    continuation = context[len(kept) :] + continuation
    if not kept:
        return generator.encode(["\n"])[0], generator.encode([continuation])[0]
    before, whole = generator.encode([kept, kept + continuation])
    return before, whole[len(before) :]


def wrap(generator: Generator, *, rows: int = 8, max_tokens: int = 256) -> Any:
    """A model as the harness takes it, e.g. `lm_eval.simple_evaluate(model=wrap(generator))`.

    Args:
      generator: the model and its tokenizer.
      rows: of a batch.
      max_tokens: written where a task sets no limit.

    Raises:
      ImportError: the harness is not installed.
    """
    check.positive(rows=rows, max_tokens=max_tokens)
    try:
        from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(
            "tasks need the package lm-eval: pip install 'jaxml-lab[eval]'."
        ) from None

    def of_pairs(pairs: Sequence[tuple[list[int], list[int]]]) -> list[scoring.Score]:
        return scoring.score(generator.model, generator.params, pairs, rows)

    class Adapter(LM):
        """Likelihoods in batches of like length; texts greedily unless a task says otherwise."""

        def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
            pairs = [split(generator, *request.args) for request in requests]
            return [(found.nats, found.greedy) for found in of_pairs(pairs)]

        def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[float]:
            pairs = [split(generator, "", request.args[0]) for request in requests]
            return [found.nats for found in of_pairs(pairs)]

        def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
            return [_write(generator, *request.args, most=max_tokens) for request in requests]

    return Adapter()


def _write(generator: Generator, context: str, how: dict[str, Any], *, most: int) -> str:
    until = how.get("until") or ()
    stop = (until,) if isinstance(until, str) else tuple(word for word in until if word)
    told = {"temperature": float(how.get("temperature", 0.0)) if how.get("do_sample") else 0.0}
    told |= {name: how[name] for name in ("top_k", "top_p") if how.get(name)}
    num_tokens = int(how.get("max_gen_toks", most))
    return generator.generate([context or "\n"], num_tokens=num_tokens, stop=stop, **told)[0]


def evaluate(
    folder: Path | str,
    tasks: Sequence[str],
    *,
    include: Path | str | None = None,
    limit: int | None = None,
    shots: int | None = None,
    rows: int = 8,
) -> dict[str, Any]:
    """The harness's results of a trained model: `{task: {metric: value}}`.

    Args:
      folder: of a run, or of imported weights.
      tasks: by their names in the harness.
      include: a folder of further task files.
      limit: examples of a task; None: all.
      shots: examples before each question; None: as the task says.
      rows: of a batch.

    Raises:
      ImportError: the harness is not installed.
      FileNotFoundError: see `train.load`.
    """
    wrapped = wrap(Generator.load(folder), rows=rows)
    import lm_eval  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    manager = TaskManager(include_path=None if include is None else str(include))
    found = lm_eval.simple_evaluate(
        model=wrapped, tasks=list(tasks), task_manager=manager, limit=limit, num_fewshot=shots
    )
    assert found is not None  # this is the main process
    return found["results"]
