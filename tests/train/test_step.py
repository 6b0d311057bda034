import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_problem

from jaxml.dist import mesh, shard
from jaxml.dist.rules import FSDP, TENSOR
from jaxml.train import state
from jaxml.train.step import Loss, make_step


def start(optimizer, params=None, **options):
    made = tiny_problem.params() if params is None else params
    extra = tiny_problem.extra()
    return state.create(jax.random.key(1), made, optimizer, extra=extra, **options)


def run(step, now, batches, num=3):
    metrics = []
    for _ in range(num):
        now, got = step(now, next(batches))
        metrics.append(jax.device_get(got))
    return jax.device_get(with_key_data(now)), metrics


def with_key_data(now):
    return now.replace(key=jax.random.key_data(now.key))


def numpy_loss_and_gradient(params, batch):
    """Float64 transcription of the tiny problem, differentiated by hand."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x, y, mask = (np.asarray(batch[name], np.float64) for name in ("x", "y", "mask"))
    hidden = np.tanh(x @ params["up"]["kernel"])
    error = (hidden @ params["down"]["kernel"])[:, 0] + params["down"]["bias"] - y
    slope = 2 * error * mask / mask.sum()
    inner = slope[:, None] * params["down"]["kernel"][:, 0] * (1 - hidden**2)
    gradient = {
        "up": {"kernel": x.T @ inner},
        "down": {"kernel": hidden.T @ slope[:, None], "bias": slope.sum(keepdims=True)},
    }
    return (error**2 * mask).sum() / mask.sum(), gradient


def test_a_step_of_gradient_descent():
    optimizer = optax.sgd(0.1)
    params, batch = tiny_problem.params(), next(tiny_problem.Batches())
    loss, gradient = numpy_loss_and_gradient(params, batch)
    after, metrics = make_step(tiny_problem.loss_fn, optimizer)(start(optimizer), batch)
    want = jax.tree.map(lambda p, g: (p - 0.1 * g).astype(np.float32), params, gradient)
    chex.assert_trees_all_close(jax.device_get(after.params), want, rtol=1e-5, atol=1e-6)
    norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    size = (np.abs(batch["y"]) * batch["mask"]).sum() / batch["mask"].sum()
    np.testing.assert_allclose(metrics["size"], size, rtol=1e-5)
    assert int(after.step) == 1 and int(after.extra["num_rows"]) == 8


@pytest.mark.parametrize("accumulate", [2, 8])
def test_accumulation_is_the_big_batch_even_with_masks(accumulate):
    # 8 rows in 8 parts leave parts without any unmasked row.
    optimizer = optax.adam(1e-2)
    big = make_step(tiny_problem.loss_fn, optimizer)
    parts = make_step(tiny_problem.loss_fn, optimizer, accumulate=accumulate)
    want, want_metrics = run(big, start(optimizer), tiny_problem.Batches())
    got, got_metrics = run(parts, start(optimizer), tiny_problem.Batches())
    chex.assert_trees_all_close(got, want, rtol=2e-5, atol=1e-6)
    chex.assert_trees_all_close(got_metrics, want_metrics, rtol=2e-5, atol=1e-6)


def test_accumulation_sums_low_precision_gradients_in_float32():
    # 1 + 255 parts of 1/256 cannot be summed in bfloat16, which stops at 1.
    def loss_fn(params, batch, key, extra):
        return Loss(jnp.mean(batch * params["w"].astype(jnp.float32)))

    optimizer = optax.sgd(1.0)
    step = make_step(loss_fn, optimizer, accumulate=256)
    now = state.create(jax.random.key(0), {"w": jnp.zeros((), jnp.bfloat16)}, optimizer)
    batch = jnp.full(256, 2.0**-7).at[0].set(2.0)
    want = -float(batch.mean())
    after, _ = step(now, batch)
    assert after.params["w"].dtype == jnp.bfloat16
    np.testing.assert_allclose(float(after.params["w"]), want, rtol=2**-8)


def test_accumulation_must_divide_the_rows():
    optimizer = optax.sgd(0.1)
    step = make_step(tiny_problem.loss_fn, optimizer, accumulate=3)
    with pytest.raises(ValueError, match=r"accumulate must divide .* accumulate=3, .* \(8,"):
        step(start(optimizer), next(tiny_problem.Batches()))
    with pytest.raises(ValueError, match="accumulate must be > 0"):
        make_step(tiny_problem.loss_fn, optimizer, accumulate=0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_changes_counters_only(accumulate):
    optimizer = optax.adam(1e-2)
    step = make_step(
        tiny_problem.loss_fn, optimizer, accumulate=accumulate, ema_decay=0.9, donate=False
    )
    batches = tiny_problem.Batches(spoiled=(1,))
    mask_all = {"mask": np.ones(8, bool)}
    first, _ = step(start(optimizer, ema=True), next(batches) | mask_all)
    second, metrics = step(first, next(batches) | mask_all)
    for name in ("params", "opt_state", "extra", "ema"):
        chex.assert_trees_all_equal(getattr(second, name), getattr(first, name))
    assert (int(second.step), int(second.num_rejected)) == (2, 1)
    assert int(metrics["rejected"]) == 1 and np.isnan(metrics["loss"])
    third, metrics = step(second, next(batches))
    assert int(metrics["rejected"]) == 0 and int(metrics["num_rejected"]) == 1
    assert not np.array_equal(third.params["up"]["kernel"], first.params["up"]["kernel"])


def test_a_finite_loss_with_a_gradient_that_is_not_is_rejected():
    def loss_fn(params, batch, key, extra):
        return Loss(jnp.sqrt(params["w"] * batch.sum()))  # At 0 the slope is infinite.

    optimizer = optax.sgd(0.1)
    now = state.create(jax.random.key(0), {"w": jnp.zeros(())}, optimizer)
    after, metrics = make_step(loss_fn, optimizer)(now, jnp.ones(2))
    assert float(metrics["loss"]) == 0.0 and int(metrics["rejected"]) == 1
    assert float(after.params["w"]) == 0.0


def test_running_mean_of_the_parameters():
    optimizer = optax.sgd(0.1)
    step = make_step(tiny_problem.loss_fn, optimizer, ema_decay=0.75, donate=False)
    now, batches = start(optimizer, ema=True), tiny_problem.Batches()
    mean = tiny_problem.params()["up"]["kernel"].astype(np.float64)
    for _ in range(4):
        now, _ = step(now, next(batches))
        mean = 0.75 * mean + 0.25 * np.asarray(now.params["up"]["kernel"], np.float64)
    np.testing.assert_allclose(now.ema["up"]["kernel"], mean, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="ema_decay=0.75, state.ema=None"):
        step(start(optimizer), next(batches))


def test_one_compilation_for_all_steps_and_metrics_outlive_the_donated_state():
    traces = []

    def loss_fn(*arguments):
        traces.append(1)
        return tiny_problem.loss_fn(*arguments)

    optimizer = optax.adam(1e-2)
    step = make_step(loss_fn, optimizer)
    now, batches, seen = start(optimizer), tiny_problem.Batches(), []
    for _ in range(4):
        before = now
        now, metrics = step(now, next(batches))
        seen.append(metrics)
    assert len(traces) == 1
    assert before.params["up"]["kernel"].is_deleted()
    assert [int(m["num_rejected"]) for m in seen] == [0] * 4


def test_every_step_and_every_part_draws_anew():
    def loss_fn(params, batch, key, extra):
        draw = jax.random.uniform(key)
        return Loss(0.0 * params["w"] + draw, metrics={"draw": draw})

    optimizer = optax.sgd(0.0)
    draws = {}
    for accumulate in (1, 2):
        now = state.create(jax.random.key(0), {"w": jnp.zeros(())}, optimizer)
        step = make_step(loss_fn, optimizer, accumulate=accumulate)
        for index in range(3):
            now, metrics = step(now, jnp.zeros(2))
            draws[accumulate, index] = float(metrics["draw"])
    assert len(set(draws.values())) == 6


def test_names_of_metrics_are_not_shadowed():
    def loss_fn(params, batch, key, extra):
        return Loss(params["w"], metrics={"grad_norm": params["w"]})

    now = state.create(jax.random.key(0), {"w": jnp.zeros(())}, optax.sgd(0.1))
    with pytest.raises(ValueError, match="got grad_norm"):
        make_step(loss_fn, optax.sgd(0.1))(now, jnp.zeros(2))


def test_without_jit_the_step_is_the_same():
    optimizer, batches = optax.sgd(0.1), tiny_problem.Batches
    want, _ = run(make_step(tiny_problem.loss_fn, optimizer), start(optimizer), batches(), 1)
    now = start(optimizer)
    with jax.disable_jit():
        got, _ = run(make_step(tiny_problem.loss_fn, optimizer), now, batches(), 1)
    chex.assert_trees_all_close(got, want, rtol=2e-5, atol=1e-6)


AXES = {
    "up": {"kernel": ("embed", "mlp")},
    "down": {"kernel": ("mlp", None), "bias": (None,)},
}
OPTIMIZER = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2))


@pytest.fixture(scope="module")
def of_one_device():
    step = make_step(tiny_problem.noisy_loss_fn, OPTIMIZER, accumulate=2, ema_decay=0.5)
    return run(step, start(OPTIMIZER, ema=True), tiny_problem.Batches(rows=16))


@pytest.mark.parametrize(
    ("sizes", "rules"),
    [
        (mesh.MeshConfig(data=8), FSDP),
        (mesh.MeshConfig(data=2, fsdp=4), FSDP),
        (mesh.MeshConfig(data=2, fsdp=2, model=2), TENSOR),
        (mesh.MeshConfig(model=8), TENSOR),
    ],
    ids=["data", "fsdp", "cube", "model"],
)
def test_sharded_steps_equal_those_of_one_device(of_one_device, sizes, rules):
    grid = mesh.make(sizes)
    params = jax.tree.map(
        lambda p, axes: jax.device_put(
            p, jax.sharding.NamedSharding(grid, rules.spec(axes, p.shape, grid))
        ),
        tiny_problem.params(),
        AXES,
    )
    now = start(OPTIMIZER, params, ema=True)
    places = state.shardings(now)
    step = make_step(
        tiny_problem.noisy_loss_fn, OPTIMIZER, accumulate=2, ema_decay=0.5, shardings=places
    )
    rows = shard.batch_sharding(grid, rules)
    placed = (shard.put(batch, rows) for batch in tiny_problem.Batches(rows=16))
    got, got_metrics = run(step, now, placed)
    chex.assert_trees_all_close(got, of_one_device[0], rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(got_metrics, of_one_device[1], rtol=1e-4, atol=1e-5)
