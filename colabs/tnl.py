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
# # Lightning attention: a language model whose cost per token does not grow
#
# A Transformer compares every token with every earlier one. Lightning attention keeps one small
# matrix per head instead, lets it fade by a fixed factor $\lambda$ at each step, and reads from it:
#
# $$S_t = \lambda S_{t-1} + k_t v_t^\top \qquad o_t = q_t^\top S_t$$
#
# Cost and memory per token are constant, in training (computed in blocks) and in decoding.
# TransNormerLLM (arXiv 2405.17381) builds a language model from it. This notebook shows the
# identity, trains a small model on real text, lets it write, keeps what it has read in a small
# file, writes and reads a checkpoint in the released format, and measures cost against length.

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

from jaxml import tnl

print(jax.devices())

# %% [markdown]
# ## The smallest example
#
# The recurrence above, token by token, against the blocked computation of the library.

# %%
key = jax.random.key(0)
q, k, v = jax.random.normal(key, (3, 1, 200, 2, 16))  # [batch, time, heads, width]
log_decay = jnp.log(jnp.array([0.9, 0.999]))

blocked, _ = tnl.lightning_attention(q, k, v, log_decay)


def step(state, token):
    out, state = tnl.lightning_attention_step(*token, log_decay, state)
    return state, out


tokens = [jnp.moveaxis(x, 1, 0) for x in (q, k, v)]
_, by_hand = jax.lax.scan(step, jnp.zeros((1, 2, 16, 16)), tokens)
error = jnp.abs(jnp.moveaxis(by_hand, 0, 1) - blocked).max() / jnp.abs(blocked).max()
print(f"largest difference: {error:.1e} of the largest value")

# %% [markdown]
# ## Train a language model on real text
#
# Tiny Shakespeare if it is found (folder `JAXML_DATA`), else the documentation inside Python.
# `jaxml tnl train` does the same from a terminal, with checkpoints, a mesh and resuming.

# %%
import dataclasses
import json
import tempfile

from jaxml.tnl import train as training
from jaxml.train.run import RunConfig

folder = Path(tempfile.mkdtemp())
config = training.TrainConfig(run=RunConfig(num_steps=120, log_every=5), batch_size=8, eval_every=0)
model, params, corpus = training.train(config, folder)
print(f"{model.num_params():,} parameters, text: {corpus.provenance.name}")

rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
fig, axes = plt.subplots(figsize=(6, 3))
axes.plot([r["step"] for r in rows], [r["loss"] for r in rows])
axes.set(xlabel="updates", ylabel="nats per character", title="Training loss")
fig.tight_layout()

# %% [markdown]
# ## Let it write
#
# After 120 updates it knows letters, short words and line breaks; `jaxml reproduce tnl` trains
# longer and compares it with a Transformer. A `Generator` takes prompts of any lengths and gives
# out text as it comes.

# %%
generator = tnl.Generator(model, params, corpus.tokenizer, block=256)
how = {"num_tokens": 200, "temperature": 0.8, "top_p": 0.95, "block": 40}
for piece in generator.stream(generator.read([corpus.tokenizer.decode(corpus.val[:200])]), **how):
    print(piece.texts[0], end="", flush=True)

# %% [markdown]
# ## Keep what was read
#
# All that the model knows of a text is one matrix per head, whatever the text's length. Here a text
# is read once, its context is kept in a file, and another process could go on from there at once.

# %%
for length in (200, 10_184):
    text = corpus.tokenizer.decode(corpus.val[:length])
    generator.save(folder / "context.safetensors", generator.read([text]))
    size = (folder / "context.safetensors").stat().st_size
    print(f"{length} characters: {size / 1024:.0f} KiB")

contexts = generator.open(folder / "context.safetensors"), generator.read([text])
texts = ["".join(piece.texts[0] for piece in generator.stream(c, **how)) for c in contexts]
print(texts[0][:40], "...\nthe same as after reading it anew:", texts[0] == texts[1])

# %% [markdown]
# ## Checkpoints in the released format
#
# The authors' weights come as safetensors, large ones as shards with an index. The library reads
# and writes both, bit for bit; a tensor that is missing or of a wrong shape is named. From a
# terminal: `jaxml tnl import FOLDER runs/adopted` and `jaxml tnl export runs/first FOLDER`.

# %%
released = folder / "released"
tnl.save_checkpoint(released, training.sized(config, model.vocab_size), params, max_bytes=200_000)
print(*sorted(path.name for path in released.iterdir()), sep="\n")

loaded_config, loaded = tnl.load_checkpoint(released)
pairs = zip(jax.tree.leaves(params), jax.tree.leaves(loaded), strict=True)
print("the same bits:", all(np.array_equal(a, b) for a, b in pairs))

# %% [markdown]
# ## Cost against length
#
# One row of tokens through a TNL and through a softmax Transformer of the same size: the time per
# token of one stays level, that of the other rises with the length.

# %%
from jaxml.report import timing
from jaxml.tnl import speed

pair, lengths = speed.models(), (512, 1024, 2048)
times = {name: [] for name in pair}
for n in lengths:
    found = timing.alternate(speed.forward_calls(pair, n), repeats=2)
    for name in pair:
        times[name].append(1e6 * found[name].median / n)

fig, axes = plt.subplots(figsize=(6, 3))
for name, values in times.items():
    axes.plot(lengths, values, marker="o", label=name)
axes.set(xlabel="tokens in the row", ylabel="microseconds per token", xscale="log", yscale="log")
axes.legend()
fig.tight_layout()

# %% [markdown]
# ## Try next
#
# - a longer run: `jaxml tnl train runs/first --preset laptop --run.num-steps 3000`
# - several devices: `--mesh.data 4 --mesh.seq 2`
# - another decay: `dataclasses.replace(config.model, decay_rule="minimax")`
# - the claims of the paper, re-measured: `jaxml reproduce tnl`

# %%
dataclasses.replace(config.model, decay_rule="minimax")
