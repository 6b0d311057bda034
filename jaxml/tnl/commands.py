"""`jaxml tnl train`, `generate` and `bench`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console

from jaxml.core import check
from jaxml.report import timing
from jaxml.tnl import speed
from jaxml.tnl import train as training
from jaxml.tnl.config import PRESETS
from jaxml.tnl.generate import generate as continue_prompt


def of_preset(preset: str | None) -> Callable[..., None]:
    """The command `train` with the defaults of a preset."""
    default = training.TrainConfig()
    if preset is not None:
        check.one_of(PRESETS, preset=preset)
        default = dataclasses.replace(default, model=PRESETS[preset])

    def train(
        folder: Annotated[Path, tyro.conf.Positional],
        /,
        preset: str = "laptop",
        cfg: Annotated[training.TrainConfig, tyro.conf.arg(name="")] = default,
    ) -> None:
        """Trains a language model on text, or goes on with a run that was stopped.

        Args:
          folder: of the run: configuration, tokenizer, checkpoints, metrics.jsonl.
          preset: sizes of the model (tiny, laptop, 40m, 385m, 1b, 3b, 7b, 15b); other flags change
            single ones.
          cfg: the run.
        """
        _, params, corpus = training.train(cfg, folder)
        size = sum(x.size for x in jax.tree.leaves(params))
        where = f"{corpus.provenance.name} ({corpus.provenance.where})"
        Console().print(f"{size:,} parameters, trained on {where}; the run lies in {folder}.")

    return train


train = of_preset(None)
train.of_preset = of_preset  # pyright: ignore[reportFunctionMemberAccess]


def generate(
    folder: Annotated[Path, tyro.conf.Positional],
    /,
    prompt: str = "\n",
    num_tokens: int = 400,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = 0.95,
    seed: int = 0,
) -> None:
    """Continues a prompt with a trained model.

    Args:
      folder: of a run of `jaxml tnl train`.
      prompt: text to continue.
      num_tokens: how many tokens to draw.
      temperature: 0 takes the likeliest token each time.
      top_k: draw from the k likeliest only.
      top_p: draw from the likeliest that make up this probability.
      seed: of the draws.
    """
    check.positive(num_tokens=num_tokens)
    _, lm, params, words = training.load(folder)
    ids = np.asarray(words.encode(prompt), np.int32)[None]
    drawn = continue_prompt(
        lm,
        params,
        jax.numpy.asarray(ids),
        jax.random.key(seed),
        num_tokens=num_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
    )
    print(prompt + words.decode(np.asarray(drawn[0])))


def bench(
    lengths: tuple[int, ...] = (1024, 2048, 4096, 8192),
    width: int = 64,
    num_heads: int = 2,
    repeats: int = 5,
    out: Path | None = None,
) -> None:
    """Times the forward pass of TNL and of a same-size Transformer against the length.

    Args:
      lengths: tokens per row.
      width: of both models.
      num_heads: of both models.
      repeats: measured calls of each, in alternation.
      out: a results file to write.
    """
    pair = speed.models(width, num_heads)
    rows = [row for n in lengths for row in speed.forward_rows(pair, n, repeats)]
    print(timing.table(rows))
    if out is not None:
        timing.write(out, rows)
