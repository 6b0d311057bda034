"""The Triton kernels: in Triton's interpreter where it and torch are installed, and on a GPU."""

import functools
import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml_kernels import dispatch
from jaxml_kernels.lightning_attention import lightning_attention, pieces, triton, tuning
from jaxml_kernels.lightning_attention.cases import LENGTHS, Case
from jaxml_kernels.lightning_attention.problem import Problem
from tests.kernels.oracle import errors

LIMIT = 8e-3
ON_GPU = jax.default_backend() == "gpu"
INTERPRETER = all(importlib.util.find_spec(name) for name in ("triton", "torch"))
interpreted = pytest.mark.skipif(
    ON_GPU or not INTERPRETER, reason="needs triton and torch, and no GPU"
)
on_gpu = pytest.mark.skipif(not ON_GPU, reason="needs an NVIDIA GPU")


def _interpret(arrays, out_shape, grid, seq_len, how, **constants):
    """A launch in the interpreter: the kernel's own source, run with NumPy."""
    os.environ["TRITON_INTERPRET"] = "1"
    import torch

    from jaxml_kernels.lightning_attention.triton_kernel import sweep

    given = [torch.from_numpy(np.array(x)) for x in arrays]
    made = [torch.from_numpy(np.zeros(s.shape, s.dtype)) for s in out_shape]
    sweep[grid](*given, seq_len, *made, BLOCK=how.block, CHUNK=triton.CHUNK, **constants)
    return [jnp.asarray(x.numpy()) for x in made]


@interpreted
@pytest.mark.parametrize(
    ("seq_len", "widths", "packed", "start", "cut", "slope"),
    [
        (1, (16, 16), False, True, 1, "alibi"),
        (65, (16, 32), False, True, 1, "alibi"),
        (127, (32, 16), True, True, 1, "steep"),
        (256, (16, 16), True, True, 2, "alibi"),
        (256, (32, 16), False, False, 4, "slow"),
        (192, (16, 64), False, True, 1, "none"),
    ],
)
def test_interpreted(seq_len, widths, packed, start, cut, slope):
    case = Case("x", 2, seq_len, 2, *widths, "float16", slope)
    how = {"pieces": cut, "launch": _interpret}
    forward, backward = (
        functools.partial(f.__wrapped__, **how) for f in (triton.forward, triton.backward)
    )
    found = errors(case, packed, start, forward, backward)
    assert max(found.values()) <= LIMIT, found


@interpreted
def test_interpreted_step():
    os.environ["TRITON_INTERPRET"] = "1"
    import torch

    from jaxml_kernels.lightning_attention.triton_kernel import decode

    r = np.random.default_rng(0)
    q, k = (r.normal(size=(3, 2, 16)).astype(np.float32) for _ in range(2))
    v, state = r.normal(size=(3, 2, 32)), r.normal(size=(3, 2, 16, 32))
    v, state = v.astype(np.float32), state.astype(np.float32)
    rate = np.array([-0.5, -1e-6], np.float32)
    given = [torch.from_numpy(x) for x in (q, k, v, np.expm1(rate), state)]
    o, after = torch.zeros(3, 2, 32), torch.zeros(3, 2, 16, 32)
    decode[(3 * 2 * 2,)](*given, o, after, HEADS=2, KEY=16, VALUE=32, BLOCK=16)
    want = np.exp(rate.astype(np.float64))[None, :, None, None] * state
    want += k[..., :, None].astype(np.float64) * v[..., None, :]
    np.testing.assert_allclose(after.numpy(), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(o.numpy(), np.einsum("bhc,bhce->bhe", q, want), rtol=1e-5, atol=1e-5)


HERE = Problem(1, 64, 1, 128, 128, "bfloat16", False, "gpu", "NVIDIA A100-SXM4-80GB")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"platform": "cpu", "device_kind": "cpu"}, "needs an NVIDIA GPU; this is cpu"),
        ({"dtype": "float32"}, "takes bfloat16 or float16; got float32"),
        ({"key_width": 96}, "got 96 x 128"),
    ],
)
def test_what_it_does_not_take(change, reason):
    assert reason in triton.supports(Problem(**{**vars(HERE), **change}))


def test_it_is_chosen_where_its_tiles_were_measured():
    seen = Problem(**{**vars(HERE), "device_kind": "NVIDIA H100 80GB HBM3"})
    assert triton.recorded(seen)
    assert not triton.recorded(HERE)
    one = dispatch.Implementation("triton", lambda _: None, None, triton.recorded)
    assert dispatch.choose([one], seen) is one
    with pytest.raises(dispatch.UnsupportedError, match="no implementation can run"):
        dispatch.choose([one], HERE)
    assert dispatch.choose([one], HERE, "triton") is one


def test_it_runs_by_name_only_where_it_can():
    q, k, v, rate = Case("x", 1, 8, 1, 16, 16, "float32").inputs(jax.random.key(0))
    if not ON_GPU:
        with pytest.raises(ValueError, match="triton.*needs an NVIDIA GPU"):
            lightning_attention(q, k, v, rate, implementation="triton")


def test_tiles_come_from_the_table_or_fit_anyway(monkeypatch):
    entry = {"A card": {"128x128": [128, 8, 2]}}
    monkeypatch.setattr(tuning, "table", lambda: entry)
    assert tuning.tiles("A card", 128, 128) == tuning.Tiles(128, 8, 2)
    for key_width in triton.WIDTHS:
        for value_width in triton.WIDTHS:
            how = tuning.tiles("Another", key_width, value_width)
            assert value_width % how.block == 0
            assert all(
                value_width % t.block == 0 for t in tuning.candidates(key_width, value_width)
            )


def test_pieces_fill_a_device_of_any_size():
    assert pieces.num_pieces(4, 1024, 64, 16) == 4
    assert pieces.num_pieces(16, 1024, 64, 16) == 1
    assert pieces.num_pieces(1, 192, 64, 16) == 1


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("seq_len", LENGTHS)
@pytest.mark.parametrize("widths", [(64, 64), (128, 128), (256, 128), (32, 16)], ids=str)
def test_lengths_on_the_gpu(seq_len, widths):
    case = Case("x", 2, seq_len, 3, *widths)
    found = errors(case, False, True, triton.forward, triton.backward)
    assert max(found.values()) <= LIMIT, found


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("widths", [(64, 64), (128, 128), (256, 128)], ids=str)
@pytest.mark.parametrize("slope", ["steep", "none", "slow"])
@pytest.mark.parametrize("dtype", triton.DTYPES)
@pytest.mark.parametrize("packed", [False, True])
def test_slopes_dtypes_and_packing_on_the_gpu(widths, slope, dtype, packed):
    case = Case("x", 2, 1024, 3, *widths, dtype, slope)
    for cut in (1, 4):
        how = {"pieces": cut}
        forward, backward = (functools.partial(f, **how) for f in (triton.forward, triton.backward))
        found = errors(case, packed, cut == 1, forward, backward)
        assert max(found.values()) <= LIMIT, (cut, found)
