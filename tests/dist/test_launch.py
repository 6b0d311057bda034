"""One process per device: what each is told, and that none is left behind."""

import sys
import time

import pytest

from jaxml.dist import launch
from jaxml.dist.processes import VARIABLES

TOLD = """
import os, pathlib, sys
names = sys.argv[2:]
path = pathlib.Path(sys.argv[1]) / os.environ["JAX_PROCESS_ID"]
path.write_text(" ".join(os.environ[name] for name in names))
"""


def test_every_process_has_its_gpu_and_number(tmp_path):
    names = ["CUDA_VISIBLE_DEVICES", VARIABLES["num_processes"], VARIABLES["coordinator"]]
    command = [sys.executable, "-c", TOLD, str(tmp_path), *names]
    assert launch.run(command, 3, {"CUDA_VISIBLE_DEVICES": "5,1,7"}) == 0
    told = [(tmp_path / str(index)).read_text().split() for index in range(3)]
    assert [words[0] for words in told] == ["5", "1", "7"]
    assert {words[1] for words in told} == {"3"}
    assert len({words[2] for words in told}) == 1


def test_the_rest_of_the_environment_is_kept():
    first, second = launch.environments(2, {"NCCL_NVLS_ENABLE": "0"})
    assert first["NCCL_NVLS_ENABLE"] == second["NCCL_NVLS_ENABLE"] == "0"
    assert [first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]] == ["0", "1"]


def test_where_one_fails_the_others_are_ended():
    code = "import os, sys, time; os.environ['JAX_PROCESS_ID'] == '1' and sys.exit(3); time.sleep(60)"
    begun = time.monotonic()
    assert launch.run([sys.executable, "-c", code], 2, {}) == 3
    assert time.monotonic() - begun < 30


def test_more_processes_than_gpus():
    with pytest.raises(ValueError, match="got num=3, GPUs 0,1"):
        launch.environments(3, {"CUDA_VISIBLE_DEVICES": "0,1"})
