"""DP-SGD's accountants and the cost of choosing among trials, from dp-accounting.

`pip install jaxml-lab[dp]` brings dp-accounting, which is imported when first used.
"""

import math
from typing import Any, Literal

from jaxml.core import check
from jaxml.dp import gdp
from jaxml.dp.config import in_open_interval

Neighbours = Literal["replace_one", "add_remove", "zero_out"]


def _library() -> Any:
    try:
        import dp_accounting
        import dp_accounting.pld
        import dp_accounting.rdp
    except ImportError:
        raise ImportError(
            "dp_accounting is not installed; pip install 'jaxml-lab[dp]' brings it."
        ) from None
    return dp_accounting


def _relation(adjacency: str) -> Any:
    relations = _library().NeighboringRelation
    names = {
        "replace_one": relations.REPLACE_ONE,
        "add_remove": relations.ADD_OR_REMOVE_ONE,
        "zero_out": relations.REPLACE_SPECIAL,
    }
    check.one_of(names, adjacency=adjacency)
    return names[adjacency]


def dpsgd_epsilon(
    *,
    sampling_rate: float,
    noise_multiplier: float,
    steps: int,
    delta: float,
    adjacency: Neighbours = "replace_one",
    accountant: Literal["pld", "rdp"] = "pld",
    order: str = "poisson",
) -> float:
    """Epsilon of DP-SGD whose batches are Poisson samples.

    Args:
      sampling_rate: q, with which each example enters a batch, independently.
      noise_multiplier: sigma; the sum of gradients clipped at C gets noise sigma C.
      steps: T.
      delta: of the guarantee.
      adjacency: "replace_one", or "add_remove" (weaker).
      accountant: "pld" (numerically tight) or "rdp" (an upper bound; "replace_one" is not
        supported there).
      order: how the training drew its batches; anything but "poisson" is refused.

    Raises:
      ValueError: a value out of range, or batches that are not Poisson samples.
      ImportError: dp-accounting is missing.
    """
    require_poisson(order)
    check.positive(noise_multiplier=noise_multiplier, steps=steps)
    check.between(0, 1, sampling_rate=sampling_rate)
    check.one_of(("pld", "rdp"), accountant=accountant)
    in_open_interval(delta=delta)
    if accountant == "rdp" and adjacency == "replace_one":
        raise ValueError("accountant 'rdp' has no adjacency 'replace_one'; take accountant='pld'.")
    library, relation = _library(), _relation(adjacency)
    kind = library.pld.PLDAccountant if accountant == "pld" else library.rdp.RdpAccountant
    from dp_accounting import dp_event

    event = dp_event.PoissonSampledDpEvent(
        sampling_rate, dp_event.GaussianDpEvent(noise_multiplier)
    )
    made = kind(neighboring_relation=relation)
    made.compose(event, steps)
    return float(made.get_epsilon(delta))


def require_poisson(order: str) -> None:
    """Refuses the accountant of Poisson samples for batches that are none."""
    if order != "poisson":
        raise ValueError(
            "order must be 'poisson' for DP-SGD's accountant: batches taken in cycles or shuffled "
            f"may leak more than it says; got order={order!r} (take `hidden_state` or "
            "`composition` for fixed batches)."
        )


def calibrate_dpsgd(
    *,
    target_eps: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    adjacency: Neighbours = "replace_one",
    rtol: float = 1e-3,
) -> float:
    """Smallest noise multiplier, within `rtol`, whose epsilon is at most the target (PLD).

    Raises:
      ValueError: a value out of range.
    """
    check.positive(target_eps=target_eps, rtol=rtol)

    def eps(sigma: float) -> float:
        return dpsgd_epsilon(
            sampling_rate=sampling_rate,
            noise_multiplier=sigma,
            steps=steps,
            delta=delta,
            adjacency=adjacency,
        )

    # Close to a straight line in logarithms, so a few secant steps from the central limit do.
    sigma = 2 * sampling_rate * math.sqrt(steps) / gdp.gdp_mu(target_eps, delta)
    slope, before = -1.2, None
    for _ in range(30):
        gap = math.log(eps(sigma) / target_eps)
        if -rtol <= gap <= 0:
            return sigma
        if before is not None and sigma != before[0]:
            slope = (gap - before[1]) / (math.log(sigma) - math.log(before[0]))
        before = (sigma, gap)
        sigma *= math.exp(-(gap + rtol / 2) / slope)
    raise ValueError(f"no noise multiplier found for target_eps={target_eps}.")


def tuning_epsilon(mu: float, delta: float, *, mean_trials: float) -> float:
    """Epsilon of choosing the best of a random number of trials, each mu-GDP.

    The number is geometric with this mean (Papernot and Steinke 2022; dp-accounting's RDP of
    "repeat and select"); candidates are drawn from a list that does not depend on the data, and
    the score by which they are compared is computed from the trial's own output.

    Raises:
      ValueError: a value out of range.
    """
    check.positive(mu=mu)
    check.at_least(1, mean_trials=mean_trials)
    in_open_interval(delta=delta)
    library = _library()
    from dp_accounting import dp_event

    made = library.rdp.RdpAccountant()
    trial = dp_event.GaussianDpEvent(1 / mu)
    made.compose(dp_event.RepeatAndSelectDpEvent(trial, mean=mean_trials, shape=1))
    return float(made.get_epsilon(delta))
