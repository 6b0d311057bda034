"""The five objectives and the ranking loss, pure; exact when their rows are split over devices.

With `axis_name` each device holds its own rows n of the batch's N; what a loss contrasts with is
gathered, so value and gradient are those of one device with all N.
"""

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.dist import collective
from jaxml.dist.collective import AxisName

FAR = -1e30
"""Logit of what must not be chosen; finite, so that gradients are."""


def mil_nce(sim: Array, n_pair: int = 1) -> Array:
    """MIL-NCE of a similarity matrix [N, N], row = text, column = video (UniVL, eq. 4).

    The middle clip i of each block of P rows and columns contrasts its positives, all texts of its
    block against video i, with all texts against video i and with text i against the videos of
    other blocks. Raw products: no temperature, no normalisation.

    Raises:
      ValueError: not square, or `n_pair` does not divide N.

    >>> round(float(mil_nce(jnp.zeros((6, 6)), 3)), 4), round(float(jnp.log(9 / 3)), 4)
    (1.0986, 1.0986)
    """
    sizes = check.shape("sim", sim, ["N", "N"])
    check.divides(n_pair=n_pair, N=sizes["N"])
    middle = jnp.arange(n_pair // 2, sizes["N"], n_pair)
    return jnp.mean(_mil_rows(sim.T[middle], sim[middle], middle, n_pair, None))


def mil_nce_pooled(
    text_nd: Array,
    video_nd: Array,
    n_pair: int = 1,
    *,
    same: Array | None = None,
    axis_name: AxisName = None,
) -> Array:
    """`mil_nce` of pooled vectors [n, d], without the rows that it does not use.

    Args:
      text_nd: of this device's clips.
      video_nd: likewise.
      n_pair: P.
      same: int [n]; clips with equal numbers, e.g. of one caption, are no negatives of each other
        (not in the paper, whose texts are all different); None: all are.
      axis_name: mesh axes that split the clips.
    """
    sizes = check.shape("text_nd", text_nd, ["n", "d"])
    check.shape("video_nd", video_nd, text_nd.shape)
    check.divides(n_pair=n_pair, n=sizes["n"])
    local = jnp.arange(n_pair // 2, sizes["n"], n_pair)
    texts, videos = (collective.all_gather_rows(x, axis_name) for x in (text_nd, video_nd))
    rows = local + sizes["n"] * collective.axis_index_or_zero(axis_name)
    left_out = None
    if same is not None:
        every = collective.all_gather_rows(same, axis_name)
        left_out = same[local][:, None] == every[None, :]
    losses = _mil_rows(video_nd[local] @ texts.T, text_nd[local] @ videos.T, rows, n_pair, left_out)
    return collective.psum_mean(jnp.mean(losses), axis_name)


def _mil_rows(
    to_texts: Array, to_videos: Array, rows: Array, n_pair: int, left_out: Array | None
) -> Array:
    """Losses of the middle clips `rows` [m]; video i to texts, text i to videos: [m, N]."""
    block = (jnp.arange(to_texts.shape[1]) // n_pair)[None, :] == (rows // n_pair)[:, None]
    others = ~block if left_out is None else ~(block | left_out)
    bag = jax.nn.logsumexp(jnp.where(block, to_texts, FAR), 1)
    first = jax.nn.logsumexp(jnp.where(block | others, to_texts, FAR), 1)
    second = jax.nn.logsumexp(jnp.where(others, to_videos, FAR), 1)
    return jnp.logaddexp(first, second) - bag


def token_loss(logits: Array, labels: Array, *, axis_name: AxisName = None) -> Array:
    """Cross-entropy of logits [..., v], mean over labels [...] >= 0; 0 where there is none."""
    check.shape("labels", labels, logits.shape[:-1])
    kept = labels >= 0
    wide = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(wide, jnp.maximum(labels, 0)[..., None], -1)[..., 0]
    losses = jnp.where(kept, jax.nn.logsumexp(wide, -1) - chosen, 0)
    return _mean(losses, kept, axis_name)


def cmlm_loss(logits_nwv: Array, labels_nw: Array, *, axis_name: AxisName = None) -> Array:
    """Masked words from words and video (UniVL, eq. 5): labels -1 where nothing is masked."""
    return token_loss(logits_nwv, labels_nw, axis_name=axis_name)


def reconstruction_loss(
    logits_ntv: Array,
    targets_nt: Array,
    *,
    count_padding: bool = False,
    axis_name: AxisName = None,
) -> Array:
    """The decoder's loss (UniVL, eq. 8); targets are words and [SEP], then 0.

    `count_padding` is the authors' code: padding after [SEP] is a target like any other.
    """
    labels = targets_nt if count_padding else jnp.where(targets_nt == 0, -1, targets_nt)
    return token_loss(logits_ntv, labels, axis_name=axis_name)


def cmfm_nce(
    pred_nfd: Array,
    target_nfd: Array,
    frame_mask: Array,
    masked: Array,
    *,
    axis_name: AxisName = None,
) -> Array:
    """Masked frames told from every real frame of the batch (UniVL, eq. 6); 0 without any.

    Args:
      pred_nfd: predictions [n, f, D].
      target_nfd: layer-normed features before masking; not detached.
      frame_mask: [n, f], True = a real frame.
      masked: [n, f], True = it was hidden.
      axis_name: mesh axes that split the clips.
    """
    sizes = check.shape("pred_nfd", pred_nfd, ["n", "f", "d"])
    check.shape("target_nfd", target_nfd, pred_nfd.shape)
    check.shape("frame_mask", frame_mask, pred_nfd.shape[:2])
    num = sizes["n"] * sizes["f"]
    pred, own = (x.reshape(num, -1).astype(jnp.float32) for x in (pred_nfd, target_nfd))
    every = collective.all_gather_rows(own, axis_name)
    real = collective.all_gather_rows(frame_mask.reshape(-1), axis_name)
    logits = jnp.where(real[None, :], pred @ every.T, FAR)
    losses = jax.nn.logsumexp(logits, 1) - jnp.sum(pred * own, 1)
    return _mean(losses, (masked & frame_mask).reshape(-1), axis_name)


def alignment_loss(scores_nm: Array, *, axis_name: AxisName = None) -> Array:
    """Each text's own video among all (UniVL, eq. 7): scores of this device's texts [n, N]."""
    own = _own(scores_nm, axis_name)
    losses = jax.nn.logsumexp(scores_nm, 1) - own
    return collective.psum_mean(jnp.mean(losses), axis_name)


def _own(scores: Array, axis_name: AxisName) -> Array:
    """What each row scores its own column, [n]."""
    num, every = scores.shape
    check.divides(rows=num, columns=every)
    if every != num * collective.axis_size_or_one(axis_name):
        raise ValueError(f"scores must have one column a row of the batch; got {scores.shape}.")
    rows = jnp.arange(num)
    return scores[rows, rows + num * collective.axis_index_or_zero(axis_name)]


def max_margin(
    sim_nm: Array,
    margin: float = 0.1,
    *,
    n_pair: int = 1,
    hard_rate: float | None = None,
    axis_name: AxisName = None,
) -> Array:
    """The ranking loss of fine-tuning, the diagonal included (a constant 2 margin / N).

    Args:
      sim_nm: this device's texts against all videos [n, N].
      margin: m.
      n_pair: P.
      hard_rate: weight of negatives of the same video where P > 1; None: every pair weighs 1.
      axis_name: mesh axes that split the texts.
    """
    own = _own(sim_nm, axis_name)
    every = collective.all_gather_rows(own, axis_name)
    losses = jax.nn.relu(margin + sim_nm - own[:, None])
    losses = losses + jax.nn.relu(margin + sim_nm - every[None, :])
    num, total = sim_nm.shape
    if hard_rate is not None and n_pair > 1 and total > n_pair:
        rows = jnp.arange(num) + num * collective.axis_index_or_zero(axis_name)
        block = rows[:, None] // n_pair == jnp.arange(total)[None, :] // n_pair
        videos = total // n_pair
        alpha = (1 - hard_rate) / ((videos - 1) * hard_rate)
        losses = losses * jnp.where(block, 1.0, alpha) * videos * hard_rate
    return collective.psum_mean(jnp.mean(losses), axis_name)


def _mean(losses: Array, kept: Array, axis_name: AxisName) -> Array:
    total, count = jnp.sum(jnp.where(kept, losses, 0)), jnp.sum(kept)
    total, count = collective.psum((total, count.astype(total.dtype)), axis_name)
    return total / jnp.maximum(count, 1)


def cosines(text_nd: Array, video_nd: Array, *, axis_name: AxisName = None) -> Array:
    """Cosine of each own text [n, d] with all videos, [n, N]."""
    text, video = (x * jax.lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-24)
                   for x in (text_nd, video_nd))  # fmt: skip
    return text @ collective.all_gather_rows(video, axis_name).T
