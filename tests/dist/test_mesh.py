import jax
import pytest

from jaxml.dist import mesh
from jaxml.dist.mesh import MeshConfig


@pytest.mark.parametrize(
    ("cfg", "want"),
    [
        (MeshConfig(data=8), {"data": 8, "fsdp": 1, "model": 1, "seq": 1}),
        (MeshConfig(data=-1), {"data": 8, "fsdp": 1, "model": 1, "seq": 1}),
        (MeshConfig(data=2, fsdp=-1, model=2), {"data": 2, "fsdp": 2, "model": 2, "seq": 1}),
        (MeshConfig(seq=4, data=2), {"data": 2, "fsdp": 1, "model": 1, "seq": 4}),
    ],
)
def test_sizes_and_order_of_the_axes(cfg, want):
    made = mesh.make(cfg)
    assert dict(made.shape) == want
    assert tuple(made.shape) == mesh.AXES
    assert set(made.axis_types) == {jax.sharding.AxisType.Auto}
    assert sorted(d.id for d in made.devices.flat) == [d.id for d in jax.devices()]


def test_a_mesh_of_some_devices():
    devices = jax.devices()[2:6]
    made = mesh.make(MeshConfig(data=2, model=-1), devices)
    assert made.devices.size == 4
    assert {d.id for d in made.devices.flat} == {2, 3, 4, 5}


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        (MeshConfig(), ["data=1", "needs 1 of 8 devices", "-1"]),
        (MeshConfig(data=3), ["data=3", "needs 3 of 8"]),
        (MeshConfig(data=16), ["data=16", "needs 16 of 8"]),
        (MeshConfig(data=-1, model=3), ["model=3", "8 devices", "3 does not divide 8"]),
    ],
)
def test_sizes_that_do_not_fit_are_named(cfg, words):
    with pytest.raises(ValueError) as error:
        mesh.make(cfg)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 0}, "data must be > 0; got data=0"),
        ({"seq": -2}, "seq must be > 0; got seq=-2"),
        ({"data": -1, "model": -1}, "only one mesh axis may be -1; got -1 for data, model"),
    ],
)
def test_sizes_out_of_range(sizes, message):
    with pytest.raises(ValueError, match=message):
        MeshConfig(**sizes)


def test_a_size_that_is_no_number():
    with pytest.raises(TypeError, match="MeshConfig.data must be int"):
        MeshConfig(data="8")  # pyright: ignore[reportArgumentType]
