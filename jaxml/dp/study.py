"""Accuracy against epsilon: the convex model, a DP-SGD network and DP-SGD logistic regression.

Each method gets a grid of the same size. Settings are chosen on held-out training images, then
every method is trained on all training images, over seeds, and scored on the test images once.
"""

import dataclasses
import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxml.core import check, files, rng
from jaxml.dp import baseline, gating, grid, poisson, privacy
from jaxml.dp.baseline import DPSGDConfig
from jaxml.dp.config import ConvexReLUConfig, NoisyCGDConfig
from jaxml.dp.data import Data

METHODS = {
    "noisy_cgd": "convex ReLU, NoisyCGD",
    "network": "two-layer ReLU, DP-SGD",
    "logistic": "logistic regression, DP-SGD",
}


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """One experiment.

    Attributes:
      training: of the convex model; learning_rate, l2 and noise_multiplier come from the grid.
      num_gates: P.
      hidden: width of the DP-SGD network.
      epsilons: where every method is trained and tested.
      tuned_at: epsilons at which settings are chosen; others take those of the nearest.
      learning_rates: grid of the convex model.
      decays: grid of the convex model: values of `learning_rate * l2`.
      network_rates: grid of the DP-SGD network, learning rates times C.
      logistic_rates: likewise of logistic regression.
      sgd_clips: grid of DP-SGD, clip norms.
      num_seeds: trainings of each method and epsilon.
      num_train: training images used, those held out included.
      num_held_out: the last of them, to choose settings on.
      methods: which.
    """

    training: NoisyCGDConfig = dataclasses.field(default_factory=NoisyCGDConfig)
    num_gates: int = 128
    hidden: int = 200
    epsilons: tuple[float, ...] = (0.5, 1.0, 1.34, 2.0, 4.62, 8.0)
    tuned_at: tuple[float, ...] = (1.34, 4.62)
    learning_rates: tuple[float, ...] = (0.98, 1.95, 3.9)
    decays: tuple[float, ...] = (5.4e-5, 2e-4, 1e-3)
    network_rates: tuple[float, ...] = (0.05, 0.2, 0.8)
    logistic_rates: tuple[float, ...] = (0.4, 1.6, 6.4)
    sgd_clips: tuple[float, ...] = (0.1, 0.3, 1.0)
    num_seeds: int = 5
    num_train: int = 60_000
    num_held_out: int = 10_000
    methods: tuple[str, ...] = tuple(METHODS)

    def __post_init__(self):
        check.types(self)
        check.positive(num_seeds=self.num_seeds, num_train=self.num_train)
        check.between(1, self.num_train - 1, num_held_out=self.num_held_out)
        for method in self.methods:
            check.one_of(METHODS, method=method)
        for sizes in (self.num_train, self.num_train - self.num_held_out):
            check.divides(batch_size=self.training.batch_size, num_train=sizes)

    def nearest(self, eps: float) -> float:
        """The epsilon whose settings serve for this one."""
        return min(self.tuned_at, key=lambda t: abs(math.log(t / eps)))

    @property
    def grid_size(self) -> int:
        """Settings that each method chooses from."""
        return len(self.learning_rates) * len(self.decays)


class Score(NamedTuple):
    """One training: percent right on test images (held-out ones where settings are chosen)."""

    method: str
    eps: float
    seed: int
    setting: dict[str, float]
    accuracy: float


def noise_table(cfg: StudyConfig, num_train: int | None = None) -> dict[str, float]:
    """DP-SGD's noise multiplier for each number of examples and epsilon of the study.

    Needs dp-accounting; on a machine without it, take this table along (`study(noise=)`).
    """
    whole = num_train or cfg.num_train
    wanted = [(whole, e) for e in cfg.epsilons]
    wanted += [(whole - cfg.num_held_out, e) for e in cfg.tuned_at]
    training = cfg.training
    return {
        _cell(n, e): poisson.calibrate_dpsgd(
            target_eps=e,
            delta=training.delta,
            sampling_rate=training.batch_size / n,
            steps=round(training.epochs * n / training.batch_size),
        )
        for n, e in wanted
    }


def _cell(num: int, eps: float) -> str:
    return f"{num}/{eps:g}"


def convex_config(
    cfg: StudyConfig, num: int, eps: float, setting: Mapping[str, float]
) -> NoisyCGDConfig:
    """The training of a setting, its noise set for epsilon; without noise for `eps = inf`."""
    lr, decay = setting["learning_rate"], setting["decay"]
    sigma = 0.0
    if math.isfinite(eps):
        sigma = privacy.calibrate_noise(
            eps,
            cfg.training.delta,
            contraction=1 - decay,
            num_batches=num // cfg.training.batch_size,
            epochs=cfg.training.epochs,
            adjacency=cfg.training.adjacency,
        )
    return dataclasses.replace(
        cfg.training, learning_rate=lr, l2=decay / lr, noise_multiplier=sigma
    )


def settings(cfg: StudyConfig, method: str) -> list[dict[str, float]]:
    """The grid of a method."""
    if method == "noisy_cgd":
        names, axes = ("learning_rate", "decay"), (cfg.learning_rates, cfg.decays)
    else:
        rates = cfg.network_rates if method == "network" else cfg.logistic_rates
        names, axes = ("learning_rate", "clip_norm"), (rates, cfg.sgd_clips)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*axes)]


