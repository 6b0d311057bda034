"""BERT against a float64 transcription of its equations that works on Hugging Face's tensors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from jaxml.core import param, tree, weights
from jaxml.models import bert, bert_weights
from jaxml.models.bert import BertConfig

CFG = BertConfig(29, 12, 3, 4, 20, 10, dropout=0.3, mlm=True)
run = jax.jit(bert.apply, static_argnums=1, static_argnames=("dtype", "remat"))


def _tensors(cfg, seed=0, scale=0.3):
    """Random tensors in Hugging Face's names and layouts, written down from their documentation."""
    rng, d, f = np.random.default_rng(seed), cfg.width, cfg.hidden
    shapes = {
        "bert.embeddings.word_embeddings.weight": (cfg.vocab_size, d),
        "bert.embeddings.position_embeddings.weight": (cfg.max_len, d),
        "bert.embeddings.token_type_embeddings.weight": (cfg.num_types, d),
        "cls.predictions.bias": (cfg.vocab_size,),
    }

    def dense(name, wide, narrow):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (wide, narrow), (wide,)

    norms = ["bert.embeddings", "cls.predictions.transform"]
    for i in range(cfg.num_layers):
        layer = f"bert.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", d, d)
        dense(f"{layer}.attention.output.dense", d, d)
        dense(f"{layer}.intermediate.dense", f, d)
        dense(f"{layer}.output.dense", d, f)
        norms += [f"{layer}.attention.output", f"{layer}.output"]
    dense("bert.pooler.dense", d, d)
    dense("cls.predictions.transform.dense", d, d)
    for name in norms:
        shapes[f"{name}.LayerNorm.weight"] = shapes[f"{name}.LayerNorm.bias"] = (d,)
    made = {name: rng.normal(scale=scale, size=shape) for name, shape in shapes.items()}
    return {n: x + 1 if n.endswith("LayerNorm.weight") else x for n, x in made.items()}


def _norm(w, name, x):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
    return x * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]


def _dense(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def _oracle(w, cfg, ids, types, mask, heads, units):
    """Devlin et al. 2019 over Vaswani et al. 2017, one sentence at a time."""
    table = [
        w[f"bert.embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")
    ]
    x = _norm(w, "bert.embeddings", table[0][ids] + table[1][: len(ids)] + table[2][types])
    size = cfg.width // cfg.num_heads
    for i in range(cfg.num_layers):
        name = f"bert.encoder.layer.{i}"
        q, k, v = (_dense(w, f"{name}.attention.self.{n}", x) for n in ("query", "key", "value"))
        read = []
        for h in range(cfg.num_heads):
            part = slice(h * size, (h + 1) * size)
            score = np.exp(q[:, part] @ k[:, part].T / np.sqrt(size)) * mask[None, :]
            probability = score / score.sum(-1, keepdims=True) * heads[i, h]
            read.append(probability @ v[:, part])
        y = _dense(w, f"{name}.attention.output.dense", np.concatenate(read, -1))
        x = _norm(w, f"{name}.attention.output", x + y)
        y = _gelu(_dense(w, f"{name}.intermediate.dense", x)) * units[i]
        x = _norm(w, f"{name}.output", x + _dense(w, f"{name}.output.dense", y))
    pooled = np.tanh(_dense(w, "bert.pooler.dense", x[0]))
    y = _gelu(_dense(w, "cls.predictions.transform.dense", x))
    logits = _norm(w, "cls.predictions.transform", y) @ table[0].T + w["cls.predictions.bias"]
    return x, pooled, logits


@pytest.fixture(scope="module")
def case():
    rng, w = np.random.default_rng(1), _tensors(CFG)
    return {
        "w": w,
        "p": bert_weights.import_tensors(CFG, w),
        "ids": rng.integers(0, 29, (2, 7)),
        "types": np.array([[0] * 4 + [1] * 3, [0] * 7]),
        "mask": np.array([[True] * 7, [True] * 5 + [False] * 2]),
        "heads": (rng.random((3, 4)) < 0.6).astype(np.float32),
        "units": (rng.random((3, 20)) < 0.6).astype(np.float32),
    }


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_published_equations(case, masked):
    heads, units = (case["heads"], case["units"]) if masked else (np.ones((3, 4)), np.ones((3, 20)))
    own = {"head_mask": heads, "ffn_mask": units} if masked else {}
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64),
            weights.import_tree(case["w"], bert_weights.rules(CFG), _abstract(jnp.float64)),
        )
        got = run(wide, CFG, case["ids"], mask=case["mask"], types=case["types"], **own)
        logits = bert.mlm_logits(wide, CFG, got.hidden)
        got, logits = jax.tree.map(np.asarray, (got, logits))
    for row in range(2):
        args = (case[name][row] for name in ("ids", "types", "mask"))
        hidden, pooled, scores = _oracle(case["w"], CFG, *args, heads, units)
        keep = case["mask"][row]  # softmax runs in float32, hence not 1e-12
        np.testing.assert_allclose(got.hidden[row][keep], hidden[keep], atol=2e-6)
        np.testing.assert_allclose(got.pooled[row], pooled, atol=2e-6)
        np.testing.assert_allclose(logits[row][keep], scores[keep], atol=1e-5)


