"""The losses of each stage over one device's rows of a batch."""

import jax.numpy as jnp

from jaxml.core import rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.dist import collective
from jaxml.dist.collective import AxisName
from jaxml.univilm import alignment, decoder, masking, model, objective
from jaxml.univilm.config import TrainConfig, UniVLConfig


class Rows:
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
        """The text encoder over an array of the batch."""
        return model.encode_text(self.p, self.cfg, self.batch[name], key=self._key(name))

    def video(self, normed: Array, name: str) -> Array:
        """The video encoder over normed features."""
        return model.encode_video(self.p, self.cfg, normed, self.frames, key=self._key(name))

    def gather(self, x: Array) -> Array:
        """Rows of every device."""
        return collective.all_gather_rows(x, self.axis)

    def joint(self, text: Array, video: Array, ids: Array) -> Array:
        """MIL-NCE of pooled vectors."""
        pooled = model.pool_text(text, ids), model.pool_video(video, self.frames)
        same = self.batch["same"] if self.train.mask_same else None
        return objective.mil_nce_pooled(*pooled, self.train.n_pair, same=same, axis_name=self.axis)

    def ranking(self, text: Array, video: Array, ids: Array) -> Array:
        """The loss of fine-tuned retrieval."""
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
        """The decoder's loss."""
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


def _joint(rows: Rows) -> dict[str, Array]:
    video = rows.video(model.normalise(rows.p, rows.cfg, rows.batch["video"]), "video")
    return {"joint": rows.joint(rows.text("text"), video, rows.batch["text"])}


def _full(rows: Rows) -> dict[str, Array]:
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


def _fine(rows: Rows) -> dict[str, Array]:
    stage, batch = rows.train.stage, rows.batch
    video = rows.video(model.normalise(rows.p, rows.cfg, batch["video"]), "video")
    text = rows.text("text")
    if stage == "caption":
        return {"decode": rows.decode(*rows.cross(text, video, batch["text"]))}
    if stage == "retrieval":
        return {"ranking": rows.ranking(text, video, batch["text"])}
    return {"ranking": rows._margin(rows.pairs(text, video, batch["text"]))}


def losses(rows: Rows) -> dict[str, Array]:
    """The objectives of the stage, by name."""
    return {"joint": _joint, "full": _full}.get(rows.train.stage, _fine)(rows)
