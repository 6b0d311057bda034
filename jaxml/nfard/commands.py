"""`jaxml nfard detect`, `zoo`, `verify` and `table`."""

import importlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table as Grid

from jaxml.core import files, storage
from jaxml.inputs import splits
from jaxml.models.arch import arch_of
from jaxml.nfard import (
    access,
    claims,
    detector,
    evidence,
    measure,
    networks,
    pictures,
    recipe,
    study,
)
from jaxml.nfard import zoo as zoos
from jaxml.nfard.access import Access
from jaxml.nfard.config import DetectorConfig


class _Model(NamedTuple):
    """A file, its access, and the hash of what is in it."""

    name: str
    access: Access
    digest: str


def detect(
    victim: Path,
    suspect: Path,
    references: tuple[Path, ...],
    controls: tuple[Path, ...] = (),
    data: str = "fashion_mnist",
    data_path: Path | None = None,
    apply: str | None = None,
    hard_labels: bool = False,
    cfg: Annotated[DetectorConfig, tyro.conf.arg(name="")] = DetectorConfig(),  # noqa: B008
    evidence_to: Path | None = None,
) -> int:
    """Says whether a model is a copy of the victim.

    Networks are files of arrays whose architecture is read off (an MLP, VGG or ResNet as
    `jaxml.models` lays them out); any other network comes with its function, --apply.

    Args:
      victim: .safetensors, .npz or an orbax folder.
      suspect: the same; or its answers on the test images: a .csv with columns index, p0, p1, ...
        or index, label; or an .npz with probs or labels, and perhaps index.
      references: at least 3 models made without the victim.
      controls: more of them, for the contrast only.
      data: a labelled image set (`jaxml data list`), whose test images are asked about.
      data_path: where it lies, or an npz of images.
      apply: `module:function`, `(variables, uint8 images) -> logits` or `-> (logits, layers)`.
      hard_labels: treat the suspect as one that gives labels only.
      cfg: the detector; its access "black" compares outputs, "white" hidden neurons too.
      evidence_to: a folder for the evidence bundle.

    Returns:
      1 for reuse, 0 otherwise.
    """
    images = _images(data, data_path)
    own = _model(victim, apply, images, cfg)
    others = [_model(path, apply, images, cfg) for path in (*references, *controls)]
    num = len(references)
    other = _suspect(suspect, apply, images, cfg)
    pool = images.test.image
    made = detector.calibrate(
        own.access,
        [m.access for m in others[:num]],
        pool,
        cfg,
        jax.random.key(0),
        [m.access for m in others[num:]],
    )
    answer = other.access(pool, made.suite.rows)
    reading = measure.reading(
        answer._replace(probs=None, hidden=None) if hard_labels else answer, cfg
    )
    verdict = detector.judge(made, reading, cfg)
    say = Console()
    say.print(evidence.as_text(verdict), highlight=False)
    if evidence_to is not None:
        named = {f"victim {own.name}": own.digest, f"suspect {other.name}": other.digest}
        named |= {f"reference {i} {m.name}": m.digest for i, m in enumerate(others)}
        evidence.write(
            evidence_to,
            made,
            reading,
            verdict,
            cfg,
            samples=pool[made.suite.rows],
            models=named,
            num_references=num,
            data=f"{images.name} ({images.where}), test images",
        )
        say.print(f"evidence: {evidence_to}  (check it with `jaxml nfard verify {evidence_to}`)")
    return int(verdict.reuse)


def _images(data: str, path: Path | None) -> splits.Splits:
    if path is not None and path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return splits.load_npz(path, len(arrays["train_label"]), 0)
    from jaxml.inputs import source

    return splits.load(data, dict(source.dataset(data).splits)["train"], 0, path)


