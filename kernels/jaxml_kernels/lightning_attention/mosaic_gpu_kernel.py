"""The Hopper kernel of lightning attention: a sweep of a state over chunks, in Pallas Mosaic GPU.

A program owns one row, one head and a block of value columns. Its warpgroups share the work:

* memory streams the chunks into a ring of buffers in shared memory;
* state holds S in float32 registers, publishes a rounded copy, and adds `(leave * V)` products;
* one warpgroup per output computes `((Q K^T) * M) V + enter * (Q S)` from the published copy.

States never reach device memory. The decay factors follow from a token's place in its chunk and
the head's constant rate, so no table is read. Backward in time the state sits on the last token of
the chunk before: what a cotangent of the state does.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxml_kernels.lightning_attention.mosaic_gpu_plan import CHUNK, REGISTERS, Plan, scratch

LOG2_E = 1.4426950408889634
WGMMA = plgpu.Layout.WGMMA
ROWS, COLUMNS = WGMMA.reduce(1), WGMMA.reduce(0)


def _index(shape: tuple[int, int], axis: int) -> jax.Array:
    return plgpu.broadcasted_iota(jnp.int32, shape, axis, layout=WGMMA)


def _power(rate: jax.Array, distance: jax.Array) -> jax.Array:
    return jnp.exp2(jnp.maximum(distance, 0).astype(jnp.float32) * rate)


def _decay_mask(rate: jax.Array, reverse: bool) -> jax.Array:
    """`lam^|i - j|` on the side of the diagonal that has been seen, 0 on the other."""
    i, j = (_index((CHUNK, CHUNK), axis) for axis in (0, 1))
    distance = j - i if reverse else i - j
    return jnp.where(distance >= 0, _power(rate, distance), 0.0)


def _accumulator(shape: tuple[int, ...]) -> Any:
    return plgpu.WGMMAAccumulatorRef((shape[0], shape[1]), jnp.float32)


def _product(shape: tuple[int, ...], a: Any, b: Any) -> jax.Array:
    """`a b`, finished when it returns."""

    def run(acc):
        plgpu.wgmma(acc, a, b)
        return acc[...]

    return lax.optimization_barrier(pl.run_scoped(run, _accumulator(shape)))


def _add_product(acc: jax.Array, a: Any, b: Any, interpret: bool) -> jax.Array:
    """`acc + a b`, finished when it returns.

    The interpreter knows neither accumulators that start full nor operands in registers.
    """
    if interpret:
        if isinstance(a, jax.Array):
            return acc + jnp.dot(a, b[...], preferred_element_type=jnp.float32)
        return acc + _product(acc.shape, a, b)
    run = pl.run_state(lambda ref: plgpu.wgmma(ref, a, b))
    return lax.optimization_barrier(run(plgpu.WGMMAAccumulatorRef.init(acc)))


class _Program:
    """One program's refs and positions; the warpgroups are its methods."""

    def __init__(self, plan: Plan, refs: Sequence[Any], buffers: dict[str, Any]):
        refs = list(refs)
        self.plan, self.buffers = plan, buffers
        self.tiles = [refs.pop(0) for _ in plan.widths]
        self.head, self.block = lax.axis_index("heads"), lax.axis_index("blocks")
        self.row = lax.axis_index("rows")
        self.rate = refs.pop(0)[self.head] * LOG2_E
        self.start = refs.pop(0) if plan.start else None
        self.runs: Any = refs.pop(0) if plan.packed else None
        self.edges: Any = refs.pop(0) if plan.packed else None
        self.results = [refs.pop(0) for _ in plan.outputs]
        self.final = refs.pop(0) if plan.final else None
        skipped = plan.pieces - plan.used if plan.reverse else 0
        self.source = self.row
        if plan.used != plan.pieces:
            group, piece = lax.div(self.row, plan.used), lax.rem(self.row, plan.used)
            self.source = group * plan.pieces + piece + skipped

    def chunk(self, n: Any) -> Any:
        """Where step n of the sweep lies in time, in chunks."""
        return self.plan.num_chunks - 1 - n if self.plan.reverse else n

    def slot(self, n: Any) -> Any:
        """The buffer of step n."""
        return lax.rem(n, self.plan.stages)

    def tokens(self, n: Any) -> Any:
        """The rows of step n in memory."""
        return pl.ds(self.chunk(n) * CHUNK, CHUNK)

    def length(self, n: Any) -> Any:
        """Real tokens of step n."""
        return jnp.minimum(self.plan.seq_len - self.chunk(n) * CHUNK, CHUNK)

    def columns(self, i: int) -> Any:
        """The columns of a tile that this program reads."""
        width = self.plan.widths[i]
        return pl.ds(self.block * width, width) if i == self.plan.state[1] else pl.ds(0, width)

    def _edge(self, n: Any, before: bool) -> Any:
        """The run that the state belongs to, before or after step n."""
        at = self.chunk(n) + (before == self.plan.reverse)
        return self.edges[self.source, at]

    def enter(self, n: Any, width: int, output: int) -> jax.Array:
        """Factor from the state to each row."""
        i = _index((CHUNK, width), 0)
        factor = _power(self.rate, self.length(n) - 1 - i if self.plan.reverse else i + 1)
        return self._same_run(n, factor, f"runs_row{output}", before=True)

    def leave(self, n: Any, width: int, group: int) -> jax.Array:
        """Factor from each row to the next state."""
        i = _index((CHUNK, width), 0)
        factor = _power(self.rate, i + 1 if self.plan.reverse else self.length(n) - 1 - i)
        return self._same_run(n, factor, f"runs_state{group}", before=False)

    def _run_ids(self, n: Any, view: str, shape: tuple[int, ...]) -> jax.Array:
        axis = int("column" in view)
        ids = plgpu.load(self.buffers[view].at[self.slot(n)], layout=(ROWS, COLUMNS)[axis])
        return lax.broadcast_in_dim(ids, shape, [axis])

    def _same_run(self, n: Any, factor: jax.Array, view: str, before: bool) -> jax.Array:
        if not self.plan.packed:
            return factor
        runs = self._run_ids(n, view, factor.shape)
        return jnp.where(runs == self._edge(n, before), factor, 0.0)

    def keep(self, n: Any) -> jax.Array:
        """Factor from the state before step n to the state after it."""
        factor = jnp.exp2(self.length(n).astype(jnp.float32) * self.rate)
        if self.plan.packed:
            factor = jnp.where(self._edge(n, True) == self._edge(n, False), factor, 0.0)
        return factor

    def scores_mask(self, n: Any, mask: jax.Array, output: int) -> jax.Array:
        """The decay mask, cut to pairs of one run."""
        if not self.plan.packed:
            return mask
        i, j = (self._run_ids(n, f"runs_{x}{output}", mask.shape) for x in ("row", "column"))
        return jnp.where(i == j, mask, 0.0)

    def _load(self, n: Any, slot: Any) -> None:
        full = self.buffers["full"].at[slot]
        for i, ref in enumerate(self.tiles):
            source = ref.at[self.source, self.tokens(n), self.head, self.columns(i)]
            plgpu.copy_gmem_to_smem(source, self.buffers[f"tile{i}"].at[slot], full)
        if self.runs is not None:
            source = self.runs.at[self.source, self.tokens(n)]
            for name in self.plan.run_views:
                plgpu.copy_gmem_to_smem(source, self.buffers[name].at[slot], full)

    def run_memory(self) -> None:
        """Fills buffers as they come free."""
        plan, free = self.plan, self.buffers["free"]
        for n in range(plan.stages):
            self._load(n, n)

        @pl.loop(plan.stages, plan.num_chunks)
        def _refill(n):
            plgpu.barrier_wait(free.at[self.slot(n)])
            self._load(n, self.slot(n))

        for n in range(plan.num_chunks - plan.stages, plan.num_chunks):
            plgpu.barrier_wait(free.at[n % plan.stages])

    def run_state(self, group: int) -> None:
        """Carries the state, or one group of its value columns."""
        plan, buffers = self.plan, self.buffers
        key, value = plan.state
        rows, width = plan.state_shape[0], plan.state_shape[1] // plan.state_groups
        mine = pl.ds(group * width, width)
        columns = pl.ds(self.block * plan.state_shape[1] + group * width, width)
        leaving = buffers[f"leaving{group}"]
        if self.start is None:
            state = plgpu.layout_cast(jnp.zeros((rows, width), jnp.float32), WGMMA)
        else:
            source = self.start.at[self.row, self.head, :, columns]
            state = plgpu.load(source, layout=WGMMA, optimized=False)

        def step(n, state):
            slot = self.slot(n)
            if plan.outputs:

                @pl.when(n > 0)
                def _():
                    plgpu.barrier_wait(buffers["state_free"])

                buffers["published"][...] = state.astype(plan.dtype)
                plgpu.commit_smem()
                plgpu.barrier_arrive(buffers["state_ready"])
            plgpu.barrier_wait(buffers["full"].at[slot])
            values = buffers[f"tile{value}"].at[slot]
            values = values if plan.state_groups == 1 else values.at[:, mine]
            v = plgpu.load(values, layout=WGMMA).astype(jnp.float32)
            leaving[...] = (v * self.leave(n, width, group)).astype(plan.dtype)
            plgpu.commit_smem()
            keys = buffers[f"tile{key}"].at[slot].transpose((1, 0))
            state = _add_product(state * self.keep(n), keys, leaving, plan.interpret)
            plgpu.barrier_arrive(buffers["free"].at[slot])
            return state

        state = lax.fori_loop(0, plan.num_chunks, step, state)
        if plan.outputs:
            plgpu.barrier_wait(buffers["state_free"])
        if self.final is not None:
            self.final[self.row, self.head, :, columns] = state

    def run_output(self, index: int) -> None:
        """Computes and stores one output."""
        plan, buffers, out = self.plan, self.buffers, self.plan.outputs[index]
        mask = _decay_mask(self.rate, plan.reverse)
        shape = (CHUNK, plan.widths[out.value])
        result = buffers[f"result{index}"]
        published = buffers["published"]
        if out.transposed:
            published = published.transpose((1, 0))

        @pl.loop(0, plan.num_chunks)
        def _chunk(n):
            slot = self.slot(n)
            plgpu.barrier_wait(buffers["full"].at[slot])
            query, key, value = (
                buffers[f"tile{i}"].at[slot] for i in (out.query, out.key, out.value)
            )
            scores = _product((CHUNK, CHUNK), query, key.transpose((1, 0)))
            scores = (scores * self.scores_mask(n, mask, index)).astype(plan.dtype)
            enter = self.enter(n, shape[1], index)
            plgpu.barrier_wait(buffers["state_ready"])
            o = _product(shape, query, published)
            plgpu.barrier_arrive(buffers["state_free"])
            o = _add_product(o * enter, scores, value, plan.interpret)
            plgpu.barrier_arrive(buffers["free"].at[slot])
            plgpu.wait_smem_to_gmem(0, wait_read_only=True)
            result[...] = o.astype(plan.dtype)
            plgpu.commit_smem()
            target = self.results[index]
            columns = self.columns(out.value)
            plgpu.copy_smem_to_gmem(
                result, target.at[self.source, self.tokens(n), self.head, columns]
            )

        plgpu.wait_smem_to_gmem(0)

    def run(self) -> None:
        """Each warpgroup its part; none leaves before all are done."""
        groups = self.plan.state_groups
        parts = [functools.partial(self.run_state, i) for i in range(groups)]
        parts += [functools.partial(self.run_output, i) for i in range(len(self.plan.outputs))]
        parts += [self.run_memory]
        registers = REGISTERS[len(parts)]
        me = lax.axis_index("warpgroup")
        for i, part in enumerate(parts):

            @pl.when(me == i)
            def _part(i=i, part=part):
                if registers is not None:
                    memory = i == len(parts) - 1
                    count = registers[2 if memory else int(i >= groups)]
                    plgpu.set_max_registers(count, action="decrease" if memory else "increase")
                part()
                plgpu.barrier_arrive(self.buffers["done"])
                plgpu.barrier_wait(self.buffers["done"])


