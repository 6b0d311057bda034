"""Measurements of the recipe: duplicates, scaling laws, mixing laws, resampling, DoReMi."""

import csv
import dataclasses
import io
import json
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core.types import Array, PyTree
from jaxml.curate import classify, dedup, doremi, dsir, mixlaw, scale, training
from jaxml.curate import text as texts_
from jaxml.inputs import source
from jaxml.inputs import text as inputs_text


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Sizes of one scale of the recipe.

    Attributes:
      num_planted: documents that get a changed copy.
      num_starts: of each mixing law.
      per_domain: documents of each domain for resampling and the classifier.
      num_steps: of each DoReMi training.
      num_grid: every how many-th start of Chinchilla's grid is used.
    """

    num_planted: int = 400
    num_starts: int = 32
    per_domain: int = 120
    num_steps: int = 1000
    num_grid: int = 1


def corpus(domains: Sequence[str]) -> dict[str, list[str]]:
    """Documents of the corpus by domain, in its order.

    Raises:
      DataNotFoundError: the corpus is not there.
    """
    out: dict[str, list[str]] = {name: [] for name in domains}
    rows = source.records("corpus", "train")
    for i in range(len(rows)):
        row = rows[i]
        if row["domain"] in out:
            out[row["domain"]].append(row["text"])
    return out


def planted(cfg: StudyConfig, seed: int) -> dict[str, Any]:
    """Recall of near duplicates planted among real documents, and strangers that were linked."""
    try:
        found, where = corpus(("essays", "fiction", "docs_python")), "corpus"
        raw = [t for texts in found.values() for t in texts]
    except source.DataNotFoundError:
        raw, where = list(inputs_text.python_text().train), "python"
    long = [w for w in (texts_.normalise(t).split()[:300] for t in raw) if len(w) == 300]
    rng = np.random.default_rng(seed)
    docs = []
    for words in (long[i] for i in rng.permutation(len(long))[: cfg.num_planted]):
        changed = np.array(words, object)
        changed[rng.choice(300, rng.integers(0, 25), replace=False)] = "changed"
        docs += [" ".join(words), " ".join(changed)]
    packed = texts_.pack(docs)
    shingles = texts_.shingle(packed)
    edges = dedup.lsh_edges(dedup.minhash(packed))
    pairs = np.arange(len(docs), dtype=np.int32).reshape(-1, 2)
    truth = dedup.jaccard(shingles, pairs)
    linked = {tuple(edge) for edge in edges.tolist()}
    hit = np.array([tuple(pair) in linked for pair in pairs.tolist()])
    near, very = truth >= 0.8, truth >= 0.9
    return {
        "where": where,
        "num_very": int(very.sum()),
        "num_near": int(near.sum()),
        "recall_90": float(hit[very].mean()),
        "recall_80": float(hit[near].mean()),
        "least": float(dedup.jaccard(shingles, edges).min()),
    }


def _csv(name: str) -> dict[str, np.ndarray]:
    located = source.find(name)
    content = source.read(located, source.dataset(name).files[0]).decode()
    rows = list(csv.DictReader(io.StringIO(content)))
    return {k: np.array([float(row[k]) for row in rows]) for k in rows[0] if k != "name"}


def chinchilla(cfg: StudyConfig, seed: int) -> dict[str, Any]:
    """The fit of the 240 runs with the lowest losses."""
    runs = _csv("chinchilla_runs")
    keep = np.sort(np.argsort(runs["loss"], kind="stable")[:-5])
    columns = [runs[name][keep] for name in ("n_params", "n_tokens", "loss")]
    start = time.monotonic()
    fit = scale.fit_chinchilla(*columns, starts=scale.GRID[:: cfg.num_grid])
    n, d = fit.law.optimum(5.76e23)
    a, b, e = np.exp(fit.law[:3])
    return {
        "seconds": time.monotonic() - start,
        "objective": fit.objective,
        "ratio": d / n,
        "law": [float(x) for x in (a, b, e, fit.law.alpha, fit.law.beta)],
    }


def repetition(cfg: StudyConfig, seed: int) -> dict[str, Any]:
    """The fit of the 182 runs with repeated data, from the paper's starts and from all."""
    runs = _csv("data_constrained_runs")
    fit = scale.fit_repetition(runs["n_params"], runs["n_tokens"], runs["n_unique"], runs["loss"])
    grid = np.geomspace(6, 200, 40)
    best = scale.plan(1e22, 25e9)[0]
    return {
        "paper": [*fit.paper.params.tolist(), fit.paper.objective],
        "minima": [[*m.params.tolist(), m.objective, m.num_starts] for m in fit.minima[:8]],
        "r2": list(fit.r2),
        "plan_tokens": best.num_tokens,
        "plan_epochs": best.num_epochs,
        "profile": [grid.tolist(), [_profile(runs, float(r)) for r in grid]],
    }


