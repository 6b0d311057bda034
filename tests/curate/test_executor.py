"""The same answer in process, on Daft, and on Ray."""

import importlib.util
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from jaxml.curate import engine, executor
from tests.curate import deadly

from .test_engine import PIPE, corpus, read_all, straight, write  # noqa: F401

needs_daft = pytest.mark.skipif(
    importlib.util.find_spec("daft") is None, reason="needs jaxml[curate-dist]"
)

SCRIPT = """
import json, sys
from tests.curate.test_engine import PIPE
from jaxml.curate import engine, executor
from jaxml.curate.pipeline import Pipeline
pipe = Pipeline(PIPE.stages, part_docs=int(sys.argv[4]))
report = engine.run(pipe, [sys.argv[2]], sys.argv[3], engine=sys.argv[1])
print(json.dumps([report.num_read, report.num_written]))
"""


VICTIM = "_measure 01-empty/part-00000-00004.parquet"
KILL = f"""
import sys
from jaxml.curate import executor
from tests.curate import deadly
executor.ENGINES = {{"ray": deadly.ray(sys.argv[5], {VICTIM!r})}}
"""


def begun(name, source, out, part_docs, *more, script=SCRIPT):
    """A run in a process of its own, to its end whatever that is."""
    env = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
    words = [name, source, out, part_docs, *more]
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def in_a_process(*words, **more):
    done = begun(*words, **more)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@needs_daft
def test_daft_gives_the_answer_of_this_process(straight, tmp_path):  # noqa: F811
    source = write(tmp_path / "in.jsonl", corpus()[::-1])
    got = in_a_process("daft", source, tmp_path / "out", 13)
    assert got == [straight[1].num_read, straight[1].num_written]
    assert read_all(tmp_path / "out") == read_all(straight[0])


@needs_daft
@pytest.mark.slow
@pytest.mark.parametrize("part_docs", [13, 1000])
def test_ray_gives_the_answer_of_this_process(straight, tmp_path, part_docs):  # noqa: F811
    pytest.importorskip("ray")
    source = write(tmp_path / "in.jsonl", corpus()[::-1])
    got = in_a_process("ray", source, tmp_path / "out", part_docs)
    assert got == [straight[1].num_read, straight[1].num_written]
    assert read_all(tmp_path / "out") == read_all(straight[0])


@needs_daft
@pytest.mark.slow
def test_a_killed_ray_worker_loses_nothing_and_repeats_little(straight, tmp_path):  # noqa: F811
    """A worker is killed while it has a part in hand; the same call then goes on to the end."""
    pytest.importorskip("ray")
    source, out = write(tmp_path / "in.jsonl", corpus()[::-1]), tmp_path / "out"
    words = ("ray", source, out, 13, tmp_path)
    done = begun(*words, script=KILL + SCRIPT)
    assert (tmp_path / deadly.KILLED).exists(), done.stderr[-3000:]
    if done.returncode:  # Ray gave the task up, and the run with it
        done = begun(*words, script=KILL + SCRIPT)
    assert done.returncode == 0, done.stderr[-3000:]
    got = json.loads(done.stdout.splitlines()[-1])
    assert got == [straight[1].num_read, straight[1].num_written]
    assert read_all(out) == read_all(straight[0])
    # every part once a step, and once more at most what workers had in hand
    calls = (tmp_path / deadly.CALLS).read_text().splitlines()
    again = [call for call in set(calls) if calls.count(call) > 1]
    assert calls.count(VICTIM) == 2 and len(again) <= 1 + (os.cpu_count() or 1), sorted(again)


def test_engines_are_named():
    with pytest.raises(
        ValueError, match="engine must be one of local, daft, ray; got engine='spark'"
    ):
        executor.choose("spark")


def test_a_missing_engine_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "daft", None)
    source = write(tmp_path / "in.jsonl", corpus(3))
    with pytest.raises(ImportError, match=r"daft: pip install 'jaxml-lab\[curate-dist\]'"):
        engine.run(PIPE, [source], tmp_path / "out", engine="daft")
    # what was begun goes on with another engine
    report = engine.run(PIPE, [source], tmp_path / "out")
    assert pq.read_table(tmp_path / "out/data").num_rows == report.num_written


def test_no_library_calls_home():
    assert executor.QUIET["DO_NOT_TRACK"] == "true"
    assert executor.QUIET["RAY_USAGE_STATS_ENABLED"] == "0"
