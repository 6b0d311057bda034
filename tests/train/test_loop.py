import jax
import jax.numpy as jnp
import optax
import pytest

from jaxml.train import loop, state
from jaxml.train.step import Loss, make_step


def counting_step(now, batch):
    return now.replace(step=now.step + 1, params=now.params + batch), {"loss": jnp.float32(batch)}


@pytest.fixture
def fresh(key):
    return state.create(key, jnp.zeros(()), optax.sgd(0.1))


class Recorder:
    """Writes down every call into a list that hooks share."""

    def __init__(self, name, log, stop_at=None):
        self.name, self.log, self.stop_at = name, log, stop_at

    def __call__(self, event):
        self.log.append((self.name, event.step))
        return event.step == self.stop_at

    def finish(self, event):
        self.log.append((self.name, "finish", event.step))

    def __enter__(self):
        self.log.append((self.name, "enter"))
        return self

    def __exit__(self, *_):
        self.log.append((self.name, "exit"))


def test_a_fold_over_batches(fresh):
    last = loop.fit(counting_step, fresh, iter(range(1, 100)), num_steps=4)
    assert int(last.step) == 4 and float(last.params) == 1 + 2 + 3 + 4


def test_num_steps_counts_from_the_very_first_step(fresh):
    batches = iter([1.0] * 10)
    middle = loop.fit(counting_step, fresh, batches, num_steps=3)
    last = loop.fit(counting_step, middle, batches, num_steps=5)
    assert float(last.params) == 5.0 and len(list(batches)) == 5
    assert loop.fit(counting_step, last, iter([1.0]), num_steps=5) is last


def test_no_batch_is_drawn_that_is_not_used(fresh):
    batches = iter(range(10))
    loop.fit(counting_step, fresh, batches, num_steps=3)
    assert next(batches) == 3


def test_order_of_hooks_and_a_stop(fresh):
    log = []
    hooks = [Recorder("a", log, stop_at=2), Recorder("b", log)]
    last = loop.fit(counting_step, fresh, iter([1.0] * 9), hooks, num_steps=9)
    assert int(last.step) == 2
    assert log == [
        ("a", "enter"),
        ("b", "enter"),
        ("a", 1),
        ("b", 1),
        ("a", 2),
        ("b", 2),
        ("a", "finish", 2),
        ("b", "finish", 2),
        ("b", "exit"),
        ("a", "exit"),
    ]


def test_batches_that_end_end_the_loop(fresh):
    log = []
    last = loop.fit(counting_step, fresh, iter([1.0, 2.0]), [Recorder("a", log)], num_steps=9)
    assert int(last.step) == 2 and ("a", "finish", 2) in log


def test_an_exception_leaves_hooks_but_does_not_finish_them(fresh):
    log = []

    def failing(now, batch):
        if int(now.step) == 1:
            raise OSError("no more")
        return counting_step(now, batch)

    with pytest.raises(OSError, match="no more"):
        loop.fit(failing, fresh, iter([1.0] * 3), [Recorder("a", log)], num_steps=3)
    assert log == [("a", "enter"), ("a", 1), ("a", "exit")]


def test_results_reach_later_hooks_and_metrics_stay_readable(fresh):
    seen = []

    def find(event):
        event.results["found"] = 2.0 * event.step

    def read(event):
        seen.append((event.results["found"], event.metrics))

    def loss_fn(params, batch, key, extra):
        return Loss((params - batch) ** 2)

    step = make_step(loss_fn, optax.sgd(0.1))
    loop.fit(step, fresh, iter([jnp.float32(1.0)] * 3), [find, read], num_steps=3)
    assert [result for result, _ in seen] == [2.0, 4.0, 6.0]
    losses = [float(metrics["loss"]) for _, metrics in seen]
    assert losses[0] == 1.0 and losses == sorted(losses, reverse=True)


def test_bad_number_of_steps(fresh):
    with pytest.raises(ValueError, match="num_steps must be >= 0; got num_steps=-1"):
        loop.fit(counting_step, fresh, iter([]), num_steps=-1)


def test_due_at_multiples_and_at_the_last_step():
    def due(step):
        return loop.Event(step, 7, None, {}, iter([])).due(3)

    assert [step for step in range(1, 8) if due(step)] == [3, 6, 7]
    assert jax.process_count() == 1
