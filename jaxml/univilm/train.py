"""Stages of training: the losses of a batch, on one device or exactly the same on a mesh."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.dist import collective, shard
from jaxml.dist.rules import DATA
from jaxml.train import loop, run, state, step
from jaxml.train.step import Loss
from jaxml.univilm import masking, optimizer, stages
from jaxml.univilm.clips import Batches, Clips
from jaxml.univilm.config import TrainConfig, UniVLConfig


def trained(stage: TrainConfig) -> tuple[str, ...]:
    """The components that a stage trains; others must not even decay.

    >>> trained(TrainConfig("joint"))
    ('text', 'video', 'video_norm')
    """
    both, cross = ("text", "video", "video_norm"), ("cross", "similarity")
    if stage.stage == "full":
        heads = {"cmlm": "cmlm", "cmfm": "cmfm", "decode": "decoder"}
        return (*both, *cross, *(part for loss, part in heads.items() if loss in stage.losses))
    return {"retrieval_align": (*both, *cross), "caption": (*both, "cross", "decoder")}.get(
        stage.stage, both
    )


def prepare(cfg: UniVLConfig, train: TrainConfig, batch: PyTree, key: Key) -> PyTree:
    """What a stage sees of a batch: masks, dropped texts; drawn over the whole batch at once.

    A caption never enters as text, except that retrieval asks by it.
    """
    batch = dict(batch)
    if train.stage.startswith("retrieval"):
        batch["text"] = batch["caption"]
    if train.stage == "caption" and train.drop_text:
        batch["text"] = masking.bare(cfg, batch["text"].shape[0])
    if train.stage != "full":
        return batch
    keys = {n: rng.fold(key, n) for n in ("drop", "text", "video", "caption")}
    if train.enhanced_v > 0:
        batch["text"] = masking.enhanced_v(
            keys["drop"], cfg, batch["text"], train.n_pair, train.enhanced_v
        )
    rate = train.mask_rate
    batch["masked_text"], batch["labels"] = masking.mask_tokens(
        keys["text"], cfg, batch["text"], rate
    )
    frames = jnp.arange(batch["video"].shape[1])[None, :] < batch["num_frames"][:, None]
    batch["masked_video"], batch["hidden"] = masking.mask_frames(
        keys["video"], batch["video"], frames, rate
    )
    given, _ = masking.decoder_pair(cfg, batch["caption"])
    # The caption's last word is not its last token, so all words may be masked but the last.
    batch["masked_caption"], _ = masking.mask_tokens(keys["caption"], cfg, given, rate)
    return batch


def make_loss(
    cfg: UniVLConfig,
    train: TrainConfig,
    mesh: Mesh | None = None,
    axes: tuple[str, ...] = ("data", "fsdp"),
) -> step.LossFn:
    """The loss of a step `(params, batch, key, extra) -> Loss`, the plain sum of its objectives.

    Args:
      cfg: the model.
      train: the stage; a batch holds arrays [B, P, ...].
      mesh: splits the batch over `axes`; contrasts still reach over all of it, so that value and
        gradient are those of one device. None: one device.
      axes: of the mesh.
    """
    axis = None if mesh is None else axes

    def local(params: PyTree, batch: PyTree, key: Key) -> dict[str, Array]:
        key = rng.fold(key, collective.axis_index_or_zero(axis))
        rows = stages.Rows(params, cfg, train, batch, key if cfg.dropout else None, axis)
        return stages.losses(rows)

    split = PartitionSpec(axes)
    body = shard.over(local, mesh, (PartitionSpec(), split, PartitionSpec()), PartitionSpec())

    def loss_fn(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> Loss:
        del extra
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        ready = prepare(cfg, train, batch, rng.fold(key, "prepare"))
        found = body(params, ready, rng.fold(key, "dropout"))
        return Loss(sum(found.values(), jnp.float32(0.0)), 1.0, found)

    return loss_fn


@functools.lru_cache(maxsize=16)
def _compiled(
    cfg: UniVLConfig, train: TrainConfig
) -> tuple[step.LossFn, Any, step.Step]:  # runs that differ in their seed share one
    loss_fn, made = make_loss(cfg, train), optimizer.make(train)
    return loss_fn, made, step.make_step(loss_fn, made, accumulate=train.accumulate)


def check_fits(cfg: UniVLConfig, train: TrainConfig, clips: Clips) -> None:
    """Checks data against the model before anything is compiled.

    Raises:
      ValueError: names what does not fit.
    """
    width = clips.video.shape[2]
    if width != cfg.video_dim:
        raise ValueError(
            f"features must have width {cfg.video_dim}, the model's video_dim; got {width}."
        )
    check.between(1, cfg.video_positions, frames=clips.video.shape[1])
    words = max(clips.text.shape[1], clips.caption.shape[1])
    check.between(2, cfg.text_positions, words=words)
    check.between(1, cfg.cross_positions, words_and_frames=words + clips.video.shape[1])
    top = int(max(clips.text.max(), clips.caption.max()))
    if top >= cfg.vocab_size:
        raise ValueError(f"ids must be < vocab_size; got {top}, vocab_size={cfg.vocab_size}.")
    del train


def fit(
    cfg: UniVLConfig,
    train: TrainConfig,
    params: PyTree,
    clips: Clips,
    folder: Path | str | None = None,
    *,
    mesh: Mesh | None = None,
    save_every: int = 500,
    watch: Sequence[loop.Hook] = (),
) -> PyTree:
    """Trains one stage; StagedP is "joint" and then "full" from its result.

    Args:
      cfg: the model.
      train: the stage.
      params: to begin with; they stay as they are.
      clips: of training.
      folder: to go on in after an interruption, exactly; None: nothing is written.
      mesh: splits batches over its devices; needs a folder.
      save_every: steps between checkpoints.
      watch: hooks of the trainer.

    Returns:
      The parameters after the last step.

    Raises:
      ValueError: data that does not fit the model.
    """
    check_fits(cfg, train, clips)
    key = jax.random.key(train.seed)
    moving, whole = trained(train), params
    params = jax.tree.map(jnp.array, {name: whole[name] for name in moving})
    batches, shared = Batches(clips, train), dataclasses.replace(train, seed=0)
    if folder is None:
        _, made, update = _compiled(cfg, shared)
        now = state.create(key, params, made)
        now = loop.fit(update, now, batches, watch, num_steps=train.steps)
        return {**whole, **now.params}
    place: NamedSharding | None = None
    if mesh is not None:
        params = shard.put(params, shard.replicated(mesh))
        place = shard.batch_sharding(mesh, DATA)
    plan = run.RunConfig(train.steps, log_every=max(train.steps // 50, 1), save_every=save_every,
                         keep=1)  # fmt: skip
    now = run.train(
        make_loss(cfg, shared, mesh), params, optimizer.make(shared), batches, plan, key=key,
        folder=folder, accumulate=train.accumulate, batch_sharding=place, watch=watch,
    )  # fmt: skip
    return {**whole, **jax.tree.map(np.asarray, now.params)}
