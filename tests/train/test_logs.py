import io
import json

import jax.numpy as jnp
import pytest
from rich.console import Console

from jaxml.train import logs, loop


def event(step, num_steps=10, **metrics):
    metrics = {"loss": jnp.float32(step), **metrics}
    return loop.Event(step, num_steps, None, metrics, iter([]))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_where_due_and_where_something_was_found(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = logs.JsonLines(path, every=4)
    for step in range(1, 11):
        each = event(step, rejected=jnp.int32(0))
        if step == 3:
            each.results["valid/loss"] = 0.25
        log(each)
    assert [row["step"] for row in read(path)] == [3, 4, 8, 10]
    assert path.read_text().splitlines()[0] == (
        '{"step": 3, "loss": 3.0, "rejected": 0, "valid/loss": 0.25}'
    )


def test_a_resumed_log_is_that_of_a_straight_run(tmp_path):
    straight, resumed = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    log = logs.JsonLines(straight, every=1)
    for step in range(1, 7):
        log(event(step))
    first = logs.JsonLines(resumed, every=1)
    for step in range(1, 6):
        first(event(step))
    with resumed.open("a") as torn:
        torn.write('{"step": 6, "lo')
    second = logs.JsonLines(resumed, every=1)
    for step in range(4, 7):  # The checkpoint was of step 3.
        second(event(step))
    assert resumed.read_text() == straight.read_text()


def test_numbers_that_are_not_finite_are_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = logs.JsonLines(path, every=1)
    log(event(1, worst=jnp.float32(jnp.inf), none=jnp.float32(jnp.nan)))
    assert read(path) == [{"step": 1, "loss": 1.0, "worst": None, "none": None}]


def test_tensorboard_points(tmp_path):
    pytest.importorskip("tensorboardX")
    with logs.TensorBoard(tmp_path / "board", every=2) as board:
        for step in range(1, 5):
            board(event(step))
    (written,) = (tmp_path / "board").glob("events.*")
    assert written.read_bytes().count(b"loss") == 2


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def test_without_a_terminal_a_line_now_and_then():
    now = [0.0]
    out = console(terminal=False)
    with logs.Bar(line_s=30.0, console=out, clock=lambda: now[0]) as bar:
        for step in range(1, 101):
            now[0] = float(step)
            bar(event(step, num_steps=100))
    lines = out.file.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"step {step}/100" for step in (1, 31, 61, 91, 100)
    ]
    assert lines[1] == "step 31/100: loss 31.0000, 1 steps/s, 1m 09s left"


def test_rejected_steps_and_results_are_shown():
    out = console(terminal=False)
    each = event(10, num_rejected=jnp.int32(3))
    each.results["valid/loss"] = 0.123456
    with logs.Bar(console=out) as bar:
        bar(each)
    assert out.file.getvalue() == "step 10/10: loss 10.0000, 3 rejected, valid/loss 0.1235\n"


def test_on_a_terminal_a_bar():
    out = console(terminal=True)
    with logs.Bar(refresh_s=0.0, console=out) as bar:
        for step in range(1, 4):
            bar(event(step, num_steps=3))
    assert "3/3" in out.file.getvalue() and "loss 3.0000" in out.file.getvalue()


def test_every_must_be_positive(tmp_path):
    for kind in (logs.JsonLines, logs.TensorBoard):
        with pytest.raises(ValueError, match="every must be > 0"):
            kind(tmp_path / "x", every=0)
