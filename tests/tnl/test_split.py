"""Loss and gradients split over eight devices are those of one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml import tnl
from jaxml.dist import mesh, rules, shard
from jaxml.tnl import train as training
from jaxml.tnl.config import TNLConfig
from tests.tnl import oracle

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
