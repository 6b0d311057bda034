"""Specialisation: the encoder, the classifier and the centres against the discriminator.

One step is: `n_disc` updates of the discriminator on embeddings that do not feel it, one update of
encoder and classifier, one of the centres. All three live in one step of the shared trainer; what
is not moved by the loss's gradient (discriminator, centres) is its `extra`.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from jaxml.core import check, rng, tree
from jaxml.core.types import Array, Key, PyTree
from jaxml.emu import discriminator, objective
from jaxml.emu.config import EmuConfig
from jaxml.emu.discriminator import LanguageDiscriminator
from jaxml.emu.encoder import Encoder
from jaxml.emu.objective import unit
from jaxml.emu.pool import Batches, Pool
from jaxml.train import loop, optim, run, state, step
from jaxml.train.step import Loss


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
    extra: dict[str, Any] = {"centers": jnp.asarray(pool.means)}
    for name in ("adversary_weights", "anchor_weights"):
        given = getattr(cfg, name)
        if given and len(given) != len(pool.others):
            raise ValueError(
                f"{name} must have one value for each of {len(pool.others)} languages; "
                f"got {len(given)}."
            )
    if cfg.lambda_adv == 0:
        return params, extra, None
    width = pool.means.shape[1]
    disc = LanguageDiscriminator(cfg.disc, len(pool.others), width, cfg.hidden, cfg.fool, cfg.clip)
    extra["disc"] = discriminator.init(rng.fold(key, "discriminator"), disc)
    extra["disc_opt"] = optax.adam(cfg.lr_disc).init(extra["disc"])
    return params, extra, disc


def make_loss(encoder: Encoder, cfg: EmuConfig, disc: LanguageDiscriminator | None) -> step.LossFn:
    """The loss of a step `(params, batch, key, extra) -> Loss`, for `jaxml.train`."""
    embed = _embedding(encoder, cfg)

    def loss_fn(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> Loss:
        del key
        num = batch["x"].shape[0]
        x = batch["x"]
        if cfg.unlabelled:
            x = jnp.concatenate([x, batch["unlabelled"]])
        f = embed(params["encoder"], x)
        u, others = unit(f[:num]), unit(f[num:])
        total = _semantic(cfg, params["classifier"], f[:num], u, batch["label"])
        metrics = {"semantic": total}
        if cfg.lambda_center > 0:
            metrics["center"] = objective.center_loss(u, batch["label"], extra["centers"])
            total = total + cfg.lambda_center * metrics["center"]
        extra = dict(extra)
        extra["centers"] = objective.update_centers(
            jax.lax.stop_gradient(u), batch["label"], extra["centers"], cfg.eta
        )
        if disc is not None:
            extra["disc"], extra["disc_opt"], found = update_discriminator(
                extra["disc"], extra["disc_opt"], disc, cfg, jax.lax.stop_gradient(others),
                batch["lang"],
            )  # fmt: skip
            metrics |= found
        if cfg.unlabelled:
            terms = _unlabelled(cfg, disc, extra, others, batch)
            metrics |= {name: value for name, (_, value) in terms.items()}
            total = total + sum(weight * value for weight, value in terms.values())
        return Loss(total, num, metrics, extra)

    return loss_fn


def _unlabelled(
    cfg: EmuConfig, disc: LanguageDiscriminator | None, extra: PyTree, u: Array, batch: PyTree
) -> dict[str, tuple[float, Array]]:
    """Weights and values of the terms on unlabelled sentences, of the last `n_disc` part."""
    last = slice(-(u.shape[0] // cfg.n_disc), None)
    u, lang, original = u[last], batch["lang"][last], batch["original"][last]

    terms = {}
    if disc is not None:
        weight = jnp.asarray(cfg.adversary_weights) if cfg.adversary_weights else None
        value = discriminator.adversarial_loss(extra["disc"], disc, u, lang, weight)
        terms["adversary"] = (cfg.lambda_adv, value)
    if cfg.anchor > 0:
        weight = jnp.asarray(cfg.anchor_weights)[lang] if cfg.anchor_weights else None
        terms["anchor"] = (cfg.anchor, objective.anchor_loss(u, original, weight))
    return terms


def _embedding(encoder: Encoder, cfg: EmuConfig) -> Callable[[PyTree, Array], Array]:
    if cfg.trainable == "head":
        return lambda p, x: encoder.head(p["head"], x)
    return encoder.apply


def _semantic(cfg: EmuConfig, p: PyTree, f: Array, u: Array, label: Array) -> Array:
    if cfg.semantic == "softmax":
        return objective.softmax_loss(f, label, p["kernel"], p["bias"])
    if cfg.semantic == "contrastive":
        return objective.pair_loss(u, label)
    return objective.l2_softmax_loss(f, label, p["kernel"], p["bias"], radius(cfg, p))


def radius(cfg: EmuConfig, classifier: PyTree) -> Array | float:
    """The fixed radius, or the learnt one above its bound."""
    if cfg.alpha is not None:
        return cfg.alpha
    num = classifier["bias"].shape[0]
    return jnp.maximum(classifier["radius"], objective.lowest_radius(max(num, 3)))


def update_discriminator(
    p: PyTree, opt_state: Any, disc: LanguageDiscriminator, cfg: EmuConfig, u: Array, lang: Array
) -> tuple[PyTree, Any, dict[str, Array]]:
    """`n_disc` updates, each on its own part of the unlabelled sentences.

    Returns:
      Its parameters, its optimiser's state, and the loss and accuracy before the last update.
    """
    optimizer = optax.adam(cfg.lr_disc)
    parts = (u.reshape(cfg.n_disc, -1, u.shape[-1]), lang.reshape(cfg.n_disc, -1))

    def one(carry: tuple[PyTree, Any], part: tuple[Array, Array]) -> tuple[Any, Any]:
        p, opt_state = carry
        value, slope = jax.value_and_grad(discriminator.discriminator_loss)(p, disc, *part)
        right = discriminator.accuracy(p, disc, *part)
        moves, opt_state = optimizer.update(slope, opt_state, p)
        moved = discriminator.clipped(optax.apply_updates(p, moves), disc)
        return (moved, opt_state), (value, right)

    (p, opt_state), (values, right) = jax.lax.scan(one, (p, opt_state), parts)
    return p, opt_state, {"disc_loss": values[-1], "disc_accuracy": right[-1]}


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
    """Loss, optimiser and step; runs that differ in their seed alone share one."""
    loss_fn, made = make_loss(encoder, cfg, disc), optimizer(encoder, cfg)
    return loss_fn, made, step.make_step(loss_fn, made)


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
    loss_fn, made, update = _compiled(encoder, dataclasses.replace(cfg, seed=0), disc)
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
