"""Sizes of the four components, and how they are trained."""

import dataclasses
from typing import Literal

from jaxml.core import check
from jaxml.models.bert import BertConfig

LOSSES = ("joint", "cmlm", "cmfm", "align", "decode")
"""The five objectives, in the order of the paper."""
Stage = Literal["joint", "full", "retrieval", "retrieval_align", "caption"]
STAGES = ("joint", "full", "retrieval", "retrieval_align", "caption")


@dataclasses.dataclass(frozen=True)
class UniVLConfig:
    """The model; the defaults are the paper's.

    Attributes:
      vocab_size: v, of text encoder, decoder and their tied heads.
      width: d, of all components.
      num_heads: h, likewise.
      hidden: f, of the feed-forward parts.
      text_layers: of the text encoder.
      video_layers: of the video encoder.
      cross_layers: of the cross encoder.
      decoder_layers: of the decoder.
      video_dim: width of a frame's feature.
      text_positions: of the text encoder and, tied, of the decoder.
      video_positions: of the video encoder.
      cross_positions: of the cross encoder; words and frames together fit in.
      dropout: of embeddings and of what each part adds; attention weights are not dropped.
      cls_id: token that begins a text; padding is 0.
      sep_id: token that ends it.
      mask_id: token that hides one.
      dtype: that the blocks compute in; parameters, norms and losses are float32.

    Raises:
      ValueError: a value out of range.
    """

    vocab_size: int = 30522
    width: int = 768
    num_heads: int = 12
    hidden: int = 3072
    text_layers: int = 12
    video_layers: int = 6
    cross_layers: int = 2
    decoder_layers: int = 3
    video_dim: int = 1024
    text_positions: int = 512
    video_positions: int = 512
    cross_positions: int = 1024
    dropout: float = 0.1
    cls_id: int = 101
    sep_id: int = 102
    mask_id: int = 103
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        check.types(self)
        check.positive(video_dim=self.video_dim, decoder_layers=self.decoder_layers)
        check.positive(video_positions=self.video_positions, cross_positions=self.cross_positions)
        for name in ("cls_id", "sep_id", "mask_id"):
            check.between(1, self.vocab_size - 1, **{name: getattr(self, name)})
        for component in (self.text, self.video, self.cross):
            component.__post_init__()

    def _blocks(self, num_layers: int, max_len: int, pooler: bool = False) -> BertConfig:
        return BertConfig(
            self.vocab_size, self.width, num_layers, self.num_heads, self.hidden, max_len,
            dropout=self.dropout, pooler=pooler,
        )  # fmt: skip

    @property
    def text(self) -> BertConfig:
        """The text encoder."""
        return self._blocks(self.text_layers, self.text_positions)

    @property
    def video(self) -> BertConfig:
        """The blocks of the video encoder."""
        return self._blocks(self.video_layers, self.video_positions)

    @property
    def cross(self) -> BertConfig:
        """The blocks of the cross encoder."""
        return self._blocks(self.cross_layers, self.cross_positions, pooler=True)

    @property
    def decoder(self) -> BertConfig:
        """The blocks of the decoder, without their second attention."""
        return self._blocks(self.decoder_layers, self.text_positions)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One stage of training.

    Attributes:
      stage: "joint" (pre-training I), "full" (II), or fine-tuning: "retrieval" by the two encoders,
        "retrieval_align" by the cross encoder, "caption".
      steps: updates.
      batch_size: videos a step.
      n_pair: P, clips of each video.
      lr: the highest learning rate.
      text_lr: times it, of the text encoder (the authors: 0.1 without a checkpoint, else 1).
      warmup: share of the steps.
      weight_decay: decoupled, of all but biases and layer norms.
      accumulate: micro-batches an update; contrastive negatives are those of a micro-batch.
      losses: of stage "full".
      mask_rate: of tokens and of frames.
      enhanced_v: share of videos whose text is dropped (EnhancedV), stage "full".
      margin: of the ranking loss of "retrieval".
      hard_rate: weight of negatives of the same video where P > 1; None: all weigh the same.
      use_mil: MIL-NCE on raw products instead of the ranking loss on cosines, "retrieval".
      count_padding: the authors' decoder loss also trains and counts padding after the end.
      mask_same: rows with the same caption are no negatives of each other, "joint" and "full".
      drop_text: caption from the video alone, "caption".
      seed: of everything.

    Raises:
      ValueError: a value out of range.
    """

    stage: Stage = "joint"
    steps: int = 1000
    batch_size: int = 32
    n_pair: int = 1
    lr: float = 1e-4
    text_lr: float = 1.0
    warmup: float = 0.1
    weight_decay: float = 0.01
    accumulate: int = 1
    losses: tuple[str, ...] = LOSSES
    mask_rate: float = 0.15
    enhanced_v: float = 0.15
    margin: float = 0.1
    hard_rate: float | None = None
    use_mil: bool = False
    count_padding: bool = False
    mask_same: bool = False
    drop_text: bool = False
    seed: int = 0

    def __post_init__(self):
        check.types(self)
        check.one_of(STAGES, stage=self.stage)
        check.positive(steps=self.steps, batch_size=self.batch_size, n_pair=self.n_pair, lr=self.lr)
        check.positive(text_lr=self.text_lr, accumulate=self.accumulate)
        check.between(0, 1, warmup=self.warmup, mask_rate=self.mask_rate, hard_rate=self.hard_rate
                      or 0.0, enhanced_v=self.enhanced_v)  # fmt: skip
        check.at_least(0, weight_decay=self.weight_decay, margin=self.margin, seed=self.seed)
        check.divides(accumulate=self.accumulate, batch_size=self.batch_size)
        for name in self.losses:
            check.one_of(LOSSES, losses=name)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A model with the lengths and stages of one protocol.

    Attributes:
      model: its sizes.
      max_words: w, tokens of a text, both specials included.
      max_frames: frames of a clip.
      plans: a training for each stage that the protocol has.
    """

    model: UniVLConfig
    max_words: int
    max_frames: int
    plans: tuple[TrainConfig, ...]

    @property
    def stages(self) -> dict[str, TrainConfig]:
        """The trainings by the name of their stage."""
        return {plan.stage: plan for plan in self.plans}

    def __post_init__(self):
        check.between(3, self.model.text_positions, max_words=self.max_words)
        check.between(1, self.model.video_positions, max_frames=self.max_frames)
        total = self.max_words + self.max_frames
        check.between(1, self.model.cross_positions, max_words_and_frames=total)


