"""Specialisation by the shared trainer, with `loss.make_loss` as its loss."""

import dataclasses
import functools
import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from jaxml.core import check, rng, tree
from jaxml.core.types import Key, PyTree
from jaxml.emu import discriminator, loss
from jaxml.emu.config import EmuConfig
from jaxml.emu.discriminator import LanguageDiscriminator
from jaxml.emu.encoder import Encoder
from jaxml.emu.objective import unit
from jaxml.emu.pool import Batches, Pool
from jaxml.train import loop, optim, run, state, step


def start(
    encoder: Encoder, cfg: EmuConfig, pool: Pool, key: Key
) -> tuple[PyTree, PyTree, LanguageDiscriminator | None]:
    """Parameters, what is carried beside them, and the discriminator.

    The classifier begins at the directions of the class means, centres at the means.

    Raises:
      ValueError: a discriminator with fewer than two languages, or weights for another number.
    """
    trained = {"head": encoder.params["head"]} if cfg.trainable == "head" else encoder.params
    classifier = {
        "kernel": unit(jnp.asarray(pool.means)).T,
        "bias": jnp.zeros(pool.num_classes),
    }
    if cfg.alpha is None:
        classifier["radius"] = jnp.float32(16.0)
    params = {"encoder": jax.tree.map(jnp.copy, trained), "classifier": classifier}
    extra: dict[str, Any] = {
        "centers": jnp.asarray(pool.means),
        "weights": loss.term_weights(cfg, len(pool.others)),
    }
    if cfg.lambda_adv == 0:
        return params, extra, None
    width = pool.means.shape[1]
    disc = LanguageDiscriminator(cfg.disc, len(pool.others), width, cfg.hidden, cfg.fool, cfg.clip)
    extra["disc"] = discriminator.init(rng.fold(key, "discriminator"), disc)
    extra["disc_opt"] = optax.adam(cfg.lr_disc).init(extra["disc"])
    return params, extra, disc


def optimizer(encoder: Encoder, cfg: EmuConfig) -> optax.GradientTransformation:
    """Adam; the classifier at its own rate; what is not trained stays exactly as it is."""

    def adam(rate: float) -> optax.GradientTransformation:
        made = optim.OptimConfig(
            lr=rate, schedule="constant", clip_norm=cfg.clip_norm, b2=0.999,
            total_steps=max(cfg.steps, 1),
        )  # fmt: skip
        return optim.make(made)

    def kind(path: str, leaf: Any) -> str:
        del leaf
        return "classifier" if path.startswith("classifier") else "encoder"

    def labels(params: PyTree) -> PyTree:
        return tree.map_with_path(kind, params)

    parts: dict[Hashable, optax.GradientTransformation] = {
        "encoder": adam(cfg.lr),
        "classifier": adam(cfg.lr_classifier),
    }
    made = optax.multi_transform(parts, labels)
    if cfg.trainable != "top":
        return made

    def share(path: str, leaf: Any) -> Any:
        inside = path.removeprefix("encoder/")
        if inside == path or inside.startswith("head/"):
            return leaf
        return leaf * encoder.top(inside, leaf)

    masked = optax.stateless(lambda slopes, params: tree.map_with_path(share, slopes))
    return optax.chain(masked, made)


class Specialised(NamedTuple):
    """A specialised encoder.

    Attributes:
      params: of the whole encoder, `body` and `head`.
      classifier: `kernel` [d, K], `bias` [K], and `radius` where it was learnt.
      centers: [K, d].
      disc: the discriminator's parameters, or None.
      curve: metrics by step.
    """

    params: PyTree
    classifier: PyTree
    centers: np.ndarray
    disc: PyTree
    curve: list[dict[str, float]]


@dataclasses.dataclass
class _Curve:
    """A hook that keeps metrics of every so many steps."""

    every: int
    rows: list[dict[str, float]] = dataclasses.field(default_factory=list)

    def __call__(self, event: loop.Event) -> None:
        if event.due(self.every):
            found = {name: float(value) for name, value in event.metrics.items()}
            self.rows.append({"step": float(event.step), **found})


@functools.lru_cache(maxsize=8)
def _compiled(
    encoder: Encoder, cfg: EmuConfig, disc: LanguageDiscriminator | None
) -> tuple[step.LossFn, optax.GradientTransformation, step.Step]:
    loss_fn, made = loss.make_loss(encoder, cfg, disc), optimizer(encoder, cfg)
    return loss_fn, made, step.make_step(loss_fn, made)


def compiled(
    encoder: Encoder, cfg: EmuConfig, disc: LanguageDiscriminator | None
) -> tuple[step.LossFn, optax.GradientTransformation, step.Step]:
    """Loss, optimiser and step; runs whose configurations are `loss.alike` share one."""
    return _compiled(encoder, loss.alike(cfg), disc)


def fit(
    encoder: Encoder,
    cfg: EmuConfig,
    pool: Pool,
    folder: Path | str | None = None,
    *,
    save_every: int = 100,
    batch_sharding: NamedSharding | None = None,
    watch: Sequence[loop.Hook] = (),
) -> Specialised:
    """Specialises an encoder.

    Args:
      encoder: as it is before; it stays as it is.
      cfg: the run.
      pool: from `prepare` for this encoder and configuration.
      folder: to go on in after an interruption, exactly; None: nothing is written.
      save_every: steps between checkpoints.
      batch_sharding: of batches over the devices of a mesh; needs a folder.
      watch: hooks of the trainer.

    Raises:
      ValueError: see `start`.
    """
    check.at_least(1, languages=max(len(pool.others), not cfg.unlabelled))
    key = jax.random.key(cfg.seed)
    params, extra, disc = start(encoder, cfg, pool, key)
    curve, batches = _Curve(max(cfg.steps // 20, 1)), Batches(pool, cfg)
    loss_fn, made, update = compiled(encoder, cfg, disc)
    if folder is None:
        now = state.create(key, params, made, extra=extra)
        now = loop.fit(update, now, batches, [curve, *watch], num_steps=cfg.steps)
    else:
        plan = run.RunConfig(cfg.steps, log_every=curve.every, save_every=save_every, keep=1)
        now = run.train(
            loss_fn, params, made, batches, plan, key=key, folder=folder, extra=extra,
            batch_sharding=batch_sharding, watch=watch,
        )  # fmt: skip
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        curve.rows = [json.loads(line) for line in lines]
    whole = {**encoder.params, **now.params["encoder"]}
    centers = np.asarray(now.extra["centers"])
    return Specialised(whole, now.params["classifier"], centers, now.extra.get("disc"), curve.rows)
