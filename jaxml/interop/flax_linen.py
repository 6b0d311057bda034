"""Linen modules from our functions, and functions from Linen modules."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen
from flax.core import freeze, unfreeze

from jaxml.core.types import Key, PyTree
from jaxml.interop import declared

type Apply = Callable[..., Any]


def as_linen(params: PyTree, apply: Apply) -> linen.Module:
    """A Linen module whose `params` collection is our tree.

    Args:
      params: a dict of declared parameters, drawn by the module's `init`, or of arrays, which its
        `init` returns.
      apply: `(params, *args, **kwargs) -> output`, pure.

    Raises:
      TypeError: `params` is no dict.

    >>> import jax, jax.numpy as jnp
    >>> module = as_linen({"w": jnp.full((2, 1), 3.0)}, lambda p, x: x @ p["w"])
    >>> variables = module.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> module.apply(variables, jnp.ones((1, 2))).item()
    6.0
    """
    declared.check_dict(params)

    class Wrapped(linen.Module):
        """Holds the parameters by name and calls the function."""

        @linen.compact
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            own = {name: self.param(name, _drawing(name, params[name])) for name in params}
            return apply(own, *args, **kwargs)

    return Wrapped()


def _drawing(name: str, part: PyTree) -> Callable[[Key], PyTree]:
    return lambda key: declared.arrays({name: part}, key)[name]


def from_linen(module: linen.Module, variables: Mapping[str, Any]) -> tuple[PyTree, Apply]:
    """Parameters of a Linen module, and a pure `apply(params, *args, **kwargs)`.

    Other collections (batch statistics) are held as they are; `from_linen_stateful` passes them.

    Raises:
      ValueError: `variables` hold no collection "params".
    """
    params, state = _split(variables)

    def apply(params: PyTree, *args: Any, **kwargs: Any) -> Any:
        return module.apply({"params": params, **state}, *args, **kwargs)

    return params, apply


def from_linen_stateful(
    module: linen.Module, variables: Mapping[str, Any]
) -> tuple[PyTree, PyTree, Apply]:
    """Parameters, all other collections, and `apply(params, state, *args) -> (output, state)`.

    Raises:
      ValueError: `variables` hold no collection "params".
    """

    def apply(params: PyTree, state: PyTree, *args: Any, **kwargs: Any) -> Any:
        every = {"params": params, **state}
        return module.apply(every, *args, mutable=list(state), **kwargs)

    return *_split(variables), apply


def _split(variables: Mapping[str, Any]) -> tuple[PyTree, PyTree]:
    plain = linen.unbox(unfreeze(freeze(variables)))
    if "params" not in plain:
        raise ValueError(f"variables must hold 'params'; got {', '.join(plain) or 'nothing'}.")
    return plain.pop("params"), plain
