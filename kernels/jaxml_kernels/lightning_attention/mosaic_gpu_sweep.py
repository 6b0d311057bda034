"""Lightning attention on Hopper, as one Pallas Mosaic GPU kernel: a sweep of a state over chunks.

A program owns one row, one head and a block of value columns. Three warpgroups share the work:

* memory: streams the chunks of q, k, v into a ring of buffers in shared memory;
* state: holds S in float32 registers, publishes its rounded copy and then adds the chunk's
  `(leave * K)^T V`;
* output: `O = ((Q K^T) * M) V + enter * (Q S)` from the published copy, stored chunk by chunk.

States never reach device memory. Forward in time this is the op. The gradients are sweeps of the
same kind: `dq` is the forward sweep of (do, v, k); `dv` and `dk` are sweeps backward in time of
(k, q, do) and (v, do, q), whose state is that of the cotangent. Decay factors follow from the
position in the chunk and the head's constant rate, so no table is read.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

CHUNK = 64
LOG2_E = 1.4426950408889634
SHARED_BYTES = 220 * 1024
NUM_WARPGROUPS = 3
STATE, OUTPUT, MEMORY = range(NUM_WARPGROUPS)
WGMMA = plgpu.Layout.WGMMA


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a program does, all static.

    Attributes:
      seq_len: tokens of the sweep; the last chunk may be partial.
      key_width: width of q and k.
      block: value columns of one program.
      dtype: of q, k, v and o.
      reverse: from the last token to the first.
      output: False computes the final state alone, and q is not read.
      interpret: runs in the interpreter.
    """

    seq_len: int
    key_width: int
    block: int
    dtype: Any
    reverse: bool
    output: bool = True
    interpret: bool = False

    @property
    def num_chunks(self) -> int:
        """Chunks of the sweep, the partial one included."""
        return -(-self.seq_len // CHUNK)

    @property
    def bytes_per_stage(self) -> int:
        """Shared memory of one chunk's inputs."""
        return CHUNK * ((1 + self.output) * self.key_width + self.block) * 2

    @property
    def stages(self) -> int:
        """Depth of the ring of input buffers: what fits, at most 4 and the number of chunks."""
        fixed = 2 * (CHUNK * self.block * (1 + self.output) + self.key_width * self.block) + 2048
        fits = (SHARED_BYTES - fixed) // self.bytes_per_stage
        return max(1, min(4, self.num_chunks, fits))


def _tile(shape: tuple[int, ...], dtype: Any) -> Any:
    """A buffer in shared memory laid out for the tensor cores."""
    transforms = (plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128))
    return plgpu.SMEM(shape, dtype, transforms=transforms)


def _scratch(plan: Plan) -> dict[str, Any]:
    ring = functools.partial(plgpu.Barrier, num_barriers=plan.stages)
    buffers = {
        "k_smem": _tile((plan.stages, CHUNK, plan.key_width), plan.dtype),
        "v_smem": _tile((plan.stages, CHUNK, plan.block), plan.dtype),
        "leaving": _tile((CHUNK, plan.block), plan.dtype),
        "full": ring(num_arrivals=2 + plan.output),
        "free": ring(num_arrivals=1 + plan.output),
        "done": plgpu.Barrier(num_arrivals=NUM_WARPGROUPS),
    }
    if plan.output:
        buffers |= {
            "q_smem": _tile((plan.stages, CHUNK, plan.key_width), plan.dtype),
            "o_smem": _tile((CHUNK, plan.block), plan.dtype),
            "published": _tile((plan.key_width, plan.block), plan.dtype),
            "state_ready": plgpu.Barrier(),
            "state_free": plgpu.Barrier(),
        }
    return buffers


def _rows(width: int) -> jax.Array:
    """The row of each element of a [CHUNK, width] tile."""
    return plgpu.broadcasted_iota(jnp.int32, (CHUNK, width), 0, layout=WGMMA)


def _decay_mask(rate: jax.Array, reverse: bool) -> jax.Array:
    """`lam^|i - j|` on the side of the diagonal that has been seen, 0 on the other."""
    i = plgpu.broadcasted_iota(jnp.int32, (CHUNK, CHUNK), 0, layout=WGMMA)
    j = plgpu.broadcasted_iota(jnp.int32, (CHUNK, CHUNK), 1, layout=WGMMA)
    distance = j - i if reverse else i - j
    power = jnp.exp2(jnp.maximum(distance, 0).astype(jnp.float32) * rate)
    return jnp.where(distance >= 0, power, 0.0)


