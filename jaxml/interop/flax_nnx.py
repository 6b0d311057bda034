"""NNX modules from our functions, and functions from NNX modules.

`flax.nnx` is imported when it is needed: some releases of flax cannot import it under a newer jax.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
from flax import traverse_util

from jaxml.core import tree
from jaxml.core.types import Key, PyTree
from jaxml.interop import declared

type Apply = Callable[..., Any]


def nnx() -> ModuleType:
    """The module `flax.nnx`.

    Raises:
      ImportError: this flax does not import it under this jax.
    """
    try:
        from flax import nnx
    except AttributeError as error:
        import flax

        raise ImportError(
            f"flax {flax.__version__} cannot import flax.nnx under jax {jax.__version__} "
            f"({error}); install flax >= 0.12.12."
        ) from error
    return nnx


def as_nnx(params: PyTree, apply: Apply, *, key: Key | None = None) -> Any:
    """An `nnx.Module` that holds our tree as `nnx.Param`s under the attribute `params`.

    Args:
      params: a dict of arrays, or of declared parameters.
      apply: `(params, *args, **kwargs) -> output`, pure.
      key: draws declared parameters.

    Raises:
      TypeError: `params` is no dict.
      ValueError: parameters are only declared, and there is no key.
      ImportError: see `nnx`.
    """
    declared.check_dict(params)
    library, arrays = nnx(), declared.arrays(params, key)

    class Wrapped(library.Module):
        """Holds the parameters and calls the function."""

        def __init__(self):
            self.params = library.data(jax.tree.map(library.Param, arrays))

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            own = library.to_pure_dict(library.state(self, library.Param))
            return apply(own["params"], *args, **kwargs)

    return Wrapped()


def from_nnx(module: Any) -> tuple[PyTree, Apply]:
    """Parameters of an NNX module, and a pure `apply(params, *args, **kwargs)`.

    What is no `nnx.Param` (batch statistics, random streams) is held as it is now;
    `from_nnx_stateful` passes it. The module itself is never changed.
    """
    params, state, stateful = from_nnx_stateful(module)

    def apply(params: PyTree, *args: Any, **kwargs: Any) -> Any:
        return stateful(params, state, *args, **kwargs)[0]

    return params, apply


def from_nnx_stateful(module: Any) -> tuple[PyTree, PyTree, Apply]:
    """Parameters, all other variables, and `apply(params, state, *args) -> (output, state)`.

    Both trees are nested dicts with text keys (`layers/0/kernel` for a list).
    """
    library = nnx()
    graph, params, state = library.split(module, library.Param, ...)

    def apply(own: PyTree, other: PyTree, *args: Any, **kwargs: Any) -> tuple[Any, PyTree]:
        copy = library.merge(graph, _filled(params, own), _filled(state, other))
        output = copy(*args, **kwargs)
        return output, _plain(library.split(copy, library.Param, ...)[2])

    return _plain(params), _plain(state), apply


def _paths(state: Any) -> dict[tuple[Any, ...], Any]:
    return traverse_util.flatten_dict(nnx().to_pure_dict(state))


def _plain(state: Any) -> PyTree:
    return tree.unflatten({"/".join(map(str, path)): x for path, x in _paths(state).items()})


def _filled(state: Any, plain: PyTree) -> Any:
    """A copy of an NNX state with the arrays of a plain tree."""
    tree.check_match(plain, _plain(state), "params or state")
    leaves = tree.flatten(plain)
    values = {path: leaves["/".join(map(str, path))] for path in _paths(state)}
    copy = jax.tree.map(lambda x: x, state)
    nnx().replace_by_pure_dict(copy, traverse_util.unflatten_dict(values))
    return copy
