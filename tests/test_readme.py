"""What the README says is so: its example runs, its block adds a system, its table is complete."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxml import SYSTEMS
from jaxml.cli import GROUPS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_example_runs(capsys):
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "(1, 8)\n"


def test_the_table_names_every_system_as_the_library_does():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    assert [(name, about) for name, about, _ in rows] == list(SYSTEMS.items())
    for name, _, status in rows:
        assert (status == "planned") == (name not in GROUPS)


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_pictures_are_drawn_from_the_results():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import picture

    for name in picture.PICTURES:
        assert (picture.RESULTS / f"{name}.svg").read_text() == picture.svg(name), name


@pytest.fixture
def copy(tmp_path):
    """The checkout without its history and its environment."""
    target = tmp_path / "jaxml"
    kept = ("jaxml", "kernels", "benchmarks", "pyproject.toml", "README.md")

    def skip(folder, names):
        wanted = kept if Path(folder) == ROOT else names
        return {n for n in names if n not in wanted or n == "__pycache__"}

    shutil.copytree(ROOT, target, ignore=skip)
    return target


def test_the_block_adds_a_system(copy, tmp_path):
    block = README.split("<!-- add a system -->\n```bash\n")[1].split("\n```\n")[0]
    assert len(block.splitlines()) <= 32
    programs = tmp_path / "bin"
    programs.mkdir()
    command = programs / "jaxml"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jaxml.cli "$@"\n')
    command.chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'kernels'}",
        "XLA_FLAGS": "",
    }
    run = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(run, cwd=copy, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    claims = json.loads((copy / "report/results.json").read_text())["claims"]
    assert [(c["system"], c["verdict"]) for c in claims] == [("toy", "holds")]
    assert abs(claims[0]["measured"] - 3.14159) < 0.01
    listing = subprocess.run(
        [str(command), "list"], cwd=copy, env=env, capture_output=True, text=True
    )
    assert "toy" in listing.stdout, listing.stderr
