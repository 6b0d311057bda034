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
# # From a pile of text to a training set
#
# A model is what it reads. Between a crawl and a training lie a few decisions: which pages are text
# at all, which are copies, how much of each kind, and what to do when good text runs out. This
# notebook takes one decision after the other (survey: arXiv 2312.01700):
#
# 1. filter and remove duplicates, with a reason for each document that goes,
# 2. find near duplicates: documents whose sets of word 5-grams have Jaccard similarity $J$ share
#    one of $b$ bands of $r$ MinHash values with probability
#    $$P = 1 - (1 - J^r)^b$$
# 3. draw text that looks like a target (DSIR),
# 4. plan a training when there are only so many tokens, by the data-constrained scaling law.

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
        [sys.executable, "-m", "pip", "install", "-q", f"jaxml-lab[recipes,curate] @ {target}"]
        if "://" in target
        else [sys.executable, "-m", "pip", "install", "-q", f"{target}[recipes,curate]"],
        check=True,
    )

import json
import tempfile

import jax
import matplotlib.pyplot as plt
import numpy as np

from jaxml import curate
from jaxml.curate import Pipeline, Stage, dedup, engine, filters, mix, pipeline, scale, text
from jaxml.inputs import documents
from jaxml.inputs import text as inputs_text

folder = Path(tempfile.mkdtemp())
print(jax.devices())

# %% [markdown]
# ## The smallest example
#
# Two of three lines are the same once case and punctuation are gone.

# %%
lines = ["The same line.", "Another line.", "the SAME line!"]
sig = dedup.minhash(text.pack(lines))
print(dedup.components(dedup.lsh_edges(sig), len(lines)))

# %% [markdown]
# ## A pile of real text
#
# What Python says about itself is on every machine. It is made dirtier here: copies, near copies,
# and what is no text.

