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
# # Self-labelling: learning to schedule without a teacher
#
# A job shop has $n$ jobs, each a chain of operations, each operation on its machine. A policy
# builds a schedule operation by operation: at every step it says which job goes next. Nobody
# tells it good schedules. It samples $\beta$ of them, keeps the best $\pi^\star$, and learns to
# repeat it:
#
# $$\mathcal{L} = -\frac{1}{N-1}\sum_{t<N} \log p_\theta(\pi^\star_t \mid \pi^\star_{<t})$$
#
# No reward, no baseline. This notebook schedules an instance, trains a small policy, looks at what
# the labels do to it, and polishes a schedule by tabu search.

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
import matplotlib.pyplot as plt
import numpy as np

from jaxml import jsp

print(jax.devices())

# %% [markdown]
# ## The smallest example
#
# Six jobs on six machines (Fisher and Thompson, 1963), the shortest schedule takes 55. A sequence
# of job numbers is a schedule: each entry appends the next operation of that job.

# %%
text = """6 6
2 1 0 3 1 6 3 7 5 3 4 6
1 8 2 5 4 10 5 10 0 10 3 4
2 5 3 4 5 8 0 9 1 1 4 7
1 5 0 5 2 5 3 3 4 8 5 9
2 9 1 3 4 5 5 4 0 3 3 1
1 3 3 3 5 9 0 10 4 4 2 1"""
shop = jsp.parse_jsp(text, "ft06")
in_turn = np.tile(np.arange(6), 6)
print("jobs in turn:", jsp.makespan(shop, in_turn), " lower bound:", shop.trivial_bound)

# %% [markdown]
# ## Train a small policy
#
# Fresh random instances at every update; the entropy says how much the policy still tries.

# %%
import dataclasses
import json
import tempfile

from jaxml.jsp import train as training

cfg = jsp.SLIMConfig(
    jsp.SPNConfig(16, 32, 2, 16, 32, 32),
    shapes=((6, 6),),
    batch=16,
    num_samples=16,
    num_steps=100,
    lr=2e-3,
    final_lr=5e-4,
)
folder = Path(tempfile.mkdtemp())
trained = training.train(cfg, folder, log_every=2)
rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
fig, axes = plt.subplots(figsize=(6, 3))
for name in ("loss", "entropy"):
    axes.plot([r["step"] for r in rows], [r[name] for r in rows], label=name)
axes.set(xlabel="updates", ylabel="nats per step", title="Self-labelling")
axes.legend()
fig.tight_layout()

# %% [markdown]
# ## What it learned
#
# Makespans of 64 samples on the instance above, before and after training.

# %%
problem = jsp.from_instance(shop)
before = jsp.init_params(jax.random.key(1), cfg.model)
fig, axes = plt.subplots(figsize=(6, 3))
for label, params in (("untrained", before), ("trained", trained.params)):
    found = jsp.sample(params, cfg.model, problem, jax.random.key(2), 64)
    spans = np.asarray(found.makespans)
    axes.hist(spans, bins=np.arange(50, 110, 3), alpha=0.6, label=f"{label}: best {spans.min()}")
axes.axvline(55, linestyle="--", color="grey")
axes.set(xlabel="makespan", ylabel="schedules")
axes.legend()
fig.tight_layout()

# %% [markdown]
# ## Polish and look
#
# Tabu search swaps neighbours on critical paths; the chart has a row per machine and a colour per
# job.

# %%
from IPython.display import SVG

from jaxml.jsp import gantt, tabu

best = np.asarray(found.seqs)[int(np.argmin(found.makespans))]
seqs, spans = tabu.tabu_search(shop, best, 200, jax.random.key(3))
starts = jsp.start_times(shop, seqs[0])
print("after tabu search:", jsp.validate_schedule(shop, starts))
SVG(gantt.svg(shop, starts, "ft06"))

# %% [markdown]
# ## Try next
#
# - the trained policy of the package on your own shop: `jaxml jsp solve shop.txt --gantt shop.svg`
# - release times, busy machines, jobs of unequal length: JSON with `release` and `available`
# - a plan that has begun: `jaxml jsp solve shop.txt --plan schedule.json --now 40`
# - a longer training: `jaxml jsp train runs/first --preset laptop --num-steps 1000`
# - the claims, re-measured: `jaxml reproduce jsp`

# %%
dataclasses.replace(cfg, shapes=((6, 6), (10, 5)))
