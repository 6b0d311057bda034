# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What will they do, and what should I do?
#
# A forecast is a set of paths with probabilities. In EigenTrajectory's space a path is
#
# $$f = U\,(a_k + \Delta_k)\,/\,s \cdot R^\top + o$$
#
# singular vectors $U$ of training paths, an anchor $a_k$, a correction $\Delta_k$ that a small
# network finds by attending to neighbours, and the agent's own frame $(o, R, s)$. This notebook
# forecasts, shows why best-of-20 proves little, drives by model-predictive control, and asks how
# safe that was.

# %%
# Where jaxml comes from if it is not installed: a checkout's folder, or anything pip understands.
# Left empty, it is the checkout that this notebook lies in.
SOURCE = ""

# %%
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("jaxml") is None:
    here = Path.cwd()
    root = here if (here / "pyproject.toml").exists() else here.parent
    target = SOURCE or str(root)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", f"jaxml-lab[driving] @ {target}"]
        if "://" in target
        else [sys.executable, "-m", "pip", "install", "-q", f"{target}[driving]"],
        check=True,
    )

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxml.driving import safety
from jaxml.driving.planning import mpc
from jaxml.driving.prediction import PRESETS, baselines, evaluate, train
from jaxml.driving.tracks import ethucy, toy
from jaxml.inputs.integrity import DataNotFoundError

# %% [markdown]
# ## The smallest example
#
# Constant velocity: the row that stands beside every result.

# %%
past = np.array([[[0.0, 0.0], [0.4, 0.0], [0.8, 0.1]]])
print(baselines.constant_velocity(past, 3)[0].round(2).tolist())

# %% [markdown]
# ## Pedestrians
#
# Recordings of ETH and UCY where they are, else made walkers. The scene that is forecast is never
# trained on, nor chosen on.

# %%
try:
    fold = ethucy.load()[0]["zara1"]
except DataNotFoundError as error:
    print(error)
    fold = toy.folds()["zara1"]
test = fold.test.take(np.flatnonzero(fold.test.group < 40))
cfg = PRESETS["tiny"]
fitted = train.fit(jax.random.key(0), cfg, {"zara1": fold.train}, {"zara1": fold.validation})
params, space = fitted.fold("zara1")
found = train.forecast(cfg.model, params, space, test)
wide = np.full(12, 0.5)
rows = {
    "constant velocity": evaluate.single(test, baselines.constant_velocity(test.past, 12), wide),
    "forecast (10 steps of training)": evaluate.score(test, found),
}
for name, s in rows.items():
    print(f"{name:32s} best {s.min_ade:.2f}/{s.min_fde:.2f}  likely {s.ml_ade:.2f}/{s.ml_fde:.2f}")

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for i in np.flatnonzero(test.group == test.group[0])[:6]:
    last = test.past[i, -1]
    for path in found.paths[i]:
        axes.plot(*(path + last).T, color="tab:blue", alpha=0.4)
    axes.plot(*test.past[i].T, color="black")
    axes.plot(*test.future[i].T, "--", color="tab:orange")
axes.set(aspect="equal", xlabel="m", ylabel="m")

# %% [markdown]
# ## Nothing of the future is seen
#
# Replace it by NaN: the forecast is the same, bit for bit.

# %%
blind = train.forecast(cfg.model, params, space, test.blind())
print(bool(np.array_equal(blind.paths, found.paths)))

# %% [markdown]
# ## Control
#
# Sixty-four lanes to return to, one program; `jax.grad` goes through it as well.

# %%
settings = mpc.MPCConfig()
way = 10 * settings.step_s * jnp.arange(1, settings.num_steps + 1, dtype=jnp.float32)
lane = jnp.stack([way, jnp.zeros_like(way), jnp.zeros_like(way)], -1)
starts = jnp.stack([jnp.array([0.0, y, 0.0, 10.0]) for y in np.linspace(-3, 3, 64)])
plans = jax.jit(
    jax.vmap(lambda s: mpc.solve(settings, mpc.follow(s, lane, jnp.full_like(way, 10.0))))
)(starts)
figure, axes = plt.subplots(figsize=(7, 2.5))
for states in plans.states[::7]:
    axes.plot(states[:, 0], states[:, 1])
axes.set(xlabel="along, m", ylabel="across, m")

# %% [markdown]
# ## Safety
#
# How far behind at 25 m/s, if the one ahead may brake hard and I brake late and softly?

# %%
speeds = jnp.linspace(0, 35, 8)
for v, d in zip(speeds, safety.rss.same_direction(speeds, speeds, safety.RSSConfig()), strict=True):
    print(f"{v:5.1f} m/s  {d:6.1f} m")

# %% [markdown]
# ## Try next
#
# * `jaxml driving predict zara1`: train on the other scenes, forecast this one.
# * `jaxml driving plan idm mpc imitation`: drive episodes of highway-env.
# * `jaxml driving safety runs/driving-plan/drives-mpc-*.npz`: judge them.
# * `jaxml reproduce driving`: all of it, with claims.

# %%
print(safety.RSSConfig(response_s=0.5))
