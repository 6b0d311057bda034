"""Training a language model: the shared parts put together."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax

from jaxml.core import check, config, param, rng, tree
from jaxml.core.types import Key, PyTree
from jaxml.dist import mesh as meshes
from jaxml.dist import rules, shard
from jaxml.dist.mesh import MeshConfig
from jaxml.inputs import loader, tokenizer
from jaxml.inputs.loader import Batches
from jaxml.tnl import corpus as corpora
from jaxml.tnl import model, objective, softmax, spread, weights
from jaxml.tnl.config import PRESETS, TNLConfig, same_size
from jaxml.tnl.language_model import LanguageModel
from jaxml.train import checkpoint, hooks, loop, optim, run, state
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig

WEIGHTS = "weights.safetensors"
"""In a run's folder: imported weights to begin from, under the names of the released ones."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
      model: sizes.
      vocab: "tokenizer": `model.vocab_size` is replaced by the tokenizer's; "model": it stays, and
        must hold the tokenizer's (a checkpoint's, or one rounded up for speed).
      architecture: "tnl", or "transformer", the softmax baseline of the same size.
      corpus: the text.
      seq_len: tokens per row, t.
      packed: whole documents side by side in each row, which do not see each other; otherwise
        windows of the corpus as one text.
      batch_size: rows per update, b, over all devices.
      optim: the optimiser; `total_steps` of its schedule follows `run.num_steps`.
      run: length, logs and checkpoints.
      mesh: devices per axis; by default all hold the model and share the batch.
      eval_every: steps between validations; 0: none.
      eval_batches: most batches of a validation.
      seed: of initialisation and data order.
    """

    model: TNLConfig = PRESETS["laptop"]
    vocab: Literal["tokenizer", "model"] = "tokenizer"
    architecture: Literal["tnl", "transformer"] = "tnl"
    corpus: corpora.CorpusConfig = dataclasses.field(default_factory=corpora.CorpusConfig)
    seq_len: int = 64
    packed: bool = False
    batch_size: int = 16
    optim: OptimConfig = dataclasses.field(
        default_factory=lambda: OptimConfig(lr=1e-2, warmup_steps=50, weight_decay=0.1)
    )
    run: RunConfig = dataclasses.field(default_factory=lambda: RunConfig(num_steps=600))
    mesh: MeshConfig = dataclasses.field(default_factory=lambda: MeshConfig(data=-1))
    eval_every: int = 200
    eval_batches: int = 64
    seed: int = 0

    def __post_init__(self):
        check.types(self)
        check.positive(seq_len=self.seq_len, batch_size=self.batch_size)
        check.positive(eval_batches=self.eval_batches)
        check.at_least(0, eval_every=self.eval_every)


def build(cfg: TrainConfig, vocab_size: int, mesh: Any = None) -> LanguageModel:
    """The language model of a run; on a mesh with a `seq` axis, time is split over it.

    Raises:
      ValueError: a model whose own vocabulary ("model") is smaller than the tokenizer's.
    """
    if cfg.vocab == "model" and vocab_size > cfg.model.vocab_size:
        raise ValueError(
            "model.vocab_size must be >= the tokenizer's; "
            f"got {cfg.model.vocab_size}, tokenizer {vocab_size}."
        )
    wanted = sized(cfg, vocab_size)
    if cfg.architecture == "transformer":
        other = same_size(wanted)
        return softmax.language_model(other) if mesh is None else spread.transformer(other, mesh)
    return model.language_model(wanted) if mesh is None else spread.language_model(wanted, mesh)


def sized(cfg: TrainConfig, vocab_size: int) -> TNLConfig:
    """The model of a run with a tokenizer of so many ids."""
    if cfg.vocab == "model":
        return cfg.model
    return dataclasses.replace(cfg.model, vocab_size=vocab_size)


def train(
    cfg: TrainConfig, folder: Path | str, watch: Sequence[loop.Hook] = ()
) -> tuple[LanguageModel, PyTree, corpora.Corpus]:
    """Trains, or goes on training, in a folder, which then is all that `load` needs.

    Returns:
      The model, its last parameters, and the corpus.

    Raises:
      ValueError: the folder holds a run with other settings, or a value that does not fit.
    """
    folder = Path(folder)
    _check_same_run(cfg, folder)
    corpus = corpora.load(cfg.corpus, _known_tokenizer(folder), packed=cfg.packed)
    mesh = meshes.make(cfg.mesh, _devices(cfg.mesh))
    lm = build(cfg, corpus.tokenizer.vocab_size, mesh)
    key = jax.random.key(cfg.seed)
    params = _first(cfg, lm, folder, rng.fold(key, "init"), mesh)
    batches = _batches(cfg, corpus)
    config.save(cfg, folder / "config.json")
    corpus.tokenizer.save(folder / "tokenizer.json")
    flops = None if lm.flops_per_token is None else lm.flops_per_token(cfg.seq_len)
    speed = hooks.Speed(cfg.seq_len * cfg.batch_size, cfg.run.log_every, flops_per_item=flops)
    last = run.train(
        objective.loss_fn(lm),
        params,
        optim.make(_plan(cfg), optim.matrices(lm.declared)),
        batches,
        cfg.run,
        key=key,
        folder=folder,
        accumulate=cfg.optim.accumulate,
        batch_sharding=shard.batch_sharding(mesh, rules.TENSOR),
        watch=[*_evaluation(cfg, lm, corpus), *watch, speed],
    )
    return lm, last.params, corpus


def _first(cfg: TrainConfig, lm: LanguageModel, folder: Path, key: Key, mesh: Any) -> PyTree:
    """Imported weights where the folder holds them, drawn ones otherwise; on the mesh."""
    path = folder / WEIGHTS
    if not path.exists():
        return shard.init_sharded(key, lm.declared, mesh, rules.TENSOR)
    _, params = weights.load(path, cfg.model)
    return shard.put(params, shard.shardings(lm.declared, mesh, rules.TENSOR))


def _batches(cfg: TrainConfig, corpus: corpora.Corpus) -> Batches:
    make = loader.packed_documents if cfg.packed else loader.token_windows
    return make(
        corpus.documents if cfg.packed else corpus.train,  # pyright: ignore[reportArgumentType]
        cfg.seq_len,
        cfg.batch_size,
        cfg.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _plan(cfg: TrainConfig) -> OptimConfig:
    """The optimiser, its schedule as long as the run."""
    return dataclasses.replace(cfg.optim, total_steps=max(cfg.run.num_steps, 1))


def _devices(cfg: MeshConfig) -> list[Any]:
    """All devices; fewer where one process asks for a smaller mesh."""
    sizes = dataclasses.astuple(cfg)
    wanted = jax.device_count() if -1 in sizes else math.prod(sizes)
    return jax.devices()[:wanted] if jax.process_count() == 1 else jax.devices()


def _evaluation(cfg: TrainConfig, lm: LanguageModel, corpus: corpora.Corpus) -> list[loop.Hook]:
    if cfg.eval_every == 0 or len(corpus.val) <= cfg.seq_len * cfg.batch_size:
        return []
    windows = corpus.windows("val", cfg.seq_len, cfg.batch_size, cfg.eval_batches)

    def measure(now: state.TrainState) -> dict[str, float]:
        return {"loss": objective.evaluate(lm, now.params, windows)}

    return [hooks.Evaluate(measure, cfg.eval_every)]


def _known_tokenizer(folder: Path) -> tokenizer.Tokenizer | None:
    path = folder / "tokenizer.json"
    return tokenizer.load(path) if path.exists() else None


def _check_same_run(cfg: TrainConfig, folder: Path) -> None:
    """A folder belongs to one run; only its length and its mesh may change.

    Imported weights that were not trained yet fix the model alone.
    """
    path = folder / "config.json"
    if not path.exists():
        return
    before = config.load(TrainConfig, path)
    same = dataclasses.replace(cfg, run=before.run, mesh=before.mesh)
    if (folder / WEIGHTS).exists() and not (folder / "checkpoints").exists():
        same = dataclasses.replace(before, model=cfg.model, vocab=cfg.vocab)
    config.check_same(same, before, folder)


def load(folder: Path | str) -> tuple[TrainConfig, LanguageModel, PyTree, tokenizer.Tokenizer]:
    """Configuration, model, newest intact parameters and tokenizer of a run's folder.

    A folder of imported weights that was not trained yet is one too, see `adopt`.

    Raises:
      FileNotFoundError: no such run, or one without a checkpoint.
      CheckpointError: nothing intact.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"{folder} holds no training run (no config.json there).")
    cfg = config.load(TrainConfig, folder / "config.json")
    words = tokenizer.load(folder / "tokenizer.json")
    lm = build(cfg, words.vocab_size)
    if (folder / WEIGHTS).exists() and not (folder / "checkpoints").exists():
        return cfg, lm, weights.load(folder / WEIGHTS, cfg.model)[1], words
    like = jax.eval_shape(
        lambda: state.create(
            jax.random.key(0),
            jax.tree.map(lambda s: jax.numpy.zeros(s.shape, s.dtype), param.abstract(lm.declared)),
            optim.make(_plan(cfg), optim.matrices(lm.declared)),
            ema=cfg.run.ema_decay is not None,
        )
    )
    found = checkpoint.restore(folder / "checkpoints", like)
    tree.check_match(found.state.params, param.abstract(lm.declared), "the checkpoint")
    return cfg, lm, found.state.params, words