def _product(shape: tuple[int, int], *pairs: Any) -> jax.Array:
    """Sum of matrix products, finished when it returns."""

    def run(acc):
        for a, b in pairs:
            plgpu.wgmma(acc, a, b)
        return acc[...]

    return lax.optimization_barrier(pl.run_scoped(run, plgpu.ACC(shape, jnp.float32)))


def _add_product(acc: jax.Array, a: Any, b: Any, interpret: bool) -> jax.Array:
    """`acc + a b`, finished when it returns.

    The interpreter knows neither accumulators that start full nor operands in registers.
    """
    if interpret:
        if isinstance(a, jax.Array):
            return acc + jnp.dot(a, b[...], preferred_element_type=jnp.float32)
        return acc + _product(acc.shape, (a, b))
    run = pl.run_state(lambda ref: plgpu.wgmma(ref, a, b))
    return lax.optimization_barrier(run(plgpu.ACC.init(acc)))


def _body(*refs: Any, plan: Plan, scratch: dict[str, Any]) -> None:
    b, h, e = (lax.axis_index(name) for name in ("rows", "heads", "blocks"))
    columns = pl.ds(e * plan.block, plan.block)
    q_ref, k_ref, v_ref, rate_ref, start_ref, *outputs = refs
    warpgroup = lax.axis_index("warpgroup")
    rate = rate_ref[h] * LOG2_E
    last = plan.num_chunks - 1
    f32 = jnp.float32

    def tokens(n):  # where step n of the sweep lies in time
        return pl.ds((last - n if plan.reverse else n) * CHUNK, CHUNK)

    def length(n):  # its real tokens
        at = last - n if plan.reverse else n
        return jnp.minimum(plan.seq_len - at * CHUNK, CHUNK)

    def enter(n, width):  # from the state to row i: its distance to where the state sits
        i = _rows(width)
        distance = length(n) - 1 - i if plan.reverse else i + 1
        return jnp.exp2(jnp.maximum(distance, 0).astype(f32) * rate)

    def leave(n, width):  # from row i to the next state
        i = _rows(width)
        distance = i + 1 if plan.reverse else length(n) - 1 - i
        return jnp.exp2(jnp.maximum(distance, 0).astype(f32) * rate)

    @pl.when(warpgroup == MEMORY)
    def _memory():
        plgpu.set_max_registers(40, action="decrease")

        def load(n, slot):
            full = scratch["full"].at[slot]
            if plan.output:
                plgpu.copy_gmem_to_smem(q_ref.at[b, tokens(n), h], scratch["q_smem"].at[slot], full)
            plgpu.copy_gmem_to_smem(k_ref.at[b, tokens(n), h], scratch["k_smem"].at[slot], full)
            plgpu.copy_gmem_to_smem(
                v_ref.at[b, tokens(n), h, columns], scratch["v_smem"].at[slot], full
            )

        for n in range(plan.stages):
            load(n, n)

        @pl.loop(plan.stages, plan.num_chunks)
        def _refill(n):
            slot = lax.rem(n, plan.stages)
            plgpu.barrier_wait(scratch["free"].at[slot])
            load(n, slot)

        for n in range(plan.num_chunks - plan.stages, plan.num_chunks):
            plgpu.barrier_wait(scratch["free"].at[n % plan.stages])
        plgpu.barrier_arrive(scratch["done"])
        plgpu.barrier_wait(scratch["done"])

    @pl.when(warpgroup == STATE)
    def _state():
        plgpu.set_max_registers(232, action="increase")
        start = plgpu.load(start_ref.at[b, h, :, columns], layout=WGMMA, optimized=False)

        def step(n, state):
            slot = lax.rem(n, plan.stages)
            if plan.output:

                @pl.when(n > 0)
                def _():
                    plgpu.barrier_wait(scratch["state_free"])

                scratch["published"][...] = state.astype(plan.dtype)
                plgpu.commit_smem()
                plgpu.barrier_arrive(scratch["state_ready"])
            plgpu.barrier_wait(scratch["full"].at[slot])
            v = plgpu.load(scratch["v_smem"].at[slot], layout=WGMMA).astype(f32)
            scratch["leaving"][...] = (v * leave(n, plan.block)).astype(plan.dtype)
            plgpu.commit_smem()
            state = state * jnp.exp2(length(n).astype(f32) * rate)
            keys = scratch["k_smem"].at[slot].transpose((1, 0))
            state = _add_product(state, keys, scratch["leaving"], plan.interpret)
            plgpu.barrier_arrive(scratch["free"].at[slot])
            return state

        state = lax.fori_loop(0, plan.num_chunks, step, start)
        if plan.output:
            plgpu.barrier_wait(scratch["state_free"])
        outputs[-1][b, h, :, columns] = state
        plgpu.barrier_arrive(scratch["done"])
        plgpu.barrier_wait(scratch["done"])

    @pl.when(warpgroup == OUTPUT)
    def _output():
        plgpu.set_max_registers(232, action="increase")
        if plan.output:
            mask = _decay_mask(rate, plan.reverse)

            @pl.loop(0, plan.num_chunks)
            def _chunk(n):
                slot = lax.rem(n, plan.stages)
                plgpu.barrier_wait(scratch["full"].at[slot])
                q = scratch["q_smem"].at[slot]
                keys = scratch["k_smem"].at[slot].transpose((1, 0))
                scores = _product((CHUNK, CHUNK), (q, keys))
                scores = (scores * mask).astype(plan.dtype)
                plgpu.barrier_wait(scratch["state_ready"])
                o = _product((CHUNK, plan.block), (q, scratch["published"]))
                plgpu.barrier_arrive(scratch["state_free"])
                o = o * enter(n, plan.block)
                o = _add_product(o, scores, scratch["v_smem"].at[slot], plan.interpret)
                plgpu.barrier_arrive(scratch["free"].at[slot])
                plgpu.wait_smem_to_gmem(0, wait_read_only=True)
                scratch["o_smem"][...] = o.astype(plan.dtype)
                plgpu.commit_smem()
                plgpu.copy_smem_to_gmem(scratch["o_smem"], outputs[0].at[b, tokens(n), h, columns])

            plgpu.wait_smem_to_gmem(0)
        plgpu.barrier_arrive(scratch["done"])
        plgpu.barrier_wait(scratch["done"])


