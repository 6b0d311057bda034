import os
import signal

import jax.numpy as jnp
import pytest
import tiny_problem

from jaxml.train import hooks, loop
from jaxml.train.metric import Throughput


def event(step, num_steps=10, batches=None, **metrics):
    metrics = {"loss": jnp.float32(0.5), **metrics}
    return loop.Event(step, num_steps, None, metrics, batches or iter([]))


def test_every_calls_where_it_is_due_and_hands_on_the_answer():
    seen = []
    hook = hooks.Every(lambda e: seen.append(e.step) or e.step == 8, 4)
    assert [hook(event(step)) for step in range(1, 11)].index(True) == 7
    assert seen == [4, 8, 10]


def test_evaluate_names_its_results():
    hook = hooks.Evaluate(lambda state: {"loss": jnp.float32(1.5)}, every=2, name="test")
    odd, even = event(1), event(2)
    hook(odd)
    hook(even)
    assert odd.results == {} and even.results == {"test/loss": 1.5}


def test_speed_in_items_per_second():
    times = iter([0.0, 4.0, 5.0])
    hook = hooks.Speed(100, every=2, name="rows", meter=Throughput(clock=lambda: next(times)))
    events = [event(step) for step in (2, 3, 4, 6)]
    for each in events:
        hook(each)
    assert [e.results for e in events] == [{}, {}, {"rows_per_s": 50.0}, {"rows_per_s": 200.0}]


def test_every_line_tells_the_speed_and_its_share_of_the_peak(monkeypatch):
    monkeypatch.setattr(hooks.metric, "peak_flops", lambda kind=None: 8 * 1e3)
    times = iter([0.0, 4.0, 6.0])
    meter = Throughput(clock=lambda: next(times))
    hook = hooks.Speed(100, every=5, flops_per_item=160.0, meter=meter)
    events = [event(step) for step in range(1, 11)]
    for each in events:
        hook(each)
    told = {e.step: e.results for e in events if e.results}
    assert set(told) == {5, 10}  # the first step compiles: it only starts the clock
    assert told[5] == {"tokens_per_s": 100.0, "mfu": 100 * 160 / (8 * 8e3)}
    assert told[10] == {"tokens_per_s": 250.0, "mfu": 250 * 160 / (8 * 8e3)}


class Writer:
    """Stands in for a Checkpointer: writes down what it was given."""

    def __init__(self):
        self.calls = []

    def save(self, state, iterator_state=None):
        self.calls.append(iterator_state)

    def wait(self):
        self.calls.append("wait")


def test_checkpoint_saves_where_due_and_at_the_end_once():
    batches, writer = tiny_problem.Batches(), Writer()
    hook = hooks.Checkpoint(writer, every=2)
    for step in (1, 2, 3):
        next(batches)
        hook(event(step, batches=batches))
    hook.finish(event(3, batches=batches))
    assert writer.calls == [{"next": 2}, {"next": 3}, "wait"]
    hook(event(4, batches=iter([])))
    hook.finish(event(4, batches=iter([])))
    assert writer.calls[3:] == [None, "wait"]


def test_time_budget():
    now = [100.0]
    with hooks.TimeBudget(5.0, clock=lambda: now[0]) as hook:
        assert not hook(event(1))
        now[0] = 104.9
        assert not hook(event(2))
        now[0] = 105.0
        assert hook(event(3))


def test_a_signal_stops_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with hooks.StopOnSignal() as hook:
        assert not hook(event(1))
        os.kill(os.getpid(), signal.SIGTERM)
        assert hook(event(2)) and hook.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "make",
    [
        lambda: hooks.Every(print, 0),
        lambda: hooks.Evaluate(lambda state: {}, 0),
        lambda: hooks.Checkpoint(Writer(), 0),
        lambda: hooks.Speed(10, 0),
    ],
)
def test_every_must_be_positive(make):
    with pytest.raises(ValueError, match="every must be > 0; got every=0"):
        make()


def test_a_budget_must_be_positive():
    with pytest.raises(ValueError, match="seconds must be > 0"):
        hooks.TimeBudget(0.0)