def _model(path: Path, apply: str | None, images: splits.Splits, cfg: DetectorConfig) -> _Model:
    variables = storage.load(path)
    digest = evidence.digest(variables)
    layer = cfg.layer if cfg.access == "white" else None
    if apply is not None:
        module, _, name = apply.partition(":")
        function = getattr(importlib.import_module(module), name)
        return _Model(path.name, access.from_params(function, variables, layer=layer), digest)
    norm = variables.pop("norm", None)
    pair = (images.train.mean, images.train.std)
    if norm is not None:
        pair = tuple(tuple(map(float, norm[k])) for k in ("mean", "std"))
    whole: dict[str, Any] = variables if "params" in variables else {"params": variables}
    arch = arch_of(whole["params"], images.test.image.shape[1:])
    function = networks.evaluator(arch, pair)
    given = {"state": {}, **whole}
    return _Model(path.name, access.from_params(function, given, layer=layer), digest)


def _suspect(path: Path, apply: str | None, images: splits.Splits, cfg: DetectorConfig) -> _Model:
    """A network, or a table of answers."""
    table = path.suffix == ".csv"
    if path.suffix == ".npz" and path.exists():
        with np.load(path, allow_pickle=False) as arrays:
            table = "probs" in arrays or "labels" in arrays
    if not table:
        return _model(path, apply, images, cfg)
    return _Model(path.name, access.from_table(path), files.sha256(path) if path.exists() else "")


def zoo(
    action: Annotated[Literal["build", "evaluate"], tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional] = Path("zoo"),
    /,
    preset: Literal["tiny", "laptop", "h100"] = "laptop",
    baselines: bool = False,
    seed: int = 0,
    report: Path | None = None,
) -> None:
    """Builds a Reuse Zoo, or judges every member of one.

    Args:
      action: build trains what the folder lacks; evaluate does too, then judges.
      folder: of members: arrays and accuracies.
      preset: what is in it (tiny, laptop, h100).
      baselines: also run the other detectors.
      seed: of everything.
      report: a folder for numbers and the picture of distances.
    """
    cfg = recipe.RECIPE.scales[preset]
    data, why = recipe.load(cfg)
    say = Console()

    def tell(text: str) -> None:
        say.print(text, highlight=False)

    if why:
        tell(why)
    built = zoos.build_zoo(cfg.zoo, zoos.shuffled(data, seed), seed, folder, tell)
    tell(f"{len(built.entries)} members, {len(built.rejected)} rejected; they lie in {folder}")
    if action == "build":
        return
    names = cfg.baselines if baselines else ()
    measured = study.measure(built, data.test, cfg.n_suite, cfg.n_queries, names, 0, tell)
    found = study.summary(measured) | {"members": study.members(built)}
    show(found, say)
    if report is not None:
        files.write_text(report / "zoo.json", json.dumps(found, indent=1) + "\n")
        picture = pictures.distances("nfard-black", found, "black", "output_contrast")
        files.write_text(report / "distances.svg", picture.svg)
        tell(f"numbers and picture: {report}")


def verify(
    folder: Annotated[Path, tyro.conf.Positional],
    /,
    models: tuple[Path, ...] = (),
) -> int:
    """Computes an evidence bundle's verdict again.

    Args:
      folder: of the bundle.
      models: files whose hashes must be among the recorded ones.

    Returns:
      1 if anything disagrees.
    """
    wrong = evidence.verify(folder, [storage.load(path) for path in models])
    for line in wrong:
        print(line)
    if not wrong:
        print(f"{folder}: hashes, thresholds, distances and verdict agree.")
    return int(bool(wrong))


def table(
    studies: Annotated[tuple[Path, ...], tyro.conf.Positional], /, scale: str = "h100"
) -> None:
    """Prints finished studies and what they decide.

    Args:
      studies: JSON of `python -m jaxml.nfard.cifar`.
      scale: whose marks decide.
    """
    say = Console()
    for path in studies:
        found = json.loads(path.read_text())
        show(found, say)
        for one in claims.decide(found, scale, path.stem):
            value = "-" if one.measured is None else f"{one.measured:.4g}"
            say.print(
                f"{one.verdict:<12} {one.id}: {value} ({one.rule}) {one.why}", highlight=False
            )


def show(found: dict[str, Any], say: Console) -> None:
    """Tables of a study."""
    made = [pictures.scores(found), pictures.kinds(found)]
    for one in made:
        grid = Grid(*one.columns, title=one.title)
        for row in one.rows:
            grid.add_row(*row)
        say.print(grid)
