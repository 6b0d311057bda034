"""The recipe as a user runs it, and its interactive page in headless Chromium."""

import json
import re

import jax
import numpy as np
import pytest

from jaxml.chiplet import brute, explorer, presets
from jaxml.chiplet.recipe import RECIPE
from jaxml.chiplet.simulate import simulate
from jaxml.report.recipe import Context
from tests.report.test_page_in_browser import CHROMIUM, _chromium

METHODS = ("flat_ring", "hecaton")


@pytest.fixture(scope="module")
def data():
    return explorer.compute(methods=METHODS)


def test_the_page_holds_what_the_model_says(data):
    mesh, band, sram = data["start"]
    index = (mesh * len(data["bandwidths"]) + band) * len(data["sram"]) + sram
    for method in METHODS:
        with jax.disable_jit():
            want = simulate(presets.MODELS[data["model"]], presets.paper_v1(), method=method)
        assert data["values"][method]["time_s"][index] == pytest.approx(
            float(want.time_s), rel=1e-3
        )
    assert len(data["values"]["hecaton"]["time_s"]) == 7 * 9 * 6


def test_the_page_is_one_file(data):
    text = explorer.page(data)
    assert "/*DATA*/" not in text and "src=" not in text and "http" not in text
    figure = explorer.figure(data)
    assert figure.svg.startswith("<iframe") and "<script" not in figure.svg


PROBE = """<script>
const before = document.getElementById("speedup").textContent;
const slider = document.getElementById("bandwidth");
slider.value = slider.max;
slider.dispatchEvent(new Event("input"));
document.title = "PROBE" + JSON.stringify({before, after:
  document.getElementById("speedup").textContent, bottleneck:
  document.getElementById("bottleneck").textContent, rows: document.querySelectorAll(".row").length,
  wide: document.documentElement.scrollWidth > window.innerWidth + 1,
  bar: document.querySelector(".bar i").getBoundingClientRect().width});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("size", ["1000,700", "420,900"])
def test_moving_a_slider_moves_the_answer(data, tmp_path, size):
    path = tmp_path / "explorer.html"
    path.write_text(explorer.page(data).replace("</body>", PROBE + "</body>"))
    done = _chromium(tmp_path, f"--window-size={size}", "--dump-dom", path.as_uri())
    found = re.search(r"PROBE(\{.*?\})</title>", done.stdout)
    assert found, done.stderr[-2000:]
    seen = json.loads(found[1].replace("&quot;", '"'))
    assert seen["before"] == "4.89 x" and seen["after"] != seen["before"]
    assert seen["bottleneck"] == "compute"  # at 256 GB/s; the links before
    assert seen["rows"] == len(METHODS) and seen["bar"] > 10 and not seen["wide"]
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


def test_brute_force_agrees():
    assert brute.largest_difference() < 1e-9


@pytest.mark.slow
def test_recipe_at_its_smallest_scale(tmp_path, no_data):
    said = []
    outcome = RECIPE.run(RECIPE.scales["tiny"], Context("tiny", 0, tmp_path, said.append))
    verdicts = {c.id: c.verdict for c in outcome.claims}
    assert verdicts["time-70b"] == verdicts["energy-70b"] == "holds"
    assert verdicts["time-405b"] == verdicts["energy-405b"] == "fails"
    titles = " ".join(table.title for table in outcome.tables)
    for part in ("What is calibrated", "all methods", "Sensitivity", "growing together"):
        assert part in titles
    assert "Closed forms against measured kernels" not in titles  # its data is not there
    scaling = next(t for t in outcome.tables if "growing together" in t.title)
    first = {row[0]: row for row in scaling.rows}["bert-large"]
    assert first[1] == "16" and float(first[2]) < 1
    assert (tmp_path / "explorer.html").stat().st_size > 50_000
    assert len({f.id for f in outcome.figures}) == len(outcome.figures) >= 8
    assert np.isfinite([c.measured for c in outcome.claims]).all()
