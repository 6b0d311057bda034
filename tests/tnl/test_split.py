"""Loss and gradients split over eight devices are those of one; tokens stay where they are."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml import tnl
from jaxml.dist import mesh, payload, rules, shard
from jaxml.tnl import train as training
from jaxml.tnl.config import TNLConfig
from tests.tnl import oracle

LOW = TNLConfig(64, 16, 1, 2, 16, lrpe_layers=())
SPLIT = TNLConfig(40, 24, 2, 4, 24, lrpe_layers=(0, 1), init_std=0.3)
IDS = jnp.asarray(np.random.default_rng(0).integers(0, 40, (8, 17)), jnp.int32)
BATCH = {"inputs": IDS[:, :-1], "targets": IDS[:, 1:]}


def _value(lm):
    return jax.jit(jax.value_and_grad(lambda p, b: tnl.next_token(lm, p, b)[0]))


@pytest.fixture(scope="module")
def on_one_device():
    lm = tnl.language_model(SPLIT)
    return jax.device_get(_value(lm)(oracle.drawn(lm), BATCH))


@pytest.mark.parametrize(
    "axes", [{"data": 2, "seq": 4}, {"fsdp": 2, "model": 2, "seq": 2}], ids=str
)
def test_sharded_loss_and_gradients_equal_one_device(axes, on_one_device):
    where = mesh.make(mesh.MeshConfig(**axes))
    lm = training.build(training.TrainConfig(model=SPLIT), 40, where)
    params = shard.put(oracle.drawn(lm), shard.shardings(lm.declared, where, rules.TENSOR))
    got = _value(lm)(params, shard.put(BATCH, shard.batch_sharding(where, rules.TENSOR)))
    chex.assert_trees_all_close(jax.device_get(got), on_one_device, rtol=2e-4, atol=2e-5)


def test_packed_rows_over_eight_devices_equal_one_device():
    segments = jnp.asarray(np.sort(np.random.default_rng(1).integers(0, 3, (8, 16))), jnp.int32)
    batch = BATCH | {"segment_ids": segments}
    where = mesh.make(mesh.MeshConfig(data=2, fsdp=4))
    cfg = TNLConfig(40, 24, 1, 4, 24, init_std=0.3)
    whole, lm = tnl.language_model(cfg), training.build(training.TrainConfig(model=cfg), 40, where)
    params = oracle.drawn(whole)
    placed = shard.put(params, shard.shardings(lm.declared, where, rules.TENSOR))
    got = _value(lm)(placed, shard.put(batch, shard.batch_sharding(where, rules.TENSOR)))
    want = _value(whole)(params, batch)
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(want), rtol=2e-4, atol=2e-5)


def test_the_transformer_over_eight_devices_equals_one_device():
    cfg = training.TrainConfig(model=TNLConfig(40, 24, 1, 4, 24), architecture="transformer")
    where = mesh.make(mesh.MeshConfig(data=2, fsdp=2, model=2))
    whole, lm = training.build(cfg, 40), training.build(cfg, 40, where)
    params = oracle.drawn(whole)
    placed = shard.put(params, shard.shardings(lm.declared, where, rules.TENSOR))
    got = _value(lm)(placed, shard.put(BATCH, shard.batch_sharding(where, rules.TENSOR)))
    want = _value(whole)(params, BATCH)
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(want), rtol=2e-4, atol=2e-5)


def test_a_batch_that_the_mesh_does_not_divide_is_computed_too():
    where = mesh.make(mesh.MeshConfig(data=8))
    cfg = TNLConfig(40, 24, 1, 4, 24, init_std=0.3)
    whole, lm = tnl.language_model(cfg), training.build(training.TrainConfig(model=cfg), 40, where)
    params, run = oracle.drawn(whole), jax.jit(tnl.next_token, static_argnums=0)
    batch = {name: ids[:3] for name, ids in BATCH.items()}
    got, want = (
        run(lm, shard.put(params, shard.replicated(where)), batch),
        run(whole, params, batch),
    )
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(want), rtol=2e-5)


def _sent(axes, rows, seq_len):
    """Bytes of collectives of a loss and its gradients, by kind."""
    where = mesh.make(mesh.MeshConfig(**axes))
    lm = training.build(training.TrainConfig(model=LOW), 64, where)
    place = shard.batch_sharding(where, rules.TENSOR)
    ids = jax.ShapeDtypeStruct((rows, seq_len), jnp.int32, sharding=place)
    params = shard.abstract(lm.declared, where, rules.TENSOR)
    compiled = _value(lm).lower(params, {"inputs": ids, "targets": ids}).compile()
    return payload.collectives(compiled.as_text() or "")


@pytest.mark.parametrize(
    ("axes", "one", "more"),
    [
        pytest.param({"seq": 8}, (1, 64), (1, 512), id="seq"),
        pytest.param({"fsdp": 8}, (8, 16), (8, 128), id="fsdp", marks=pytest.mark.slow),
    ],
)
def test_what_is_sent_does_not_depend_on_the_number_of_tokens(axes, one, more):
    sent = _sent(axes, *one)
    assert sent == _sent(axes, *more)
    # Parameters gathered (twice at most), their gradients summed, states: no activations.
    size = 4 * tnl.language_model(LOW).num_params()
    states = 3 * 8 * 4 * 2 * 8 * 8
    assert size <= sent["all-reduce"] <= 2.5 * size
    assert sent["all-gather"] <= (states if "seq" in axes else 3 * size)


def test_bad_meshes():
    where = mesh.make(mesh.MeshConfig(seq=8))
    hybrid = tnl.TNLConfig(40, 24, 2, 4, 24, softmax_layers=(1,))
    with pytest.raises(ValueError, match=r"seq > 1; got softmax_layers=\(1,\)"):
        training.build(training.TrainConfig(model=hybrid), 40, where)