def _profile(runs: dict[str, np.ndarray], tokens: float) -> float:
    """The objective at one R_D*, least over a grid of R_N*."""

    def objective(params: float) -> float:
        sizes = (runs["n_params"], runs["n_tokens"], runs["n_unique"])
        loss = scale.constrained_loss(*sizes, scale.Repetition(tokens, params))
        size = np.abs(np.log(loss) - np.log(runs["loss"]))
        inner = np.where(size <= scale.DELTA, size**2 / 2, scale.DELTA * (size - scale.DELTA / 2))
        return float(inner.sum())

    return min(objective(float(r)) for r in np.geomspace(0.8, 12, 40))


def mixing(cfg: StudyConfig, seed: int) -> dict[str, Any]:
    """Mixing laws of the 70M models at step 30,000: six runs predicted from the others."""
    import pyarrow.parquet

    located = source.find("mixing_law_runs")
    wanted = {f.name: f for f in source.dataset("mixing_law_runs").files}
    table = source.read(located, wanted["mixing_law_runs.parquet"])
    share = json.loads(source.read(located, wanted["mixing_law_valid_weight.json"]))
    rows = pyarrow.parquet.read_table(io.BytesIO(table)).to_pylist()
    out: dict[str, Any] = {}
    for family in ("5Mix", "RedPajama"):
        mixtures, losses, names = _runs_of(rows, family)
        held = np.random.default_rng(seed).permutation(len(mixtures)) < 6
        law = mixlaw.fit_mixing_law(
            mixtures[~held], losses[~held], num_starts=cfg.num_starts, seed=seed
        )
        weight = np.array([share.get(name, 0.0) for name in names])
        weight = weight / weight.sum() if weight.sum() else np.full(len(names), 1 / len(names))
        gap = law.overall(mixtures[held], weight) - losses[held] @ weight
        out[family] = {
            "error": float(np.abs(gap).mean()),
            "spread": float(np.ptp(losses @ weight)),
            "highest": float(law.losses(np.eye(mixtures.shape[1])).max()),
            "num_fit": int((~held).sum()),
        }
    return out


