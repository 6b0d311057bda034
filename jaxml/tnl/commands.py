"""`jaxml tnl train`, `generate`, `eval`, `import`, `export` and `bench`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro
from rich.console import Console

from jaxml.core import check
from jaxml.report import timing
from jaxml.tnl import corpus as corpora
from jaxml.tnl import exchange, perplexity, speed
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


def evaluate(
    what: Annotated[Literal["ppl"], tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional],
    /,
    split: Literal["val", "test"] = "test",
    corpus: str | None = None,
    path: str | None = None,
    seq_len: int | None = None,
    batch_size: int = 8,
    batches: int = 1000,
) -> None:
    """Measures a trained model: perplexity and bits per byte.

    Args:
      what: ppl.
      folder: of a run of `jaxml tnl train`, or of imported weights.
      split: of the text.
      corpus: a text by name (default: that of the run).
      path: the folder it lies in.
      seq_len: tokens that a window holds (default: that of the run).
      batch_size: windows at a time.
      batches: at most.
    """
    cfg, lm, params, words = training.load(folder)
    source = cfg.corpus
    if corpus is not None:
        source = dataclasses.replace(source, name=corpus, path=path)
    text = corpora.load(source, words)
    length = seq_len or cfg.seq_len
    found = perplexity.measure(
        lm, params, text, split, seq_len=length, rows=batch_size, most=batches
    )
    print(f"{text.provenance.name}, {split}: {found.tokens:,} tokens in windows of {length}")
    print(f"  {found.nats:.4f} nats per token, perplexity {found.perplexity:.3f}")
    print(f"  {found.bits_per_byte:.4f} bits per byte ({found.text_bytes:,} bytes)")


def adopt(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional],
    /,
    tokenizer: Path,
    num_heads: int | None = None,
    scale_embedding: bool = True,
    decay_rule: Literal["tnl", "paper", "minimax"] = "tnl",
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Imports a released checkpoint, so that it can be generated from, measured and trained on.

    Args:
      checkpoint: a safetensors file, an index of shards, or their folder.
      folder: to be made.
      tokenizer: `tokenizer.json`, or GPT-2's `vocab.json` beside its `merges.txt`.
      num_heads: needed only for a checkpoint without LRPE.
      scale_embedding: False for the later releases.
      decay_rule: of the slopes.
      dtype: to compute in.
    """
    how = {"num_heads": num_heads, "scale_embedding": scale_embedding, "decay_rule": decay_rule}
    cfg = exchange.adopt(checkpoint, folder, tokenizer, dtype=dtype, **how)
    layers, width = cfg.model.num_layers, cfg.model.width
    print(f"{layers} layers of width {width}, {cfg.model.vocab_size:,} ids; lies in {folder}.")


def export(
    folder: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    /,
) -> None:
    """Writes a trained model as safetensors under the names of the released checkpoints.

    Args:
      folder: of a run of `jaxml tnl train`.
      out: the file to write.
    """
    exchange.export(folder, out)
    print(f"written to {out}.")


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
