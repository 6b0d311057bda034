import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import optax
import pytest
import tiny_problem

from jaxml.core import files
from jaxml.dist import mesh, shard
from jaxml.dist.rules import DATA
from jaxml.train import checkpoint, hooks, run, state
from jaxml.train.run import RunConfig

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def launch(folder):
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
    }
    command = [sys.executable, str(HERE / "killable_run.py"), str(folder)]
    with (folder.parent / f"{folder.name}.err").open("a") as errors:
        return subprocess.Popen(command, env=environment, stderr=errors)


def logged_steps(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def kill_after(folder, num_logged, delay):
    """Runs until so many steps are logged and a little longer, then SIGKILL."""
    process = launch(folder)
    while logged_steps(folder) < num_logged and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    return process.wait(timeout=60)


def arrays(folder):
    with np.load(folder / "final.npz", allow_pickle=False) as content:
        return dict(content)


def test_killed_five_times_it_ends_with_the_same_bits(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    undisturbed = launch(straight)
    draw = random.Random(0)
    for part in range(5):
        target = 17 * part + draw.randint(6, 12)
        assert kill_after(killed, target, draw.uniform(0.0, 0.06)) == -signal.SIGKILL
        assert not (killed / "final.npz").exists()
    assert launch(killed).wait(timeout=100) == 0, (tmp_path / "killed.err").read_text()
    assert undisturbed.wait(timeout=100) == 0, (tmp_path / "straight.err").read_text()
    want, got = arrays(straight), arrays(killed)
    assert want["step"] == 90 and want["num_rejected"] == 2
    assert want.keys() == got.keys() and len(want) > 12
    for path, array in want.items():
        assert got[path].dtype == array.dtype and got[path].tobytes() == array.tobytes(), path
    lines = (straight / "metrics.jsonl").read_text()
    assert (killed / "metrics.jsonl").read_text() == lines
    assert [json.loads(line)["step"] for line in lines.splitlines()] == list(range(1, 91))
    left = sorted(p.name for p in (killed / "checkpoints").glob("step*"))
    assert left == ["step_00000087", "step_00000090"]


def train(folder, cfg, batches=None, params=None, **options):
    return run.train(
        tiny_problem.noisy_loss_fn,
        tiny_problem.params() if params is None else params,
        optax.adam(1e-2),
        tiny_problem.Batches() if batches is None else batches,
        cfg,
        key=jax.random.key(0),
        folder=folder,
        extra=tiny_problem.extra(),
        **options,
    )


def plain(now):
    return jax.device_get(now.replace(key=jax.random.key_data(now.key)))


@pytest.mark.parametrize("kind", ["positions", "a plain generator"])
def test_a_run_in_two_parts_equals_a_straight_one(tmp_path, kind):
    def batches():
        made = tiny_problem.Batches()
        return made if kind == "positions" else (batch for batch in made)

    cfg = RunConfig(num_steps=8, log_every=1, save_every=3)
    want = train(tmp_path / "straight", cfg, batches())
    stop = hooks.Every(lambda event: event.step == 5, 1)
    middle = train(tmp_path / "parts", cfg, batches(), watch=[stop])
    assert int(middle.step) == 5
    got = train(tmp_path / "parts", cfg, batches())
    chex.assert_trees_all_equal(plain(got), plain(want))
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("straight", "parts")]
    assert logs[0] == logs[1]


def test_sigterm_saves_and_stops(tmp_path):
    def terminate(event):
        if event.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    last = train(tmp_path, RunConfig(num_steps=1000), watch=[terminate])
    assert int(last.step) in (4, 5)
    assert checkpoint.steps(tmp_path / "checkpoints") == [int(last.step)]


def test_a_time_budget_saves_and_stops(tmp_path):
    def wait(event):
        time.sleep(0.02)

    cfg = RunConfig(num_steps=100_000, time_budget_s=0.2)
    last = train(tmp_path, cfg, watch=[wait])
    assert 0 < int(last.step) < 100_000
    assert checkpoint.steps(tmp_path / "checkpoints") == [int(last.step)]


def test_a_run_begun_on_eight_devices_goes_on_on_one(tmp_path):
    cfg = RunConfig(num_steps=6, save_every=3)
    line = mesh.make(mesh.MeshConfig(data=8))
    params = shard.put(tiny_problem.params(), shard.replicated(line))
    rows = shard.batch_sharding(line, DATA)
    half = RunConfig(num_steps=3, save_every=3)
    train(tmp_path / "parts", half, params=params, batch_sharding=rows)
    got = train(tmp_path / "parts", cfg)
    want = train(tmp_path / "straight", cfg)
    assert len(got.params["up"]["kernel"].sharding.device_set) == 1
    chex.assert_trees_all_close(plain(got), plain(want), rtol=1e-4, atol=1e-5)


def test_a_damaged_newest_checkpoint(tmp_path, caplog):
    cfg = RunConfig(num_steps=4, save_every=2)
    want = train(tmp_path, cfg)
    newest = checkpoint.path_of(tmp_path / "checkpoints", 4)
    (newest / "iterator-0.json").unlink()
    strict = RunConfig(num_steps=4, save_every=2, resume="strict")
    with pytest.raises(checkpoint.CheckpointError, match="step_00000004 is damaged"):
        train(tmp_path, strict)
    got = train(tmp_path, cfg)
    chex.assert_trees_all_equal(plain(got), plain(want))
    assert "step_00000004 is damaged: iterator-0.json is missing" in caplog.text
    # The damaged one has given its name to the new one.
    assert checkpoint.restore(tmp_path / "checkpoints", state.abstract(got), 4, "strict").step == 4


def test_a_second_process_is_told(tmp_path):
    with (
        files.lock(tmp_path / "checkpoints"),
        pytest.raises(files.FolderInUseError, match=f"being written by process {os.getpid()}"),
    ):
        train(tmp_path, RunConfig(num_steps=1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_steps": -1}, "num_steps must be >= 0"),
        ({"save_every": 0}, "save_every must be > 0"),
        ({"resume": "stric"}, "did you mean 'strict'"),
        ({"ema_decay": 1.5}, r"ema_decay must lie in \[0, 1\]"),
        ({"time_budget_s": 0.0}, "time_budget_s must be > 0"),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**values)
