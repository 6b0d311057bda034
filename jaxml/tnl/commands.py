"""The verbs of `jaxml tnl`."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro
from rich.console import Console

from jaxml.core import check, files
from jaxml.core import config as configs
from jaxml.dist import processes
from jaxml.report import page, timing
from jaxml.tnl import corpus as corpora
from jaxml.tnl import exchange, perplexity, phases, speed
from jaxml.tnl import harness as tasks_of
from jaxml.tnl import train as training
from jaxml.tnl.config import PRESETS
from jaxml.tnl.generator import Generator, Piece


def of_preset(preset: str | None, config: Path | None = None) -> Callable[..., None]:
    """The command `train` with the defaults of a preset, or of a run's `config.json`."""
    default = training.TrainConfig()
    if preset is not None and config is not None:
        raise ValueError(f"preset and config exclude each other; got {preset} and {config}.")
    if config is not None:
        default = configs.load(training.TrainConfig, config)
    if preset is not None:
        check.one_of(PRESETS, preset=preset)
        default = dataclasses.replace(default, model=PRESETS[preset])

    def train(
        folder: Annotated[Path, tyro.conf.Positional],
        /,
        preset: str = "laptop",
        config: Path | None = None,
        cfg: Annotated[training.TrainConfig, tyro.conf.arg(name="")] = default,
    ) -> None:
        """Trains a language model on text, or goes on with a run that was stopped.

        Args:
          folder: of the run: configuration, tokenizer, checkpoints, metrics.jsonl.
          preset: sizes of the model (tiny, laptop, 40m, 385m, 1b, 3b, 7b, 15b); other flags change
            single ones.
          config: a `config.json` of another run, whose settings are the defaults instead.
          cfg: the run.
        """
        processes.start()
        _, params, corpus = training.train(cfg, folder)
        if not processes.is_main():
            return
        size = sum(x.size for x in jax.tree.leaves(params))
        where = f"{corpus.provenance.name} ({corpus.provenance.where})"
        Console().print(f"{size:,} parameters, trained on {where}; the run lies in {folder}.")

    return train


train = of_preset(None)
train.of_preset = of_preset  # pyright: ignore[reportFunctionMemberAccess]


def generate(
    folder: Annotated[Path, tyro.conf.Positional],
    /,
    prompt: tuple[str, ...] = (),
    prompt_file: Path | None = None,
    context: Path | None = None,
    save_context: Path | None = None,
    max_len: int = 0,
    num_tokens: int = 400,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = 0.95,
    stop: tuple[str, ...] = (),
    seed: int = 0,
) -> None:
    """Continues prompts with a trained model; the text of a single one appears as it is drawn.

    Args:
      folder: of a run of `jaxml tnl train`.
      prompt: texts to continue, side by side (default: a line's beginning).
      prompt_file: a file with the text to continue.
      context: go on from a context that `--save-context` kept; prompts are read after it.
      save_context: keep what was read, before anything is drawn, in a file.
      max_len: tokens that a context of softmax layers shall have room for.
      num_tokens: how many tokens to draw; 0 only reads.
      temperature: 0 takes the likeliest token each time.
      top_k: draw from the k likeliest only.
      top_p: draw from the likeliest that make up this probability.
      stop: words that end a text.
      seed: of the draws.
    """
    check.at_least(0, num_tokens=num_tokens)
    if prompt_file is not None:
        prompt = (*prompt, prompt_file.read_text(encoding="utf-8"))
    generator = Generator.load(folder)
    if context is not None:
        known = generator.open(context)
        known = generator.more(known, prompt) if prompt else known
    else:
        prompt = prompt or ("\n",)
        room = max(max_len, max(map(len, generator.encode(prompt))) + num_tokens)
        known = generator.read(prompt, room)
    if save_context is not None:
        generator.save(save_context, known)
        print(f"what was read is kept in {save_context}.", file=sys.stderr)
    if num_tokens:
        how = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        pieces = generator.stream(known, num_tokens=num_tokens, seed=seed, stop=stop, **how)
        _print(prompt or ("",) * known.hidden.shape[0], pieces)


