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
from jaxml.dist.collective import AxisName
from jaxml.dist.rules import DATA
from jaxml.train import loop, run, state, step
from jaxml.train.step import Loss
from jaxml.univilm import alignment, decoder, masking, model, objective, optimizer
from jaxml.univilm.clips import Batches, Clips
from jaxml.univilm.config import TrainConfig, UniVLConfig


class _Rows:
    """What the losses of one batch share, on one device: its own rows and the mesh axes."""

    def __init__(
        self, p: PyTree, cfg: UniVLConfig, train: TrainConfig, batch: PyTree, key: Key | None,
        axis: AxisName,
    ):  # fmt: skip
        self.p, self.cfg, self.train, self.batch = p, cfg, train, batch
        self.axis, self.key = axis, key
        self.train_words = batch["caption"].shape[1]
        self.frames = jnp.arange(batch["video"].shape[1])[None, :] < batch["num_frames"][:, None]

    def _key(self, name: str) -> Key | None:
        return None if self.key is None else rng.fold(self.key, name)

    def text(self, name: str) -> Array:
        return model.encode_text(self.p, self.cfg, self.batch[name], key=self._key(name))

    def video(self, normed: Array, name: str) -> Array:
        return model.encode_video(self.p, self.cfg, normed, self.frames, key=self._key(name))

    def gather(self, x: Array) -> Array:
        return collective.all_gather_rows(x, self.axis)

    def joint(self, text: Array, video: Array, ids: Array) -> Array:
        pooled = model.pool_text(text, ids), model.pool_video(video, self.frames)
        same = self.batch["same"] if self.train.mask_same else None
        return objective.mil_nce_pooled(*pooled, self.train.n_pair, same=same, axis_name=self.axis)

    def ranking(self, text: Array, video: Array, ids: Array) -> Array:
        pooled = model.pool_text(text, ids), model.pool_video(video, self.frames)
        if self.train.use_mil:
            return self.joint(text, video, ids)
        return self._margin(objective.cosines(*pooled, axis_name=self.axis))

    def _margin(self, sim: Array) -> Array:
        return objective.max_margin(
            sim, self.train.margin, n_pair=self.train.n_pair, hard_rate=self.train.hard_rate,
            axis_name=self.axis,
        )  # fmt: skip

    def pairs(self, text: Array, video: Array, ids: Array) -> Array:
        """Scores of own texts with every video of the batch."""
        videos, masks = self.gather(video), self.gather(self.frames)
        return alignment.pair_scores(
            self.p, self.cfg, text, videos, ids != 0, masks, chunk=_chunk(len(ids), len(videos)),
            key=self._key("pairs"),
        )  # fmt: skip

    def cross(self, text: Array, video: Array, ids: Array) -> tuple[Array, Array]:
        """Cross output and its mask."""
        mask = ids != 0
        out = model.cross_encode(
            self.p, self.cfg, text, video, mask, self.frames, key=self._key("cross"),
            video_start=self.train_words,
        )  # fmt: skip
        return out.hidden, jnp.concatenate([mask, self.frames], 1)

    def decode(self, memory: Array, mask: Array) -> Array:
        given, target = masking.decoder_pair(self.cfg, self.batch["caption"])
        given = self.batch.get("masked_caption", given)
        logits = decoder.decode_logits(
            self.p, self.cfg, given, memory, mask, key=self._key("decoder")
        )
        return objective.reconstruction_loss(
            logits, target, count_padding=self.train.count_padding, axis_name=self.axis
        )


def _chunk(num: int, many: int, most: int = 4096) -> int:
    """Most texts at a time that divide `num` and make no more than `most` pairs."""
    return max((c for c in range(1, num + 1) if num % c == 0 and c * many <= most), default=1)


def _joint(rows: _Rows) -> dict[str, Array]:
    video = rows.video(model.normalise(rows.p, rows.cfg, rows.batch["video"]), "video")
    return {"joint": rows.joint(rows.text("text"), video, rows.batch["text"])}


def _full(rows: _Rows) -> dict[str, Array]:
    p, cfg, batch, wanted = rows.p, rows.cfg, rows.batch, rows.train.losses
    normed = model.normalise(p, cfg, batch["video"])
    found = {}
    if "joint" in wanted:
        found["joint"] = rows.joint(rows.text("text"), rows.video(normed, "video"), batch["text"])
    masked = model.normalise(p, cfg, batch["masked_video"])
    text, video = rows.text("masked_text"), rows.video(masked, "masked_video")
    memory, mask = rows.cross(text, video, batch["text"])
    words = batch["text"].shape[1]
    if "cmlm" in wanted:
        logits = model.cmlm_logits(p, memory[:, :words])
        found["cmlm"] = objective.cmlm_loss(logits, batch["labels"], axis_name=rows.axis)
    if "cmfm" in wanted:
        guess = model.cmfm_features(p, memory[:, words:])
        found["cmfm"] = objective.cmfm_nce(
            guess, normed, rows.frames, batch["hidden"], axis_name=rows.axis
        )
    if "align" in wanted:
        scores = rows.pairs(text, video, batch["text"])
        found["align"] = objective.alignment_loss(scores, axis_name=rows.axis)
    if "decode" in wanted:
        found["decode"] = rows.decode(memory, mask)
    return found


def _fine(rows: _Rows) -> dict[str, Array]:
    stage, batch = rows.train.stage, rows.batch
    video = rows.video(model.normalise(rows.p, rows.cfg, batch["video"]), "video")
    text = rows.text("text")
    if stage == "caption":
        return {"decode": rows.decode(*rows.cross(text, video, batch["text"]))}
    if stage == "retrieval":
        return {"ranking": rows.ranking(text, video, batch["text"])}
    return {"ranking": rows._margin(rows.pairs(text, video, batch["text"]))}


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
    losses = {"joint": _joint, "full": _full}.get(train.stage, _fine)
    axis = None if mesh is None else axes

    def local(params: PyTree, batch: PyTree, key: Key) -> dict[str, Array]:
        key = rng.fold(key, collective.axis_index_or_zero(axis))
        rows = _Rows(params, cfg, train, batch, key if cfg.dropout else None, axis)
        return losses(rows)

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
