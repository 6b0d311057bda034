"""Data management meets training: any model's losses, and curated files that train TNL."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from jaxml.curate import attribute, effects, engine, mix, pipeline, prune, recipe, select, training
from jaxml.curate.mix import DoremiConfig
from jaxml.curate.pipeline import Pipeline, Stage
from jaxml.inputs import documents
from jaxml.interop import flax_linen, flax_nnx

V, T = 16, 6


class Linen(linen.Module):
    @linen.compact
    def __call__(self, ids):
        return linen.Dense(V)(linen.Embed(V, 8)(ids))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(V, 8, rngs=rngs)
        self.out = nnx.Linear(8, V, rngs=rngs)

    def __call__(self, ids):
        return self.out(self.embed(ids))


def linen_model():
    module = Linen()
    params, apply = flax_linen.from_linen(
        module, module.init(jax.random.key(0), jnp.zeros((1, T), jnp.int32))
    )
    return params, apply


def nnx_model():
    return flax_nnx.from_nnx(Nnx(nnx.Rngs(0)))


def tnl_model():
    lm = recipe.byte_model(16, 1, 1)
    return lm.init(jax.random.key(0)), lambda p, ids: lm.logits(p, lm.hidden(p, ids))


MODELS = {"tnl": tnl_model, "linen": linen_model, "nnx": nnx_model}


SLOW = pytest.param("tnl", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["linen", "nnx", SLOW])
def model(request):
    return made(request.param)


def made(name):
    params, apply = MODELS[name]()

    def tokens(p, rows):
        logits = apply(p, rows[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:])

    return params, apply, tokens


ROWS = np.random.default_rng(0).integers(0, V, (5, T + 1), dtype=np.int32)


def test_scores_of_single_examples_with_any_model(model):
    params, _, tokens = model

    def loss(p, row):
        return jnp.mean(tokens(p, row[None]))

    def mean(p):
        return jnp.mean(tokens(p, ROWS[:1]))

    norms = prune.grand(loss, [params], ROWS, batch_size=5)
    gradient = jax.tree.leaves(jax.jit(jax.grad(mean))(params))
    flat = np.concatenate([np.ravel(x) for x in gradient])
    np.testing.assert_allclose(norms[0], np.linalg.norm(flat), rtol=1e-4)


@pytest.mark.slow
def test_attribution_with_any_model(model, key):
    params, _, tokens = model
    rows = ROWS

    def loss(p, row):
        return jnp.mean(tokens(p, row[None]))

    zero = jax.tree.map(jnp.zeros_like, params)
    point = select.Checkpoint(params, zero, jax.tree.map(jnp.ones_like, params), 1e-3)
    scores = select.less(key, loss, [point], rows, [rows[:2]], width=64, batch_size=5)
    assert scores.shape == (5,)
    assert np.all(np.abs(scores) <= 1 + 1e-5)
    found = attribute.trak(key, loss, [params], rows, rows[:2], width=32, batch_size=5)
    assert found.shape == (2, 5)
    assert np.all(np.isfinite(found))


@pytest.mark.parametrize("name", ["nnx", SLOW])
def test_doremi_with_any_model(name, key):
    params, _, tokens = made(name)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, V, (40, T + 1), dtype=np.int32)
    constant = np.full_like(noise, 3)
    cfg = DoremiConfig(num_steps=3, batch_size=8)
    found = mix.doremi(key, params, params, tokens, [noise, constant], optax.sgd(0.1), cfg)
    np.testing.assert_allclose(found.history.sum(1), 1, atol=1e-5)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params, found.params)
    assert max(jax.tree.leaves(moved)) > 0


def test_training_in_order_is_a_loop_of_updates():
    rows = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    order = training.epochs(0, 6, 4, 3)
    assert sorted(order[:2].ravel()) == sorted(order[2:].ravel()) == list(range(6))

    def tokens(p, batch):
        return (batch @ p["w"])[:, None] ** 2

    start = {"w": jnp.ones(2)}
    got, losses = training.train_in_order(start, tokens, rows, order, optax.sgd(0.1))
    w = np.ones(2)
    for at, loss in zip(order, losses, strict=True):
        x = rows[at].astype(float)
        assert loss == pytest.approx(np.mean((x @ w) ** 2), rel=1e-5)
        w = w - 0.1 * 2 * (x * (x @ w)[:, None]).mean(0)
    np.testing.assert_allclose(got["w"], w, rtol=1e-5)
    with pytest.raises(ValueError, match="last_row must lie in"):
        training.train_in_order(start, tokens, rows[:3], order, optax.sgd(0.1))


def rows_of(path, num=40):
    lines = [{"text": f"document {i}: " + "the river runs to the sea. " * 3} for i in range(num)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curated")
    pipe = Pipeline((Stage("empty", pipeline.NoConfig()),), part_docs=15)
    for kind in ("array_record", "jsonl.gz", "parquet"):
        engine.run(pipe, [rows_of(folder / "in.jsonl")], folder / kind, output_format=kind)
    return folder


def test_what_was_written_is_read_as_text(curated):
    want = [json.loads(line)["text"] for line in (curated / "in.jsonl").read_text().splitlines()]
    for kind in ("array_record", "jsonl.gz", "parquet"):
        assert list(documents.read(curated / kind / "data")) == want
    found = documents.load(curated / "array_record" / "data")
    again = documents.load(curated / "parquet" / "data")
    assert found == again
    assert sorted(found.train + found.val + found.test) == sorted(want)
    assert len(found.val) + len(found.test) < 12
    with pytest.raises(FileNotFoundError, match="path must hold files"):
        documents.load(curated / "nothing")
    with pytest.raises(ValueError, match="text_field must be one of"):
        next(documents.read(curated / "jsonl.gz" / "data", "body"))


def test_tnl_takes_files_of_ones_own(curated):
    from jaxml.tnl.corpus import CorpusConfig, load

    found = load(CorpusConfig("documents", str(curated / "array_record" / "data")))
    assert found.provenance.name == "documents"
    assert "the river runs" in found.tokenizer.decode(found.train.tolist())
    with pytest.raises(ValueError, match="path must name a file or folder"):
        CorpusConfig("documents")


def test_grain_reads_what_was_written(curated):
    from grain.sources import ArrayRecordDataSource

    paths = sorted(map(str, (curated / "array_record/data").iterdir()))
    source = ArrayRecordDataSource(paths)
    assert len(source) == 40
    assert json.loads(source[0])["text"].startswith("document 0")


@pytest.mark.slow
def test_curated_files_train_tnl(curated, tmp_path):
    from jaxml import cli

    words = ["tnl", "train", str(tmp_path / "run"), "--corpus.name", "documents",
             "--corpus.path", str(curated / "array_record" / "data"), "--preset", "tiny",
             "--run.num-steps", "60", "--seq-len", "16", "--batch-size", "8"]  # fmt: skip
    assert cli.run(words) == 0
    logs = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in logs if "loss" in row]
    assert losses[-1] < 0.6 * losses[0]


class Successor:
    """A language model that goes on with the next letter of the alphabet, and nothing else."""

    def start(self, batch, max_len):
        return jnp.zeros(batch)

    def prefill(self, params, state, ids):
        return ids.astype(jnp.float32)[..., None], state

    def step(self, params, state, ids):
        return ids.astype(jnp.float32)[:, None], state

    def logits(self, params, hidden):
        return -jnp.abs(jnp.arange(256.0)[None] - hidden - 1)


def test_canaries_count_where_every_byte_is_right():
    right = np.arange(97, 113, dtype=np.uint8)
    last, first = right.copy(), right.copy()
    last[-1], first[0] = 0, 0  # a wrong end is no emission; the prompt is not judged
    canaries = np.stack([right, last, first, right[::-1]])
    assert effects.emitted(Successor(), {}, canaries, 8) == 2


@pytest.mark.slow
def test_the_studies_run_at_their_smallest(tmp_path, monkeypatch):
    from jaxml.curate import h100, survey

    texts = [f"{i} " + " ".join(np.random.default_rng(i).choice(list("abcdefgh"), 200))
             for i in range(120)]  # fmt: skip
    names = np.array([(*survey.MIXED, survey.TARGET)[i % 5] for i in range(120)])
    monkeypatch.setattr(survey, "_documents", lambda limit: (texts, names))
    h100.main([str(tmp_path / "d.npz"), "--pack", "--tiny"])
    h100.main([str(tmp_path / "d.npz"), str(tmp_path / "out"), "--tiny"])
    record = json.loads((tmp_path / "out/curate-effects.json").read_text())
    assert {c["id"] for c in record["claims"]} == {
        "effect-4-epochs", "effect-14-epochs", "effect-doremi", "effect-dsir",
        "effect-mixing-law", "effect-memorisation",
    }  # fmt: skip
    assert len(record["studies"]["mixing"]["mixtures"]) == 26
