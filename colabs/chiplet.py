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
# # Chiplets that train language models
#
# A package is a mesh of dies without wrap links. Hecaton (arXiv 2407.05784) cuts every matrix in
# two dimensions: activations are gathered along columns and reduce-scattered along rows, weights
# never move. Per token, forward and backward, a layer of width $h$ on $R \times C$ dies moves about
#
# $$\frac{10\,h}{C} + \frac{5h + 10\,kv + (2g + 3) f}{R}$$
#
# features, which shrinks with the side of the mesh, while a ring all-reduce moves $8h$ whatever the
# mesh. `jaxml.chiplet` is that model, with gradients. Its package is calibrated by us to two ratios
# of the paper's abstract; the body of the paper could not be read.

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
import matplotlib.pyplot as plt
import numpy as np

from jaxml import chiplet

print(jax.devices())

# %% [markdown]
# ## One batch, several methods

# %%
model, system = chiplet.MODELS["llama2-70b"], chiplet.paper_v1()
found = chiplet.compare(model, system, methods=("flat_ring", "summa", "hecaton", "dual"))
for method, report in found.items():
    print(
        f"{method:10} {float(report.time_s):6.1f} s  {float(report.energy_j) / 1e3:5.0f} kJ  "
        f"links {float(report.nop_s):6.1f} s  fits {bool(report.feasible)}"
    )

# %% [markdown]
# Ideally pipelined SUMMA beats Hecaton here: large chunks of tokens pay for moving weights. `dual`
# overlaps the gathers of one chunk with the scatters of another; it is ours.
#
# ## A million designs
#
# Numbers of model and system may be arrays; `sweep` compiles one program and spreads it.

# %%
n = 100_000
draw = np.random.default_rng(0)
values = {
    "link.bandwidth_bytes_s": draw.uniform(8e9, 256e9, n),
    "die.num_arrays": draw.integers(1, 17, n),
    "die.activation_sram_bytes": 2.0**20 * draw.integers(1, 33, n),
    "mesh.rows": draw.integers(8, 65, n),
    "mesh.cols": draw.integers(8, 65, n),
}
report = chiplet.sweep(model, system, values)
silicon = chiplet.package_mm2(
    dataclasses.replace(
        system,
        mesh=chiplet.Mesh2D(values["mesh.rows"], values["mesh.cols"]),
        link=chiplet.LinkConfig(values["link.bandwidth_bytes_s"]),
        die=dataclasses.replace(
            system.die,
            num_arrays=values["die.num_arrays"],
            activation_sram_bytes=values["die.activation_sram_bytes"],
        ),
    )
)
fits = np.asarray(report.feasible)
points = np.stack([np.asarray(report.time_s), silicon], 1)[fits]
front = points[chiplet.pareto(points)]
front = front[np.argsort(front[:, 0])]

fig, axes = plt.subplots(figsize=(6, 3.4))
axes.plot(*points[::20].T, ".", markersize=1, alpha=0.3)
axes.step(*front.T, where="post")
axes.set(xlabel="seconds per batch", ylabel="silicon, mm2", xscale="log", yscale="log")
fig.tight_layout()

# %% [markdown]
# ## Gradients
#
# In the smooth model nothing is rounded, so a mesh may have 20.5 rows. Elasticities say what a
# percent of a constant is worth; a search moves the aspect of the mesh from a square.

# %%
slopes = chiplet.elasticity(model, system)
top = sorted(slopes.items(), key=lambda item: -abs(item[1]))[:8]
fig, axes = plt.subplots(figsize=(6, 3))
axes.barh([name for name, _ in top], [slope for _, slope in top])
axes.set(xlabel="d log time / d log constant")
axes.invert_yaxis()
fig.tight_layout()

# %%
best = chiplet.optimize(model, system, {"mesh.aspect": (1 / 64, 64.0)}, method="dual", steps=100)
tall = chiplet.simulate(model, chiplet.paper_v1(64, 16), method="dual")
print(f"aspect {best.values['mesh.aspect']:.2f}; 64 x 16 dies, dual: {float(tall.time_s):.1f} s")

# %% [markdown]
# ## Checked against measurements
#
# The same workload on GPUs, two constants fitted to eight measured iterations of Megatron.

# %%
from jaxml.chiplet import measured

fitted, held = measured.fit_iterations()
print({name: round(value, 3) for name, value in fitted.params.items()})
print(f"fitted: mean {fitted.mean:.1%}, worst {fitted.worst:.1%}")
print(f"each model from the others: mean {held.mean:.1%}, worst {held.worst:.1%}")

# %% [markdown]
# ## Try next
#
# - another package: `chiplet.ucie("advanced", 32)`
# - tuning adapters: `dataclasses.replace(system, training=chiplet.TrainingConfig(lora_rank=16))`
# - several packages: `chiplet.simulate_cluster(model, system, chiplet.Cluster(pipeline=4))`
# - a page to play with: `jaxml chiplet explore`
# - the claims, re-measured: `jaxml reproduce chiplet`

# %%
chiplet.ucie("advanced", 32).link
