import pytest
from jax.sharding import PartitionSpec

from jaxml.dist import mesh
from jaxml.dist.rules import DATA, FSDP, TENSOR, Rules


@pytest.fixture(scope="module")
def cube():
    return mesh.make(mesh.MeshConfig(data=2, fsdp=2, model=2))


@pytest.mark.parametrize(
    ("rules", "axes", "shape", "want"),
    [
        (DATA, ("batch", "seq", "embed"), (8, 4, 6), PartitionSpec(("data", "fsdp"), "seq", None)),
        (DATA, ("embed", "mlp"), (7, 9), PartitionSpec(None, None)),
        (FSDP, ("embed", "mlp"), (6, 9), PartitionSpec("fsdp", None)),
        (TENSOR, ("embed", "mlp"), (6, 10), PartitionSpec("fsdp", "model")),
        (TENSOR, ("vocab", "embed"), (10, 6), PartitionSpec("model", "fsdp")),
        (
            TENSOR,
            ("layers", "embed", "heads", None),
            (3, 2, 4, 5),
            PartitionSpec(None, "fsdp", "model", None),
        ),
        (TENSOR, (), (), PartitionSpec()),
        (Rules(points="seq"), ("points", "unknown"), (5, 3), PartitionSpec("seq", None)),
    ],
)
def test_specs(cube, rules, axes, shape, want):
    assert rules.spec(axes, shape, cube) == want


def test_rules_are_values():
    assert Rules(a="x", b=("y",)) == Rules(b="y", a=("x",))
    assert len({DATA, DATA.replace(), FSDP}) == 2
    assert TENSOR.replace(mlp=None).of("mlp") == ()
    assert TENSOR.of("mlp") == ("model",)


@pytest.mark.parametrize(
    ("rules", "axes", "words"),
    [
        (Rules(heads="model", mlp="model"), ("heads", "mlp"), ["'model'", "heads and mlp"]),
        (Rules(embed="fsdp"), ("embed", "embed"), ["'fsdp'", "embed and embed"]),
        (
            Rules(batch=("data", "fsdp"), embed="fsdp"),
            ("batch", "embed"),
            ["'fsdp'", "batch and embed"],
        ),
        (Rules(batch=("data", "data")), ("batch", None), ["'data'", "batch and batch"]),
    ],
)
def test_a_mesh_axis_used_twice_is_refused(cube, rules, axes, words):
    with pytest.raises(ValueError) as error:
        rules.spec(axes, (8, 8), cube, path="layers/query/kernel")
    assert all(word in str(error.value) for word in [*words, "layers/query/kernel"])


def test_a_mesh_axis_used_twice_is_refused_on_one_device_too():
    import jax

    alone = mesh.make(mesh.MeshConfig(), jax.devices()[:1])
    with pytest.raises(ValueError, match="heads and mlp"):
        TENSOR.spec(("heads", "mlp"), (3, 5), alone)


@pytest.mark.parametrize(
    ("axes", "shape", "words"),
    [
        (("embed", "mlp"), (6, 7), ["mlp=7", "model=2", "w/kernel"]),
        (("batch", None), (6, 7), ["batch=6", "4 parts", "data=2, fsdp=2"]),
    ],
)
def test_a_dimension_that_does_not_divide_is_named(cube, axes, shape, words):
    with pytest.raises(ValueError) as error:
        TENSOR.spec(axes, shape, cube, path="w/kernel")
    assert all(word in str(error.value) for word in words)


def test_other_bad_input(cube):
    with pytest.raises(ValueError, match="axes must name every dimension of w"):
        DATA.spec(("embed",), (2, 3), cube, path="w")
    with pytest.raises(ValueError, match="'expert'; the mesh has data, fsdp, model, seq"):
        Rules(mlp="expert").spec(("mlp",), (4,), cube)
