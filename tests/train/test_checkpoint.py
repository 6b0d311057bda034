import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxml.core import files
from jaxml.core.param import Param
from jaxml.dist import mesh, shard
from jaxml.dist.rules import TENSOR
from jaxml.train import checkpoint, state
from jaxml.train.checkpoint import Checkpointer, CheckpointError

ROOT = Path(__file__).resolve().parents[2]
NORMAL = jax.nn.initializers.normal(1.0)


def make(step=0, width=6, optimizer=None, dtype=jnp.float32):
    params = {
        "kernel": jnp.arange(4 * width, dtype=dtype).reshape(4, width) + step,
        "none": jnp.zeros((0, 3)),
        "half": jnp.full(3, 1.1, jnp.bfloat16),
    }
    optimizer = optimizer or optax.adam(1e-3)
    made = state.create(jax.random.key(3), params, optimizer, extra={"seen": step}, ema=True)
    return made.replace(step=jnp.int32(step))


def plain(tree):
    return jax.device_get(tree.replace(key=jax.random.key_data(tree.key)))


def save_some(folder, steps=(1, 2), keep=3):
    with Checkpointer(folder, keep) as writer:
        for step in steps:
            writer.save(make(step), {"next": step})


def test_what_is_saved_comes_back(tmp_path):
    save_some(tmp_path)
    found = checkpoint.restore(tmp_path, state.abstract(make()))
    chex.assert_trees_all_equal(plain(found.state), plain(make(2)))
    chex.assert_trees_all_equal_dtypes(plain(found.state), plain(make(2)))
    assert found.state.key.dtype == make().key.dtype
    assert (found.iterator_state, found.step) == ({"next": 2}, 2)
    first = checkpoint.restore(tmp_path, make(), step=1)
    chex.assert_trees_all_equal(plain(first.state), plain(make(1)))


@pytest.mark.parametrize("position", [None, {"a": [1, None, "b"]}, b"\x00grain"])
def test_positions_of_iterators(tmp_path, position):
    with Checkpointer(tmp_path) as writer:
        writer.save(make(1), position)
    assert checkpoint.restore(tmp_path, make()).iterator_state == position


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg"])
def test_keys_of_every_generator(tmp_path, generator):
    made = make(1).replace(key=jax.random.key(9, impl=generator))
    with Checkpointer(tmp_path) as writer:
        writer.save(made)
    got = checkpoint.restore(tmp_path, state.abstract(made)).state
    assert jax.random.key_impl(got.key) == jax.random.key_impl(made.key)
    np.testing.assert_array_equal(jax.random.key_data(got.key), jax.random.key_data(made.key))


def test_the_newest_are_kept(tmp_path):
    save_some(tmp_path, range(1, 6), keep=2)
    assert checkpoint.steps(tmp_path) == [4, 5]
    assert not list(tmp_path.glob("*.part"))


def test_saving_goes_on_in_the_background_while_the_state_is_donated(tmp_path, monkeypatch):
    go, seal = threading.Event(), checkpoint.manifest.seal
    monkeypatch.setattr(checkpoint.manifest, "seal", lambda *a: (go.wait(30), seal(*a)))
    change = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)
    made = make(7)
    with Checkpointer(tmp_path) as writer:
        writer.save(made)
        gone = change(made.replace(key=jnp.zeros(())))
        jax.block_until_ready(gone)
        assert checkpoint.steps(tmp_path) == []
        go.set()
    found = checkpoint.restore(tmp_path, make())
    chex.assert_trees_all_equal(plain(found.state), plain(make(7)))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda c: truncate(largest(c / "state")), "bytes, expected"),
        (lambda c: flip(largest(c / "state")), "SHA-256 differs"),
        (lambda c: largest(c / "state").unlink(), "is missing"),
        (lambda c: flip(c / "iterator-0.json"), "SHA-256 differs"),
        (lambda c: (c / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda c: truncate(c / "manifest.json") or truncate(c / "manifest.json"), "not readable"),
    ],
    ids=["truncated", "flipped", "missing", "position", "no manifest", "torn manifest"],
)
def test_damage_is_found_and_named(tmp_path, caplog, damage, words):
    save_some(tmp_path)
    damage(tmp_path / "step_00000002")
    for step in ("latest", 2):
        with pytest.raises(CheckpointError, match=f"step_00000002 is damaged: .*{words}"):
            checkpoint.restore(tmp_path, make(), step, resume="strict")
    found = checkpoint.restore(tmp_path, make(), resume="auto")
    assert found.step == 1
    chex.assert_trees_all_equal(plain(found.state), plain(make(1)))
    assert "step_00000002 is damaged" in caplog.text and words in caplog.text
    with pytest.raises(CheckpointError, match="step_00000002 is damaged"):
        checkpoint.restore(tmp_path, make(), step=2, resume="auto")


def test_all_damaged(tmp_path):
    save_some(tmp_path)
    for step in (1, 2):
        truncate(largest(tmp_path / f"step_0000000{step}" / "state"))
    with pytest.raises(CheckpointError, match="step_00000002 is damaged.*step_00000001 is damaged"):
        checkpoint.restore(tmp_path, make())


