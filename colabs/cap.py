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
# # Pruning with a memory
#
# A pre-trained encoder made small for one task forgets what it knew. Contrastive pruning (arXiv
# 2112.07198) keeps a bank of frozen representations of every training sentence, by the pre-trained
# model, by the fine-tuned one and by earlier pruned ones, and pulls each anchor $z_i$ of the
# current model towards its positives $P(i)$ in them:
#
# $$L_i = -\frac{1}{|P(i)|} \sum_{j \in P(i)} \log
# \frac{\exp(z_i \cdot c_j / \tau)}{\sum_{k \ne i} \exp(z_i \cdot c_k / \tau)}$$
#
# Positives are representations of the same sentence (unsupervised) or of sentences with the same
# label (supervised). This notebook shows the loss, the masks, a pruned model that is really
# smaller, and pruning for models that are not encoders.

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

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from jaxml import cap
from jaxml.cap import compaction, data, encoder, speed
from jaxml.models import bert

# %% [markdown]
# ## The smallest example
#
# Two anchors, a bank of four sentences. When all vectors are equal the loss is the logarithm of
# the number of candidates; when an anchor finds its own sentence in the bank it falls.

# %%
ids, labels = jnp.arange(2), jnp.array([0, 1, 0, 1])
cfg = cap.ContrastConfig(tau=0.1)
bank = cap.Bank(jax.random.normal(jax.random.key(0), (4, 1, 8)), labels)
anchors = {
    "anything": jax.random.normal(jax.random.key(1), (2, 8)),
    "what the bank says": bank.reps[:2, 0],
}
for name, reps in anchors.items():
    found = cap.contrastive_loss(reps, bank, ids, labels[:2], jnp.array([2, 3]), cfg)
    print(f"{name:20s} same sentence {found.unsup:.3f}, same label {found.sup:.3f}")

# %% [markdown]
# ## Masks: exactly as many as asked for
#
# Learned scores begin equal, so a threshold alone could keep everything or nothing. The masks keep
# exactly `int(keep * size)` weights of every matrix. How many, the cubic schedule says.

# %%
equal = jnp.zeros((64, 64))
print("kept of 4096 equal scores:", int(cap.topk_mask(equal, keep=0.03).sum()))
steps = np.arange(0, 1001, 10)
levels = [float(cap.cubic_threshold(s, 1000, 1.0, 0.03, 100, 300)) for s in steps]
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(steps, levels)
axes.set(xlabel="updates", ylabel="share kept", title="Cubic schedule to 3 %")
# %% [markdown]
# ## Prune an encoder
#
# The pre-trained 6 x 384 sentence encoder takes minutes on two cores (`jaxml reproduce cap`), so a
# small untrained one stands in here, on generated opinions with negations. Both runs take the same
# steps; one has the contrast.

# %%
small = encoder.random(jax.random.key(0), bert.BertConfig(256, 32, 2, 4, 64, 16))
task = data.load("generated", data.words(256), max_len=16, num_train=400, num_valid=100)
run = cap.CAPConfig(
    cap.PruneConfig("structured", keep=0.5, rounds=2, calibration=64, start="fine"),
    cap.TuneConfig(32, dense_steps=150, steps=40, lr=1e-3, dense_lr=2e-3),
    cap.ContrastConfig(extra=128),
)
teacher = cap.teach(small, task, run)
pruned = {name: cap.prune(small, task, teacher, cap.arms(run)[name]) for name in ("kd", "cap")}
for name, found in pruned.items():
    print(f"{name}: {found.steps} steps, dense {teacher.test:.1f} %, pruned {found.test:.1f} %")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
curve = pruned["cap"].curve
for module, name in {"pre": "PrC", "snap": "SnC", "fine": "FiC"}.items():
    values = [row[f"{module}_unsup"] + row[f"{module}_sup"] for row in curve]
    points = [(i, v) for i, v in enumerate(values) if v > 0]
    left.plot(*zip(*points, strict=True), label=name)
left.set(xlabel="logged points", ylabel="nats", title="Contrastive losses")
left.legend()
masks = pruned["cap"].masks
right.bar(["1", "2"], np.asarray(masks.heads).sum(1))
right.set(xlabel="layer", ylabel="living heads", title="At least one in every layer")
# %% [markdown]
# ## Smaller for real
#
# Masks save nothing. `compact` removes heads and neurons; the answers stay the same.

# %%
found = pruned["cap"]
made, sizes = cap.compact(found.trained, small.cfg, found.masks)
ids = task.test.ids[:64].astype(np.int32)
dense = bert.apply(cap.fold_masks(found.trained, found.masks), small.cfg, ids).hidden
gap = float(jnp.abs(compaction.apply(made, sizes, ids).hidden - dense).max())
count = [sum(leaf.size for leaf in jax.tree.leaves(p)) for p in (small.params, made)]
print(f"parameters {count[0]:,} -> {count[1]:,}, largest difference {gap:.1e}")
wide = bert.BertConfig(1000, 256, 4, 8, 1024, 64)
times = speed.inference(
    bert.init(jax.random.key(0), wide), wide, speed.even_masks(wide, 0.5), batch=8, repeats=5
)
for name, taken in times.items():
    print(f"{name:8s} {1e3 * taken.median:6.1f} ms")

# %% [markdown]
# ## Any model
#
# The same schedule as an optax transformation prunes whatever an optimiser trains.

# %%
params = {"kernel": jax.random.normal(jax.random.key(0), (32, 32)), "bias": jnp.zeros(32)}
optimizer = cap.pruning(
    optax.adam(1e-2), lambda count: cap.cubic_threshold(count, 100, 1.0, 0.1, 10, 20)
)
state, x = optimizer.init(params), jax.random.normal(jax.random.key(1), (256, 32))


@jax.jit
def update(params, state):
    def loss(p):
        return jnp.mean((x @ p["kernel"] + p["bias"][None] - jnp.sin(x)) ** 2)

    value, slope = jax.value_and_grad(loss)(params)
    moves, state = optimizer.update(slope, state, params)
    return optax.apply_updates(params, moves), state, value


for _ in range(120):
    params, state, value = update(params, state)
print(f"weights left {int((params['kernel'] != 0).sum())} of 1024, loss {value:.3f}")

# %% [markdown]
# ## Try next
#
# * `jaxml cap prune minilm --task sst2 --keep 0.1 --method movement` on your data.
# * `cap.nm_mask` in `pruning(mask_fn=...)` for 2:4 patterns.
# * `cap.calibrated` and `cap.wanda_masks` prune any traced model once, without training.
