"""What of the survey is re-measured, on real corpora and on published training runs."""

import json
from collections.abc import Callable
from typing import Any

from jaxml.core import files
from jaxml.curate import claims, study
from jaxml.curate.study import StudyConfig
from jaxml.inputs import source
from jaxml.report import figure
from jaxml.report.recipe import Context, Figure, Outcome, Recipe, Table

_PHASES: dict[str, Callable[[StudyConfig, int], dict[str, Any]]] = {
    "planted": study.planted,
    "chinchilla": study.chinchilla,
    "repetition": study.repetition,
    "mixing": study.mixing,
    "resampling": study.resampling,
    "domains": study.domains,
}


def _phase(name: str, cfg: StudyConfig, context: Context) -> dict[str, Any]:
    """What a phase found, from its file if it was done before; missing data is not kept."""
    path = context.folder / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    context.say(name)
    try:
        found = _PHASES[name](cfg, context.seed)
    except source.DataNotFoundError as error:
        return {"missing": str(error)}
    files.write_text(path, json.dumps(found) + "\n")
    return found


def _figures(found: dict[str, dict[str, Any]]) -> list[Figure]:
    out = []
    if "profile" in found["repetition"]:
        grid, values = found["repetition"]["profile"]
        out.append(
            figure.lines(
                "curate-profile",
                "How well the 182 runs fix R_D*",
                "Objective with R_N* at its best; the published fit is at 15.4.",
                {"objective": (grid, values)},
                x="R_D*",
                y="sum of Huber losses",
                log="x",
            )
        )
    if "history" in found["domains"]:
        history = found["domains"]["history"]
        steps = list(range(len(history)))
        series = {
            name: (steps, [row[k] for row in history])
            for k, name in enumerate(found["domains"]["names"])
        }
        out.append(
            figure.lines(
                "curate-doremi",
                "DoReMi's weights while the proxy trains",
                "The answer is their mean.",
                series,
                x="hundredths of the training",
                y="weight",
            )
        )
    return out


def _tables(found: dict[str, dict[str, Any]]) -> list[Table]:
    out = []
    if "minima" in found["repetition"]:
        rows = tuple(
            (f"{rd:.5g}", f"{rn:.5g}", f"{value:.8f}", str(starts))
            for rd, rn, value, starts in found["repetition"]["minima"]
        )
        columns = ("R_D*", "R_N*", "objective", "starts")
        out.append(Table("Local minima of the data-constrained fit", columns, rows))
    if "alpha" in found["domains"]:
        keys = ("names", "alpha", "before", "after")
        rows = tuple(
            (name, f"{alpha:.3f}", f"{before:.3f}", f"{after:.3f}")
            for name, alpha, before, after in zip(*(found["domains"][k] for k in keys), strict=True)
        )
        columns = ("domain", "weight", "loss, reference", "loss, reweighted")
        out.append(Table("One round of DoReMi, nats per byte", columns, rows))
    return out


def byte_model(width: int, num_layers: int, num_heads: int, *, dtype: Any = "float32") -> Any:
    """A TransNormerLLM over bytes: its `LanguageModel`, to show effects of data on training."""
    from jaxml import tnl

    sizes = tnl.TNLConfig(
        256,
        width,
        num_layers,
        num_heads,
        glu_width=max(8 * width // 3 // 64 * 64, 2 * width),
        dtype=dtype,
    )
    return tnl.language_model(sizes)


def run(cfg: StudyConfig, context: Context) -> Outcome:
    """Runs every phase that is not done yet and decides its claims."""
    found = {name: _phase(name, cfg, context) for name in _PHASES}
    decided = [c for name in _PHASES for c in claims.decide(name, found[name], context.scale)]
    return Outcome(decided, figures=_figures(found), tables=_tables(found))


RECIPE = Recipe(
    system="curate",
    title="Data management for LLM training",
    about="Near duplicates planted among real documents, scaling and mixing laws fitted to "
    "published runs, DSIR and DoReMi on real domains.",
    scales={
        "tiny": StudyConfig(20, 4, 12, 5, 300),
        "laptop": StudyConfig(),
    },
    run=run,
)
