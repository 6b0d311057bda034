"""The exact convex program of a two-layer ReLU network (Pilanci, Ergen 2020), for small n.

Training `sum_j relu(X u_j) a_j` on `1/2 ||. - y||^2 + b/2 sum (||u_j||^2 + a_j^2)` equals, for
enough neurons, a group lasso over the activation patterns `D_i = diag(1[X u >= 0])` with each
block kept in the cone of its pattern. Here it is solved by ADMM in float64 on the host.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import linprog

from jaxml.core import check


class ExactSolution(NamedTuple):
    """Blocks of the program.

    Attributes:
      v: weights of neurons with positive output, [m, d].
      w: of negative output, [m, d].
      patterns: bool [m, n].
      objective: value at (v, w).
      residual: largest violation of the splitting's equations at the end.
    """

    v: np.ndarray
    w: np.ndarray
    patterns: np.ndarray
    objective: float
    residual: float


def _margin(signed: np.ndarray) -> float:
    """Largest t with `signed @ u >= t` for a u in the unit cube: above 0 for an open cell."""
    n, d = signed.shape
    cost = np.zeros(d + 1)
    cost[-1] = -1
    bounds = [(-1.0, 1.0)] * d + [(None, 1.0)]
    found = linprog(cost, np.hstack([-signed, np.ones((n, 1))]), np.zeros(n), bounds=bounds)
    return float(found.x[-1]) if found.success else 0.0


def activation_patterns(x: np.ndarray) -> np.ndarray:
    """All patterns `1[X u >= 0]` of open cells, bool [m, n]; others are limits of these.

    Rows are added one by one, and a cell is split where both sides of the new row are open.

    Args:
      x: [n, d], small: there are up to `2 sum_k<r C(n - 1, k)` patterns, r the rank.

    >>> activation_patterns(np.array([[1.0, 0.0], [0.0, 1.0]])).astype(int).tolist()
    [[1, 1], [1, 0], [0, 1], [0, 0]]
    """
    check.shape("x", x, ["n", "d"])
    cells: list[list[float]] = [[]]
    for row in range(len(x)):
        split = []
        for signs in cells:
            for sign in (1.0, -1.0):
                signed = np.asarray([*signs, sign])[:, None] * x[: row + 1]
                if not x[row].any():
                    if sign > 0:
                        split.append([*signs, sign])
                elif _margin(signed[np.any(signed != 0, axis=1)]) > 1e-9:
                    split.append([*signs, sign])
        cells = split
    return np.array(cells) > 0


def solve_exact_relu_program(
    x: np.ndarray,
    y: np.ndarray,
    beta: float,
    *,
    patterns: np.ndarray | None = None,
    tolerance: float = 1e-10,
    max_steps: int = 50_000,
) -> ExactSolution:
    """Solves the program.

    Args:
      x: [n, d]; append a column of ones for a bias.
      y: [n].
      beta: b, of the penalty, above 0.
      patterns: bool [m, n]; by default all of them.
      tolerance: of the residuals.
      max_steps: of ADMM.

    Raises:
      ValueError: shapes that do not fit, or beta not above 0.
    """
    sizes = check.shape("x", x, ["n", "d"])
    check.shape("y", y, [sizes["n"]])
    check.positive(beta=beta)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    patterns = activation_patterns(x) if patterns is None else np.asarray(patterns, bool)
    m, (n, d) = len(patterns), x.shape
    gated = (patterns[:, :, None] * x[None]).transpose(1, 0, 2).reshape(n, m * d)
    design = np.hstack([gated, -gated])
    cones = (2.0 * patterns - 1)[:, :, None] * x[None]  # [m, n, d]
    blocks = np.concatenate([cones, cones])  # of v, then of w
    theta, residual = _admm(design, y, blocks, beta, tolerance, max_steps)
    v, w = theta[:m], theta[m:]
    miss = design @ theta.ravel() - y
    value = 0.5 * float(miss @ miss) + beta * float(np.linalg.norm(theta, axis=1).sum())
    return ExactSolution(v, w, patterns, value, residual)


def _admm(
    design: np.ndarray,
    y: np.ndarray,
    blocks: np.ndarray,
    beta: float,
    tolerance: float,
    max_steps: int,
) -> tuple[np.ndarray, float]:
    """Splits into least squares, norms (copy z) and cones (copy s); returns z [2 m, d]."""
    num, _, d = blocks.shape
    gram = design.T @ design
    inner = np.zeros_like(gram)
    for i, block in enumerate(blocks):
        at = slice(i * d, (i + 1) * d)
        inner[at, at] = np.eye(d) + block.T @ block
    rho, target = 1.0, design.T @ y
    factor = cho_factor(gram + rho * inner)
    z = np.zeros((num, d))
    s = np.zeros(blocks.shape[:2])
    dual_z, dual_s, worst = np.zeros_like(z), np.zeros_like(s), np.inf
    for step in range(max_steps):
        pull = z - dual_z + np.einsum("inj,in->ij", blocks, s - dual_s)
        theta = cho_solve(factor, target + rho * pull.ravel()).reshape(num, d)
        image = np.einsum("inj,ij->in", blocks, theta)
        before = z, s
        moved = theta + dual_z
        norm = np.linalg.norm(moved, axis=1, keepdims=True)
        z = moved * np.maximum(0.0, 1 - beta / rho / np.where(norm > 0, norm, 1.0))
        s = np.maximum(image + dual_s, 0.0)
        dual_z, dual_s = dual_z + theta - z, dual_s + image - s
        primal = max(np.abs(theta - z).max(), np.abs(image - s).max())
        dual = rho * max(np.abs(z - before[0]).max(), np.abs(s - before[1]).max())
        worst = float(max(primal, dual))
        if worst < tolerance:
            break
        if step % 50 == 49 and step < max_steps // 2 and not 0.1 < primal / dual < 10:
            change = 2.0 if primal > dual else 0.5
            rho, dual_z, dual_s = rho * change, dual_z / change, dual_s / change
            factor = cho_factor(gram + rho * inner)
    return z, worst


def to_relu_network(v: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The network of a solution: input weights u [d, j] and output weights a [j].

    A block v_i is the neuron `u = v_i / sqrt ||v_i||`, `a = sqrt ||v_i||`; of w_i, a is negative.

    >>> u, a = to_relu_network(np.array([[4.0, 0.0]]), np.zeros((1, 2)))
    >>> u.ravel().tolist(), a.tolist()
    ([2.0, 0.0], [2.0])
    """
    both = np.concatenate([v, w])
    sign = np.repeat([1.0, -1.0], [len(v), len(w)])
    norm = np.linalg.norm(both, axis=1)
    kept = norm > 0
    root = np.sqrt(norm[kept])
    return (both[kept] / root[:, None]).T, sign[kept] * root


def relu_network(x: np.ndarray, u: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Output [n] of `sum_j relu(x u_j) a_j`."""
    return np.maximum(x @ u, 0.0) @ a


def network_objective(
    x: np.ndarray, y: np.ndarray, u: np.ndarray, a: np.ndarray, beta: float
) -> float:
    """`1/2 ||f(X) - y||^2 + beta/2 sum (||u_j||^2 + a_j^2)`."""
    miss = relu_network(x, u, a) - y
    return float(0.5 * miss @ miss + 0.5 * beta * (np.sum(u**2) + np.sum(a**2)))
