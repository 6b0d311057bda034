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
# # Driving: boxes, simulated LiDAR, and a detector
#
# Two rotated rectangles $P$ and $B$ share, by Green's theorem, the area
#
# $$|P \cap B| = \oint_{\partial P} \mathrm{clamp}(x)\; d\,\mathrm{clamp}(y)$$
#
# with $x, y$ in the frame of $B$, clamped to its sides. Four edges with closed pieces: exact,
# differentiable, and the same on a CPU, a GPU and a TPU. This notebook overlaps boxes, senses a
# street with a simulated LiDAR and camera, trains a small pillar detector, and follows a drive.

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

import tempfile

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxml.driving import geometry, sim
from jaxml.driving.detection3d import train as training
from jaxml.driving.localization import recipe as odometry

print(jax.devices())

# %% [markdown]
# ## The smallest example
#
# The overlap of one box with another that turns, and its derivative by the angle.

# %%
box = jnp.array([0.0, 0, 0, 4, 2, 1.5, 0])


def overlap(angle):
    return geometry.rotated_iou_bev(box, box.at[6].set(angle))


angles = jnp.linspace(0, jnp.pi, 181)
plt.plot(np.degrees(angles), jax.vmap(overlap)(angles), label="overlap")
plt.plot(np.degrees(angles), jax.vmap(jax.grad(overlap))(angles), label="derivative")
plt.xlabel("angle, degrees")
plt.legend()
plt.show()

# %% [markdown]
# ## A street, sensed
#
# Layouts are KITTI tracking's where the data are found, made-up streets otherwise. Any car can be
# the ego; labels are exact. What follows is *simulated*.

# %%
cfg = training.plan("tiny", steps=60, batch_size=4, seed=0)
train, held = sim.split(sim.layouts(cfg.sim.room))
print(train.source, len(train.mask), "layouts for training,", len(held.mask), "held out")
layout = held.boxes[0], held.label[0], held.mask[0]
lidar = sim.LidarConfig(32, 256)
wide = sim.SimConfig(lidar, sim.CameraConfig(96, 288), cfg.sim.room)
scene = sim.observe(jax.random.key(0), wide, *layout)
image = sim.picture(jax.random.key(0), wide, *layout)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4))
points = np.asarray(scene.points[0])[np.asarray(scene.seen[0])]
left.scatter(points[:, 0], points[:, 1], s=0.4, c=points[:, 2])
corners = geometry.corners_bev(scene.truth.box[scene.truth.mask])
for corner in np.asarray(corners):
    left.plot(*np.concatenate([corner, corner[:1]]).T, "r")
left.set(aspect="equal", xlim=(-40, 40), ylim=(-40, 40), title="simulated LiDAR and labels")
right.imshow(np.asarray(image.colour))
right.set(title="simulated camera")
plt.show()

# %% [markdown]
# ## A detector in a minute
#
# Pillars, a small backbone, a centre head; scenes are sensed inside the training step, never twice
# alike. Sixty updates are a beginning: `jaxml reproduce driving` trains longer.

# %%
with tempfile.TemporaryDirectory() as folder:
    done = training.train(cfg, train, Path(folder))
print("simulated, sequences held out:", training.evaluate(done, cfg, held, num=16))

# %% [markdown]
# ## Where am I?
#
# Odometry by the KISS-ICP recipe over a simulated drive whose path is known exactly.

# %%
clouds, truth = odometry.simulated(8)
print(len(clouds), "clouds of about", len(clouds[0]), "points")
from jaxml.driving import localization as loc

points, mask = loc.pad_clouds(clouds, max(map(len, clouds)))
path, _ = loc.run(points, mask, loc.PRESETS["tiny"], loc.point_to_point)
print(loc.ape(truth, np.asarray(path, np.float64)), "of", loc.path_length(truth), "m")

# %% [markdown]
# ## Try next
#
# - `jaxml driving v2x train`, then `demo`: what other vehicles see and you do not.
# - `jaxml driving fuse train --sensors camera`: how far a camera alone gets.
# - Replace `overlap` above by `rotated_iou_3d` and descend on a box.
