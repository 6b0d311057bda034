"""What one sweep of the Hopper kernel does: its tiles, its state, its outputs, its buffers."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

CHUNK = 64
SHARED_BYTES = 222 * 1024
REGISTERS = {2: None, 3: (232, 232, 40), 4: (192, 144, 24)}
"""Registers per thread of the state, output and memory warpgroups, by number of warpgroups; None
leaves what the compiler gives."""

STATE_COLUMNS = 64
"""Without outputs, one warpgroup carries so many value columns of the state."""


@dataclasses.dataclass(frozen=True)
class Output:
    """One result of a sweep, `((Q K^T) * M) V + enter * (Q S)`, of tiles given by their index.

    Attributes:
      query: tile of Q.
      key: tile of K.
      value: tile of V.
      transposed: reads S^T.
    """

    query: int
    key: int
    value: int
    transposed: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is static of a sweep.

    Attributes:
      seq_len: tokens of the sweep; the last chunk may be partial.
      widths: columns of each streamed tile, as one program sees it.
      state: the tiles whose product is summed up, key and value.
      outputs: what is computed from the state on the way; none gives the final state alone.
      dtype: of the tiles and outputs.
      reverse: from the last token to the first.
      start: the state starts from an array, otherwise from zero.
      final: the state at the end is stored.
      packed: the state restarts where the run of a token changes.
      pieces: rows lie in groups of so many pieces of one sequence,
      used: of which so many first ones (last ones in reverse) are swept.
      interpret: runs in the interpreter.
    """

    seq_len: int
    widths: tuple[int, ...]
    state: tuple[int, int]
    outputs: tuple[Output, ...]
    dtype: Any
    reverse: bool = False
    start: bool = True
    final: bool = True
    packed: bool = False
    pieces: int = 1
    used: int = 1
    interpret: bool = False

    @property
    def num_chunks(self) -> int:
        """Chunks of the sweep, the partial one included."""
        return -(-self.seq_len // CHUNK)

    @property
    def state_groups(self) -> int:
        """Warpgroups that share the state's value columns; one where outputs read it."""
        return 1 if self.outputs else self.state_shape[1] // STATE_COLUMNS

    @property
    def num_warpgroups(self) -> int:
        """Those of the state, one for each output, one for the memory."""
        return self.state_groups + len(self.outputs) + 1

    @property
    def state_shape(self) -> tuple[int, int]:
        """Of the state that one program carries."""
        return self.widths[self.state[0]], self.widths[self.state[1]]

    @property
    def run_views(self) -> tuple[str, ...]:
        """Copies of the run ids: a buffer has one layout in registers, so each reader its own."""
        if not self.packed:
            return ()
        states = [f"runs_state{i}" for i in range(self.state_groups)]
        outputs = [
            f"runs_{side}{i}" for i in range(len(self.outputs)) for side in ("row", "column")
        ]
        return (*states, *outputs)

    @property
    def stages(self) -> int:
        """Depth of the ring of input buffers: what fits, at most 4 and the number of chunks."""
        rows, columns = self.state_shape
        fixed = CHUNK * (columns + sum(self.widths[out.value] for out in self.outputs))
        fixed += rows * columns * bool(self.outputs)
        fits = (SHARED_BYTES - 2 * fixed) // (
            2 * CHUNK * (sum(self.widths) + 2 * len(self.run_views))
        )
        return max(1, min(4, self.num_chunks, fits))


def tile(shape: tuple[int, ...], dtype: Any) -> Any:
    """A buffer in shared memory laid out for the tensor cores."""
    tiling: Any = plgpu.TilingTransform
    swizzle: Any = plgpu.SwizzleTransform
    transforms = (tiling((8, 64)), swizzle(128))
    return plgpu.SMEM(shape, dtype, transforms=transforms)


def scratch(plan: Plan) -> dict[str, Any]:
    """Buffers and barriers of a program, by name."""
    ring = functools.partial(plgpu.Barrier, num_barriers=plan.stages)
    readers = len(plan.outputs)
    found: dict[str, Any] = {
        f"tile{i}": tile((plan.stages, CHUNK, width), plan.dtype)
        for i, width in enumerate(plan.widths)
    }
    found |= {
        "full": ring(num_arrivals=len(plan.widths) + len(plan.run_views)),
        "free": ring(num_arrivals=plan.state_groups + readers),
        "done": plgpu.Barrier(num_arrivals=plan.num_warpgroups),
    }
    for i in range(plan.state_groups):
        shape = (CHUNK, plan.state_shape[1] // plan.state_groups)
        found[f"leaving{i}"] = tile(shape, plan.dtype)
    for name in plan.run_views:
        found[name] = plgpu.SMEM((plan.stages, CHUNK), jnp.int32)
    if readers:
        found |= {
            "published": tile(plan.state_shape, plan.dtype),
            "state_ready": plgpu.Barrier(),
            "state_free": plgpu.Barrier(num_arrivals=readers),
        }
    for i, out in enumerate(plan.outputs):
        found[f"result{i}"] = tile((CHUNK, plan.widths[out.value]), plan.dtype)
    return found
