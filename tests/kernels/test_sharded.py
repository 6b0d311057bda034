import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from jaxml_kernels.lightning_attention import lightning_attention, lightning_attention_sharded
from jaxml_kernels.lightning_attention.cases import Case
from tests.kernels.oracle import distance, quadratic

CASE = Case("sharded", 2, 160, 4, 16, 8, "float32")


def _mesh(**axes):
    kinds = (AxisType.Auto,) * len(axes)
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=kinds)


def _value_and_grad(run, **how):
    def value(q, k, v, d, start, wo):
        o, s = run(q, k, v, d, initial_state=start, **how)
        return jnp.sum(o * wo) + jnp.sum(s**2), (o, s)

    return jax.jit(jax.value_and_grad(value, (0, 1, 2, 3, 4), has_aux=True))


@pytest.fixture(scope="module")
def one_device():
    return _value_and_grad(lightning_attention, return_final_state=True)


@pytest.mark.parametrize(
    "axes", [{"seq": 8}, {"data": 2, "seq": 4}, {"seq": 2, "model": 4}], ids=str
)
def test_equals_one_device(axes, one_device):
    where = {
        "mesh": _mesh(**axes),
        "batch_axes": "data" if "data" in axes else None,
        "head_axis": "model" if "model" in axes else None,
    }
    sharded = _value_and_grad(lightning_attention_sharded, **where)
    for slope in ("alibi", "steep", "none"):
        q, k, v, d = dataclasses.replace(CASE, slope=slope).inputs(jax.random.key(0))
        start = jax.random.normal(jax.random.key(1), (2, 4, 16, 8))
        wo = jax.random.normal(jax.random.key(2), v.shape)
        want, got = (run(q, k, v, d, start, wo) for run in (one_device, sharded))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert distance(a, b) <= 3e-5, slope


def test_half_precision_is_as_near_as_on_one_device():
    case = dataclasses.replace(CASE, dtype="bfloat16", slope="slow", value_width=16)
    q, k, v, d = case.inputs(jax.random.key(3))
    start = jax.random.normal(jax.random.key(4), (2, 4, 16, 16))
    want, _ = quadratic(q, k, v, d, start)
    one, many = (
        jax.jit(lambda q, start: run(q, k, v, d, initial_state=start, **how)[0])(q, start)  # noqa: B023
        for run, how in (
            (lightning_attention, {}),
            (lightning_attention_sharded, {"mesh": _mesh(seq=8)}),
        )
    )
    assert distance(many, want) <= max(2 * distance(one, want), 1e-3)


def test_segments_where_time_is_not_split():
    q, k, v, d = CASE.inputs(jax.random.key(5))
    runs = jnp.asarray([[0] * 50 + [1] * 110, [3] * 160])
    how = {"batch_axes": "data", "return_final_state": False}
    run = jax.jit(
        lambda q: lightning_attention_sharded(
            q, k, v, d, mesh=_mesh(data=2, seq=1), segment_ids=runs, **how
        )
    )
    o, final = run(q)
    assert final is None
    assert distance(o, quadratic(q, k, v, d, runs=runs)[0]) <= 3e-5
    with pytest.raises(ValueError, match="segment_ids cannot be combined with time split over seq"):
        lightning_attention_sharded(q, k, v, d, mesh=_mesh(seq=8), segment_ids=runs)


def test_tokens_are_never_gathered():
    q, k, v, d = CASE.inputs(jax.random.key(0))
    mesh = _mesh(seq=8)
    run = jax.jit(lambda q: lightning_attention_sharded(q, k, v, d, mesh=mesh)[0])
    text = run.lower(q).compile().as_text()
    gathers = [line for line in text.splitlines() if " all-gather(" in line]
    assert len(gathers) == 1
    assert "f32[8,2,4,16,8]" in gathers[0], gathers  # eight states, whatever the length


def test_bad_meshes():
    q, k, v, d = CASE.inputs(jax.random.key(0))
    with pytest.raises(ValueError, match="got axis 'time'"):
        lightning_attention_sharded(q, k, v, d, mesh=_mesh(seq=8), seq_axis="time")
    with pytest.raises(ValueError, match="seq=8 must divide the length; got t=100"):
        cut = (x[:, :100] for x in (q, k, v))
        lightning_attention_sharded(*cut, d, mesh=_mesh(seq=8))
