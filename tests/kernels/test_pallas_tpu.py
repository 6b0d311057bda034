"""The TPU kernel: in Pallas' interpreter, and lowered for TPUs without one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from jaxml_kernels.lightning_attention import pallas_tpu
from jaxml_kernels.lightning_attention.cases import Case
from jaxml_kernels.lightning_attention.problem import Problem
from tests.kernels.oracle import distance, quadratic


def _problem(case, packed, seed=0):
    draw = np.random.default_rng(seed).standard_normal
    wide = (case.batch, case.seq_len, case.num_heads, case.key_width)
    out, state = (*wide[:3], case.value_width), (wide[0], *wide[2:], case.value_width)
    q, k, v, do = draw(wide) * wide[3] ** -0.5, draw(wide), draw(out), draw(out)
    q, k, v, do = (jnp.asarray(x, case.dtype) for x in (q, k, v, do))
    start, end = (jnp.asarray(draw(state), jnp.float32) for _ in range(2))
    ids = np.sort(np.random.default_rng(seed).integers(0, 5, wide[:2]), 1)
    runs = np.cumsum(np.diff(ids, prepend=ids[:, :1]) != 0, 1).astype(np.int32)
    return (q, k, v, jnp.asarray(case.log_decay)), start, runs if packed else None, do, end


@pytest.mark.parametrize(
    ("case", "packed", "limit"),
    [
        (Case("partial", 1, 130, 2, 16, 24, "float32", "steep"), False, 4e-6),
        (Case("one", 1, 1, 1, 8, 8, "float32"), False, 4e-6),
        (Case("packed", 1, 300, 2, 16, 8, "float32"), True, 4e-6),
        (Case("bf16", 1, 257, 1, 64, 64, "bfloat16", "none"), True, 8e-3),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_interpreted(case, packed, limit):
    arrays, start, runs, do, end = _problem(case, packed)
    how = pltpu.InterpretParams()
    o, final = pallas_tpu.forward(*arrays, start, runs, interpret=how)
    got = pallas_tpu.backward(*arrays, start, runs, do, end, interpret=how)
    want_o, want_final, want = quadratic(*arrays, start, runs=runs, wo=do, ws=end)
    found = {"o": distance(o, want_o), "final": distance(final, want_final)}
    for name, array in zip(("q", "k", "v", "initial"), got, strict=True):
        found[name] = distance(array, want[name])
    assert max(found.values()) <= limit, found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lowers_for_tpus(dtype):
    case = Case("x", 2, 300, 4, 128, 128, dtype)
    arrays, start, runs, do, end = _problem(case, True)

    def run(arrays, start, runs, do, end):
        out = pallas_tpu.forward(*arrays, start, runs)
        return out, pallas_tpu.backward(*arrays, start, runs, do, end)

    exported = jax.export.export(jax.jit(run), platforms=["tpu"])(arrays, start, runs, do, end)
    assert exported.mlir_module().count("tpu_custom_call") == 4


def test_says_where_it_runs():
    here = Problem(1, 64, 1, 128, 128, "bfloat16", False, "cpu", "cpu")
    assert pallas_tpu.supports(here) == "needs a TPU; this is cpu"
    there = {**vars(here), "platform": "tpu", "device_kind": "TPU v5e"}
    assert pallas_tpu.supports(Problem(**there)) is None
    assert "multiples of 8" in str(pallas_tpu.supports(Problem(**{**there, "key_width": 12})))
    assert "float16" in str(pallas_tpu.supports(Problem(**{**there, "dtype": "float16"})))
