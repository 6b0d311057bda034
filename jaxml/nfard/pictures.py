"""Tables of a study, and the picture of all distances with the threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxml.nfard import reuse
from jaxml.report import figure
from jaxml.report.recipe import Figure, Table

ABOUT: dict[str, str] = (
    {name: kind.about for name, kind in reuse.KINDS.items()}
    | reuse.ATTACKS
    | reuse.BESIDE
    | reuse.NEGATIVES
)
NAMES = {
    "black": "black-box, contrast (ours)",
    "white": "white-box, neurons + contrast (ours)",
    "black, D_cos": "black-box, D_cos",
    "black, projected": "black-box, projected D_cos",
    "labels only": "labels only, weighed agreement",
    "labels only, plain": "labels only, agreement",
    "deepjudge_jsd": "DeepJudge, JSD",
    "deepjudge_rob": "DeepJudge, robustness",
    "modeldiff_ddv": "ModelDiff, DDV",
    "ipguard": "IPGuard",
    "sac_mistakes": "SAC, mistakes",
    "sac_cutmix": "SAC, CutMix",
    "akh": "AKH, agreement on mistakes",
}


def scores(found: Mapping[str, Any]) -> Table:
    """Every detector: F1 at its calibrated threshold, and AUC by part of the zoo."""
    parts = ("all", "homogeneous", "re-trained", "stolen labels")
    rows = []
    for name, one in found["detectors"].items():
        got = one["scores"]
        rows.append((NAMES.get(name, name), *_cells(got["all"]), *(_area(got[p]) for p in parts)))
    for name, one in found["baselines"].items():
        empty = ("-",) * 3
        rows.append((NAMES[name], *_cells(one["score"]), _area(one["score"]), *empty))
    columns = ("detector", "F1", "precision", "recall", *(f"AUC {p}" for p in parts))
    caption = (
        "Thresholds come from reference models that are not among the suspects; pairs with another "
        "label set and attacked copies are not counted here."
    )
    return Table("Detectors on the zoo", columns, tuple(rows), caption)


def _cells(scored: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{scored[k]:.3f}" for k in ("f1", "precision", "recall"))


def _area(scored: Mapping[str, float] | None) -> str:
    return "-" if scored is None else f"{scored['auc']:.3f}"


def kinds(found: Mapping[str, Any], names: Sequence[str] = ("black", "white")) -> Table:
    """Called reuse, of how many pairs, for each kind and detector."""
    by = {n: found["detectors"][n]["kinds"] for n in names}
    every = dict.fromkeys(k for n in names for k in by[n])

    def cell(name: str, kind: str) -> str:
        pairs, called, *_ = by[name].get(kind, (0, 0))
        return f"{called} of {pairs}" if pairs else "-"

    rows = [(str(ABOUT.get(kind, kind)), *(cell(n, kind) for n in names)) for kind in every]
    return Table("Called reuse", ("kind", *(NAMES[n] for n in names)), tuple(rows))


def members(listed: Sequence[Mapping[str, Any]]) -> Table:
    """Accuracy of every member."""
    rows = tuple(
        (m["name"], m.get("kind", "rejected"), m.get("arch", "-"), f"{m['accuracy']:.2f}")
        for m in listed
    )
    return Table("Members of the zoo", ("name", "kind", "network", "% right"), rows)


def texts(pairs: Sequence[Mapping[str, Any]]) -> Table:
    """Pruned text classifiers and others: accuracy, distance, threshold, verdict."""
    about = {
        "structured": "half of heads and neurons removed, distilled on other sentences",
        "weights": "half of the single weights removed",
        "independent": "independent: same data and architecture, other seed",
    }

    def kind(pair: Mapping[str, Any]) -> str:
        name = pair["suspect"].split("-")[0].rstrip("0123456789")
        stranger = name != "independent" and not pair["reuse"]
        return f"{about[name]}{', of another victim' if stranger else ''}"

    rows = tuple(
        (p["victim"], kind(p), f"{p['accuracy']:.1f}", f"{p['distance']:.3f}",
         f"{p['threshold']:.3f}", f"{p['p']:.2g}", "reuse" if p["verdict"] else "-")
        for p in pairs
    )  # fmt: skip
    columns = ("victim", "suspect", "% right", "distance", "threshold", "p", "called")
    return Table("Pruned language models, black-box", columns, rows)


def distances(id: str, found: Mapping[str, Any], name: str, test: str) -> Figure:
    """Every suspect's distance as a share of its victim's threshold, by kind."""
    groups: dict[str, list[tuple[float, bool]]] = {}
    for pair in found["detectors"][name]["pairs"]:
        if test in pair["tests"]:
            d, tau, _ = pair["tests"][test]
            groups.setdefault(pair["kind"], []).append((d / tau, pair["reuse"]))
    order = [k for k in ABOUT if k in groups][::-1]

    def plot(axes: Any) -> None:
        for y, kind in enumerate(order):
            xs, truth = zip(*groups[kind], strict=True)
            colour = figure.COLOURS[1] if truth[0] else figure.COLOURS[0]
            axes.scatter(xs, [y] * len(xs), s=22, alpha=0.7, color=colour, linewidths=0)
        axes.axvline(1.0, color=figure.INK, lw=1.2, ls="--")
        axes.set_yticks(range(len(order)), [ABOUT[k] for k in order], fontsize=9)
        axes.set(xlabel="distance / threshold (left of the line: called reuse)")
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))

    caption = (
        "A point is a suspect before a victim; orange: it was made from this victim. "
        "The threshold comes from references alone."
    )
    title = f"Distances of all suspects: {NAMES[name]}"
    return figure.draw(id, title, caption, plot, (7.6, 0.27 * len(order) + 1.0))