# %%
real = [t for t in inputs_text.python_text().train if len(t) > 400]
rng = np.random.default_rng(0)
pile = [{"id": f"doc-{i:04d}", "text": t, "kind": "real"} for i, t in enumerate(real)]
for i in rng.permutation(len(real))[:60]:
    words = real[i].split(" ")
    words[len(words) // 2] = "(edited)"
    pile.append({"id": f"near-{i:04d}", "text": " ".join(words), "kind": "near copy"})
    pile.append({"id": f"copy-{i:04d}", "text": real[i] + "\n", "kind": "copy"})
for i in range(40):
    pile.append(
        {"id": f"junk-{i:04d}", "text": "click here " * int(rng.integers(1, 60)), "kind": "junk"}
    )
(folder / "pile.jsonl").write_text(
    "".join(json.dumps(row) + "\n" for row in pile) + '{"text": broken\n'
)
print(len(pile), "documents")

# %% [markdown]
# ## A pipeline
#
# Stages in order; each removed document keeps its reason. The same thing as a file for
# `jaxml curate run pipeline.toml pile.jsonl -o out`:
#
# ```toml
# [[stage]]
# kind = "gopher_repetition"
# [[stage]]
# kind = "exact"
# [[stage]]
# kind = "minhash"
# verify = 0.8
# ```
#
# With `engine="daft"` or `"ray"` the same survivors come from other workers.

# %%
pipe = Pipeline(
    (
        Stage("gopher_repetition", filters.GopherRepetitionConfig()),
        Stage("exact", curate.duplicates.ExactConfig()),
        Stage("minhash", dedup.MinHashConfig(verify=0.8)),
        Stage("pii", pipeline.NoConfig()),
    )
)
report = engine.run(pipe, [folder / "pile.jsonl"], folder / "out", say=print)
print("could not be read:", report.num_bad)
left = list(documents.read(folder / "out" / "data"))
print(f"{len(left)} of {len(pile)} documents are left; {len(real)} were real ones")

# %%
fig, axes = plt.subplots(figsize=(7, 2.6))
names = ["read", *(stage["kind"] for stage in report.stages)]
left = [report.num_read, *(stage["num_out"] for stage in report.stages)]
bars = axes.barh(names[::-1], left[::-1], color="tab:blue")
axes.bar_label(bars, padding=3)
axes.set(xlabel="documents left", xlim=(0, 1.15 * max(left)))
fig.tight_layout()
for stage in report.stages:
    print(stage["kind"], dict(list(stage["reasons"].items())[:4]))

# %% [markdown]
# `out/card.html` shows the same with examples; `out/removed.parquet` names every document that
# went, `out/quarantine.jsonl` the line that was no JSON.
#
# ## How sure are the bands?
#
# Real documents against copies with more and more words changed: the share that meets in a band,
# beside the formula.

# %%
long = [w for w in (text.normalise(t).split()[:300] for t in real) if len(w) == 300][:150]
similarity, found = [], []
for changes in (2, 5, 10, 15, 20, 30, 40, 60):
    pairs = []
    for words in long:
        other = np.array(words, object)
        other[rng.choice(300, changes, replace=False)] = "changed"
        pairs += [" ".join(words), " ".join(other)]
    packed = text.pack(pairs)
    keys = dedup.band_keys(dedup.minhash(packed), 14)
    edges = np.arange(len(pairs)).reshape(-1, 2)
    similarity += dedup.jaccard(text.shingle(packed), edges).tolist()
    found += np.any(keys[0::2] == keys[1::2], axis=1).tolist()
bins = np.linspace(0.2, 1, 13)
which = np.digitize(similarity, bins)
grid = np.linspace(0, 1, 101)
fig, axes = plt.subplots(figsize=(6, 3.2))
axes.plot(grid, [dedup.probability(j, dedup.MinHashConfig()) for j in grid], label="formula")
middle = [np.mean(np.array(similarity)[which == k]) for k in np.unique(which)]
axes.plot(
    middle, [np.mean(np.array(found)[which == k]) for k in np.unique(which)], "o", label="found"
)
axes.set(xlabel="Jaccard similarity", ylabel="share that meets in a band")
axes.legend()
fig.tight_layout()

# %% [markdown]
# ## Text that looks like a target
#
# DSIR weighs a document by the ratio of two bags of hashed words and word pairs, and draws without
# replacement in proportion. The pool: what is left. The target: every other help topic of Python;
# the other half of the topics is hidden in the pool.

# %%
from pydoc_data.topics import topics

pool = list(documents.read(folder / "out" / "data"))
of_help = {text.normalise(topic) for topic in topics.values()}
helps = [t for t in pool if text.normalise(t) in of_help]
target, hidden = helps[::2], set(helps[1::2])
rest = [t for t in pool if t not in set(target)]
model = mix.dsir_fit(rest, target)
num = len(hidden) // 2
chosen = mix.gumbel_top_k(jax.random.key(0), mix.dsir_weights(model, rest), num)
hit = np.mean([rest[i] in hidden for i in chosen])
print(f"{len(hidden)} of {len(rest)} texts of the pool are help topics; of {num} drawn, {hit:.0%}; "
      f"by chance {len(hidden) / len(rest):.0%}")  # fmt: skip

# %% [markdown]
# ## When the text runs out
#
# Loss of repeated data (Muennighoff et al.): the value of a repeated token decays with
# $R_D^* \approx 15.4$ repeats. What to train with 1e22 FLOP and 25e9 different tokens? The same
# objective has better minima than the published pair: `jaxml reproduce curate` lists them.

# %%
flops, unique = 1e22, 25e9
best = scale.plan(flops, unique)[0]
print(
    f"{best.num_params / 1e9:.2f}e9 parameters, {best.num_epochs:.1f} epochs, loss {best.loss:.4f}"
)
epochs = np.geomspace(1, 60, 60)
params = flops / 6 / (epochs * unique)
fig, axes = plt.subplots(figsize=(6, 3.2))
for name, law in (
    ("published", scale.PUBLISHED),
    ("better minimum", scale.Repetition(95.37, 1.706)),
):
    axes.plot(epochs, scale.constrained_loss(params, epochs * unique, unique, law), label=name)
axes.plot(epochs, scale.C4_LAW.loss(params, epochs * unique), ":", label="were all tokens new")
axes.set(xscale="log", xlabel="epochs", ylabel="predicted loss")
axes.legend()
fig.tight_layout()

# %% [markdown]
# ## Try next
#
# - train on what is left: `jaxml tnl train runs/mine --corpus.name documents --corpus.path
#   out/data`
# - pages of the web: WARC archives and HTML files go in as they are (`pip install
#   'jaxml-lab[curate-web]'`)
# - stages `substring`, `semantic`, `resample`, `perplexity`, `contamination`, `classifier`, `url`
# - weights of domains by `mix.doremi`, mixing laws by `mix.fit_mixing_law`, with any model's loss
# - the claims, re-measured: `jaxml reproduce curate`

# %%
sorted(pipeline.KINDS)
