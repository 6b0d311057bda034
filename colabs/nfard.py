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
# # Is this model a copy of mine?
#
# A neuron is a function of the input. On a suite of $N$ samples a model is a matrix $\Phi$, rows
# samples, columns neurons; of a black box the output neurons are known from its probabilities, as
# $z_c = \log p_c - \frac{1}{C}\sum_k \log p_k$. Two models are compared neuron by neuron,
#
# $$D(V, S) = \frac{1}{d}\sum_j \bigl(1 - \cos(v_j - \bar v_j,\; s_j - \bar s_j)\bigr)$$
#
# and a distance is small or not only beside those of *references*, models made without the victim.
# This is a detector in the manner of NFARD (arXiv 2407.03883), of which the abstract was read; the
# contrast below is ours. No adversarial samples are needed.

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

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxml import nfard
from jaxml.inputs import splits
from jaxml.inputs.source import DataNotFoundError
from jaxml.models.arch import ArchConfig
from jaxml.nfard import evaluate, reuse, zoo
from jaxml.nfard.train import TrainConfig

print(jax.devices())

# %% [markdown]
# ## The smallest example
#
# Any function of (parameters, x) will do. The suspect is the victim with small changes.


# %%
def apply(p, x):
    return jnp.tanh(x @ p["a"]) @ p["b"]


def init(seed):
    keys = jax.random.split(jax.random.key(seed))
    return {"a": jax.random.normal(keys[0], (4, 16)), "b": jax.random.normal(keys[1], (16, 3))}


mine, *others = [nfard.from_params(apply, init(seed)) for seed in range(6)]
x = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
cfg = nfard.DetectorConfig(n_suite=200)
calibration = nfard.calibrate(mine, others, x, cfg)
changed = jax.tree.map(lambda w: w + 0.05 * jax.random.normal(jax.random.key(9), w.shape), init(0))
for name, params in (("changed copy", changed), ("stranger", init(77))):
    found = nfard.detect(mine, nfard.from_params(apply, params), x, calibration, cfg)
    print(f"{name}: reuse {found.reuse}, distance {found.distance:.3f}, p = {found.p_value:.2g}")

# %% [markdown]
# ## A zoo of reused models
#
# FashionMNIST if it is found (folder `JAXML_DATA`), else drawn patterns. Victims train on one part
# of the images, whoever reuses them on the other. The hardest negatives have the victim's data and
# architecture, and another seed.

# %%
try:
    images = splits.load("fashion_mnist", 12_000, 0)
except DataNotFoundError:
    images = splits.synthetic(4_000, 0, (28, 28, 1))
half = len(images.train.label) // 2
archs = (ArchConfig("mlp", hidden=(64, 32)), ArchConfig("mlp", hidden=(48,)))
recipe = zoo.ZooConfig(
    archs,
    train=TrainConfig(6, 100, lr=0.05, weight_decay=2e-3),
    num_victim_rows=half,
    num_reuse_rows=half,
    kinds=("ft_last", "ft_all", "rt_all", "prune80", "int8", "distill", "steal_labels"),
    same=2,
    other_half=2,
    references=5,
    references_half=2,
)
members = nfard.build_zoo(recipe, zoo.shuffled(images, 0), say=lambda text: None)
for entry in members.entries[:4]:
    print(f"{entry.name:<12} {entry.accuracy:.1f} %")

# %% [markdown]
# ## Distances beside the threshold
#
# Left of the dashed line a suspect is called reuse. `output` is D above; `output_contrast` first
# regresses out of both models what the references know, and compares what is left: what is
# particular to the victim.

# %%
black = nfard.DetectorConfig(n_suite=min(2000, len(images.test.label) // 2 * 2))
result = evaluate.evaluate_zoo(members, images.test, black)


def show(test):
    fig, axes = plt.subplots(figsize=(7, 4))
    names = {**{k: v.about for k, v in reuse.KINDS.items()}, **reuse.ATTACKS, **reuse.NEGATIVES}
    kinds = [k for k in names if any(r.kind == k for r in result.rows)][::-1]
    for row in result.rows:
        for found in row.verdict.tests:
            if found.test == test:
                colour = "C1" if row.reuse else "C0"
                share = found.distance / found.threshold
                axes.scatter(share, kinds.index(row.kind), color=colour, s=20)
    axes.axvline(1, color="k", ls="--", lw=1)
    axes.set_yticks(range(len(kinds)), [names[k] for k in kinds])
    axes.set(xlabel=f"{test}: distance / threshold")
    fig.tight_layout()


show("output")

# %%
show("output_contrast")
for test, score in result.part(evaluate.plain).test_scores().items():
    print(f"{test:<18} F1 {score.f1:.3f}  AUC {score.auc:.3f}")

# %% [markdown]
# ## Try next
#
# - true black boxes: `nfard.from_table("answers.csv")`, `nfard.from_callable(client)`
# - white-box: `nfard.DetectorConfig(access="white")` also reads hidden neurons, and
#   finds copies whose neurons were reordered and rescaled
# - files: `jaxml nfard detect --victim A.npz --suspect B.npz --references R1.npz R2.npz R3.npz
#   --evidence-to bundle`, then `jaxml nfard verify bundle`
# - the claims, with every kind of reuse and the other detectors: `jaxml reproduce nfard`

# %%
white = nfard.DetectorConfig(access="white", n_suite=black.n_suite)
print(evaluate.evaluate_zoo(members, images.test, white).score())
