"""What is promised of forecasts, fixed before anything was measured on the tested scenes."""

from collections.abc import Mapping

from jaxml.driving.prediction.evaluate import Scores
from jaxml.driving.prediction.vehicles import Scores as VehicleScores
from jaxml.report.claim import Claim, Promise, Rule, Source, at_least, at_most, between

VEHICLES = "Vehicles on KITTI validation drives, one path: the first mode"
SCENES = "ETH/UCY, five scenes left out in turn"


def _promise(
    id: str, words: str, paper: str, source: Source, unit: str, rule: Rule
) -> Promise:  # fmt: skip
    return Promise("driving", id, words, paper, source, unit, rule)


def _published() -> tuple[Promise, ...]:
    return (
        _promise("velocity-ade", "Constant velocity on ETH/UCY", "direction only", "none",
                 "m, mean ADE", between(0.518, 0.522, "0.52 by an independent computation")),
        _promise("velocity-fde", "Constant velocity on ETH/UCY", "direction only", "none",
                 "m, mean FDE", between(1.138, 1.142, "1.14 by an independent computation")),
        _promise("best-ade", "Best of 20, each agent by itself (EigenTrajectory)", "0.21", "read",
                 "m, mean minADE", at_most(0.22)),
        _promise("best-fde", "Best of 20, each agent by itself (EigenTrajectory)", "0.34", "read",
                 "m, mean minFDE", at_most(0.38)),
        _promise("likely-ade", "The most likely path is no worse than constant velocity", "none",
                 "none", "m, mean ADE", at_most(0.52)),
        _promise("likely-fde", "The most likely path is no worse than constant velocity", "none",
                 "none", "m, mean FDE", at_most(1.14)),
        _promise("single-ade", "The path of least expected error beats constant velocity",
                 "none", "none", "m, mean ADE", at_most(0.52, "defined after likely-ade was seen")),
        _promise("single-fde", "The path of least expected error beats constant velocity",
                 "none", "none", "m, mean FDE", at_most(1.14, "defined after likely-fde was seen")),
        _promise("anchors", "Best of 20 proves little: anchors alone, nothing learnt, reach it",
                 "0.23 (AgentFormer, corrected)", "read", "m, mean minADE", at_most(0.24)),
    )  # fmt: skip


def _own() -> tuple[Promise, ...]:
    return (
        _promise("likely-gain", "The most likely path beats constant velocity", "none", "none",
                 "% of its mean FDE", at_least(0.0, "8 asked of the run at full size")),
        _promise("leak", "A future of NaN changes no forecast", "direction only", "second-hand",
                 "m, largest change of a path", at_most(0.0)),
        _promise("vehicle-ade", VEHICLES, "none", "none",
                 "m, mean ADE", at_most(0.95, "constant velocity 1.00")),
        _promise("vehicle-fde", VEHICLES, "none", "none",
                 "m, mean FDE", at_most(2.2, "constant velocity 2.32")),
    )  # fmt: skip


PROMISES = {p.id: p for p in (*_published(), *_own())}


def missing(why: str, scale: str) -> list[Claim]:
    """All claims of a machine without the recordings."""
    return [p.missing(why, scale) for p in PROMISES.values()]


def pedestrians(rows: Mapping[str, Scores], leak: float, scale: str) -> list[Claim]:
    """Claims of the means over scenes.

    Args:
      rows: "velocity", "line", "anchors" and "model".
      leak: largest change of a path when the future is NaN, metres.
      scale: of the run.
    """
    model, velocity = rows["model"], rows["velocity"]
    gain = 100 * (1 - model.ml_fde / velocity.ml_fde)
    about = f"{SCENES}; constant velocity {velocity.ml_ade:.3f}/{velocity.ml_fde:.3f}"
    scene = f"{about}; by Social-GAN's scene minimum {model.scene_ade:.3f}/{model.scene_fde:.3f}"
    values = {
        "velocity-ade": (velocity.ml_ade, SCENES), "velocity-fde": (velocity.ml_fde, SCENES),
        "best-ade": (model.min_ade, scene), "best-fde": (model.min_fde, scene),
        "likely-ade": (model.ml_ade, about), "likely-fde": (model.ml_fde, about),
        "single-ade": (model.single_ade, about), "single-fde": (model.single_fde, about),
        "anchors": (rows["anchors"].min_ade, SCENES), "likely-gain": (gain, about),
        "leak": (leak, "all scenes"),
    }  # fmt: skip
    return [PROMISES[n].measured(v, scale, why=why) for n, (v, why) in values.items()]


def vehicles(
    found: VehicleScores, velocity: Mapping[str, float], alone: tuple[float, float], scale: str
) -> list[Claim]:
    """Claims of KITTI's validation drives.

    Args:
      found: scores there.
      velocity: errors of constant velocity there, by name.
      alone: ADE and FDE of the motion layer on training drives that it was not fitted to.
      scale: of the run.
    """
    told = ", ".join(f"{name} {value:.3f}" for name, value in velocity.items())
    about = (
        f"{found.num_agents} windows; constant velocity: {told} (last step: the better row); most "
        f"likely mode {found.ml_ade:.3f}/{found.ml_fde:.3f}, best of all "
        f"{found.min_ade:.3f}/{found.min_fde:.3f}, {found.nll:.2f} nats; the first mode across "
        f"training drives {alone[0]:.3f}/{alone[1]:.3f}"
    )
    return [
        PROMISES["vehicle-ade"].measured(found.single_ade, scale, why=about),
        PROMISES["vehicle-fde"].measured(found.single_fde, scale, why=about),
    ]
