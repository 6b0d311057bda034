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
# # Merging trained networks: from a barrier to one network
#
# Two networks trained from different seeds compute nearly the same, in different bases. Their
# average computes nothing. CCA Merge (arXiv 2407.05385) first brings the features $y$ of one
# network to the basis of the other's, $x$: whiten, rotate, colour again,
#
# $$T = \Sigma_{xx}^{1/2}\, U V^\top\, \Sigma_{yy}^{-1/2}
# \qquad \Sigma_{xx}^{-1/2}\, \Sigma_{xy}\, \Sigma_{yy}^{-1/2} = U S V^\top$$
#
# and multiplies the layer that writes $y$ by $T$, the layer that reads it by $T^{-1}$. Then it
# averages. This notebook shows the barrier between two networks, merges them, and adds more.

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

from jaxml import merge
from jaxml.inputs import splits as data
from jaxml.inputs.source import DataNotFoundError
from jaxml.merge import evaluate, results, study
from jaxml.merge import train as training

print(jax.devices())

# %% [markdown]
# ## The smallest example
#
# Any function of (variables, x) will do: its feature spaces are read off its trace. Here a network
# is merged with a copy of itself whose hidden units are shuffled. The plain average is another
# network; the aligned average is the network again.


# %%
def apply(p, x):
    return jnp.maximum(x @ p["a"], 0) @ p["b"]


keys = jax.random.split(jax.random.key(0), 3)
net = {"a": jax.random.normal(keys[0], (4, 16)), "b": jax.random.normal(keys[1], (16, 3))}
order = np.random.default_rng(0).permutation(16)
shuffled = {"a": net["a"][:, order], "b": net["b"][order]}
x = jax.random.normal(keys[2], (256, 4))

network = merge.network.of_function(apply, net, x)
for method in ("average", "cca"):
    found = merge.merge(network, [net, shuffled], [x], merge.MergeConfig(method, gamma=1e-3))
    gap = jnp.abs(apply(found.variables, x) - apply(net, x)).max()
    print(f"{method:8s} largest difference from the network: {gap:.1e}")
print(network.spec.nodes)

# %% [markdown]
# ## Networks trained on real images
#
# FashionMNIST if it is found (folder `JAXML_DATA`), else drawn patterns. All networks train at
# once; each has its own seed.

# %%
arch = training.ArchConfig("mlp", hidden=(64, 64))
try:
    images = data.load("fashion_mnist", num_train=6_000, num_held_out=2_000)
except DataNotFoundError:
    images = data.synthetic(2_000, 500, (28, 28, 1))
recipe = training.TrainConfig(arch, epochs=6, batch_size=100, over="unroll")
trained = training.train(recipe, images.train, seeds=range(6))
models = trained.split()
network = training.build(arch).network
test = list(data.Batches(images.test, 1000))


def accuracy(variables):
    return evaluate.accuracy(merge.network.logits(network, variables, test), images.test.label)


print(images.name, [round(accuracy(m), 1) for m in models])

# %% [markdown]
# ## The barrier
#
# Test loss on the straight way between two networks: as they are, permuted, and in CCA's basis.
# Only a permutation leaves the second network's function as it was; CCA's right end is worse than
# the network itself, yet the middle is better.

# %%
align = list(data.Batches(images.train, 500))


def loss(variables):
    return evaluate.cross_entropy(merge.network.logits(network, variables, test), images.test.label)


fig, axes = plt.subplots(figsize=(6, 3.2))
for method in ("average", "permute", "cca"):
    cfg = merge.MergeConfig(method, gamma=3.0)
    bases = merge.merge(network, models[:2], align, cfg).alignments
    ends = [
        merge.apply_alignment(network.spec, m, b) for m, b in zip(models[:2], bases, strict=True)
    ]
    ts, losses = merge.curve(*ends, loss, num=9)
    axes.plot(ts, losses, marker="o", label=f"{method}, barrier {merge.barrier(losses):.2f}")
axes.set(xlabel="share of the second network", ylabel="test loss, nats")
axes.legend()
fig.tight_layout()

# %% [markdown]
# ## More than two
#
# Permutations have to pick one partner per unit; with every further network that fits less. CCA
# finds combinations of units. Gamma, its regularisation, is chosen on held-out training images.

# %%
cfg = study.StudyConfig(
    recipe,
    num_models=6,
    counts=(2, 3, 4, 6),
    num_sets=2,
    methods=("cca", "permute", "average"),
    gammas=(0.1, 1.0, 10.0),
    num_train=len(images.train.label),
    num_held_out=len(images.held_out.label),
    num_align=len(images.train.label),
    align_batch=500,
    curve_points=0,
)
found = study.run(cfg, images, models)

fig, axes = plt.subplots(figsize=(6, 3.2))
for method, by in results.table(found.rows).items():
    axes.plot(list(by), [mean for mean, _ in by.values()], marker="o", label=method)
axes.set(xlabel="networks merged", ylabel="% right on test images")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
fig.tight_layout()

# %% [markdown]
# ## Try next
#
# - your own network: `merge.network.of_function(apply, variables, x)`; flax modules go in as they
#   are, batch norm with `train_fn=`
# - files: `jaxml merge A.safetensors B.safetensors --method cca -o merged.safetensors --report out`
# - fine-tuned siblings: `merge.task_arithmetic`, `merge.ties`, `merge.dare`, `merge.slerp`
# - the claims of the paper, re-measured: `jaxml reproduce merge`

# %%
dataclasses.replace(cfg, methods=("cca", "permute", "weights", "zipit", "ot", "average"))
