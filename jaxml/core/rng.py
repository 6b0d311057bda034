"""Random keys by name: a draw added later changes no other draw."""

import hashlib

import jax

from jaxml.core.types import Array, Key


def fold(key: Key, *names: str | int | Array) -> Key:
    """The key of one use, e.g. `fold(key, "dropout", layer)`.

    Names are hashed, numbers (which may be traced) folded in as they are.

    >>> import jax
    >>> a, b = (fold(jax.random.key(0), name) for name in ("init", "data"))
    >>> bool((jax.random.key_data(a) == jax.random.key_data(b)).all())
    False
    """
    for name in names:
        if isinstance(name, str):
            name = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
        key = jax.random.fold_in(key, name)
    return key
