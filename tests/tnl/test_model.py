import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml import tnl
from jaxml.core import param
from jaxml.tnl import decay, lrpe, model, softmax
from jaxml.tnl.config import PRESETS, TNLConfig, same_size
from tests.tnl import oracle

CFG = TNLConfig(
    vocab_size=37, width=24, num_layers=4, num_heads=3, glu_width=20, lrpe_layers=(0, 2)
)
BIG = dataclasses.replace(CFG, num_layers=2, lrpe_layers=(0, 1), init_std=0.3)  # every part matters


def _ids(shape, seed=0, vocab=37):
    return np.random.default_rng(seed).integers(0, vocab, shape).astype(np.int32)


@pytest.fixture(scope="module")
def params():
    return oracle.drawn(tnl.language_model(BIG))


def test_logits_equal_the_equations():
    cfg = dataclasses.replace(CFG, init_std=0.3)
    lm, ids = tnl.language_model(cfg), _ids((2, 19))
    params = oracle.drawn(lm)
    got = jax.jit(lambda p, ids: lm.logits(p, lm.hidden(p, ids)))(params, ids)
    weights = oracle.reference_weights(params, cfg)
    want = np.stack([oracle.logits(weights, row, cfg.num_heads) for row in ids])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_shapes_and_names_of_the_released_models():
    counts = {name: tnl.language_model(PRESETS[name]).num_params() for name in ("385m", "1b")}
    assert round(counts["385m"] / 1e6, 1) == 384.9
    assert round(counts["1b"] / 1e6) == 1020
    assert oracle.reference_weights(
        jax.tree.map(np.zeros_like, param.init(jax.random.key(0), model.params(CFG))), CFG
    )["model.layers.2.token_mixer.lrpe.theta"].shape == (3, 1, 8)


def test_baseline_has_the_same_size():
    for name in ("laptop", "40m", "385m"):
        ours = tnl.language_model(PRESETS[name]).num_params()
        theirs = softmax.language_model(same_size(PRESETS[name])).num_params()
        assert abs(theirs / ours - 1) < 0.005


@pytest.mark.parametrize("heads", [1, 2, 6, 8, 12])
def test_slopes(heads):
    np.testing.assert_allclose(tnl.alibi_slopes(heads), oracle.slopes(heads))


def test_decay_rules():
    np.testing.assert_allclose(tnl.log_decay(2, 1), -tnl.alibi_slopes(2)[None] * (1 + 1e-5))
    np.testing.assert_allclose(tnl.log_decay(2, 3)[2], -tnl.alibi_slopes(2) * 1e-5, rtol=1e-6)
    np.testing.assert_allclose(tnl.log_decay(4, 2, "paper"), [[-2, -4, -6, -8], [-1, -2, -3, -4]])
    minimax = tnl.log_decay(2, 3, "minimax")
    np.testing.assert_allclose(minimax[1], -tnl.alibi_slopes(2) * (1 - 1 / (2 + 1e-5) + 1e-5))
    for rule in ("tnl", "paper", "minimax"):
        assert (tnl.log_decay(6, 5, rule) < 0).all()
    assert not tnl.log_decay(6, 5, "none").any()
    with pytest.raises(ValueError, match="rule must be one of tnl, paper, minimax"):
        tnl.log_decay(2, 2, "alibi")


def test_lrpe_depends_on_distance_only():
    rng = np.random.default_rng(0)
    p = {"theta": jnp.asarray(rng.standard_normal((2, 1, 4)), jnp.float32)}
    q, k = jnp.asarray(rng.standard_normal((2, 1, 5, 2, 4)), jnp.float32)
    place = jnp.arange(5)[None]

    def products(shift):
        a, b = (lrpe.apply(p, x, place + shift) for x in (q, k))
        return jnp.einsum("bthc,bshc->bhts", a, b)

    gap = np.arange(5)[:, None] - np.arange(5)[None]
    theta = np.asarray(p["theta"])[:, 0]
    want = np.einsum("thc,shc,htsc->hts", q[0], k[0], np.cos(theta[:, None, None] * gap[..., None]))
    np.testing.assert_allclose(products(0)[0], want, atol=2e-5)
    np.testing.assert_allclose(products(0), products(9), atol=2e-4)
    assert lrpe.apply(p, q, place).shape == (1, 5, 2, 8)


def test_lrpe_tells_distances_behind_a_million_tokens():
    theta = np.random.default_rng(0).uniform(-2, 2, (2, 1, 4)).astype(np.float32)
    q, k = np.random.default_rng(1).standard_normal((2, 1, 1, 2, 4)).astype(np.float32)
    for distance in (0, 1, 17):
        place = jnp.array([[1_000_003]])
        a = lrpe.apply({"theta": jnp.asarray(theta)}, jnp.asarray(q), place)
        b = lrpe.apply({"theta": jnp.asarray(theta)}, jnp.asarray(k), place - distance)
        want = (q * k * np.cos(theta[None, None, :, 0].astype(np.float64) * distance)).sum(-1)
        np.testing.assert_allclose((a * b).sum(-1), want, atol=1e-5)
    slope = jax.grad(lambda t: lrpe.apply({"theta": t}, jnp.asarray(q), jnp.array([[3]])).sum())
    angle = 3.0 * theta[:, 0]
    want = 3 * q[0, 0] * (np.cos(angle) - np.sin(angle))
    np.testing.assert_allclose(slope(jnp.asarray(theta))[:, 0], want, atol=1e-5)


