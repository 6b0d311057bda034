"""Trees that a foreign module may be made of: declared parameters, or arrays."""

import jax

from jaxml.core import param
from jaxml.core.types import Key, PyTree


def arrays(params: PyTree, key: Key | None) -> PyTree:
    """Draws declared parameters; arrays pass as they are.

    Raises:
      ValueError: parameters are only declared, and there is no key.
    """
    if not any(map(param.is_param, jax.tree.leaves(params, is_leaf=param.is_param))):
        return params
    if key is None:
        raise ValueError("key must be given to draw declared parameters; got key=None.")
    return param.init(key, params)


def check_dict(params: PyTree) -> None:
    """Raises TypeError unless `params` is a dict."""
    if not isinstance(params, dict):
        raise TypeError(f"params must be a dict; got a {type(params).__name__}.")
