import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import joined_worker
import numpy as np
import pytest

from jaxml.dist import mesh, processes, shard
from jaxml.dist.rules import DATA

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_cluster(monkeypatch):
    for name in processes.VARIABLES.values():
        monkeypatch.delenv(name, raising=False)


def test_nothing_given_is_a_single_process(no_cluster):
    assert processes.start() is False
    assert processes.is_main()
    processes.barrier("alone")
    assert processes.any_true(True) is True
    assert processes.from_main(3) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"coordinator": "a:1"}, "num_processes .or JAX_NUM_PROCESSES. and process_id"),
        (
            {"coordinator": "a", "num_processes": 2, "process_id": 0},
            "must be host:port; got coordinator='a'",
        ),
        (
            {"coordinator": "a:1", "num_processes": 2, "process_id": 2},
            r"process_id must lie in \[0, 1\]",
        ),
        ({"coordinator": "a:1", "num_processes": 0, "process_id": 0}, "num_processes must be > 0"),
    ],
)
def test_what_is_missing_or_wrong_is_named(no_cluster, given, message):
    with pytest.raises(ValueError, match=message):
        processes.start(**given)


def test_the_environment_stands_in_for_arguments(no_cluster, monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ValueError, match="num_processes='two'"):
        processes.start(process_id=0)


def test_a_batch_of_one_process_is_placed():
    line = mesh.make(mesh.MeshConfig(data=8))
    batch = {"x": np.arange(16).reshape(8, 2)}
    placed = processes.global_batch(batch, shard.batch_sharding(line, DATA))
    np.testing.assert_array_equal(placed["x"], batch["x"])
    assert len({s.device for s in placed["x"].addressable_shards}) == 8


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_train_as_one(tmp_path):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    port = str(free_port())
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "tests/dist/joined_worker.py"),
                port,
                str(index),
                str(tmp_path),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [worker.communicate(timeout=100)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(outputs)
    first, second = (json.loads((tmp_path / f"{index}.json").read_text()) for index in range(2))
    assert first["main"] and not second["main"]
    assert first == second | {"main": True}
    assert first["devices"] == 4
    assert first["same"] and first["any"] and first["from_main"] == 7
    # Asked to stop at 11, agreed on at the next multiple of 8, and saved there.
    assert first["step"] == first["restored"] == 16
    np.testing.assert_allclose(first["w"], single_process_answer(16), rtol=1e-5, atol=1e-6)


def single_process_answer(num_steps):
    """The same Adam on the whole batch, in NumPy float64."""
    w, mean, square = np.zeros(3), np.zeros(3), np.zeros(3)
    for number, batch in enumerate(joined_worker.all_batches()[:num_steps], start=1):
        x, y = (batch[name].astype(np.float64) for name in "xy")
        gradient = 2 * x.T @ (x @ w - y) / len(y)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        w -= 0.1 * (mean / (1 - 0.9**number)) / (np.sqrt(square / (1 - 0.999**number)) + 1e-8)
    return w


def test_a_process_that_already_uses_devices_cannot_join(no_cluster):
    jax.devices()
    with pytest.raises(RuntimeError, match="before any JAX"):
        processes.start(f"127.0.0.1:{free_port()}", 1, 0)
