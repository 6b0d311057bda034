import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml import cap
from jaxml.cap import bank as banks
from jaxml.cap import contrast
from jaxml.cap.bank import Bank
from jaxml.cap.config import ContrastConfig
from jaxml.cap.contrast import contrastive_loss
from jaxml.dist import mesh as meshes
from tests.cap import oracle

NUM, WIDTH, BATCH = 24, 6, 5
CFG = ContrastConfig(tau=0.3)
REFERENCE = dataclasses.replace(CFG, reduction="reference")
run = jax.jit(contrastive_loss, static_argnames="cfg")
both = jax.jit(
    lambda z, *more, cfg: jax.jacrev(lambda z: jnp.stack(contrastive_loss(z, *more, cfg)))(z),
    static_argnames="cfg",
)


def case(num_reps, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, NUM)
    ids = rng.choice(NUM, BATCH, replace=False)
    extra = np.concatenate([rng.choice(NUM, 6, replace=False), ids[:1]])  # overlaps the batch
    z = rng.normal(size=(BATCH, WIDTH))
    reps = rng.normal(size=(NUM, num_reps, WIDTH))
    return z, reps, labels, ids, extra


@pytest.mark.parametrize("cfg", [CFG, REFERENCE], ids=["mean", "reference"])
@pytest.mark.parametrize("num_reps", [1, 3])
def test_loss_and_gradient_equal_float64(cfg, num_reps):
    z, reps, labels, ids, extra = case(num_reps)
    want, slope = oracle.contrast(
        z, reps, labels, ids, labels[ids], extra, cfg.tau, cfg.reduction, gradient=True
    )
    args = (z, Bank(reps, labels), ids, labels[ids], extra)
    args = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32 if x.dtype == float else None), args)
    np.testing.assert_allclose(run(*args, cfg=cfg), want, atol=1e-5)
    np.testing.assert_allclose(both(*args, cfg=cfg), slope, atol=1e-5)


def test_the_bank_receives_no_gradient():
    z, reps, labels, ids, extra = map(jnp.asarray, case(2))

    def loss(reps):
        return sum(contrastive_loss(z, Bank(reps, labels), ids, labels[ids], extra, CFG))

    assert float(jnp.abs(jax.grad(loss)(reps)).max()) == 0.0


def test_equal_vectors_give_the_log_of_the_candidates():
    _, _, labels, ids, extra = case(2)
    got = run(
        jnp.ones((BATCH, WIDTH)), Bank(jnp.ones((NUM, 2, WIDTH)), labels), ids, labels[ids],
        extra, cfg=CFG,
    )  # fmt: skip
    candidates = BATCH * 3 + len(extra) * 2
    np.testing.assert_allclose(got, np.log(candidates - 1), rtol=1e-6)


def test_scale_and_order_change_nothing():
    z, reps, labels, ids, extra = case(2)
    want = run(z, Bank(reps, labels), ids, labels[ids], extra, cfg=CFG)
    scaled = run(7 * z, Bank(reps, labels), ids, labels[ids], extra, cfg=CFG)
    np.testing.assert_allclose(scaled, want, rtol=1e-5)
    turned = run(z, Bank(reps[:, ::-1], labels), ids, labels[ids], extra[::-1], cfg=CFG)
    np.testing.assert_allclose(turned, want, rtol=1e-5)


def test_reductions_differ_by_the_number_of_positives():
    """With constant |P| the published program's weight means |P| times less."""
    z, reps, _, ids, _ = case(3)
    labels, extra = np.zeros(NUM, int), np.setdiff1d(np.arange(NUM), ids)[:7]
    args = (z, Bank(reps, labels), ids, labels[ids], extra)
    mean, reference = (run(*args, cfg=c) for c in (CFG, REFERENCE))
    np.testing.assert_allclose(mean.unsup / reference.unsup, 3, rtol=1e-5)
    positives = BATCH * 4 + len(extra) * 3 - 1
    np.testing.assert_allclose(mean.sup / reference.sup, positives, rtol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "reference"])
def test_an_anchor_without_positives_is_left_out(reduction):
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    positive = jnp.array([[True, False, True, False], [False] * 4, [False, False, False, True]])
    got = contrast._reduce(scores, jnp.full(3, 5.0), positive, reduction)
    each = [5 - np.mean(np.asarray(scores)[i][np.asarray(positive)[i]]) for i in (0, 2)]
    np.testing.assert_allclose(got, sum(each) / (2 if reduction == "mean" else 3), rtol=1e-6)


