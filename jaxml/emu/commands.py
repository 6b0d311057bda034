"""`jaxml emu specialize`, `predict`, `embed`, `evaluate` and `table`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxml.core import check, config, files
from jaxml.emu import claims, data, e5, evaluate, pool, train, use
from jaxml.emu import model as models
from jaxml.emu.config import EmuConfig
from jaxml.emu.data import SOURCE, Sentences
from jaxml.emu.encoder import Encoder
from jaxml.emu.rows import Rows
from jaxml.inputs.order import generator

type Name = Literal["use", "e5", "minilm"]
_DEFAULT = EmuConfig()


def specialize(
    train_csv: Annotated[Path, tyro.conf.arg(name="train")],
    cfg: Annotated[EmuConfig, tyro.conf.arg(name="")] = _DEFAULT,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/emu"),
    unlabelled: Path | None = None,
    encoder: Name = "use",
    encoder_path: Path | None = None,
    held_out: float = 0.1,
) -> None:
    """Specialises an encoder with labelled sentences of one language.

    Called again with the same folder and flags after an interruption, it goes on.

    Args:
      train_csv: CSV with columns text and intent, in one language.
      cfg: of the specialisation.
      out: folder of the model.
      unlabelled: CSV with a column text, and language where there are several; None: no
        discriminator and no anchor.
      encoder: use (16 languages), e5 (about 100) or minilm (English).
      encoder_path: its weights, if not an installed package's.
      held_out: share of labelled sentences to calibrate rejection and to score by.
    """
    check.between(0.01, 0.9, held_out=held_out)
    if unlabelled is None:
        cfg = dataclasses.replace(cfg, lambda_adv=0.0, anchor=0.0)
    texts, intents, _ = data.read_csv(train_csv, labelled=True)
    others = {} if unlabelled is None else _by_language(unlabelled)
    found = models.encoder_named(encoder, encoder_path)
    out.mkdir(parents=True, exist_ok=True)
    _same_run(cfg, out)
    _specialise(found, cfg, texts, intents, others, held_out, out)


def _specialise(
    found: Encoder,
    cfg: EmuConfig,
    texts: list[str],
    intents: list[str],
    others: dict[str, list[str]],
    held_out: float,
    out: Path,
) -> None:
    """Trains, writes the model to `out`, prints what it is worth on held-out sentences."""
    names = sorted(set(intents))
    label = np.array([names.index(i) for i in intents], np.int32)
    mine, kept = _split(label, held_out, cfg.seed)
    ids = found.ids(texts)
    if others:
        own = others.pop(SOURCE, [texts[i] for i in mine])
        others = {SOURCE: own, **others}
    pools = {lang: found.ids(part) for lang, part in others.items()}
    many = pool.prepare(found, cfg, ids[mine], label[mine], pools, len(names))
    done = train.fit(found, cfg, many, out / "run")
    model = models.build(found, done, cfg, names, ids[kept])
    models.save(out, model)
    for name, made in (("original", found), ("specialised", model.encoder)):
        u = made.embed(ids)
        right = evaluate.acc_at_1(u[kept], label[kept], u[mine], label[mine])
        print(f"{name}: {right:.1f} % of {len(kept)} held-out sentences by nearest neighbour")
    print(f"written to {out}; try `jaxml emu predict {out} --texts ...`")


def _by_language(path: Path) -> dict[str, list[str]]:
    texts, _, languages = data.read_csv(path, labelled=False)
    found: dict[str, list[str]] = {}
    for text, lang in zip(texts, languages, strict=True):
        found.setdefault(lang or "other", []).append(text)
    return found


def _split(label: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and to hold out, every class in the first."""
    order = generator(seed, "held out").permutation(len(label))
    first = np.array([order[label[order] == k][0] for k in range(int(label.max()) + 1)])
    rest = order[~np.isin(order, first)]
    num = max(int(share * len(label)), 1)
    if len(rest) < num:
        raise ValueError(f"train must have more sentences than intents; got {len(label)}.")
    return np.concatenate([first, rest[num:]]), rest[:num]


def _same_run(cfg: EmuConfig, out: Path) -> None:
    """A folder belongs to one run."""
    path = out / "config.json"
    if path.exists():
        config.check_same(cfg, config.load(EmuConfig, path), out)
    config.save(cfg, path)


