r"""Self-labelled pointer network for job-shop scheduling (SLIM).

A policy builds schedules one operation at a time; it is trained to imitate the best of its own
samples. `jaxml jsp solve FILE` schedules with the policy that comes with the package, then
polishes by tabu search.

>>> import jax
>>> from jaxml import jsp
>>> shop = jsp.parse_jsp("2 2\n0 3 1 2\n1 2 0 4")
>>> jsp.makespan(shop, [0, 1, 0, 1])
7
"""

from jaxml.jsp.benchmark import gap, load_benchmark
from jaxml.jsp.config import PRESETS, SLIMConfig, SPNConfig
from jaxml.jsp.features import op_features
from jaxml.jsp.instance import InstanceError, JSPInstance, random_instance, reverse
from jaxml.jsp.objective import self_label_loss, self_labelling
from jaxml.jsp.parsing import parse_jsp, read_jsp
from jaxml.jsp.policy import init_params, params_from_torch_arrays, shipped
from jaxml.jsp.problem import Problem, from_instance, pad_batch, random_problems
from jaxml.jsp.rollout import Rollouts, greedy, sample
from jaxml.jsp.schedule import (
    InfeasibleScheduleError,
    from_machine_sequences,
    makespan,
    start_times,
    validate_schedule,
)

__all__ = [
    "PRESETS",
    "InfeasibleScheduleError",
    "InstanceError",
    "JSPInstance",
    "Problem",
    "Rollouts",
    "SLIMConfig",
    "SPNConfig",
    "from_instance",
    "from_machine_sequences",
    "gap",
    "greedy",
    "init_params",
    "load_benchmark",
    "makespan",
    "op_features",
    "pad_batch",
    "params_from_torch_arrays",
    "parse_jsp",
    "random_instance",
    "random_problems",
    "read_jsp",
    "reverse",
    "sample",
    "self_label_loss",
    "self_labelling",
    "shipped",
    "start_times",
    "validate_schedule",
]
