"""What a training may claim: the report, and the accountants that refuse what they do not cover."""

import dataclasses
import math
from typing import Any, Literal

from jaxml.core import check
from jaxml.dp import gdp, poisson
from jaxml.dp.config import (
    ConvexReLUConfig,
    NoisyCGDConfig,
    gradient_bound,
    is_proved,
)

PROVED = "proved"
HEURISTIC = "heuristic (flat clip, K>=3)"
LAST_ONLY = "final iterate only; any exported checkpoint voids it"


@dataclasses.dataclass(frozen=True)
class PrivacyReport:
    """A guarantee and what it rests on.

    Attributes:
      accountant: "hidden_state", "composition" or "poisson".
      guarantee: "proved", or that it is heuristic and why.
      adjacency: which data sets count as neighbours.
      delta: of `epsilon`.
      epsilon: of the release, without the cost of choosing settings.
      mu: of Gaussian differential privacy; None where the accountant gives epsilon alone.
      epsilon_composition: of releasing every iterate, proved for every way to clip; None for
        Poisson samples.
      contraction: c of an update; None where it is not used.
      sensitivity: L, largest change of an example's gradient.
      smoothness: beta of the data term.
      noise_multiplier: sigma.
      num_batches: l.
      epochs: E.
      num_trials: trainings on these data that were compared, this one among them.
      epsilon_with_tuning: of releasing all of them.
      randomness: where the noise's key came from.
      note: what the guarantee does not cover.
    """

    accountant: Literal["hidden_state", "composition", "poisson"]
    guarantee: str
    adjacency: str
    delta: float
    epsilon: float
    mu: float | None
    epsilon_composition: float | None
    contraction: float | None
    sensitivity: float
    smoothness: float
    noise_multiplier: float
    num_batches: int
    epochs: int
    num_trials: int = 1
    epsilon_with_tuning: float | None = None
    randomness: str = "not stated"
    note: str = LAST_ONLY

    @property
    def proved(self) -> bool:
        """Whether the guarantee is a theorem."""
        return self.guarantee == PROVED

    def tuned(self, num_trials: int) -> "PrivacyReport":
        """The report where so many trainings of this cost were compared on the same data.

        Raises:
          ValueError: fewer than one, or an accountant without mu.
        """
        check.positive(num_trials=num_trials)
        if self.mu is None:
            raise ValueError(
                "tuned needs a report with mu; an accountant of Poisson samples has none "
                "(see poisson.tuning_epsilon)."
            )
        total = gdp.gdp_epsilon(self.mu * math.sqrt(num_trials), self.delta)
        return dataclasses.replace(self, num_trials=num_trials, epsilon_with_tuning=total)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """A few lines for people."""
        tuned = self.epsilon_with_tuning
        lines = [
            f"epsilon = {self.epsilon:.4g} at delta = {self.delta:g} ({self.adjacency}), "
            f"{self.guarantee}",
            f"  settings chosen among {self.num_trials} trainings: epsilon = {tuned:.4g} in all"
            if tuned is not None
            else "  choosing settings on these data is not counted",
            f"  accountant {self.accountant}; sigma = {self.noise_multiplier:g}, "
            f"{self.num_batches} batches, {self.epochs} epochs",
        ]
        if self.epsilon_composition is not None:
            lines.append(f"  if every iterate is seen: epsilon = {self.epsilon_composition:.4g}")
        return "\n".join([*lines, f"  randomness: {self.randomness}", f"  {self.note}"])


def num_batches_of(num_examples: int, batch_size: int) -> int:
    """l; a ragged last batch would get other noise than the accountant assumes.

    Raises:
      ValueError: `batch_size` does not divide the number of examples.
    """
    check.divides(batch_size=batch_size, num_examples=num_examples)
    return num_examples // batch_size


def check_contraction(cfg: NoisyCGDConfig, model: ConvexReLUConfig) -> float:
    """Contraction factor c of an update.

    Raises:
      ValueError: the learning rate is too high for `c = 1 - eta lambda`.
    """
    eta, beta = cfg.learning_rate, model.smoothness
    value = eta * (beta + 2 * cfg.l2)
    if value > 2 * (1 + 1e-12):
        raise ValueError(
            "learning_rate * (beta + 2 * l2) must be <= 2, or an update is no contraction; "
            f"got learning_rate={eta}, beta={beta}, l2={cfg.l2}, product {value:.4g}."
        )
    return gdp.contraction_factor(eta, cfg.l2, beta)


