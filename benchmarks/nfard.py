"""How long suites take to make, and how well they tell copies, beside other detectors in one run.

The peers (DeepJudge, ModelDiff, IPGuard, SAC, AKH) are written anew in `jaxml.nfard.baselines`: the
published programs need frameworks of their own, and here they meet the same zoo and the same
number of queries. On complete CIFAR-10 the same is measured by `python -m jaxml.nfard.cifar`.
"""

import dataclasses

from jaxml.nfard import recipe, study, zoo
from jaxml.report import timing


def rows(smoke: bool) -> list[timing.Row]:
    """FashionMNIST (or drawn patterns), MLPs; times in alternation, AUC over one zoo."""
    cfg = recipe.TINY if smoke else recipe.RECIPE.scales["laptop"]
    data, _ = recipe.load(cfg)
    built = zoo.build_zoo(cfg.zoo, zoo.shuffled(data, 2), 2, None, lambda text: None)
    cfg = dataclasses.replace(cfg, repeats=1 if smoke else 3)
    measured = study.measure(
        built, data.test, cfg.n_suite, cfg.n_queries, cfg.baselines, cfg.repeats, lambda text: None
    )
    case = f"{data.name} {len(built.entries)} members {cfg.n_queries} queries"
    times = {name: timing.Timing(tuple(s)) for name, s in measured.seconds.items()}
    ours = times.pop("nfard")
    goals = {"deepjudge": 2.0, "ipguard": 20.0}
    found = [
        timing.faster(case, "suite_ms", ours, name, peer, goals[name])
        for name, peer in times.items()
    ]
    mine = measured.evaluations[f"black, {cfg.n_queries} queries"].part(study.counted).score().auc
    for name, result in measured.baselines.items():
        area = result.score.auc
        found.append(timing.Row(case, "auc", "", mine, name, area, mine / area, 1.0))
    return found
