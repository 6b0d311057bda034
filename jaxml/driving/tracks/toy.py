"""Made tracks for a machine without recordings, and for tests."""

import numpy as np

from jaxml.driving.tracks.ethucy import SCENES, Fold, parse
from jaxml.driving.tracks.windows import Windows, concatenate


def crowd(seed: int, num_agents: int = 24, num_frames: int = 60, name: str = "toy") -> Windows:
    """Walkers that turn gently and give way to those near them; windows as of ETH and UCY."""
    random = np.random.default_rng(seed)
    place = random.uniform(-6, 6, (num_agents, 2))
    angle, speed = random.uniform(0, 2 * np.pi, num_agents), random.uniform(0.2, 0.7, num_agents)
    turn, born = random.normal(0, 0.03, num_agents), random.integers(0, 20, num_agents)
    lines = []
    for frame in range(num_frames):
        gap = place[:, None] - place[None]
        far = np.linalg.norm(gap, axis=-1, keepdims=True) + 1e-6
        push = (gap / far * np.exp(-far / 0.4)).sum(1)
        angle = angle + turn
        step = speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        place = place + step + 0.2 * push + random.normal(0, 0.01, place.shape)
        present = np.flatnonzero((frame >= born) & (frame < born + 40))
        lines += [f"{10 * frame} {a} {place[a, 0]:.4f} {place[a, 1]:.4f}" for a in present]
    return parse("\n".join(lines), name)


def folds(seed: int = 0) -> dict[str, Fold]:
    """Five small folds under the names of the real ones."""
    parts = {s: [crowd(seed + 10 * i + j, name=s) for j in range(3)] for i, s in enumerate(SCENES)}
    found = {}
    for scene in SCENES:
        others = [parts[s] for s in SCENES if s != scene]
        train = concatenate(f"{scene}-train", [p[0] for p in others])
        validation = concatenate(f"{scene}-val", [p[1] for p in others])
        found[scene] = Fold(train, validation, parts[scene][2])
    return found


def traffic(seed: int, num_agents: int = 40, name: str = "toy-traffic") -> Windows:
    """Cars that drive, brake and turn, as windows of KITTI's length."""
    random = np.random.default_rng(seed)
    n, length, step = num_agents, 20, 0.2
    speed, bend = random.uniform(0, 12, n), random.normal(0, 0.02, n)
    pull, angle = random.normal(0, 1.0, n), random.uniform(-np.pi, np.pi, n)
    place, rows = random.uniform(-40, 40, (n, 2)), []
    for _ in range(length):
        rows.append(np.concatenate([place, angle[:, None]], 1))
        place = place + step * speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        angle, speed = angle + step * speed * bend, np.maximum(speed + step * pull, 0.0)
    body = np.stack(rows, 1)
    size = np.broadcast_to([4.5, 1.8], (n, 2)).copy()
    group = (np.arange(n) // 8).astype(np.int32)
    return Windows(
        name, step, body[:, :5, :2], body[:, 5:, :2], group, body[:, :5, 2], size
    )  # fmt: skip
