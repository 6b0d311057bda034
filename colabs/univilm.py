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
# # Find videos by words, write words for videos
#
# UniVL (UniViLM, arXiv 2002.06353) has a text encoder, a video encoder, a cross encoder and a
# decoder. Its first objective, MIL-NCE, puts clips beside what is said around them: for the middle
# clip $i$ of a bag $B$ of neighbours, with raw products $S = T V^\top$,
#
# $$L_i = -\log \frac{\sum_{j \in B} e^{S_{ji}}}
# {\sum_j e^{S_{ji}} + \sum_{j \notin B} e^{S_{ij}}}.$$
#
# This notebook shows the loss, videos of moving digits with late and patchy narration, a small
# model that finds clips by words, and one that describes them. No number here is of YouCook2.

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
        [sys.executable, "-m", "pip", "install", "-q", f"jaxml-lab[univilm] @ {target}"]
        if "://" in target
        else [sys.executable, "-m", "pip", "install", "-q", f"{target}[univilm]"],
        check=True,
    )

# %%
import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxml import univilm
from jaxml.univilm import frames, metric, moving, study, words

# %% [markdown]
# ## The smallest example
#
# Six clips of two videos, three each. With no similarity at all, the positives are 3 of 9 terms.

# %%
print(univilm.mil_nce(jnp.zeros((6, 6)), n_pair=3), jnp.log(9 / 3))
close = 4 * jnp.kron(jnp.eye(2), jnp.ones((3, 3)))
late = 4 * jnp.roll(jnp.eye(6), 1, axis=1)  # every text fits the clip after its own
print("bags", univilm.mil_nce(late, 3), "single", univilm.mil_nce(late, 1))

# %% [markdown]
# ## Videos, and what is said in them
#
# 720 combinations of two digits, motions and speeds; 200 are never trained on. Narration describes
# the clip, the one before or the one after it, loses words and says "okay so".

# %%
digits, where = moving.digits("train")
print(where.name, where.where)
trained, unseen = moving.mmc_split()
told = moving.narrate(trained, digits, 40, seed=0)
for i in range(4):
    print("seen:", told.videos.caption[i], "| said:", told.said[i])

# %%
clips = moving.make(unseen, digits, 200, seed=1)
shown = np.asarray(moving.render(digits.image[clips.digits[:3]], clips.path[:3]))
figure, axes = plt.subplots(3, 5, figsize=(7, 4.6))
for row, video, text in zip(axes, shown, clips.caption, strict=False):
    for panel, frame in zip(row, video[::2], strict=True):
        panel.imshow(frame, cmap="gray")
        panel.axis("off")
    row[0].set_title(text, fontsize=8, loc="left")

# %% [markdown]
# ## Features
#
# The study trains a small network to say which digit is where. Here the truth stands for it: a
# one-hot map of the digits' centres, 640 numbers a frame.


# %%
def made(videos):
    label = jnp.asarray(digits.label[videos.digits])
    maps = jax.vmap(frames.targets, (None, 1), 1)(label, jnp.asarray(videos.path))
    feats = jax.nn.one_hot(maps, 11)[..., :10].reshape(*maps.shape[:2], -1)
    ids = words.encode(vocab, videos.caption, 19)
    num = np.full(len(ids), 10, np.int32)
    return univilm.Clips(np.asarray(feats, np.float16), num, ids, ids, np.arange(len(ids)))


vocab = study.vocabulary()
setting = univilm.PRESETS["laptop"]
cfg = dataclasses.replace(setting.model, width=64, num_heads=2, hidden=64, decoder_layers=1)
train, test = made(moving.make(trained, digits, 2080, seed=0)), made(clips)

# %% [markdown]
# ## Find clips by words

# %%
joint = dataclasses.replace(setting.stages["joint"], steps=200, batch_size=64)
params = univilm.fit(cfg, joint, univilm.init(jax.random.key(0), cfg), train)
sim = univilm.joint_scores(params, cfg, test)
print(univilm.retrieval_metrics(sim))
order = np.random.default_rng(0).permutation(200)
print("videos swapped:", univilm.retrieval_metrics(sim[:, order]).r1)

# %%
figure, axes = plt.subplots(figsize=(6, 3))
axes.hist(metric.ranks(sim), bins=np.arange(1, 60))
axes.set(xlabel="rank of the right clip among 200", ylabel="queries")

# %% [markdown]
# ## Write captions
#
# From the video alone: the text input is [CLS] [SEP], the reference is never read.

# %%
write = dataclasses.replace(setting.stages["caption"], steps=120, lr=1e-3)
params = univilm.fit(cfg, write, params, train)
said = words.decode(vocab, univilm.caption(params, cfg, test.rows(slice(64)), beams=3).ids)
print(univilm.caption_scores(said, [[c] for c in clips.caption[:64]]))
for text, true in list(zip(said, clips.caption, strict=False))[:3]:
    print("written:", text, "\nis:     ", true)

# %% [markdown]
# ## Try next
#
# * `jaxml reproduce univilm`: learnt features, pre-training against scratch, three seeds.
# * `jaxml univilm pretrain runs/first --data FOLDER --preset youcook2` on features of your own.
# * `jaxml univilm retrieve runs/first FOLDER --query "digit 3 is moving"`: an index of your videos.

# %%
print({name: plan.steps for name, plan in univilm.PRESETS["h100"].stages.items()})
