"""UniVL (UniViLM): one model that finds videos by words and writes words for videos.

>>> import jax.numpy as jnp
>>> from jaxml import univilm
>>> round(float(univilm.mil_nce(jnp.zeros((6, 6)), n_pair=3)), 3)  # log of 9 over 3
1.099
"""

from jaxml.univilm.alignment import pair_scores
from jaxml.univilm.beam import Captions, beam_search
from jaxml.univilm.clips import Batches, Clips
from jaxml.univilm.config import PRESETS, Setting, TrainConfig, UniVLConfig
from jaxml.univilm.decoder import decode_logits
from jaxml.univilm.evaluate import align_scores, caption, joint_scores
from jaxml.univilm.masking import enhanced_v, mask_frames, mask_tokens
from jaxml.univilm.metric import (
    bleu,
    caption_scores,
    cider_d,
    retrieval_metrics,
    rouge_l,
)
from jaxml.univilm.model import cross_encode, encode_text, encode_video, init, normalise, params
from jaxml.univilm.narration import merge_narration
from jaxml.univilm.objective import (
    alignment_loss,
    cmfm_nce,
    cmlm_loss,
    max_margin,
    mil_nce,
    mil_nce_pooled,
    reconstruction_loss,
)
from jaxml.univilm.train import fit, make_loss
from jaxml.univilm.words import WordPiece, Words

__all__ = [
    "PRESETS",
    "Batches",
    "Captions",
    "Clips",
    "Setting",
    "TrainConfig",
    "UniVLConfig",
    "WordPiece",
    "Words",
    "align_scores",
    "alignment_loss",
    "beam_search",
    "bleu",
    "caption",
    "caption_scores",
    "cider_d",
    "cmfm_nce",
    "cmlm_loss",
    "cross_encode",
    "decode_logits",
    "encode_text",
    "encode_video",
    "enhanced_v",
    "fit",
    "init",
    "joint_scores",
    "make_loss",
    "mask_frames",
    "mask_tokens",
    "max_margin",
    "merge_narration",
    "mil_nce",
    "mil_nce_pooled",
    "normalise",
    "pair_scores",
    "params",
    "reconstruction_loss",
    "retrieval_metrics",
    "rouge_l",
]