def _pretraining(steps: int) -> tuple[TrainConfig, ...]:
    return (
        TrainConfig("joint", steps, 1920, 3, accumulate=16),
        TrainConfig("full", steps, 960, 3, accumulate=60, count_padding=True),
    )


def _finetuning(retrieval: TrainConfig, caption: TrainConfig) -> tuple[TrainConfig, ...]:
    return (retrieval, dataclasses.replace(retrieval, stage="retrieval_align"), caption)


def _small(width: int, hidden: int, layers: tuple[int, int, int, int], vocab: int) -> UniVLConfig:
    """Blocks for the clips of 10 frames of 640 numbers that `moving` makes."""
    return UniVLConfig(
        vocab, width, max(width // 32, 1), hidden, *layers, 640, 32, 16, 48, 0.0, 2, 3, 4
    )


PRESETS: dict[str, Setting] = {
    "tiny": Setting(
        dataclasses.replace(_small(16, 32, (1, 1, 2, 1), 40), video_dim=12), 12, 5,
        (TrainConfig("joint", 4, 4, mask_same=True), TrainConfig("full", 3, 4, mask_same=True),
         *_finetuning(TrainConfig("retrieval", 3, 4), TrainConfig("caption", 3, 4))),
    ),
    "laptop": Setting(
        _small(96, 192, (1, 2, 2, 2), 35), 19, 10,
        (TrainConfig("joint", 700, 128, lr=2e-3, mask_same=True),
         TrainConfig("full", 300, 16, 3, lr=1e-3, mask_same=True),
         *_finetuning(TrainConfig("retrieval", 300, 64, lr=3e-4, use_mil=True),
                      TrainConfig("caption", 300, 32, lr=5e-4, drop_text=True))),
    ),
    "h100": Setting(
        dataclasses.replace(_small(256, 1024, (4, 4, 2, 3), 35), dropout=0.1, dtype="bfloat16"),
        24, 10,
        (TrainConfig("joint", 3000, 96, 3, lr=5e-4, mask_same=True),
         TrainConfig("full", 1500, 24, 3, lr=3e-4, mask_same=True),
         TrainConfig("retrieval", 2000, 128, lr=3e-4, use_mil=True, mask_same=True),
         TrainConfig("retrieval_align", 1000, 32, lr=2e-4),
         TrainConfig("caption", 2000, 128, lr=5e-4, drop_text=True)),
    ),
    "youcook2": Setting(
        UniVLConfig(), 48, 48,
        (*_pretraining(20_000),
         *_finetuning(TrainConfig("retrieval", 1500, 32, lr=3e-5, use_mil=True),
                      TrainConfig("caption", 3000, 16, lr=3e-5, count_padding=True))),
    ),
    "msrvtt": Setting(
        UniVLConfig(), 48, 48,
        (*_pretraining(20_000),
         *_finetuning(TrainConfig("retrieval", 7000, 128, lr=5e-5),
                      TrainConfig("caption", 5000, 128, lr=3e-5, count_padding=True,
                                  drop_text=True))),
    ),
}  # fmt: skip
"""Settings by name; `youcook2` and `msrvtt` are the paper's sizes, for features of your own."""