def test_nothing_to_restore(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        checkpoint.restore(tmp_path / "nowhere", make())
    save_some(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 5; it has 1, 2"):
        checkpoint.restore(tmp_path, make(), step=5)
    with pytest.raises(ValueError, match="did you mean 'strict'"):
        checkpoint.restore(tmp_path, make(), resume="strickt")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (lambda: make(width=5), ["params/kernel is float32[4, 6], expected float32[4, 5]"]),
        (
            lambda: make(dtype=jnp.float16),
            ["params/kernel is float32[4, 6], expected float16[4, 6]"],
        ),
        (
            lambda: make(optimizer=optax.sgd(0.1)),
            ["unexpected opt_state/0/mu/kernel", "opt_state/0/count"],
        ),
        (
            lambda: make().replace(extra={"other": 1}),
            ["missing extra/other", "unexpected extra/seen"],
        ),
    ],
    ids=["shape", "dtype", "optimizer", "path"],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, template, words):
    save_some(tmp_path)
    with pytest.raises(CheckpointError) as error:
        checkpoint.restore(tmp_path, jax.eval_shape(template))
    assert "step_00000002 does not fit" in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_a_second_writer_is_told(tmp_path):
    with Checkpointer(tmp_path), pytest.raises(files.FolderInUseError, match="is being written by"):
        Checkpointer(tmp_path)
    Checkpointer(tmp_path).close()


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    save_some(tmp_path)
    (tmp_path / "step_00000003.part" / "state").mkdir(parents=True)
    with Checkpointer(tmp_path) as writer:
        assert not list(tmp_path.glob("*.part"))
        assert writer.restore(make()).step == 2


def test_a_history_that_was_left_is_set_aside_not_mixed_in(tmp_path):
    save_some(tmp_path, (1, 2, 3, 4))
    with Checkpointer(tmp_path) as writer:
        writer.save(make(3), {"next": "new"})
    assert checkpoint.steps(tmp_path) == [2, 3]
    assert checkpoint.restore(tmp_path, make()).iterator_state == {"next": "new"}
    assert {p.name for p in tmp_path.glob("*.abandoned")} == {
        "step_00000003.abandoned",
        "step_00000004.abandoned",
    }


def failing_seal(*_):
    raise OSError(28, "No space left on device")


def test_a_failed_write_is_reported_and_the_previous_checkpoint_stays(tmp_path, monkeypatch):
    save_some(tmp_path)
    writer = Checkpointer(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.manifest, "seal", failing_seal)
        writer.save(make(3))
        with pytest.raises(CheckpointError, match="step 3 could not be .*No space left.*is step 2"):
            writer.save(make(4))
    writer.save(make(5))
    writer.close()
    assert checkpoint.steps(tmp_path) == [1, 2, 5]
    assert not list(tmp_path.glob("*.part"))


FULL_DISK = """
import resource, sys
import jax.numpy as jnp
from jaxml.train import checkpoint
from test_checkpoint import make
with checkpoint.Checkpointer(sys.argv[1]) as writer:
    writer.save(make(1))
    writer.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    writer.save(make(2, width=100_000))
    writer.wait()
"""


def test_a_full_disk(tmp_path):
    paths = [str(ROOT), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    last = [line for line in done.stderr.splitlines() if "CheckpointError" in line][-1]
    assert "the checkpoint of step 2 could not be written" in last
    assert "File too large" in last and "the last good one is step 1" in last
    assert checkpoint.steps(tmp_path) == [1] and not list(tmp_path.glob("*.part"))
    chex.assert_trees_all_equal(plain(checkpoint.restore(tmp_path, make()).state), plain(make(1)))


@pytest.mark.parametrize("num_devices", [1, 4, 8])
def test_onto_another_mesh(tmp_path, key, num_devices):
    declared = {"kernel": Param((8, 4), ("embed", "mlp"), NORMAL)}
    optimizer = optax.adam(1e-3)
    before = mesh.make(mesh.MeshConfig(fsdp=4, model=2))
    made = state.create(key, shard.init_sharded(key, declared, before, TENSOR), optimizer)
    with Checkpointer(tmp_path) as writer:
        writer.save(made)
    devices = jax.devices()[:num_devices]
    after = mesh.make(mesh.MeshConfig(data=-1, fsdp=min(2, num_devices)), devices)
    other = state.create(key, shard.init_sharded(key, declared, after, TENSOR), optimizer)
    got = checkpoint.restore(tmp_path, state.abstract(other)).state
    chex.assert_trees_all_equal(plain(got), plain(made))
    assert got.params["kernel"].sharding == NamedSharding(after, PartitionSpec("fsdp", "model"))
    assert got.opt_state[0].mu["kernel"].sharding == got.params["kernel"].sharding
    assert set(got.step.devices()) == set(devices)


def test_nothing_is_pickled(tmp_path):
    save_some(tmp_path)
    written = [p for p in (tmp_path / "step_00000002").rglob("*") if p.is_file()]
    assert not [p for p in written if p.suffix in (".pkl", ".pickle", ".npy")]
    assert not [p for p in written if p.read_bytes()[:1] == b"\x80"]
    listed = json.loads((tmp_path / "step_00000002/manifest.json").read_text())
    names = {p.relative_to(tmp_path / "step_00000002").as_posix() for p in written}
    assert names == {*listed["files"], "manifest.json"}


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="keep must be >= 1; got keep=0"):
        Checkpointer(tmp_path, keep=0)
