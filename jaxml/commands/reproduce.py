"""`jaxml reproduce`: run recipes, write the page."""

import hashlib
import importlib
import importlib.util
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from jaxml import SYSTEMS
from jaxml.core import check, config, files
from jaxml.report import environment, page
from jaxml.report.recipe import Context, Outcome, Recipe, load, save


def recipes(systems: Sequence[str]) -> list[Recipe]:
    """The recipes of the systems named, or of all that have one.

    Raises:
      ValueError: an unknown system, or one that is not built.
    """
    for system in systems:
        check.one_of(SYSTEMS, system=system)
    found = []
    for system in systems or SYSTEMS:
        if importlib.util.find_spec(f"jaxml.{system}") is None or (
            importlib.util.find_spec(f"jaxml.{system}.recipe") is None
        ):
            if systems:
                raise ValueError(f"{system} has no recipe yet; `jaxml list` shows what is built.")
            continue
        found.append(importlib.import_module(f"jaxml.{system}.recipe").RECIPE)
    return found


def _fingerprint(recipe: Recipe, scale: str, seed: int) -> str:
    """Changes with the configuration, the seed, or any line of this library."""
    digest = hashlib.sha256(f"{recipe.system} {scale} {seed}".encode())
    digest.update(config.fingerprint(recipe.scales[scale]).encode())
    package = Path(__file__).resolve().parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run_one(recipe: Recipe, scale: str, seed: int, out: Path, say: Console) -> page.Part:
    """Runs a recipe, or takes the outcome of the same run; an error becomes part of the page."""
    settings = config.fingerprint(recipe.scales[scale])
    folder = out / "runs" / f"{recipe.system}-{scale}-{seed}-{settings}"
    fingerprint = _fingerprint(recipe, scale, seed)
    if (known := load(folder / "outcome.json", fingerprint)) is not None:
        say.print(f"[bold]{recipe.system}[/]: nothing changed, taking the outcome from {folder}")
        return page.Part(recipe, *known)
    say.print(f"[bold]{recipe.system}[/]: {recipe.about}")
    context = Context(scale, seed, folder, lambda text: say.print(f"  {text}", highlight=False))
    start = time.monotonic()
    try:
        with files.lock(folder):
            outcome = recipe.run(recipe.scales[scale], context)
            wall_s = time.monotonic() - start
            if outcome.kept:
                save(outcome, fingerprint, wall_s, folder / "outcome.json")
    except (KeyboardInterrupt, files.FolderInUseError):
        raise
    except Exception as error:
        files.write_text(folder / "error.txt", traceback.format_exc())
        say.print(f"  [red]stopped[/]: {error} (see {folder / 'error.txt'})")
        message = f"{type(error).__name__}: {error}"
        return page.Part(recipe, Outcome([]), time.monotonic() - start, message)
    return page.Part(recipe, outcome, wall_s)


def main(
    systems: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    scale: Literal["tiny", "laptop", "h100"] = "laptop",
    out: Path = Path("report"),
    seed: int = 0,
) -> int:
    """Re-measures the claims of published papers and writes a page.

    A run that was interrupted goes on where it stopped; one that is unchanged is not run again.

    Args:
      systems: which systems (default: all that are built).
      scale: "laptop" takes minutes on two cores, "h100" needs such a GPU, "tiny" only checks that
        everything runs.
      out: folder of index.html, results.json and the runs.
      seed: of all randomness.

    Returns:
      1 if a recipe stopped with an error, else 0: a claim that fails is a result.
    """
    say = Console()
    chosen = [recipe for recipe in recipes(systems) if scale in recipe.scales]
    if not chosen:
        raise ValueError(f"no recipe among {', '.join(systems) or 'all'} has scale {scale!r}.")
    _keep_compiled(out / "compiled")
    about = environment.describe()
    parts = []
    for recipe in chosen:
        parts.append(run_one(recipe, scale, seed, out, say))
        written = page.write(parts, about, out)
    say.print(_summary(parts))
    say.print(f"page: {written}   numbers: {out / 'results.json'}")
    return int(any(part.error for part in parts))


def _keep_compiled(folder: Path) -> None:
    """Programs compiled once serve every run of the same shapes, also after an interruption."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _summary(parts: Sequence[page.Part]) -> Table:
    table = Table("system", "claim", "paper", "here", "verdict")
    colour = {"holds": "green", "fails": "red", "not_measured": "yellow"}
    for part in parts:
        for claim in part.outcome.claims:
            measured = page.number(claim.measured, claim.spread)
            verdict = f"[{colour[claim.verdict]}]{page.WORDS[claim.verdict]}[/]"
            unit = claim.unit if claim.measured is not None else ""
            table.add_row(
                claim.system, claim.paper_words, claim.paper, f"{measured} {unit}", verdict
            )
    return table
