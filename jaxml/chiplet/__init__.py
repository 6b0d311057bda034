"""A differentiable cost model of chiplet systems that train language models.

Time and energy of a training batch on a mesh of dies, for tensor parallelism on rings, SUMMA and
the two-dimensional scheme of Hecaton (arXiv 2407.05784); sweeps, fronts, gradients, fits.

>>> from jaxml import chiplet
>>> model, system = chiplet.MODELS["llama2-70b"], chiplet.paper_v1()
>>> ring, ours = (chiplet.simulate(model, system, method=m) for m in ("flat_ring", "hecaton"))
>>> round(float(ring.time_s / ours.time_s), 1)
4.9
"""

from jaxml.chiplet.area import AreaConfig, package_mm2, power_w
from jaxml.chiplet.cluster import Cluster, ClusterReport, simulate_cluster
from jaxml.chiplet.collective import cost
from jaxml.chiplet.config import (
    DieConfig,
    DramConfig,
    EnergyConfig,
    FormatConfig,
    LinkConfig,
    Mesh2D,
    ModelShape,
    System,
    TrainingConfig,
)
from jaxml.chiplet.fit import Fit, fit, leave_one_out
from jaxml.chiplet.frontier import Frontier, frontier
from jaxml.chiplet.gpu import GpuConfig, GpuPlan, iteration_s
from jaxml.chiplet.method import METHODS
from jaxml.chiplet.model import Report
from jaxml.chiplet.optimize import Budget, Found, elasticity, optimize
from jaxml.chiplet.pareto import front_of, pareto
from jaxml.chiplet.presets import MODELS, default, paper_v1, ucie
from jaxml.chiplet.simulate import compare, mixed, simulate
from jaxml.chiplet.sweep import grid, sweep, sweep_slopes
from jaxml.chiplet.twin import die_mesh, mesh_linear, mesh_transformer_block

__all__ = [
    "METHODS",
    "MODELS",
    "AreaConfig",
    "Budget",
    "Cluster",
    "ClusterReport",
    "DieConfig",
    "DramConfig",
    "EnergyConfig",
    "Fit",
    "FormatConfig",
    "Found",
    "Frontier",
    "GpuConfig",
    "GpuPlan",
    "LinkConfig",
    "Mesh2D",
    "ModelShape",
    "Report",
    "System",
    "TrainingConfig",
    "compare",
    "cost",
    "default",
    "die_mesh",
    "elasticity",
    "fit",
    "front_of",
    "frontier",
    "grid",
    "iteration_s",
    "leave_one_out",
    "mesh_linear",
    "mesh_transformer_block",
    "mixed",
    "optimize",
    "package_mm2",
    "paper_v1",
    "pareto",
    "power_w",
    "simulate",
    "simulate_cluster",
    "sweep",
    "sweep_slopes",
    "ucie",
]