def _print(prompts: Sequence[str], pieces: Iterable[Piece]) -> None:
    """One text as it comes; several, each whole, one after the other."""
    if len(prompts) == 1:
        print(prompts[0], end="", flush=True)
        for piece in pieces:
            print(piece.texts[0], end="", flush=True)
        print()
        return
    rows = zip(*(piece.texts for piece in pieces), strict=True)
    for index, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        print(f"[{index + 1}] {prompt}{''.join(row)}")


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


def harness(
    folder: Annotated[Path, tyro.conf.Positional],
    /,
    tasks: tuple[str, ...],
    include: Path | None = None,
    limit: int | None = None,
    shots: int | None = None,
    batch_size: int = 8,
    out: Path | None = None,
) -> None:
    """Measures a trained model on tasks of the lm-evaluation-harness.

    Args:
      folder: of a run of `jaxml tnl train`, or of imported weights.
      tasks: names in the harness, e.g. `boolq piqa`.
      include: a folder of further task files.
      limit: examples of a task (default: all).
      shots: examples before each question (default: as the task says).
      batch_size: questions at a time.
      out: a JSON file for the results.
    """
    found = tasks_of.evaluate(
        folder, tasks, include=include, limit=limit, shots=shots, rows=batch_size
    )
    if out is not None:
        files.write_text(out, json.dumps(found, indent=1, default=str) + "\n")
    for task, metrics in found.items():
        numbers = {name: x for name, x in metrics.items() if isinstance(x, (int, float))}
        print(f"{task}: {', '.join(f'{name} {x:.4g}' for name, x in numbers.items())}")


def adopt(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional],
    /,
    tokenizer: Path | None = None,
    num_heads: int | None = None,
    scale_embedding: bool | None = None,
    decay_rule: Literal["tnl", "paper", "minimax"] | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Imports a released checkpoint, so that it can be generated from, measured and trained on.

    Args:
      checkpoint: a safetensors file, an index of shards, or their folder.
      folder: to be made.
      tokenizer: `tokenizer.json`, or GPT-2's `vocab.json` beside its `merges.txt` (default: what
        lies beside the checkpoint).
      num_heads: needed only for a checkpoint without LRPE and without `config.json`.
      scale_embedding: False for the later releases (default: what `config.json` says, else True).
      decay_rule: of the slopes (default: tnl, the released one).
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
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    shard_gb: float = 5.0,
) -> None:
    """Writes a trained model as safetensors under the names of the released checkpoints.

    Args:
      folder: of a run of `jaxml tnl train`.
      out: a file `*.safetensors`, or a folder for shards, `config.json` and the tokenizer.
      dtype: of the tensors.
      shard_gb: most gigabytes of a shard.
    """
    exchange.export(folder, out, dtype=dtype, max_bytes=int(shard_gb * 1e9))
    print(f"written to {out}.")


def table(folder: Annotated[Path, tyro.conf.Positional], /) -> None:
    """Prints what the studies on a GPU found, and the verdicts.

    Args:
      folder: with their results files, e.g. `benchmarks/results`.
    """
    found = {name: phases.find(name, [folder]) for name in phases.STUDIES}
    records = {name: json.loads(path.read_text()) for name, path in found.items() if path}
    if not records:
        raise FileNotFoundError(f"{folder} holds no results: {', '.join(phases.STUDIES)}.")
    shown = phases.outcome(records, {}, "h100")
    for part in shown.tables:
        print(f"\n{part.title}")
        for row in (part.columns, *part.rows):
            print("  ".join(cell.ljust(18) for cell in row).rstrip())
    print()
    for decided in shown.claims:
        value = page.number(decided.measured, decided.spread)
        print(f"{decided.verdict:<12} {decided.paper_words}: {value} ({decided.rule})")


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