def launch(
    plan: Plan,
    tiles: Sequence[jax.Array],
    rate_h: jax.Array,
    start: jax.Array | None,
    runs: tuple[jax.Array, jax.Array] | None,
    num_blocks: int,
    interpret: Any = None,
) -> tuple[list[jax.Array], jax.Array | None]:
    """Runs a plan over arrays [rows, tokens, heads, width] whose tokens fill whole chunks.

    Args:
      plan: what to do.
      tiles: the streamed arrays.
      rate_h: log decay, float32 [h].
      start: float32 [rows, h, c, e] if the plan has a start.
      runs: run of each token int32 [rows, tokens] and run at each chunk's edges
        [rows, chunks + 1], if the plan is packed.
      num_blocks: blocks of value columns.
      interpret: `InterpretGPUParams` to run on a CPU.

    Returns:
      The outputs, and the final state [rows, h, c, e] if the plan keeps it.
    """
    rows = tiles[0].shape[0] // plan.pieces * plan.used
    heads = tiles[0].shape[2]
    out_type = [jax.ShapeDtypeStruct(tiles[out.value].shape, plan.dtype) for out in plan.outputs]
    if plan.final:
        shape = (rows, heads, plan.state_shape[0], plan.state_shape[1] * num_blocks)
        out_type.append(jax.ShapeDtypeStruct(shape, jnp.float32))
    operands = [*tiles, rate_h]
    operands += [] if start is None else [start]
    operands += [] if runs is None else list(runs)

    def body(*refs, **buffers):
        _Program(plan, refs, buffers).run()

    results = plgpu.kernel(
        body,
        out_type=out_type,
        scratch_types=scratch(plan),
        grid=(rows, heads, num_blocks),
        grid_names=("rows", "heads", "blocks"),
        num_threads=plan.num_warpgroups,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(approx_math=True),
        interpret=interpret,
    )(*operands)
    return results[: len(plan.outputs)], results[-1] if plan.final else None