@functools.partial(jax.jit, static_argnames=("reverse", "output", "block", "interpret"))
def sweep(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    start: jax.Array,
    *,
    reverse: bool = False,
    output: bool = True,
    block: int = 64,
    interpret: Any = None,
) -> tuple[jax.Array | None, jax.Array]:
    """One pass of the kernel over time.

    Args:
      q_bthc: queries [b, t, h, c], c a multiple of 64; not read where `output` is False.
      k_bthc: keys [b, t, h, c].
      v_bthe: values [b, t, h, e].
      log_decay_h: [h].
      start: state before the first token of the sweep, float32 [b, h, c, e]. Backward in time it
        sits on the last token, not after it: the state of a cotangent.
      reverse: from the last token to the first.
      output: False computes the final state alone.
      block: value columns of a program, dividing e.
      interpret: `InterpretGPUParams` to run on a CPU.

    Returns:
      Outputs [b, t, h, e] (None without `output`) and the state at the end [b, h, c, e].
    """
    batch, seq_len, heads, width = k_bthc.shape
    plan = Plan(seq_len, width, block, k_bthc.dtype, reverse, output, interpret is not None)
    pad = plan.num_chunks * CHUNK - seq_len
    if pad:
        end = ((0, 0), (0, pad), (0, 0), (0, 0))
        q_bthc, k_bthc, v_bthe = (jnp.pad(x, end) for x in (q_bthc, k_bthc, v_bthe))
    out_type = [jax.ShapeDtypeStruct(start.shape, jnp.float32)]
    if output:
        out_type.insert(0, jax.ShapeDtypeStruct(v_bthe.shape, plan.dtype))

    def body(*refs, **scratch):
        _body(*refs, plan=plan, scratch=scratch)

    *o, final = plgpu.kernel(
        body,
        out_type=out_type,
        scratch_types=_scratch(plan),
        grid=(batch, heads, v_bthe.shape[-1] // block),
        grid_names=("rows", "heads", "blocks"),
        num_threads=NUM_WARPGROUPS,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(approx_math=True),
        interpret=interpret,
    )(q_bthc, k_bthc, v_bthe, log_decay_h.astype(jnp.float32), start)
    return (o[0][:, :seq_len] if output else None), final