def _abstract(dtype):
    declared = param.abstract(bert.params(CFG))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), declared)


def test_float32_is_near_float64(case):
    got = run(case["p"], CFG, case["ids"])
    ones = np.ones(7), np.ones((3, 4)), np.ones((3, 20))
    hidden, pooled, _ = _oracle(case["w"], CFG, case["ids"][0], np.zeros(7, int), *ones)
    np.testing.assert_allclose(got.hidden[0], hidden, atol=1e-5)
    np.testing.assert_allclose(got.pooled[0], pooled, atol=1e-5)


def test_padding_changes_nothing(case):
    keep = case["mask"]
    wild = np.where(keep, case["ids"], 3)
    tame = np.where(keep, case["ids"], 0)
    a, b = (run(case["p"], CFG, ids, mask=keep).hidden for ids in (wild, tame))
    np.testing.assert_allclose(a[keep], b[keep], atol=1e-6)


def test_published_numbers_of_parameters():
    def count(cfg):
        return tree.num_elements(param.abstract(bert.params(cfg)))

    assert count(BertConfig()) == 109_482_240
    mini = BertConfig(width=384, num_layers=6, hidden=1536)
    assert count(mini) == 22_713_216


def test_dropout_draws_by_key(case):
    one, two, again = (
        run(case["p"], CFG, case["ids"], key=jax.random.key(i)).hidden for i in (0, 1, 0)
    )
    assert abs(one - two).max() > 0.1
    np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_remat_recomputes(case, remat):
    def saved(remat):
        def hidden(p):
            return bert.apply(p, CFG, case["ids"], remat=remat).hidden

        backward = jax.eval_shape(lambda p: jax.vjp(hidden, p)[1], case["p"])
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    assert saved(remat) < saved(None)


def test_half_precision(case):
    half = run(case["p"], CFG, case["ids"], dtype=jnp.bfloat16)
    assert half.hidden.dtype == jnp.bfloat16
    full = run(case["p"], CFG, case["ids"])
    np.testing.assert_allclose(half.hidden.astype(jnp.float32), full.hidden, atol=0.2)


def test_masks_have_gradients(case):
    def loss(masks):
        return jnp.sum(run(case["p"], CFG, case["ids"], **masks).hidden ** 3)

    masks = {"head_mask": jnp.ones((3, 4)), "ffn_mask": jnp.ones((3, 20))}
    slope = jax.grad(loss)(masks)
    for name, at in (("head_mask", (1, 2)), ("ffn_mask", (2, 5))):
        up, down = (loss(masks | {name: masks[name].at[at].add(e)}) for e in (0.01, -0.01))
        assert float(slope[name][at]) == pytest.approx(float(up - down) / 0.02, rel=0.05, abs=0.02)


def test_export_gives_back_the_tensors(case):
    got = bert_weights.export_tensors(CFG, case["p"])
    assert got.keys() == case["w"].keys()
    for name, x in got.items():
        np.testing.assert_array_equal(x, case["w"][name].astype(np.float32))


