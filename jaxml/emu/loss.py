"""The loss of a step: the encoder, the classifier and the centres against the discriminator.

One step is: `n_disc` updates of the discriminator on embeddings that do not feel it, one update of
encoder and classifier, one of the centres. All three live in one step of the shared trainer; what
is not moved by the loss's gradient (discriminator, centres) is its `extra`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxml.core.types import Array, Key, PyTree
from jaxml.emu import discriminator, objective
from jaxml.emu.config import EmuConfig
from jaxml.emu.discriminator import LanguageDiscriminator
from jaxml.emu.encoder import Encoder
from jaxml.emu.objective import unit
from jaxml.nn.loss import cross_entropy
from jaxml.train import step
from jaxml.train.step import Loss


def term_weights(cfg: EmuConfig, num_languages: int) -> dict[str, Array]:
    """Weights of the loss's terms as arrays, so that runs that differ in them share one step.

    Raises:
      ValueError: weights of languages for another number of them.
    """
    scalars = ("lambda_center", "lambda_adv", "anchor", "lambda_guess")
    found = {name: jnp.float32(getattr(cfg, name)) for name in scalars}
    for name in ("adversary_weights", "anchor_weights"):
        given = getattr(cfg, name)
        if given and len(given) != num_languages:
            raise ValueError(
                f"{name} must have one value for each of {num_languages} languages; "
                f"got {len(given)}."
            )
        found[name] = jnp.asarray(given or (1.0,) * max(num_languages, 1), jnp.float32)
    return found


def alike(cfg: EmuConfig) -> EmuConfig:
    """The configuration without what a step takes as arrays: equal for runs that share a step."""
    return dataclasses.replace(
        cfg, seed=0, steps=1, lambda_center=1.0, lambda_adv=float(cfg.lambda_adv > 0),
        anchor=float(cfg.unlabelled), lambda_guess=0.0,
        adversary_weights=(), anchor_weights=(),
    )  # fmt: skip


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
        pull = objective.center_loss(u, batch["label"], extra["centers"])
        metrics = {"semantic": total, "center": pull}
        total, extra = total + extra["weights"]["lambda_center"] * pull, dict(extra)
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
            terms = _unlabelled(cfg, disc, params["classifier"], extra, others, batch)
            metrics |= {name: value for name, (_, value) in terms.items()}
            total = total + sum(weight * value for weight, value in terms.values())
        return Loss(total, num, metrics, extra)

    return loss_fn


def _unlabelled(
    cfg: EmuConfig,
    disc: LanguageDiscriminator | None,
    classifier: PyTree,
    extra: PyTree,
    u: Array,
    batch: PyTree,
) -> dict[str, tuple[Array, Array]]:
    """Weights and values of the terms on unlabelled sentences, of the last `n_disc` part."""
    last = slice(-(u.shape[0] // cfg.n_disc), None)
    u, lang, original, guess = (
        u[last], batch["lang"][last], batch["original"][last], batch["guess"][last]
    )  # fmt: skip
    by = extra["weights"]
    held = objective.anchor_loss(u, original, by["anchor_weights"][lang])
    logits = objective.logits(u, classifier["kernel"], classifier["bias"], radius(cfg, classifier))
    guessed = cross_entropy(logits, jnp.maximum(guess, 0), guess >= 0)[0]
    terms = {"anchor": (by["anchor"], held), "guess": (by["lambda_guess"], guessed)}
    if disc is not None:
        fooled = discriminator.adversarial_loss(
            extra["disc"], disc, u, lang, by["adversary_weights"]
        )
        terms["adversary"] = (by["lambda_adv"], fooled)
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
