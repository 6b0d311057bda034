"""`jaxml curate run`, `dedup`, `filter`, `mix`, `scale` and `plan`."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxml.core import check, files
from jaxml.curate import dsir, duplicates, sample, scale
from jaxml.curate import engine as engines
from jaxml.curate import pipeline as pipelines
from jaxml.curate.dedup import MinHashConfig
from jaxml.curate.pipeline import Pipeline, Stage

type Format = Literal["parquet", "jsonl", "jsonl.gz", "jsonl.zst", "array_record"]
type Paths = Annotated[tuple[Path, ...], tyro.conf.Positional]
type Engine = Literal["local", "daft", "ray"]
type Out = Annotated[Path, tyro.conf.arg(aliases=("-o",))]


def run(
    pipeline: Annotated[Path, tyro.conf.Positional],
    inputs: Paths,
    /,
    out: Out,
    format: Format = "parquet",
    engine: Engine = "local",
    keep_work: bool = False,
) -> None:
    """Runs a pipeline: documents in, documents, removals, quarantine and a data card out.

    The pipeline is TOML: settings, then `[[stage]]` tables with a kind and its settings. A run
    that was stopped goes on with the same command.

    Args:
      pipeline: the TOML file.
      inputs: files (.jsonl, .jsonl.gz, .jsonl.zst, .parquet, .txt, .html, .warc.gz) and folders.
      out: a folder.
      format: of the documents written.
      engine: this process, Daft on this machine, or Ray through Daft (`jaxml[curate-dist]`).
      keep_work: leave the parts of every stage.
    """
    _run(pipelines.load(pipeline), inputs, out, format, engine, keep_work)


def dedup(
    inputs: Paths,
    /,
    out: Out,
    method: Literal["both", "exact", "minhash"] = "both",
    minhash: MinHashConfig = MinHashConfig(),  # noqa: B008
    text_field: str = "text",
    format: Format = "parquet",
    engine: Engine = "local",
) -> None:
    """Removes duplicates; of each group the document with the smallest id stays.

    Args:
      inputs: files and folders.
      out: a folder.
      method: exact copies, near ones by MinHash, or both.
      minhash: bands, rows and shingles.
      text_field: of the input.
      format: of the documents written.
      engine: see `run`.
    """
    kinds = ("exact", "minhash") if method == "both" else (method,)
    settings = {"exact": duplicates.ExactConfig(), "minhash": minhash}
    pipe = Pipeline(tuple(Stage(kind, settings[kind]) for kind in kinds), text_field)
    _run(pipe, inputs, out, format, engine, False)


def filter(
    inputs: Paths,
    /,
    out: Out,
    rules: tuple[str, ...] = ("empty", "gopher_repetition", "gopher_quality", "fineweb"),
    text_field: str = "text",
    format: Format = "parquet",
    engine: Engine = "local",
) -> None:
    """Applies quality rules with their published thresholds; other ones go into a pipeline file.

    Args:
      inputs: files and folders.
      out: a folder.
      rules: empty, unwrap, gopher_quality, gopher_repetition, c4, mc4_paragraphs, fineweb, pii.
      text_field: of the input.
      format: of the documents written.
      engine: see `run`.
    """
    own = [k for k, row in pipelines.TEXT_STAGES.items() if "path" not in row[0].__annotations__]
    for rule in rules:
        check.one_of(own, rules=rule)
    _run(pipelines.of_names(rules, text_field=text_field), inputs, out, format, engine, False)


def _run(
    pipe: Pipeline, inputs: Sequence[Path], out: Path, format: str, engine: str, keep_work: bool
) -> None:
    say = Console(stderr=True).print
    report = engines.run(
        pipe, inputs, out, output_format=format, engine=engine, keep_work=keep_work, say=say
    )
    table = Table("stage", "in", "out", "removed for")
    for stage in report.stages:
        why = ", ".join(f"{reason} {count}" for reason, count in stage["reasons"].items())
        table.add_row(stage["kind"], str(stage["num_in"]), str(stage["num_out"]), why or "-")
    show = Console()
    show.print(table)
    bad = ", ".join(f"{reason} {count}" for reason, count in report.num_bad.items())
    show.print(f"{report.num_read} documents read, {report.num_written} written to {out / 'data'}")
    if bad:
        show.print(f"not readable, set apart in {out / 'quarantine.jsonl'}: {bad}")


def mix(
    inputs: Paths,
    /,
    out: Out,
    target: Path,
    num: int,
    text_field: str = "text",
    seed: int = 0,
    cfg: Annotated[dsir.DsirConfig, tyro.conf.arg(name="")] = dsir.DsirConfig(),  # noqa: B008
) -> None:
    """Draws documents that look like a target, by importance resampling (DSIR), into JSON lines.

    Args:
      inputs: files and folders to draw from.
      out: the file (.jsonl); each line keeps its fields and gets its log weight.
      target: file or folder of texts to look like.
      num: documents to draw.
      text_field: of both.
      seed: of the draw; the noise belongs to the document, not to its place.
      cfg: features and estimates.
    """
    if out.suffix != ".jsonl":
        raise ValueError(f"out must end in .jsonl; got {out}.")
    drawn, rows = sample.draw(
        lambda: sample.documents(inputs, text_field),
        (d.text for d in sample.documents([target], text_field)),
        num,
        seed,
        cfg,
    )
    with files.aside(out) as aside, aside.open("w") as handle:
        for document, weight in rows:
            row = {"id": document.id, "text": document.text, **json.loads(document.meta)}
            handle.write(json.dumps({**row, "logw": weight}, ensure_ascii=False) + "\n")
    print(f"{num} of {drawn.num_eligible} eligible documents ({drawn.num_read} read) "
          f"written to {out}")  # fmt: skip


def _columns(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    wanted = ("n_params", "n_tokens", "n_unique", "loss")
    if not rows or not {"n_params", "n_tokens", "loss"} <= set(rows[0]):
        raise ValueError(f"{path} must have the columns n_params, n_tokens, loss (and n_unique).")
    try:
        return {k: np.array([float(row[k]) for row in rows]) for k in wanted if k in rows[0]}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} must hold numbers: {error}.") from None


def scale_(
    runs: Annotated[Path, tyro.conf.Positional],
    /,
    drop_highest: int = 0,
    bootstrap: int = 0,
) -> None:
    """Fits a scaling law to measured runs and prints every local minimum.

    With a column n_unique the data-constrained law (R_D*, R_N*), else Chinchilla's.

    Args:
      runs: CSV with n_params, n_tokens, loss, and n_unique where data was repeated.
      drop_highest: runs with the highest losses that are left out.
      bootstrap: resampled fits, for standard errors (Chinchilla).
    """
    table = _columns(runs)
    check.between(0, len(table["loss"]) - 1, drop_highest=drop_highest)
    keep = np.sort(np.argsort(table["loss"], kind="stable")[: len(table["loss"]) - drop_highest])
    n, d, loss = (table[name][keep] for name in ("n_params", "n_tokens", "loss"))
    if "n_unique" in table:
        fit = scale.fit_repetition(n, d, table["n_unique"][keep], loss)
        print("R_D*        R_N*        objective     starts")
        for m in fit.minima:
            print(f"{m.params[0]:<11.4f} {m.params[1]:<11.4f} {m.objective:<13.8f} {m.num_starts}")
        first = f"{fit.paper.params[0]:.4f}, {fit.paper.params[1]:.4f}"
        print(f"from the starts of the paper: {first} ({fit.paper.objective:.8f})")
        print("R2: {:.4f} there, {:.4f} at the best, {:.4f} without repetition".format(*fit.r2))
        return
    fit = scale.fit_chinchilla(n, d, loss, num_bootstrap=bootstrap)
    print("A            B            E         alpha     beta      objective     starts")
    for m in fit.minima:
        a, b, e = np.exp(m.params[:3])
        exponents = f"{m.params[3]:<9.5f} {m.params[4]:<9.5f}"
        print(f"{a:<12.5g} {b:<12.5g} {e:<9.5f} {exponents} {m.objective:<13.9f} {m.num_starts}")
    if bootstrap:
        error = np.std(fit.bootstrap, axis=0)
        print("standard errors of ln A, ln B, ln E, alpha, beta:", *(f"{x:.4f}" for x in error))


def plan(
    flops: float,
    unique_tokens: float,
    repeats_tokens: float = scale.PUBLISHED.tokens,
    repeats_params: float = scale.PUBLISHED.params,
) -> None:
    """What to train with a budget when only so many different tokens exist: all local minima.

    Args:
      flops: C = 6 N D.
      unique_tokens: U that there are.
      repeats_tokens: R_D*, the published value by default.
      repeats_params: R_N*.
    """
    check.positive(repeats_tokens=repeats_tokens, repeats_params=repeats_params)
    found = scale.plan(flops, unique_tokens, scale.Repetition(repeats_tokens, repeats_params))
    print("parameters   tokens       epochs   loss")
    for p in found:
        print(f"{p.num_params:<12.4g} {p.num_tokens:<12.4g} {p.num_epochs:<8.2f} {p.loss:.5f}")