def test_a_body_alone_old_names_and_prefixes(case):
    body = BertConfig(29, 12, 3, 4, 20, 10)
    want = bert_weights.import_tensors(body, case["w"])
    assert "mlm" not in want
    bare = {n.removeprefix("bert."): x for n, x in case["w"].items() if not n.startswith("cls.")}
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): x
        for n, x in bare.items()
    }
    old["embeddings.position_ids"] = np.arange(10)[None]
    for tensors in (bare, old):
        got = bert_weights.import_tensors(body, tensors)
        jax.tree.map(np.testing.assert_array_equal, got, want)
    assert sorted(bert_weights.export_tensors(body, want)) == sorted(bare)


def test_misfits_are_named(case):
    w = dict(case["w"])
    del w["bert.pooler.dense.bias"]
    w["bert.encoder.layer.3.output.dense.bias"] = np.zeros(12)
    w["bert.embeddings.LayerNorm.bias"] = np.zeros(5)
    with pytest.raises(weights.WeightsError) as error:
        bert_weights.import_tensors(CFG, w)
    for part in (
        "missing bert.pooler.dense.bias",
        "unexpected bert.encoder.layer.3.output.dense.bias",
        "bert.embeddings.LayerNorm.bias has shape (5,)",
    ):
        assert part in str(error.value)


def test_a_folder_is_written_and_read(case, tmp_path):
    bert_weights.save(tmp_path, CFG, case["p"])
    cfg, p = bert_weights.load(tmp_path)
    assert cfg == CFG
    jax.tree.map(np.testing.assert_array_equal, p, case["p"])
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["hidden_size"] == 12
    assert settings["model_type"] == "bert"


def test_a_folder_of_shards(case, tmp_path):
    bert_weights.save(tmp_path, CFG, case["p"])
    tensors = weights.read(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    where = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(sorted(tensors))}
    for shard in set(where.values()):
        part = {n: x for n, x in tensors.items() if where[n] == shard}
        weights.write(tmp_path / shard, part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    jax.tree.map(np.testing.assert_array_equal, bert_weights.load(tmp_path)[1], case["p"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act must be one of gelu; got hidden_act='gelu_new'"),
        ({"model_type": "roberta"}, "model_type must be one of bert; got model_type='roberta'"),
        ({"num_attention_heads": 5}, "num_heads must divide width; got num_heads=5, width=12."),
        ({"hidden_size": None}, "config.json must have hidden_size."),
    ],
)
def test_another_network_is_refused(case, tmp_path, settings, message):
    bert_weights.save(tmp_path, CFG, case["p"])
    path = tmp_path / "config.json"
    values = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    with pytest.raises(ValueError) as error:
        bert_weights.load(tmp_path)
    assert message in str(error.value)


def test_missing_and_broken_files(case, tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json does not exist"):
        bert_weights.load(tmp_path)
    bert_weights.save(tmp_path, CFG, case["p"])
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        bert_weights.load(tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: BertConfig(width=10),
            "num_heads must divide width; got num_heads=12, width=10.",
        ),
        (lambda p: BertConfig(dropout=1.0), "dropout must lie in [0, 1); got dropout=1.0."),
        (lambda p: bert.apply(p, CFG, jnp.ones((1, 11), int)), "t must lie in [1, 10]; got t=11."),
        (lambda p: bert.apply(p, CFG, jnp.ones(3, int)), "ids_bt must have shape [b, t]"),
        (
            lambda p: bert.apply(p, CFG, jnp.ones((1, 3), int), head_mask=jnp.ones((3, 3))),
            "head_mask must have shape [3, 4]",
        ),
        (
            lambda p: bert.apply(p, CFG, jnp.ones((1, 3), int), ffn_mask=jnp.ones(20)),
            "ffn_mask must have shape [3, 20]",
        ),
    ],
)
def test_bad_input_is_explained(case, call, message):
    with pytest.raises(ValueError) as error:
        call(case["p"])
    assert message in str(error.value)


def test_heads_may_be_fewer_than_the_width_has_room_for():
    """A pruned layer: two heads of width 3 in an encoder of width 12."""
    cfg = BertConfig(29, 12, 1, 2, 5, 10, head_dim=3)
    p = bert.init(jax.random.key(0), cfg)
    assert p["layers"]["attention"]["query"]["kernel"].shape == (1, 12, 6)
    assert bert.apply(p, cfg, jnp.ones((2, 4), int)).hidden.shape == (2, 4, 12)
