"""What of planning and safety is re-measured: a hundred episodes in a public simulator."""

import dataclasses

import jax
import numpy as np

from jaxml.driving.planning import loop, pictures, replay
from jaxml.driving.planning.highway import HighwayConfig
from jaxml.driving.planning.loop import LoopConfig
from jaxml.driving.planning.replay import ReplayConfig
from jaxml.driving.safety import monitor
from jaxml.driving.tracks import kitti
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.report.claim import Claim, Promise, Rule, at_least, at_most
from jaxml.report.recipe import Context, Outcome, Table


def _promise(id: str, words: str, unit: str, rule: Rule) -> Promise:
    return Promise("driving", id, words, "none", "none", unit, rule)


PROMISES = {
    p.id: p
    for p in (
        _promise("mpc-crashes", "MPC crashes no more often than a driver that keeps its lane",
                 "crashes more than IDM, of 100 episodes", at_most(2, "our mark")),
        _promise("mpc-progress", "MPC comes further than a driver that keeps its lane",
                 "% more way than IDM", at_least(2, "our mark")),
        _promise("imitation-crashes", "The learnt planner crashes hardly more than its expert",
                 "crashes more than MPC, of 100 episodes", at_most(5, "our mark")),
        _promise("imitation-progress", "The learnt planner comes as far as its expert",
                 "% of MPC's way", at_least(95, "our mark")),
    )
}  # fmt: skip


def _small() -> LoopConfig:
    base = LoopConfig()
    optim = dataclasses.replace(base.learner.optim, total_steps=20, warmup_steps=2)
    expert = dataclasses.replace(
        base.learner.expert, mpc=dataclasses.replace(base.learner.expert.mpc, num_iterations=2)
    )
    learner = dataclasses.replace(base.learner, optim=optim, width=16, expert=expert)
    road = HighwayConfig(duration_s=1.0, num_vehicles=5, num_seen=3)
    return LoopConfig(road, learner, num_episodes=2, num_demos=2, num_moved=1)


SCALES = {"tiny": _small(), "laptop": LoopConfig(), "h100": LoopConfig()}


def measure(scale: str, context: Context) -> Outcome:
    """Drives, judges and compares."""
    cfg = SCALES[scale]
    try:
        drives = loop.run(jax.random.key(context.seed), cfg, context.folder, say=context.say)
    except ImportError as error:
        return Outcome([p.missing(str(error), scale) for p in PROMISES.values()])
    results = {name: loop.summary(cfg, d) for name, d in drives.items()}
    judged = {
        name: jax.tree.map(np.asarray, monitor.judge_all(d.ego, d.others, d.mask, cfg.road.step_s))
        for name, d in drives.items()
    }
    pictures.animate(drives["mpc"], context.folder / "mpc.gif")
    told = _claims(results, scale)
    if scale == "tiny":
        told = [p.missing("this scale checks the code", scale) for p in PROMISES.values()]
    tables = [pictures.outcomes(results, judged), *_replayed(cfg, context)]
    return Outcome(told, [pictures.ways(drives)], tables)


def _replayed(cfg: LoopConfig, context: Context) -> list[Table]:
    """Drives of KITTI with planners in the recording car's place, where the data are."""
    if context.scale == "tiny":
        return []
    try:
        pieces = replay.pieces(ReplayConfig(), kitti.layouts()[0])
    except DataNotFoundError:
        return []
    key, drives = jax.random.key(context.seed), {}
    for name in ("idm", "mpc"):
        context.say(f"{len(pieces.name)} pieces of real drives replayed: {name}")
        drives[name] = replay.drive(key, ReplayConfig(), loop.planner(name, cfg), pieces)
    return [pictures.replays(drives, pieces)]


def _claims(results: dict[str, loop.Result], scale: str) -> list[Claim]:
    idm, mpc, learnt = (results[n] for n in loop.PLANNERS)
    about = (
        f"of {idm.episodes} episodes crashed: IDM {idm.crashes}, MPC {mpc.crashes}, imitation "
        f"{learnt.crashes}; way {idm.progress_m:.0f}, {mpc.progress_m:.0f}, "
        f"{learnt.progress_m:.0f} m"
    )
    share = 100 / idm.episodes
    values = {
        "mpc-crashes": share * (mpc.crashes - idm.crashes),
        "mpc-progress": 100 * (mpc.progress_m / idm.progress_m - 1),
        "imitation-crashes": share * (learnt.crashes - mpc.crashes),
        "imitation-progress": 100 * learnt.progress_m / mpc.progress_m,
    }
    return [PROMISES[n].measured(v, scale, why=about) for n, v in values.items()]
