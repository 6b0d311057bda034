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
# # Differential privacy of the last iterate, for a convex ReLU network
#
# DP-SGD pays for every iterate, although only the last one is released. For a *convex* loss one can
# do better: if each update contracts by a factor $c$, noise of early steps hides early batches, and
# the last iterate of cyclic gradient descent over $l$ fixed batches is $\mu$-GDP with
#
# $$\mu = \frac{L}{b s} \sqrt{1 + c^{2l-2}
# \frac{1-c^2}{(1-c^l)^2} \frac{1-c^{l(E-1)}}{1+c^{l(E-1)}}}$$
#
# (Bok, Su, Altschuler 2024). A two-layer ReLU network becomes convex when its gates are drawn at
# random: $f(x) = \sum_p 1[x^\top u_p \ge 0]\, x^\top V_p$ (Koskela 2024).

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
        [sys.executable, "-m", "pip", "install", "-q", f"jaxml-lab[recipes] @ {target}"]
        if "://" in target
        else [sys.executable, "-m", "pip", "install", "-q", f"{target}[recipes]"],
        check=True,
    )

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxml import dp

print(jax.devices())

# %% [markdown]
# ## The smallest example
#
# What a training costs, before it is run. The report says whether the guarantee is a theorem.

# %%
model = dp.ConvexReLUConfig(in_dim=784, num_classes=10)
setting = dp.NoisyCGDConfig(epochs=400, noise_multiplier=5.0)
for mode in ("envelope", "flat"):
    changed = dataclasses.replace(setting, clip_mode=mode)
    print(mode, "-", dp.hidden_state(changed, model, num_examples=60_000).text(), "\n")

# %% [markdown]
# "flat" is the clipping of DP-SGD: scale the gradient down to norm $C$. For three classes or more
# the scaled softmax residual is not the gradient of any convex function, so an update may expand,
# and the theorem does not apply. "envelope" clips by the gradient of a convex function instead.
#
# ## Epsilon against epochs

# %%
from jaxml.dp import gdp

epochs = np.array([1, 3, 10, 30, 100, 400])
fig, axes = plt.subplots(figsize=(6, 3.4))
every = [dp.gdp_epsilon(gdp.composition_mu(int(e), 0.4), 1e-5) for e in epochs]
axes.plot(epochs, every, marker="o", label="every iterate seen")
for decay in (5.4e-5, 1e-3):
    mus = [dp.noisy_cgd_mu(1 - decay, 60, int(e), 0.4) for e in epochs]
    eps = [dp.gdp_epsilon(mu, 1e-5) for mu in mus]
    axes.plot(epochs, eps, marker="o", label=f"last iterate, eta lambda = {decay:g}")
axes.set(xlabel="epochs", ylabel="epsilon (delta = 1e-5)", xscale="log", yscale="log")
axes.legend()
fig.tight_layout()

# %% [markdown]
# ## Train at several epsilons
#
# MNIST if it is found (folder `JAXML_DATA`), else points around ten centres. All trainings run in
# one program, by `vmap` over noise and seeds.

# %%
from jaxml.dp import gating
from jaxml.dp.data import load_or_make

found = load_or_make("mnist", 6000)
data = found.data.first(6000)
print(found.provenance[0], found.why)

small = dp.ConvexReLUConfig(data.x.shape[1], 10, num_gates=8)
base = dp.NoisyCGDConfig(batch_size=500, epochs=10)
epsilons = [0.5, 1.0, 2.0, 4.0, 8.0]
configs = []
for eps in epsilons:
    sigma = dp.calibrate_noise(eps, 1e-5, contraction=1 - 5.4e-5, num_batches=12, epochs=10)
    configs.append(dataclasses.replace(base, noise_multiplier=sigma))
keys = [jax.random.key(0)] * len(configs)
v, u = dp.train_grid(keys, data.x, data.label, small, configs)
right = [dp.accuracy(v[i], u[i], data.test_x, data.test_label) for i in range(len(configs))]

fig, axes = plt.subplots(figsize=(6, 3.4))
axes.plot(epsilons, right, marker="o")
axes.set(xlabel="epsilon", ylabel="% right on test examples", xscale="log")
fig.tight_layout()

# %% [markdown]
# ## Look for a leak
#
# Pixels that are black in every image get noise and nothing else; its variance is known exactly.

# %%
from jaxml.dp import audit

untouched = data.x.max(0) == 0
law = audit.noise_law(v[2], untouched, configs[2], small, updates=120)
print(f"variance found / expected: {law.ratio:.3f} over {law.count} numbers, p = {law.p_value:.2f}")

# %% [markdown]
# ## Try next
#
# - a release with its report: `jaxml dp train runs/private --preset laptop`
# - another target: `jaxml dp account --target-eps 2.0 --epochs 100`
# - several releases on the same data: `--ledger-file runs/ledger.json`
# - the claims, re-measured: `jaxml reproduce dp`

# %%
print(dp.composition(configs[0], small, num_examples=6000).text())
gating.features(jnp.asarray(data.x[:2]), gating.gates(jnp.asarray(data.x[:2]), u[0]), small).shape
