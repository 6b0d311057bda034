"""flax modules from our functions, and functions from flax modules.

`as_nnx` and `as_linen` make a module of any (params, apply), so that it fits into a flax program;
`from_nnx` and `from_linen` give (params, apply) of a user's module, so that it fits into ours. The
`_stateful` forms also pass what changes: batch statistics, random streams.
"""

from jaxml.interop.flax_linen import as_linen, from_linen, from_linen_stateful
from jaxml.interop.flax_nnx import as_nnx, from_nnx, from_nnx_stateful

__all__ = [
    "as_linen",
    "as_nnx",
    "from_linen",
    "from_linen_stateful",
    "from_nnx",
    "from_nnx_stateful",
]
