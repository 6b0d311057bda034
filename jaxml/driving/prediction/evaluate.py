"""Scores of forecasts on a scene, every variant under its own name."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.driving.metrics import trajectory
from jaxml.driving.prediction.social import Forecast
from jaxml.driving.tracks.windows import Windows, neighbours


class Scores(NamedTuple):
    """Means over the agents of a scene; metres, nats, shares. NaN where there is no such thing.

    Attributes:
      num_agents: n.
      min_ade: best sample of each agent.
      min_fde: likewise, chosen for itself.
      scene_ade: one sample for all agents of a window (Social-GAN's minimum).
      scene_fde: likewise.
      ml_ade: of the most likely mode.
      ml_fde: likewise.
      single_ade: of the mode of least expected error under the forecast's own probabilities.
      single_fde: likewise.
      nll: nats per step and agent.
      miss: share of agents with no sample within 2 m of the end.
      collision: share of agents whose most likely path touches (0.2 m) another's.
    """

    num_agents: int
    min_ade: float
    min_fde: float
    scene_ade: float
    scene_fde: float
    ml_ade: float
    ml_fde: float
    single_ade: float
    single_fde: float
    nll: float
    miss: float
    collision: float


@jax.jit
def _per_agent(forecast: Forecast, truth: jax.Array) -> dict[str, jax.Array]:
    best = trajectory.best_per_agent(forecast.paths, truth)
    likely = trajectory.most_likely(forecast.paths, forecast.log_prob, truth)
    every = trajectory.displacement(forecast.paths, truth)
    own = trajectory.least_expected(forecast.paths, forecast.log_prob)[:, None]
    ade, fde = (jnp.take_along_axis(x, own, 1)[:, 0] for x in every)
    nll = trajectory.mixture_nll(*forecast, truth)
    return {
        "min_ade": best.ade, "min_fde": best.fde, "ml_ade": likely.ade, "ml_fde": likely.fde,
        "single_ade": ade, "single_fde": fde, "nll": nll,
        "miss": trajectory.miss(forecast.paths, truth),
        "every_ade": every.ade, "every_fde": every.fde,
    }  # fmt: skip


def _blocks(forecast: Forecast, truth: np.ndarray, block: int = 2048) -> dict[str, np.ndarray]:
    n, parts = len(truth), []
    for first in range(0, n, block):
        rows = np.minimum(np.arange(first, first + block), n - 1)
        part = Forecast(*(jnp.asarray(x[rows]) for x in forecast))
        parts.append(jax.tree.map(np.asarray, _per_agent(part, jnp.asarray(truth[rows]))))
    return {name: np.concatenate([p[name] for p in parts])[:n] for name in parts[0]}


def likeliest(forecast: Forecast) -> np.ndarray:
    """The most likely path of each agent, [n, s, 2]."""
    best = np.argmax(forecast.log_prob, 1)
    return forecast.paths[np.arange(len(best)), best]


def collision_share(windows: Windows, paths: np.ndarray, num_partners: int = 64) -> float:
    """Share of agents whose path touches that of another agent of the window.

    Args:
      windows: agents.
      paths: one path each, relative to the last position, [n, s, 2].
      num_partners: nearest agents looked at.
    """
    most = int(np.bincount(windows.group).max(initial=1))
    rows, mask = neighbours(windows, min(num_partners, max(most - 1, 1)))
    last = windows.past[:, -1:]
    whole = np.concatenate([last, paths + last], 1)
    hits, block = [], 512
    for first in range(0, len(whole), block):
        at = np.minimum(np.arange(first, first + block), len(whole) - 1)
        near = whole[rows[at]] - last[at][:, None]
        own = whole[at] - last[at]
        hits.append(np.asarray(_collides(*map(jnp.float32, (own, near)), jnp.asarray(mask[at]))))
    return float(np.mean(np.concatenate(hits)[: len(whole)]))


_collides = jax.jit(trajectory.collides)


def score(windows: Windows, forecast: Forecast) -> Scores:
    """Scores of a forecast relative to the last positions of `windows`."""
    truth = (windows.future - windows.past[:, -1:]).astype(np.float32)
    found = _blocks(forecast, truth)
    scene = {}
    for name in ("ade", "fde"):
        every = found.pop(f"every_{name}")
        sums = np.zeros((int(windows.group.max()) + 1, every.shape[1]))
        np.add.at(sums, windows.group, every)
        best = np.argmin(sums, 1)[windows.group]
        scene[f"scene_{name}"] = float(np.mean(every[np.arange(len(every)), best]))
    means = {name: float(np.mean(x)) for name, x in found.items()}
    touch = collision_share(windows, likeliest(forecast))
    return Scores(len(windows), **means, **scene, collision=touch)


def single(windows: Windows, paths: np.ndarray, scale: np.ndarray) -> Scores:
    """Scores of one path an agent, absolute [n, s, 2], with a width by step [s]."""
    relative = np.asarray(paths - windows.past[:, -1:], np.float32)[:, None]
    width = np.broadcast_to(np.asarray(scale, np.float32), relative.shape[:3])
    return score(windows, Forecast(relative, np.zeros(relative.shape[:2], np.float32), width))


def mean(rows: list[Scores]) -> Scores:
    """The mean over scenes, each scene counting alike (as in all published tables)."""
    return Scores(
        sum(r.num_agents for r in rows),
        *(float(np.mean([r[i] for r in rows])) for i in range(1, len(Scores._fields))),
    )