def _runs_of(rows: list[dict], family: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    of: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["family"] == family and row["size"] == "70M" and row["step"] == 30_000:
            of.setdefault(row["mixture"], {})[row["domain"]] = row["loss"]
    names = sorted({name for losses in of.values() for name in losses})
    full = [mixture for mixture in sorted(of) if len(of[mixture]) == len(names)]
    mixtures = np.array([[float(part) for part in m.split("-")] for m in full])
    losses = np.array([[of[m][name] for name in names] for m in full])
    return mixtures / mixtures.sum(1, keepdims=True), losses, names


_DOMAINS = ("docs_python", "docs_postgres", "docs_perl", "man_en", "essays")


def resampling(cfg: StudyConfig, seed: int) -> dict[str, Any]:
    """How many of the 60 drawn by DSIR are of the target's domain, and a classifier's AUC."""
    found = corpus(_DOMAINS)
    raw = [(name, t) for name in _DOMAINS for t in found[name][: cfg.per_domain]]
    target = found["docs_postgres"][-cfg.per_domain :]
    model = dsir.dsir_fit([t for _, t in raw], target)
    logw = dsir.dsir_weights(model, [t for _, t in raw])
    num = min(60, cfg.per_domain // 2)
    chosen = dsir.gumbel_top_k(jax.random.key(seed), logw, num)
    hits = sum(raw[i][0] == "docs_postgres" for i in chosen)
    pair = [found["essays"], found["docs_perl"]]
    train, test = ([texts[half::2][: cfg.per_domain] for texts in pair] for half in (0, 1))
    labels = np.repeat([0, 1], [len(t) for t in train])
    fitted = classify.fit([t for texts in train for t in texts], labels, jax.random.key(seed))
    score = [classify.score(fitted, texts)[:, 1] for texts in test]
    above = score[1][:, None] - score[0][None]
    return {"hits": hits * 60 / num, "auc": float(np.mean((above > 0) + 0.5 * (above == 0)))}


_CONTEXT = 12


def byte_mlp(key: jax.Array, width: int = 128) -> PyTree:
    """A network that reads 12 bytes and predicts the next."""
    keys = jax.random.split(key, 3)
    return {
        "embed": 0.1 * jax.random.normal(keys[0], (256, 16)),
        "hidden": jax.random.normal(keys[1], (_CONTEXT * 16, width)) / np.sqrt(_CONTEXT * 16),
        "out": 0.1 * jax.random.normal(keys[2], (width, 256)),
    }


def byte_loss(params: PyTree, rows_bt: Array) -> Array:
    """Loss of every byte behind the first 12: [b, t - 12]."""
    num = rows_bt.shape[1] - _CONTEXT
    places = jnp.arange(num)[:, None] + jnp.arange(_CONTEXT)[None]
    vectors = params["embed"][rows_bt[:, places]].reshape(rows_bt.shape[0], num, -1)
    logits = jax.nn.relu(vectors @ params["hidden"]) @ params["out"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, rows_bt[:, _CONTEXT:])


def _windows(texts: Sequence[str], length: int = 44) -> np.ndarray:
    flat = np.frombuffer("\n".join(texts).encode(), np.uint8)[:600_000]
    return flat[: len(flat) // length * length].reshape(-1, length).astype(np.int32)


def domains(cfg: StudyConfig, seed: int) -> dict[str, Any]:
    """DoReMi on noise (50 %), a constant (20 %) and three real domains (10 % each)."""
    names = ("fiction", "code_python", "scripture")
    real = [_windows(texts) for texts in corpus(names).values()]
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, real[0].shape, dtype=np.int32)
    every = [noise, np.full_like(noise, 97), *real]
    test = [rows[::10] for rows in every]
    train = [np.delete(rows, np.s_[::10], 0) for rows in every]
    first = np.array([0.5, 0.2, 0.1, 0.1, 0.1])
    keys = jax.random.split(jax.random.key(seed), 4)
    settings = doremi.DoremiConfig(cfg.num_steps, batch_size=64)
    optimizer = optax.adam(3e-3)
    start = byte_mlp(keys[0])

    def trained(alpha: np.ndarray, key: jax.Array) -> PyTree:
        return training.train_on_mixture(
            key, start, byte_loss, train, alpha, optimizer, cfg.num_steps, 64
        )

    reference = trained(first, keys[1])
    found = doremi.doremi(keys[2], start, reference, byte_loss, train, optimizer, settings)
    answer = found.alpha.astype(np.float64) / found.alpha.sum()
    final = trained(answer, keys[3])
    loss = jax.jit(lambda p, rows: jnp.mean(byte_loss(p, rows)))
    before, after = ([float(loss(p, rows)) for rows in test] for p in (reference, final))
    return {
        "names": ["noise", "constant", *names],
        "alpha": answer.tolist(),
        "history": found.history[:: max(cfg.num_steps // 100, 1)].tolist(),
        "before": before,
        "after": after,
    }
