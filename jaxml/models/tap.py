"""Named places in a network where features may be read or replaced.

A network calls `tap(name, features)` and goes on with what comes back. `Reader` records what
passes, inside one trace, so that features are plain outputs of a pure function:

>>> import jax.numpy as jnp
>>> reader = Reader()
>>> float(reader("hidden", jnp.float32(2.0)) + 1)
3.0
>>> list(reader.features)
['hidden']
"""

from collections.abc import Callable

from jaxml.core.types import Array

type Tap = Callable[[str, Array], Array]


def untouched(name: str, features: Array) -> Array:
    """The tap that does nothing."""
    del name
    return features


class Reader:
    """A tap that keeps what it sees in `features`; make one inside the function that is traced."""

    def __init__(self):
        self.features: dict[str, Array] = {}

    def __call__(self, name: str, features: Array) -> Array:
        """Records and passes on."""
        self.features[name] = features
        return features
