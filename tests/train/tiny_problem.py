"""A small regression with everything a step can carry: noise, weights, other state."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.train.step import Loss

WIDTH = 16


def params(width=WIDTH):
    rng = np.random.default_rng(7)
    return {
        "up": {"kernel": rng.normal(size=(4, width)).astype(np.float32) * 0.5},
        "down": {
            "kernel": rng.normal(size=(width, 1)).astype(np.float32) * 0.5,
            "bias": np.zeros(1, np.float32),
        },
    }


def extra():
    return {"num_rows": jnp.zeros((), jnp.int32)}


def predict(params, x):
    hidden = jnp.tanh(x @ params["up"]["kernel"])
    return (hidden @ params["down"]["kernel"])[:, 0] + params["down"]["bias"]


def loss_fn(params, batch, key, extra):
    """Mean squared error over rows where `mask` is set, of inputs with a little noise."""
    del key
    mask = batch["mask"].astype(jnp.float32)
    weight = mask.sum()
    error = jnp.square(predict(params, batch["x"]) - batch["y"])
    mean = jnp.sum(error * mask) / jnp.maximum(weight, 1.0)
    size = jnp.sum(jnp.abs(batch["y"]) * mask) / jnp.maximum(weight, 1.0)
    rows = extra["num_rows"] + batch["x"].shape[0]
    return Loss(mean, weight, {"size": size}, {"num_rows": rows})


def noisy_loss_fn(params, batch, key, extra):
    noise = 0.1 * jax.random.normal(key, batch["x"].shape)
    return loss_fn(params, {**batch, "x": batch["x"] + noise}, key, extra)


class Batches:
    """Batch i depends on i alone; the position is `{"next": i}`."""

    def __init__(self, rows=8, spoiled=()):
        self.rows, self.spoiled, self.next = rows, spoiled, 0

    def __iter__(self):
        return self

    def __next__(self):
        rng = np.random.default_rng([3, self.next])
        x = rng.normal(size=(self.rows, 4)).astype(np.float32)
        y = np.sin(x.sum(1)).astype(np.float32)
        if self.next in self.spoiled:
            y[0] = np.nan
        self.next += 1
        return {"x": x, "y": y, "mask": rng.random(self.rows) < 0.7}

    def get_state(self):
        return {"next": self.next}

    def set_state(self, state):
        self.next = state["next"]
