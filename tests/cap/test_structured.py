import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml import cap
from jaxml.cap import compaction as compacting
from jaxml.cap import count as counting
from jaxml.cap.importance import Masks, first_order_importance, full_masks, structured_step
from jaxml.core import tree, weights
from jaxml.models import bert, bert_weights
from jaxml.models.bert import BertConfig
from tests.cap.conftest import MODEL

run = jax.jit(bert.apply, static_argnums=1)


def importances(seed=0, shape=(6, 12, 40)):
    rng = np.random.default_rng(seed)
    layers, heads, hidden = shape
    return Masks(rng.random((layers, heads)), rng.random((layers, hidden)))


def test_importance_equals_the_sum_of_absolute_batch_slopes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 2, 6))  # batches, examples, layers, units
    masks = Masks(jnp.asarray([[1.0, 0.0], [1.0, 1.0]]), jnp.ones((2, 6)))

    def loss(masks, batch):
        heads = jnp.sum(masks.heads[None] ** 2 * batch[..., :2], (1, 2))
        return jnp.mean(heads + jnp.sum(jnp.tanh(masks.ffn[None] * batch), (1, 2)))

    got = jax.jit(lambda: first_order_importance(loss, masks, jnp.asarray(x), None))()
    heads = np.abs(x[..., :2].mean(1) * 2 * np.asarray(masks.heads)).sum(0)
    ffn = np.abs((x / np.cosh(x) ** 2).mean(1)).sum(0)
    np.testing.assert_allclose(got.heads, heads, rtol=1e-4)
    np.testing.assert_allclose(got.ffn, ffn, rtol=1e-4)
    each = first_order_importance(loss, masks, jnp.asarray(x), "layer")
    np.testing.assert_allclose(each.ffn, ffn / np.linalg.norm(ffn, axis=1, keepdims=True), 1e-4)


@pytest.mark.parametrize("shape", [(6, 12, 40), (3, 2, 7), (12, 12, 32)])
def test_removed_stays_removed_and_every_layer_keeps_a_head(shape):
    masks, percents = full_masks(*shape), [10, 20, 30, 40, 50]
    before = 0.0
    for step, percent in enumerate(percents):
        after = structured_step(importances(step, shape), masks, percent, before=before)
        for old, new in zip(masks, after, strict=True):
            assert np.all(np.asarray(new) <= np.asarray(old))
            assert int((1 - np.asarray(new)).sum()) == int(new.size * percent / 100)
        assert np.asarray(after.heads).sum(1).min() >= 1
        masks, before = after, percent


def test_protection_counts_living_heads_only():
    """At 90 % the published program leaves layers without a head; this one never does."""
    shape = (6, 12, 40)
    masks, before = full_masks(*shape), 0.0
    for step, percent in enumerate(range(10, 91, 10)):
        dead_look_best = jax.tree.map(lambda m, i: i + 10 * (1 - np.asarray(m)), masks,
                                      importances(step, shape))  # fmt: skip
        masks = structured_step(dead_look_best, masks, percent, before=before)
        before = percent
    assert np.asarray(masks.heads).sum(1).min() >= 1
    assert int(np.asarray(masks.heads).sum()) == 72 - int(72 * 0.9)


def test_the_lowest_go_in_one_ranking_over_layers():
    found = importances(3)
    masks = structured_step(found, full_masks(6, 12, 40), 30)
    threshold = np.sort(found.ffn, None)[int(240 * 0.3)]
    np.testing.assert_array_equal(np.asarray(masks.ffn) > 0, found.ffn >= threshold)


def test_published_counts_of_nine_steps():
    cumulative = [int(144 * p / 100) for p in range(10, 100, 10)]
    masks, before, removed = full_masks(12, 12, 8), 0.0, []
    for step, percent in enumerate(range(10, 100, 10)):
        after = structured_step(importances(step, (12, 12, 8)), masks, percent, before=before)
        removed.append(int((masks.heads - after.heads).sum()))
        masks, before = after, percent
    assert removed == [14, 14, 15, 14, 15, 14, 14, 15, 14]
    assert sum(removed) == cumulative[-1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"percent": 20, "before": 20.0}, "percent must grow"),
        ({"percent": 120}, "percent must grow and be <= 100"),
        ({"percent": 20, "min_heads": 13}, "min_heads must be <= the number of heads"),
        ({"percent": 95}, "min_heads=1 leaves only 66"),
    ],
)
def test_impossible_steps_are_explained(more, message):
    percent = more.pop("percent")
    with pytest.raises(ValueError, match=message):
        structured_step(importances(), full_masks(6, 12, 40), percent, **more)