def test_room_for_snapshots_equals_a_bank_of_that_length():
    z, reps, labels, ids, extra = case(2)
    exact = run(z, Bank(reps, labels), ids, labels[ids], extra, cfg=CFG)
    grown = banks.empty(NUM, 4, WIDTH, labels, jnp.float32)
    zero = run(z, grown, ids, labels[ids], extra, cfg=CFG)
    assert [float(x) for x in zero] == [0.0, 0.0]
    for r in range(2):
        grown = grown.append(reps[:, r])
    np.testing.assert_allclose(run(z, grown, ids, labels[ids], extra, cfg=CFG), exact, rtol=1e-6)
    np.testing.assert_array_equal(
        Bank(jnp.asarray(reps)[:, :1]).append(reps[:, 1]).reps, jnp.asarray(reps)
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_eight_devices_give_the_loss_of_one(dtype):
    z, reps, labels, ids, extra = case(3)
    bank = Bank(jnp.asarray(reps[: NUM - 1], dtype), labels[: NUM - 1])  # padded on the mesh
    ids, extra = np.minimum(ids, NUM - 2), np.minimum(extra, NUM - 2)
    one = run(z, bank, ids, labels[ids], extra, cfg=CFG)
    spread = banks.shard(bank, meshes.make(meshes.MeshConfig(data=8)))
    assert spread.reps.array.addressable_shards[0].data.shape[0] == NUM // 8
    many = run(z, spread, ids, labels[ids], extra, cfg=CFG)
    np.testing.assert_allclose(many, one, atol=1e-6)


def test_banks_are_encoded_in_order_and_checked():
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    bank = banks.encode(lambda p, b: p * b, 2.0, [x[:4], x[4:8], x[8:]], dtype=jnp.float32)
    np.testing.assert_array_equal(bank.reps[:, 0], 2 * x)
    with pytest.raises(ValueError, match="reps must be finite; got NaN"):
        banks.encode(lambda p, b: b, None, [np.full((2, 2), np.nan)])


def test_extra_candidates_differ_between_steps_and_are_never_repeated():
    drawn = [banks.draw_extra(np.random.default_rng([0, s]), 50, 20) for s in range(3)]
    assert all(len(set(d.tolist())) == 20 for d in drawn)
    assert len({tuple(sorted(d.tolist())) for d in drawn}) == 3
    assert len(banks.draw_extra(np.random.default_rng(0), 5, 9, replace=True)) == 9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, b, i, e: banks.draw_extra(np.random.default_rng(0), 5, 9), "extra must be <="),
        (lambda z, b, i, e: contrastive_loss(z[:, :2], b, i, i, e, CFG), "width of reps_bd, 2"),
        (lambda z, b, i, e: contrastive_loss(z, b, i, None, e, CFG), "labels must be given"),
        (lambda z, b, i, e: contrastive_loss(z, b, i + NUM, i, e, CFG), "ids_b must lie in"),
        (lambda z, b, i, e: ContrastConfig(tau=0.0), "tau must be > 0; got tau=0.0"),
        (lambda z, b, i, e: ContrastConfig(modules=("prc",)), "module must be one of"),
        (lambda z, b, i, e: b.append(z), "reps must have shape"),
        (lambda z, b, i, e: banks.empty(2, 1, 3).append(np.zeros((2, 3))).append(
            np.zeros((2, 3))), "free place"),
        (lambda z, b, i, e: cap.arms(cap.CAPConfig(contrast=None)), "contrast must be configured"),
    ],
)  # fmt: skip
def test_bad_input_is_explained(call, message):
    z, reps, labels, ids, extra = map(jnp.asarray, case(1))
    with pytest.raises(ValueError) as error:
        call(z, Bank(reps, labels), ids, extra)
    assert message in str(error.value)


def test_compared_runs_differ_in_contrast_only():
    cfg = cap.PRESETS["h100"]
    every = cap.arms(cfg)
    assert list(every) == ["cap", "kd", "without pre", "without snap", "without fine"]
    cap.check_comparable(*every.values())
    longer = dataclasses.replace(cfg, tune=dataclasses.replace(cfg.tune, steps=1))
    with pytest.raises(ValueError, match="differ in contrast only"):
        cap.check_comparable(cfg, longer)


def test_distillation_equals_float64():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 7, 4))
    got = cap.distillation(jnp.asarray(student), jnp.asarray(teacher), 2.0)
    np.testing.assert_allclose(got, oracle.kd(student, teacher, 2.0), rtol=1e-5)
