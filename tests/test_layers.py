"""Who may import whom: the rules of the house, read off the source."""

import ast
from pathlib import Path

import pytest

from jaxml import SYSTEMS

ROOT = Path(__file__).resolve().parents[1]
KERNELS = "jaxml_kernels"
MAY_IMPORT = {
    "core": {"core"},
    "nn": {"core", "nn", KERNELS},
    "dist": {"core", "dist"},
    "inputs": {"core", "inputs"},
    "report": {"core", "report"},
    "models": {"core", "nn", "models"},
    "train": {"core", "dist", "train"},
}
SHARED = set(MAY_IMPORT) | {KERNELS}
ANYTHING = {"cli", "commands", "interop", "__init__", "version"}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            if node.module == "jaxml":
                yield from ((f"jaxml.{alias.name}", node.lineno) for alias in node.names)


def _part(module):
    words = module.split(".")
    if words[0] == KERNELS:
        return KERNELS
    return words[1] if words[0] == "jaxml" and len(words) > 1 else None


def broken_rules(root):
    """Every line that imports what its room may not."""
    found = []
    for path in sorted((root / "jaxml").rglob("*.py")):
        room = path.relative_to(root / "jaxml").parts[0].removesuffix(".py")
        if room in ANYTHING:
            continue
        allowed = MAY_IMPORT.get(room, SHARED | {room})
        if path.name == "recipe.py" and room not in MAY_IMPORT:
            allowed = allowed | set(SYSTEMS)
        for module, line in _imports(path):
            part = _part(module)
            if part not in (None, "version", *allowed):
                found.append(f"{path.relative_to(root)}:{line}: {room} may not import {module}")
    for path in sorted((root / "kernels").rglob("*.py")):
        for module, line in _imports(path):
            if module.split(".")[0] in ("jaxml", "flax", "optax"):
                found.append(
                    f"{path.relative_to(root)}:{line}: kernels know jax only, not {module}"
                )
    return found


def test_imports_follow_the_rules():
    assert broken_rules(ROOT) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("jaxml/core/bad.py", "from jaxml.nn import linear"),
        ("jaxml/jsp/bad.py", "import jaxml.tnl.model"),
        ("jaxml/jsp/bad.py", "from jaxml import tnl"),
        ("kernels/jaxml_kernels/bad.py", "from jaxml.core import check"),
    ],
)
def test_a_broken_rule_is_named(tmp_path, path, line):
    target = tmp_path / path
    target.parent.mkdir(parents=True)
    (tmp_path / "kernels").mkdir(exist_ok=True)
    target.write_text(f"import jax\n{line}\n")
    assert [row.split(":")[:2] for row in broken_rules(tmp_path)] == [[path, "2"]]


def test_a_recipe_may_use_another_system(tmp_path):
    target = tmp_path / "jaxml/jsp/recipe.py"
    target.parent.mkdir(parents=True)
    target.write_text("from jaxml.tnl import model\n")
    assert broken_rules(tmp_path) == []
