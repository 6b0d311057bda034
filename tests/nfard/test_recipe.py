"""The recipe from data to claims, at its smallest; goldens of its configurations."""

from pathlib import Path

import pytest

from jaxml.core import config
from jaxml.nfard import cifar, claims
from jaxml.nfard.config import DetectorConfig
from jaxml.nfard.recipe import RECIPE
from jaxml.report.recipe import Context

GOLDEN = Path(__file__).parent / "golden"
CONFIGS = {"detector": DetectorConfig(), **RECIPE.scales}


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration_is_as_reviewed(name):
    assert config.text(CONFIGS[name]) == (GOLDEN / f"{name}.txt").read_text()


def test_the_zoo_on_cifar_is_as_large_as_asked():
    from jaxml.nfard import zoo

    wanted = zoo.orders(cifar.zoo_config())
    suspects = [o for o in wanted if not o.kind.startswith(("reference", "victim"))]
    independent = [o for o in suspects if not o.source]
    assert len(suspects) >= 60
    assert len(independent) >= 20
    assert sum(o.kind == "same" for o in independent) >= 12  # 6 of each victim's architecture
    assert len({o.seed for o in wanted if o.seed >= 1000}) == len(wanted) - 2


@pytest.mark.slow
def test_recipe_without_data(tmp_path, no_data):
    outcome = RECIPE.run(RECIPE.scales["tiny"], Context("tiny", 0, tmp_path, lambda text: None))
    assert len(outcome.claims) == len(claims.promises("tiny"))
    assert {c.verdict for c in outcome.claims} == {"not_measured"}
    assert all("synthetic images" in c.why for c in outcome.claims)
    assert len(outcome.figures) == 2
    assert len(outcome.tables) == 3
