"""`jaxml merge`: files in, a merged file and scores out."""

import jax
import numpy as np
import pytest

from jaxml.core import storage
from jaxml.merge import commands
from jaxml.models import mlp

CFG = mlp.MlpConfig(16, (12, 8), 3)


@pytest.fixture
def files(tmp_path):
    """Two copies of one network, and images as the command reads them."""
    for name, seed in (("a", 0), ("b", 0)):
        variables = {"params": mlp.init(jax.random.key(seed), CFG)}
        storage.save(tmp_path / f"{name}.safetensors", variables)
    draw = np.random.default_rng(0)
    arrays = {}
    for split, num in (("train", 96), ("test", 32)):
        arrays[f"{split}_image"] = draw.integers(0, 256, (num, 4, 4, 1), np.uint8)
        arrays[f"{split}_label"] = draw.integers(0, 3, num)
    np.savez(tmp_path / "images.npz", **arrays)
    return tmp_path


def test_two_copies_merge_to_themselves(files, capsys):
    names = (files / "a.safetensors", files / "b.safetensors")
    out = files / "m.safetensors"
    how = {"num_align": 64, "num_held_out": 16, "batch_size": 16, "repair_by": "none"}
    commands.run(
        names, out=out, method="permute", data="fashion_mnist",
        data_path=files / "images.npz", **how,
    )  # fmt: skip
    ours, merged = storage.load(names[0])["params"], storage.load(out)["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, merged)
    lines = capsys.readouterr().out.splitlines()
    scores = [float(line.split("%")[0].split()[-1]) for line in lines if "% of" in line]
    assert len(scores) == 4
    assert len(set(scores)) == 1  # base, base, ensemble and merge are one network


def test_one_network_is_not_enough(files):
    with pytest.raises(ValueError, match="models must be at least two files; got 1"):
        commands.run((files / "a.safetensors",))