def ask(
    model: Annotated[Path, tyro.conf.Positional],
    /,
    texts: Sequence[str] = (),
    csv: Path | None = None,
) -> None:
    """Prints the intent of each sentence, its confidence, and what is out of scope.

    Args:
      model: folder of a specialised model.
      texts: sentences in any language of the encoder.
      csv: more of them, in a column text.
    """
    every = list(texts) + (data.read_csv(csv, labelled=False)[0] if csv else [])
    if not every:
        raise ValueError("texts must hold a sentence; got none (--texts or --csv).")
    for text, found in zip(every, models.predict(models.load(model), every), strict=True):
        said = found.intent or f"out of scope (nearest {found.nearest})"
        print(f"{said}\t{found.confidence:.3f}\t{found.closeness:.3f}\t{text}")


def embed(
    csv: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path = Path("embeddings.npz"),
    model: Path | None = None,
    encoder: Name = "use",
) -> None:
    """Writes normalised embeddings of a CSV's column text as an npz.

    Args:
      csv: sentences.
      out: npz with `embedding` [n, d].
      model: a specialised model; None: the encoder as it is.
      encoder: which, where no model is given.
    """
    texts, _, _ = data.read_csv(csv, labelled=False)
    made = _encoder(model, encoder).embed(texts)
    with files.aside(out) as part, part.open("wb") as handle:
        np.savez(handle, embedding=made)
    print(f"{len(made)} embeddings of width {made.shape[1]} in {out}")


def _encoder(model: Path | None, encoder: Name) -> Encoder:
    return models.encoder_named(encoder) if model is None else models.load(model).encoder


def score(
    csv: Annotated[Path, tyro.conf.Positional],
    /,
    model: Path | None = None,
    encoder: Name = "use",
) -> None:
    """Accuracy of nearest neighbours of labelled sentences, by language.

    Args:
      csv: columns text, intent and language; English (`en`) is the gallery of the others. A column
        of translations is not asked for, so do not give translations of the gallery as queries.
      model: a specialised model; None: the encoder as it is.
      encoder: which, where no model is given.
    """
    texts, intents, languages = data.read_csv(csv, labelled=True)
    names, made = sorted(set(intents)), _encoder(model, encoder)
    part = {}
    for lang in sorted({x or SOURCE for x in languages}, key=lambda x: (x != SOURCE, x)):
        rows = [i for i, x in enumerate(languages) if (x or SOURCE) == lang]
        label = np.array([names.index(intents[i]) for i in rows], np.int32)
        part[lang] = Sentences(tuple(texts[i] for i in rows), label, np.array(rows, np.int32))
    if SOURCE not in part:
        raise ValueError(f"{csv} must have sentences of language {SOURCE}; got {', '.join(part)}.")
    emb = {lang: made.embed(s.text) for lang, s in part.items()}
    shown = Table("language", "n", "within, %", "to English, %")
    for lang, s in evaluate.by_language(emb, part, parallel=False).items():
        mark = "" if lang in made.languages else " (not of the encoder)"
        shown.add_row(lang + mark, str(s.num), f"{s.mono:.1f}", f"{s.cross:.1f}")
    Console(width=100).print(shown)


def table(folder: Annotated[Path, tyro.conf.Positional], /) -> None:
    """Prints a finished study: accuracies by arm and language, and verdicts.

    Args:
      folder: with the rows (`*.jsonl`) of a study, as the recipe or the GPU script writes them.
    """
    from jaxml.emu import pictures

    found = {path.stem: Rows(path) for path in sorted(folder.rglob("*.jsonl"))}
    if not found:
        raise FileNotFoundError(f"{folder} holds no study (no rows in *.jsonl there).")
    say = Console(width=200)
    for name, rows in found.items():
        known = e5.LANGUAGES if name.endswith("-e5") else use.LANGUAGES
        shown = pictures.accuracies(rows, known, name)
        made = Table(*shown.columns, title=shown.title)
        for row in shown.rows:
            made.add_row(*row)
        say.print(made)
    for one in claims.verdicts(found, "study"):
        if one.measured is not None:
            say.print(f"{one.id}: {one.measured:.2f} {one.unit}, {one.rule}: {one.verdict}")