def test_what_is_recomputed_changes_nothing_and_bfloat16_keeps_float32_masters():
    ids = jnp.asarray(_ids((1, 9)))
    batch = {"inputs": ids[:, :-1], "targets": ids[:, 1:]}
    one = dataclasses.replace(BIG, num_layers=1, lrpe_layers=())

    def gradient(**change):
        lm = tnl.language_model(dataclasses.replace(one, **change))
        return jax.jit(jax.grad(lambda p: tnl.next_token(lm, p, batch)[0]))

    params = oracle.drawn(tnl.language_model(one))
    plain = gradient()(params)
    for remat in ("full", "dots"):
        chex.assert_trees_all_close(gradient(remat=remat)(params), plain, rtol=1e-5, atol=1e-6)
    narrow = jax.eval_shape(gradient(dtype="bfloat16", remat="full"), params)
    assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(narrow))


def test_positions_shift_and_segments(params):
    lm, ids = tnl.language_model(BIG), jnp.asarray(_ids((1, 20)))
    hidden = jax.jit(lm.hidden)
    whole = hidden(params, ids)
    moved = hidden(params, ids, positions=jnp.arange(20)[None] + 3)
    chex.assert_trees_all_close(whole, moved, atol=2e-4)
    packed = jnp.concatenate([ids[:, :12], ids[:, 4:]], 1)
    segments = jnp.repeat(jnp.array([[1, 2]]), jnp.array([12, 16]), axis=1, total_repeat_length=28)
    both = hidden(params, packed, segment_ids=segments)
    chex.assert_trees_all_close(both[:, :12], whole[:, :12], atol=1e-4)
    chex.assert_trees_all_close(both[:, 12:], hidden(params, ids[:, 4:]), atol=1e-4)


PAIR = {
    "TNL": tnl.language_model(BIG),
    "Transformer": softmax.language_model(dataclasses.replace(same_size(BIG), num_heads=2)),
    "hybrid": tnl.language_model(
        dataclasses.replace(BIG, num_heads=2, lrpe_layers=(0,), softmax_layers=(1,), gate_rank=5)
    ),
}


@pytest.mark.parametrize("name", PAIR)
def test_prefill_and_steps_equal_the_whole(name):
    lm = PAIR[name]
    params, ids = oracle.drawn(lm), jnp.asarray(_ids((2, 12)))
    want, step = jax.jit(lm.hidden)(params, ids), jax.jit(lm.step)
    prefill = jax.jit(lm.prefill)
    first, state = prefill(params, lm.start(2, 12), ids[:, :5])
    middle, state = prefill(params, state, ids[:, 5:8])
    rest = []
    for t in range(8, 12):
        hidden, state = step(params, state, ids[:, t])
        rest.append(hidden)
    got = jnp.concatenate([first, middle, jnp.stack(rest, 1)], 1)
    chex.assert_trees_all_close(got, want, atol=1e-4)


@pytest.mark.parametrize("name", PAIR)
def test_padded_prompts_generate_alike(name):
    lm = PAIR[name]
    params, key = oracle.drawn(lm), jax.random.key(2)
    short = jnp.asarray(_ids((1, 5)))
    padded = jnp.concatenate([jnp.zeros((1, 4), jnp.int32), short], 1)
    mask = (jnp.arange(9) >= 4)[None]
    how = {"num_tokens": 8, "temperature": 0.0}
    alone = tnl.generate(lm, params, short, key, **how)
    again = tnl.generate(lm, params, short, key, **how)
    beside = tnl.generate(lm, params, padded, key, mask=mask, **how)
    np.testing.assert_array_equal(alone, again)
    np.testing.assert_array_equal(alone, beside)


def test_loss_is_finite_and_its_gradient_matches_differences(params):
    lm = tnl.language_model(BIG)
    ids = _ids((1, 9))
    batch = {"inputs": jnp.asarray(ids[:, :-1]), "targets": jnp.asarray(ids[:, 1:])}

    @jax.jit
    def loss(p):
        return tnl.next_token(lm, p, batch, chunk=3)[0]

    direction = jax.tree.map(
        lambda x: np.random.default_rng(x.size).standard_normal(x.shape).astype(x.dtype), params
    )
    slope = 0.0
    gradient = jax.device_get(jax.jit(jax.grad(loss))(params))
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True):
        slope += np.vdot(a, b)

    def moved(step):
        return loss(jax.tree.map(lambda x, d: x + step * d, params, direction))

    difference = float(moved(1e-3) - moved(-1e-3)) / 2e-3
    assert float(slope) == pytest.approx(difference, rel=2e-2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_heads": 5}, ValueError, "num_heads must divide width; got num_heads=5, width=24"),
        ({"width": 0}, ValueError, "width must be > 0"),
        ({"lrpe_layers": (9,)}, ValueError, r"lrpe_layer must lie in \[0, 3\]; got lrpe_layer=9"),
        ({"softmax_layers": (0,)}, ValueError, "softmax_layers must not share layers"),
        ({"gate": False, "gate_rank": 3}, ValueError, "gate_rank needs gate=True"),
        ({"dtype": "float8"}, TypeError, "TNLConfig.dtype must be"),
        ({"num_layers": "4"}, TypeError, "TNLConfig.num_layers must be int; got num_layers='4'"),
    ],
)
def test_bad_configurations(change, error, message):
    with pytest.raises(error, match=message):
        dataclasses.replace(CFG, **change)


