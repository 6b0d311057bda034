"""Notebooks: the percent file and the .ipynb agree, and every cell runs."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

COLABS = Path(__file__).resolve().parents[1] / "colabs"
NAMES = sorted(p.stem for p in COLABS.glob("*.py"))


def _cells(notebook):
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def test_there_are_notebooks():
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_pair_agrees(name):
    source, made = (jupytext.read(COLABS / f"{name}.{kind}") for kind in ("py", "ipynb"))
    assert _cells(source) == _cells(made), "run `make notebooks`"


@pytest.mark.parametrize("name", NAMES)
def test_no_address_is_made_up(name):
    assert "http" not in (COLABS / f"{name}.py").read_text()


FIRST = "tnl"
"""The notebook that the default suite runs, in haste; all are run whole before they change."""
HASTE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


SHORTER = ("num_steps=120", "num_steps=60")
"""What else differs then: the updates of its training."""


def pictures_of(name, change=("", "")):
    """Runs every cell of a notebook, which raises where one fails; the pictures it shows."""
    notebook = nbformat.read(COLABS / f"{name}.ipynb", as_version=4)
    if change[0]:
        sources = [cell.source for cell in notebook.cells]
        assert sum(change[0] in source for source in sources) == 1
        for cell in notebook.cells:
            cell.source = cell.source.replace(*change)
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(COLABS)}})
    client.execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    return [o for cell in code for o in cell.outputs if "image/png" in o.get("data", {})]


@pytest.mark.filterwarnings("ignore")
def test_every_cell_of_the_first_runs(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", HASTE)
    assert len(pictures_of(FIRST, SHORTER)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_every_cell_runs(name, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # as a reader's machine compiles
    assert len(pictures_of(name)) >= 2