def hidden_state(
    cfg: NoisyCGDConfig,
    model: ConvexReLUConfig,
    num_examples: int,
    *,
    order: str = "cyclic",
    momentum: float = 0.0,
    adaptive: bool = False,
    released: str = "last",
) -> PrivacyReport:
    """The report of the last iterate of noisy cyclic gradient descent.

    Args:
      cfg: of the training.
      model: that was trained.
      num_examples: n.
      order: in which batches are visited; only "cyclic" is covered.
      momentum: of the optimiser; only 0 is covered.
      adaptive: whether the optimiser scales coordinates (Adam); not covered.
      released: "last"; "best" or "all" epochs are not covered.

    Raises:
      ValueError: a training that the theorem does not cover, with the accountant that does.
    """
    facts = [
        (order == "cyclic", f"order 'cyclic' (the same batches in the same order); got {order!r}"),
        (momentum == 0 and not adaptive, "plain gradient descent, without momentum or Adam"),
        (released == "last", f"the last iterate alone; got released={released!r}"),
    ]
    for holds, rule in facts:
        if not holds:
            raise ValueError(
                f"hidden-state accounting needs {rule}; account such a training by `composition`."
            )
    num_batches = num_batches_of(num_examples, cfg.batch_size)
    c = check_contraction(cfg, model)
    ratio = sensitivity_ratio(cfg)
    mu = gdp.noisy_cgd_mu(c, num_batches, cfg.epochs, ratio)
    proved = is_proved(cfg.clip_mode, model.loss, model.num_classes)
    return _report(cfg, model, num_batches, mu, PROVED if proved else HEURISTIC, c)


def composition(
    cfg: NoisyCGDConfig,
    model: ConvexReLUConfig,
    num_examples: int,
    *,
    order: Literal["cyclic", "reshuffled"] = "cyclic",
) -> PrivacyReport:
    """The report where every iterate may be seen; any clipping, momentum, best epoch included."""
    check.one_of(("cyclic", "reshuffled"), order=order)
    num_batches = num_batches_of(num_examples, cfg.batch_size)
    mu = gdp.composition_mu(cfg.epochs, sensitivity_ratio(cfg))
    found = _report(cfg, model, num_batches, mu, PROVED, None)
    return dataclasses.replace(found, accountant="composition", note="holds for all iterates")


def poisson_report(
    *,
    sampling_rate: float,
    noise_multiplier: float,
    clip_norm: float,
    steps: int,
    delta: float,
    adjacency: poisson.Neighbours = "replace_one",
    order: str = "poisson",
) -> PrivacyReport:
    """The report of DP-SGD on Poisson samples (dp-accounting, PLD).

    Raises:
      ValueError: batches that are not Poisson samples.
    """
    eps = poisson.dpsgd_epsilon(
        sampling_rate=sampling_rate,
        noise_multiplier=noise_multiplier,
        steps=steps,
        delta=delta,
        adjacency=adjacency,
        order=order,
    )
    return PrivacyReport(
        accountant="poisson",
        guarantee=PROVED,
        adjacency=adjacency,
        delta=delta,
        epsilon=eps,
        mu=None,
        epsilon_composition=None,
        contraction=None,
        sensitivity=clip_norm * (2 if adjacency == "replace_one" else 1),
        smoothness=math.inf,
        noise_multiplier=noise_multiplier,
        num_batches=round(1 / sampling_rate),
        epochs=round(steps * sampling_rate),
        note="holds for all iterates; batches must be Poisson samples",
    )


def sensitivity_ratio(cfg: NoisyCGDConfig) -> float:
    """L / (b s): 2 / sigma where an example is replaced, 1 / sigma where it is blanked.

    Raises:
      ValueError: no noise.
    """
    if cfg.noise_multiplier <= 0:
        raise ValueError(
            "noise_multiplier must be > 0 for a report; "
            f"got noise_multiplier={cfg.noise_multiplier} (train with private=False)."
        )
    return (2.0 if cfg.adjacency == "replace_one" else 1.0) / cfg.noise_multiplier


def _report(
    cfg: NoisyCGDConfig,
    model: ConvexReLUConfig,
    num_batches: int,
    mu: float,
    guarantee: str,
    c: float | None,
) -> PrivacyReport:
    ratio = sensitivity_ratio(cfg)
    return PrivacyReport(
        accountant="hidden_state",
        guarantee=guarantee,
        adjacency=cfg.adjacency,
        delta=cfg.delta,
        epsilon=gdp.gdp_epsilon(mu, cfg.delta),
        mu=mu,
        epsilon_composition=gdp.gdp_epsilon(gdp.composition_mu(cfg.epochs, ratio), cfg.delta),
        contraction=c,
        sensitivity=gradient_bound(cfg, model) * ratio * cfg.noise_multiplier,
        smoothness=model.smoothness,
        noise_multiplier=cfg.noise_multiplier,
        num_batches=num_batches,
        epochs=cfg.epochs,
    )


def calibrate_noise(
    target_eps: float,
    delta: float,
    *,
    contraction: float,
    num_batches: int,
    epochs: int,
    adjacency: str = "replace_one",
) -> float:
    """The noise multiplier whose hidden-state epsilon is the target.

    mu is proportional to 1 / sigma, so this is exact.

    Args:
      target_eps: epsilon wanted.
      delta: of the guarantee.
      contraction: c, e.g. `1 - learning_rate * l2`.
      num_batches: l.
      epochs: E.
      adjacency: "replace_one" or "zero_out".

    Raises:
      ValueError: a value out of range.
    """
    check.one_of(("replace_one", "zero_out"), adjacency=adjacency)
    changed = 2.0 if adjacency == "replace_one" else 1.0
    at_one = gdp.noisy_cgd_mu(contraction, num_batches, epochs, changed)
    sigma = at_one / gdp.gdp_mu(target_eps, delta)
    while gdp.gdp_epsilon(at_one / sigma, delta) > target_eps:
        sigma = math.nextafter(sigma, math.inf) * (1 + 1e-15)
    return sigma