def test_bad_inputs(params):
    lm = tnl.language_model(BIG)
    with pytest.raises(ValueError, match=r"ids must lie in \[0, vocab_size=37\); got id 37"):
        lm.hidden(params, jnp.full((1, 3), 37))
    with pytest.raises(ValueError, match="ids must be integers"):
        lm.hidden(params, jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match="at least one token"):
        tnl.generate(lm, params, jnp.zeros((1, 0), jnp.int32), jax.random.key(0), num_tokens=2)
    with pytest.raises(ValueError, match="num_tokens must be > 0"):
        tnl.generate(lm, params, jnp.zeros((1, 1), jnp.int32), jax.random.key(0), num_tokens=0)


def test_one_compilation_for_equal_shapes(params):
    lm, count = tnl.language_model(BIG), []

    @jax.jit
    def run(p, ids):
        count.append(1)
        return lm.hidden(p, ids)

    for seed in range(3):
        run(params, jnp.asarray(_ids((1, 8), seed)))
    assert count == [1]


def test_low_rank_gate_is_a_full_gate_of_that_rank(params):
    thin = tnl.language_model(dataclasses.replace(BIG, gate_rank=4))
    given, ids = oracle.drawn(thin), jnp.asarray(_ids((2, 11)))
    full = {"embed": given["embed"]}
    for name in ("stretch_0",):
        layer = dict(given[name])
        down, up = layer.pop("gate_down"), layer.pop("gate_up")
        gate = jnp.einsum("ldr,lrhc->ldhc", down, up)[:, :, None]
        full[name] = {**layer, "qkvu": jnp.concatenate([layer["qkvu"], gate], 2)}
    got, want = (
        jax.jit(m.hidden)(p, ids) for m, p in ((thin, given), (tnl.language_model(BIG), full))
    )
    chex.assert_trees_all_close(got, want, atol=1e-4)


def test_hybrid_layers_look_back_exactly_and_packed_documents_do_not_meet():
    lm = PAIR["hybrid"]
    params, ids = oracle.drawn(lm), jnp.asarray(_ids((1, 20)))
    assert set(params["stretch_1"]) == {"attention", "glu"}
    hidden = jax.jit(lm.hidden)
    segments = jnp.where(jnp.arange(20) < 7, 1, 2)[None]
    place = jnp.where(jnp.arange(20) < 7, jnp.arange(20), jnp.arange(20) - 7)[None]
    both = hidden(params, ids, segment_ids=segments, positions=place)
    chex.assert_trees_all_close(both[:, :7], hidden(params, ids[:, :7]), atol=1e-4)
    chex.assert_trees_all_close(both[:, 7:], hidden(params, ids[:, 7:]), atol=1e-4)
    assert tnl.hybrid(PRESETS["385m"]).softmax_layers == (7, 15, 23)


def test_operations_per_token():
    cfg = dataclasses.replace(CFG, lrpe_layers=(), num_layers=2)
    d, f, v, h, c = 24, 20, 37, 3, 8
    weights = v * d + 2 * (5 * d * d + 3 * d * f)
    assert tnl.language_model(cfg).flops_per_token(64) == 6 * weights + 2 * 12 * h * c * c
    assert tnl.language_model(cfg).flops_per_token(64) == tnl.language_model(cfg).flops_per_token(1)
    base = same_size(cfg)
    weights = v * d + 2 * (4 * d * d + 3 * d * base.mlp_width)
    assert softmax.language_model(base).flops_per_token(64) == 6 * weights + 2 * 6 * d * 64
    mixed = dataclasses.replace(cfg, softmax_layers=(1,))
    weights = v * d + 9 * d * d + 6 * d * f
    want = 6 * weights + 12 * h * c * c + 6 * d * 64
    assert tnl.language_model(mixed).flops_per_token(64) == want


def test_stretches_keep_the_order_of_layers():
    kinds = [tuple(stretch)[:3] for stretch in CFG.stretches]
    assert kinds == [(0, 1, True), (1, 1, False), (2, 1, True), (3, 1, False)]
    assert [tuple(s)[:2] for s in PRESETS["385m"].stretches] == [(0, 1), (1, 23)]
    mixed = dataclasses.replace(CFG, softmax_layers=(1, 3))
    assert [s.softmax for s in mixed.stretches] == [False, True, False, True]
    assert decay.log_decay(3, 4).shape == (4, 3)