def trained(
    cfg: StudyConfig,
    method: str,
    runs: Sequence[tuple[float, int, Mapping[str, float]]],
    data: Data,
    noise: Mapping[str, float],
    seed: int,
    say: Callable[[str], None],
) -> list[Score]:
    """Trains every run (epsilon, seed, setting) at once; scores on `data.test_x`."""
    num, classes = len(data.label), int(data.label.max()) + 1
    keys = [rng.fold(jax.random.key(seed), method, s) for _, s, _ in runs]
    if method == "noisy_cgd":
        model = ConvexReLUConfig(data.x.shape[1], classes, cfg.num_gates)
        cfgs = [convex_config(cfg, num, eps, s) for eps, _, s in runs]
        every = max(e for e in (1, 2, 4, 5, 10) if cfg.training.epochs % e == 0)
        v, u = grid.train_grid(
            keys, data.x, data.label, model, cfgs, epochs_per_call=every, say=say
        )
        right = [
            gating.accuracy(v[i], u[i], data.test_x, data.test_label) for i in range(len(runs))
        ]
        sigmas = [c.noise_multiplier for c in cfgs]
    else:
        hidden = cfg.hidden if method == "network" else 0
        sigmas = [0.0 if math.isinf(eps) else noise[_cell(num, eps)] for eps, _, _ in runs]
        sgd = [
            DPSGDConfig(
                cfg.training.batch_size,
                cfg.training.epochs,
                setting["learning_rate"] / setting["clip_norm"],
                sigma,
                setting["clip_norm"],
                hidden,
                cfg.training.delta,
            )
            for (_, _, setting), sigma in zip(runs, sigmas, strict=True)
        ]
        calls = max(c for c in (1, 2, 4, 5, 10, 20) if sgd[0].num_updates(num) % c == 0)
        params = baseline.train_dpsgd(keys, data.x, data.label, classes, sgd, calls=calls, say=say)
        right = baseline.accuracies(params, hidden, data.test_x, data.test_label, classes)
    return [
        Score(method, eps, s, {**setting, "noise_multiplier": sigma}, value)
        for (eps, s, setting), sigma, value in zip(runs, sigmas, right, strict=True)
    ]


def held_out(cfg: StudyConfig, data: Data) -> Data:
    """The part of the training images that settings are chosen with."""
    cut = cfg.num_train - cfg.num_held_out
    x, label = data.x[: cfg.num_train], data.label[: cfg.num_train]
    return Data(x[:cut], label[:cut], x[cut:], label[cut:])


def study(
    cfg: StudyConfig,
    data: Data,
    folder: Path,
    *,
    seed: int = 0,
    noise: Mapping[str, float] | None = None,
    say: Callable[[str], None] = print,
) -> tuple[list[Score], list[Score]]:
    """Chooses settings, trains, tests; what a phase found is kept in the folder and taken over.

    Args:
      cfg: the experiment.
      data: training and test images.
      folder: of the phases' files.
      seed: of everything.
      noise: `noise_table(cfg)` made elsewhere.
      say: prints a line.

    Returns:
      Scores on held-out images of every setting, and scores on test images.
    """
    kept = data.first(cfg.num_train)
    part = held_out(cfg, kept)
    if noise is None and set(cfg.methods) - {"noisy_cgd"}:
        text = _phase(folder / "noise.json", lambda: json.dumps(noise_table(cfg)))
        noise = json.loads(text)
    table = noise or {}
    tuning: list[Score] = []
    found: list[Score] = []
    for method in cfg.methods:
        grid = [(e, 0, s) for e in cfg.tuned_at for s in settings(cfg, method)]

        def choose(method: str = method, grid: Any = grid) -> str:
            say(f"{METHODS[method]}: {len(grid)} trainings to choose settings")
            return _text(trained(cfg, method, grid, part, table, seed, say))

        chosen = _scores(_phase(folder / f"{method}-tuning.json", choose))
        tuning += chosen
        best = {e: best_setting(chosen, method, e) for e in cfg.tuned_at}
        runs = [(e, s, best[cfg.nearest(e)]) for e in cfg.epsilons for s in range(cfg.num_seeds)]
        runs.append((math.inf, 0, best[max(best)]))

        def test(method: str = method, runs: Any = runs) -> str:
            say(f"{METHODS[method]}: {len(runs)} trainings to test")
            return _text(trained(cfg, method, runs, kept, table, seed + 1, say))

        found += _scores(_phase(folder / f"{method}-test.json", test))
    return tuning, found


def best_setting(scores: Sequence[Score], method: str, eps: float) -> dict[str, float]:
    """The setting of the highest accuracy, without its noise."""
    best = max((s for s in scores if (s.method, s.eps) == (method, eps)), key=lambda s: s.accuracy)
    return {name: value for name, value in best.setting.items() if name != "noise_multiplier"}


def summary(scores: Sequence[Score], method: str, eps: float) -> tuple[float, float]:
    """Mean accuracy over seeds and its standard deviation."""
    values = [s.accuracy for s in scores if (s.method, s.eps) == (method, eps)]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _phase(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        files.write_text(path, make())
    return path.read_text()


def _text(scores: Sequence[Score]) -> str:
    return json.dumps([s._asdict() for s in scores], indent=0)


def _scores(text: str) -> list[Score]:
    return [Score(**row) for row in json.loads(text)]
