"""Tables and figures of accountants and studies."""

import math
from collections.abc import Sequence
from typing import Any

from jaxml.dp import gdp, poisson, study
from jaxml.dp.study import METHODS, Score, StudyConfig
from jaxml.report import figure
from jaxml.report.recipe import Figure, Table


def against_epochs(
    epochs: Sequence[int], decays: Sequence[float], sigma: float, num_batches: int, delta: float
) -> Figure:
    """Epsilon against epochs for every accountant; DP-SGD only where dp-accounting is installed."""

    def eps(mu: float) -> float:
        return gdp.gdp_epsilon(mu, delta)

    ratio = 2 / sigma
    series: dict[str, tuple[list[float], list[float]]] = {
        "every iterate seen": (
            [*epochs],
            [eps(gdp.composition_mu(e, ratio)) for e in epochs],
        )
    }
    for decay in decays:
        values = [eps(gdp.noisy_cgd_mu(1 - decay, num_batches, e, ratio)) for e in epochs]
        series[f"last iterate, ηλ = {decay:g}"] = ([*epochs], values)
    caption = f"sigma = {sigma:g}, {num_batches} batches, delta = {delta:g}, one example replaced."
    try:
        values = [sampled_epsilon(sigma, num_batches, e, delta) for e in epochs]
        series["DP-SGD, Poisson samples"] = ([*epochs], values)
    except ImportError as error:
        caption += f" DP-SGD is not drawn: {error}"

    def plot(axes: Any) -> None:
        for label, (xs, ys) in series.items():
            axes.plot(xs, ys, marker="o", ms=4, label=label)
        axes.set(xlabel="epochs", ylabel="epsilon", xscale="log", yscale="log")
        axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))

    return figure.draw("dp-epochs", "Epsilon against epochs", caption, plot, (7.4, 3.8))


def sampled_epsilon(sigma: float, num_batches: int, epochs: int, delta: float) -> float:
    """DP-SGD's epsilon for as many updates with Poisson samples of the same expected size."""
    return poisson.dpsgd_epsilon(
        sampling_rate=1 / num_batches,
        noise_multiplier=sigma,
        steps=epochs * num_batches,
        delta=delta,
    )


def against_epsilon(name: str, cfg: StudyConfig, scores: Sequence[Score]) -> Figure:
    """Test accuracy against epsilon for every method; dotted: without noise."""

    def plot(axes: Any) -> None:
        for i, method in enumerate(cfg.methods):
            pairs = [study.summary(scores, method, e) for e in cfg.epsilons]
            colour = figure.COLOURS[i]
            axes.errorbar(
                cfg.epsilons,
                [mean for mean, _ in pairs],
                [spread for _, spread in pairs],
                marker="o",
                capsize=3,
                color=colour,
                label=METHODS[method],
            )
            if any(s.method == method and math.isinf(s.eps) for s in scores):
                axes.axhline(study.summary(scores, method, math.inf)[0], ls=":", color=colour)
        axes.set(xlabel="epsilon", ylabel="% right on test images", xscale="log")
        axes.set_xticks(cfg.epsilons, [f"{e:g}" for e in cfg.epsilons])
        axes.minorticks_off()
        axes.legend(fontsize=9)

    caption = (
        f"{cfg.num_seeds} seeds, bars: their deviation; dotted: without noise. Settings chosen on "
        "held-out training images, whose cost is not in epsilon."
    )
    return figure.draw(f"dp-{name}", f"Accuracy against epsilon: {name}", caption, plot)


def accuracies(name: str, cfg: StudyConfig, scores: Sequence[Score]) -> Table:
    """Mean and deviation, a row per method, a column per epsilon."""
    columns = [*cfg.epsilons, math.inf]

    def cell(method: str, eps: float) -> str:
        if not any((s.method, s.eps) == (method, eps) for s in scores):
            return "-"
        mean, spread = study.summary(scores, method, eps)
        return f"{mean:.2f}" if math.isinf(eps) else f"{mean:.2f} ± {spread:.2f}"

    body = tuple((METHODS[m], *(cell(m, e) for e in columns)) for m in cfg.methods)
    heads = ("method", *("no noise" if math.isinf(e) else f"ε = {e:g}" for e in columns))
    caption = f"Percent right on the test images, {cfg.num_seeds} seeds."
    return Table(f"Accuracy by epsilon: {name}", heads, body, caption)


def grids(name: str, cfg: StudyConfig, tuning: Sequence[Score]) -> Table:
    """Every setting tried with its held-out accuracy, best first; marks edges of the grids."""
    rows = []
    for method in cfg.methods:
        every = study.settings(cfg, method)
        for eps in cfg.tuned_at:
            here = [s for s in tuning if (s.method, s.eps) == (method, eps)]
            for rank, score in enumerate(sorted(here, key=lambda s: -s.accuracy)):
                shown = ", ".join(f"{k} {v:g}" for k, v in score.setting.items())
                edge = _on_edge(score.setting, every) if rank == 0 else ""
                rows.append((METHODS[method], f"{eps:g}", shown, f"{score.accuracy:.2f}", edge))
    columns = ("method", "ε", "setting", "held-out %", "chosen, edge of the grid")
    return Table(f"Settings tried: {name}", columns, tuple(rows))


def _on_edge(setting: dict[str, float], every: Sequence[dict[str, float]]) -> str:
    edges = []
    for name in every[0]:
        values = sorted({s[name] for s in every})
        if len(values) > 1 and setting[name] in (values[0], values[-1]):
            edges.append(name)
    return "chosen" + (f"; edge: {', '.join(edges)}" if edges else "")