@pytest.fixture(scope="module")
def pruned(small):
    heads, ffn = np.ones((2, 4), np.float32), np.ones((2, 24), np.float32)
    heads[0, 1:3], heads[1] = 0, 0  # layer 1 loses every head
    ffn[0, ::2], ffn[1, 5:] = 0, 0
    masks = Masks(jnp.asarray(heads), jnp.asarray(ffn))
    made, cfg = cap.compact(small.params, MODEL, masks)
    ids = np.random.default_rng(0).integers(1, 128, (3, 9))
    mask = np.arange(9)[None] < np.array([[9], [4], [1]])
    more = {"head_mask": masks.heads, "ffn_mask": masks.ffn}
    want = run(small.params, MODEL, ids, mask=mask, **more)
    return masks, made, cfg, ids, mask, want


def test_compact_equals_masked(pruned):
    masks, made, cfg, ids, mask, want = pruned
    assert cfg.heads == (2, 1) and cfg.neurons == (12, 5)
    got = compacting.apply(made, cfg, ids, mask=mask)
    np.testing.assert_allclose(got.hidden, want.hidden, atol=1e-5)
    np.testing.assert_allclose(got.pooled, want.pooled, atol=1e-5)


def test_compact_is_smaller_by_what_the_report_says(pruned, small):
    masks, made, _, *_ = pruned
    found = counting.sparsity(small.params, MODEL, masks)
    kept, every = found.whole
    assert every == tree.num_elements(small.params)
    assert tree.num_elements(made) == kept + 3 * 4 * 1 + 4 * 16 * 4  # layer 1's idle head
    assert found.heads == (2, 0) and found.neurons == (12, 5)
    assert "of matrices" in str(found) and "of whole" in str(found)


def test_folded_and_exported_equal_masked(pruned, small, tmp_path):
    masks, _, _, ids, mask, want = pruned
    folded = cap.fold_masks(small.params, masks)
    np.testing.assert_allclose(run(folded, MODEL, ids, mask=mask).hidden, want.hidden, atol=1e-5)
    written = cap.export(tmp_path, MODEL, small.params, masks)
    assert written.hidden == 12
    cfg, params = bert_weights.load(tmp_path)
    got = bert.apply(params, cfg, ids, mask=mask)
    np.testing.assert_allclose(got.hidden, want.hidden, atol=1e-5)


def test_a_compact_file_comes_back(pruned, tmp_path):
    _, made, cfg, *_ = pruned
    compacting.save(tmp_path / "a.safetensors", made, cfg)
    again, same = compacting.load(tmp_path / "a.safetensors")
    assert same == cfg
    jax.tree.map(np.testing.assert_array_equal, again, made)
    bert_weights.save(tmp_path, MODEL, bert.init(jax.random.key(0), MODEL))
    with pytest.raises(weights.WeightsError, match="is no compact encoder"):
        compacting.load(tmp_path / "model.safetensors")


def test_counts_of_single_weights():
    cfg = BertConfig(50, 8, 2, 2, 12, 6)
    params = bert.init(jax.random.key(0), cfg)
    kernels = counting.kernels(params)
    half = {name: cap.topk_mask(k, 0.5) for name, k in kernels.items()}
    found = counting.sparsity(params, cfg, half)
    assert found.matrices == (sum(k.size for k in kernels.values()) // 2,
                              sum(k.size for k in kernels.values()))  # fmt: skip
    assert found.encoder[1] == sum(x.size for x in jax.tree.leaves(params["layers"]))
    assert found.encoder[1] - found.encoder[0] == found.matrices[1] - found.matrices[0]
    assert found.layers == (0.5, 0.5)
    folded = cap.fold_masks(params, half)
    kept = sum(int((np.asarray(k) != 0).sum()) for k in counting.kernels(folded).values())
    assert kept == found.matrices[0]
