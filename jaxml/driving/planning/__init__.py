"""Planning and control: bicycle, differentiable MPC, drivers, imitation, closed loop."""

from jaxml.driving.planning import bicycle, highway, idm, imitation, mpc, planners, replay, traffic
from jaxml.driving.planning.mpc import MPCConfig
from jaxml.driving.planning.planners import PlannerConfig

__all__ = [
    "MPCConfig", "PlannerConfig", "bicycle", "highway", "idm", "imitation", "mpc", "planners",
    "replay", "traffic",
]  # fmt: skip
