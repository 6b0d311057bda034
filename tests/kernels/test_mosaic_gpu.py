"""The Hopper kernel: in the interpreter and lowered for CUDA here, the whole suite on a GPU."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxml_kernels.lightning_attention import lightning_attention, mosaic_gpu, mosaic_gpu_pieces
from jaxml_kernels.lightning_attention.cases import LENGTHS, Case
from jaxml_kernels.lightning_attention.problem import Problem
from tests.kernels.oracle import distance, errors, problem

LIMIT = 8e-3  # bfloat16 operands: inputs, published states and scores are rounded
ON_GPU = jax.default_backend() == "gpu"


def _errors(case, packed, start_given, interpret=None, **how):
    cut = {n: x for n, x in how.items() if n == "pieces"}
    forward = functools.partial(mosaic_gpu.forward, interpret=interpret, **cut)
    backward = functools.partial(mosaic_gpu.backward, interpret=interpret, **how)
    return errors(case, packed, start_given, forward, backward)


@pytest.mark.skipif(ON_GPU, reason="the interpreter is for machines without a GPU")
@pytest.mark.parametrize(
    ("seq_len", "packed", "start", "how"),
    [
        (65, False, True, {"together": True}),
        (128, True, True, {"together": False, "pieces": 2}),
    ],
    ids=["partial-chunk", "packed-pieces"],
)
def test_interpreted(seq_len, packed, start, how):
    case = Case("x", 1, seq_len, 1, 64, 64)
    found = _errors(case, packed, start, interpret=plgpu.InterpretGPUParams(), **how)
    assert max(found.values()) <= LIMIT, found


@pytest.mark.slow
@pytest.mark.skipif(ON_GPU, reason="the interpreter is for machines without a GPU")
@pytest.mark.parametrize("slope", ["alibi", "steep", "none"])
@pytest.mark.parametrize("widths", [(64, 64), (128, 64), (128, 128)], ids=str)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("how", [{"pieces": 1, "together": True}, {"pieces": 4}], ids=str)
def test_interpreted_at_length(slope, widths, packed, how):
    case = Case("x", 1, 256, 2, *widths, slope=slope)
    found = _errors(case, packed, True, interpret=plgpu.InterpretGPUParams(), **how)
    assert max(found.values()) <= LIMIT, found


@pytest.mark.parametrize(
    ("key_width", "value_width", "rows"),
    [(64, 64, 16), (128, 128, 1), (256, 128, 1)],
    ids=["64-full", "128-pieces", "256-pieces"],
)
def test_lowers_for_cuda(key_width, value_width, rows):
    """Layouts are inferred and the program is written, without a device."""
    if ON_GPU:
        pytest.skip("it runs here")
    case = Case("x", rows, 256, 8, key_width, value_width)
    arrays, start, runs, do, end = jax.eval_shape(functools.partial(problem, case, True))
    runs = jax.ShapeDtypeStruct(runs.shape, jnp.int32)

    def run(arrays, start, runs, do, end):
        out = mosaic_gpu.forward(*arrays, start, runs)
        return out, mosaic_gpu.backward(*arrays, start, runs, do, end)

    exported = jax.export.export(jax.jit(run), platforms=["cuda"])(arrays, start, runs, do, end)
    assert "mosaic_gpu" in exported.mlir_module()


HERE = Problem(1, 64, 1, 128, 128, "bfloat16", False, "gpu", "NVIDIA H100 80GB HBM3")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"platform": "cpu", "device_kind": "cpu"}, "needs one of H100, H200; this is cpu"),
        ({"device_kind": "NVIDIA A100-SXM4-80GB"}, "needs one of H100"),
        ({"dtype": "float32"}, "takes bfloat16 or float16; got float32"),
        ({"key_width": 96}, "got 96 x 128"),
    ],
)
def test_dispatch_is_closed_to_what_was_not_recorded(change, reason):
    found = mosaic_gpu.supports(Problem(**{**vars(HERE), **change}))
    assert found is None if reason is None else reason in found


def test_pieces_fill_the_device_with_whole_chunks():
    assert mosaic_gpu_pieces.num_pieces(2048, 1024) == 1
    assert mosaic_gpu_pieces.num_pieces(16, 131_072) == 8
    assert mosaic_gpu_pieces.num_pieces(16, 64 * 3) == 1
    assert mosaic_gpu_pieces.num_pieces(1, 256) == 4


on_gpu = pytest.mark.skipif(not ON_GPU, reason="needs a Hopper GPU")


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("seq_len", LENGTHS)
@pytest.mark.parametrize("widths", mosaic_gpu.WIDTHS, ids=str)
def test_lengths_on_the_gpu(seq_len, widths):
    found = _errors(Case("x", 2, seq_len, 3, *widths), False, True)
    assert max(found.values()) <= LIMIT, found


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("widths", mosaic_gpu.WIDTHS, ids=str)
@pytest.mark.parametrize("slope", ["steep", "none", "slow"])
@pytest.mark.parametrize("dtype", mosaic_gpu.DTYPES)
@pytest.mark.parametrize("packed", [False, True])
def test_slopes_dtypes_and_packing_on_the_gpu(widths, slope, dtype, packed):
    case = Case("x", 2, 1024, 3, *widths, dtype, slope)
    for how in ({"pieces": 1, "together": widths[0] <= 128}, {"pieces": 4}):
        found = _errors(case, packed, how["pieces"] == 1, **how)
        assert max(found.values()) <= LIMIT, (how, found)


@pytest.mark.gpu
@on_gpu
def test_split_and_continue_on_the_gpu(key):
    q, k, v, rate = Case("x", 1, 1000, 4, 128, 128, slope="steep").inputs(key)
    run = functools.partial(
        lightning_attention, return_final_state=True, implementation="mosaic_gpu"
    )
    whole, final = run(q, k, v, rate)
    for at in (1, 64, 130, 999):
        first, state = run(q[:, :at], k[:, :at], v[:, :at], rate)
        rest, last = run(q[:, at:], k[:, at:], v[:, at:], rate, initial_state=state)
        assert distance(jnp.concatenate([first, rest], 1), whole) <= LIMIT
        assert distance(last, final) <= LIMIT


@pytest.mark.gpu
@on_gpu
def test_under_vmap_checkpoint_and_jit_on_the_gpu(key):
    q, k, v, rate = Case("x", 2, 200, 4, 64, 64).inputs(key)

    def loss(q, name):
        run = jax.checkpoint(lambda q: lightning_attention(q, k, v, rate, implementation=name)[0])
        return jnp.sum(run(q).astype(jnp.float32) ** 2)

    many = jnp.stack([q, 2 * q])
    got, want = (
        jax.jit(jax.vmap(jax.grad(functools.partial(loss, name=name))))(many)
        for name in ("mosaic_gpu", "xla")
    )
    assert distance(got, want) <= LIMIT


@pytest.mark.gpu
@on_gpu
def test_no_drift_over_half_a_million_tokens_on_the_gpu(key):
    """Slopes near zero sum everything; the error against float32 states must not grow."""
    q, k, v, rate = Case("x", 1, 524_288, 2, 64, 64, slope="slow").inputs(key)
    got = lightning_attention(q, k, v, rate, implementation="mosaic_gpu")[0]
    up = [x.astype(jnp.float32) for x in (q, k, v)]
    want = lightning_attention(*up, rate, implementation="xla")[0]
    ends = [slice(n, n + 4096) for n in (4096, 520_192)]
    early, late = (distance(got[:, s], want[:, s]) for s in ends)
    assert late <= max(2 * early, LIMIT), (early, late)
