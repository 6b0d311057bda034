"""The page as a reader sees it: headless Chromium, wide and narrow, light and dark."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jaxml.report import environment, figure, page
from jaxml.report.recipe import Recipe
from tests.report.test_report import _outcome

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--log-level=0",
    "--virtual-time-budget=2000",
]
PROBE = """
<script>
window.addEventListener("load", () => {
  const seen = [...document.querySelectorAll("figure svg")].map(svg => {
    const box = svg.getBoundingClientRect();
    const inked = [...svg.querySelectorAll("path")].some(p => p.getBoundingClientRect().width > 20);
    return {width: box.width, height: box.height, inked};
  });
  const wide = document.documentElement.scrollWidth > window.innerWidth + 1;
  document.title = "PROBE" + JSON.stringify({seen, wide, rows: document.querySelectorAll(
    "table.claims tbody tr").length});
});
</script>
"""


def _chromium(tmp_path, *flags):
    profile = tmp_path / "profile"
    run = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *flags]
    return subprocess.run(run, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("size", ["1200,1000", "500,1400"])
def test_the_page_shows_its_figures_without_errors(tmp_path, size):
    recipe = Recipe("toy", "Toy", "About.", {}, lambda c, x: _outcome())
    outcome = _outcome()
    two = figure.lines("two", "Two", "More", {"b": ([1, 8], [2, 3])}, x="x", y="y", log="xy")
    outcome = type(outcome)(**{**vars(outcome), "figures": [*outcome.figures, two]})
    path = page.write([page.Part(recipe, outcome, 1.0)], environment.describe(), tmp_path)
    probed = tmp_path / "probed.html"
    probed.write_text(path.read_text().replace("</body>", PROBE + "</body>"))
    done = _chromium(tmp_path, f"--window-size={size}", "--dump-dom", probed.as_uri())
    found = re.search(r"PROBE(\{.*?\})</title>", done.stdout)
    assert found, done.stderr[-2000:]
    report = json.loads(found[1].replace("&quot;", '"'))
    assert report["rows"] == 2
    assert len(report["seen"]) == 2
    assert all(f["width"] > 200 and f["height"] > 100 and f["inked"] for f in report["seen"])
    assert not report["wide"], "the page scrolls sideways"
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    shot = Path(os.environ.get("JAXML_SCREENSHOTS", tmp_path)) / f"page-{size.split(',')[0]}.png"
    _chromium(tmp_path, f"--window-size={size}", f"--screenshot={shot}", path.as_uri())
    assert shot.stat().st_size > 10_000
