"""A small zoo and everything that is measured on it, shared by the tests."""

import pytest

from jaxml.inputs import splits
from jaxml.models.arch import ArchConfig
from jaxml.nfard import study
from jaxml.nfard import zoo as zoos
from jaxml.nfard.train import TrainConfig

IMAGE = (8, 8, 1)
A = ArchConfig("mlp", hidden=(16, 12), image=IMAGE)
B = ArchConfig("mlp", hidden=(14,), image=IMAGE)
CFG = zoos.ZooConfig(
    (A, B),
    train=TrainConfig(6, 20, lr=0.05, over="loop", chunk=5),
    num_victim_rows=200,
    num_reuse_rows=200,
    kinds=("ft_all", "ft_last", "prune80", "int8", "fp16", "transfer", "steal_labels"),
    same=2,
    other_half=1,
    references=4,
    references_half=1,
)


@pytest.fixture(scope="session")
def data():
    return splits.synthetic(400, 0, IMAGE)


@pytest.fixture(scope="session")
def built(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    return zoos.build_zoo(CFG, data, 0, folder, lambda text: None), folder


@pytest.fixture(scope="session")
def measured(built, data):
    return study.measure(
        built[0], data.test, 60, 60, ("deepjudge_jsd", "akh"), 0, lambda text: None
    )
