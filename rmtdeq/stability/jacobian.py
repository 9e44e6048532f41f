"""The Jacobian J of a layer at its equilibria, and the ends of its spectra; a large one is known by its products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import lu_factor, lu_solve
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh, gmres, svds
from torch import Tensor

from rmtdeq._lib.errors import ConvergenceError
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.models.implicit import Map

_EXAMINED = 4
_SMALL, _MATRIX = 128, 4096
"""Sizes of states up to which all eigenvalues of J are computed, and up to which J is stored."""
_BLOCK = 512
_DIGITS = 1e-3

_Product = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class JacobianEnds:
    """What is asked of J at one equilibrium.

    Attributes
    ----------
    radius : float
        Spectral radius of J, the factor by which changes shrink in a step in the end.
    contraction : float
        ‖J‖₂: the factor by which distances shrink, or grow, in one step near the equilibrium.
    smallest, largest : float
        Singular values of 1 - J.
    """

    radius: float
    contraction: float
    smallest: float
    largest: float


def examine(
    layer: Map, injected: tuple[Tensor, ...], rest: Tensor, norms: FloatArray, most: int = _EXAMINED
) -> tuple[IntArray, list[JacobianEnds]]:
    """Look at J at a few samples, of norms from the smallest to the largest.

    Parameters
    ----------
    layer : Map
    injected : tuple of Tensor (n, …)
    rest : Tensor (n, …)
        Equilibria.
    norms : ndarray (n,)
        Of the samples.
    most : int
        Number of samples.

    Returns
    -------
    chosen : ndarray (q,)
        Numbers of the samples, in ascending order.
    ends : list of JacobianEnds

    Raises
    ------
    ConvergenceError
        J is too large to be stored, and 1 - J too near to a singular matrix, or its eigenvalues too close together.
    """
    order = np.argsort(norms, kind="stable")
    chosen = np.unique(order[np.linspace(0, norms.size - 1, min(most, norms.size)).astype(int)])
    return chosen, [_ends(layer, rest[i : i + 1], tuple(each[i : i + 1] for each in injected)) for i in chosen]


def _ends(layer: Map, at: Tensor, injected: tuple[Tensor, ...]) -> JacobianEnds:
    """Return what is asked of J at a state (1, …)."""
    if at.numel() > _MATRIX:
        return _of_products(at.numel(), *_products(layer, at, injected), _start(at.numel()))
    return ends_of(_matrix(layer, at, injected))


def ends_of(J: FloatArray) -> JacobianEnds:
    """Return what is asked of a matrix J."""
    size = len(J)
    Y = np.eye(size) - J
    if size <= _SMALL:
        values = np.linalg.svd(Y, compute_uv=False)
        radius, contraction = float(abs(np.linalg.eigvals(J)).max()), float(np.linalg.norm(J, 2))
        return JacobianEnds(radius, contraction, float(values[-1]), float(values[0]))
    start, factors = _start(size), lu_factor(Y, check_finite=False)

    def inverse(v: FloatArray) -> FloatArray:
        return np.asarray(lu_solve(factors, lu_solve(factors, v, trans=1, check_finite=False), check_finite=False))

    return JacobianEnds(_radius(J, start), _largest(J, start), _smallest(size, inverse, start), _largest(Y, start))


def _start(size: int) -> FloatArray:
    """Return where iterations for eigenvalues begin."""
    return np.random.default_rng(0).standard_normal(size)


def _matrix(layer: Map, at: Tensor, injected: tuple[Tensor, ...]) -> FloatArray:
    """Return J, from products of its transpose with many unit vectors at a time."""
    size, rows = at.numel(), []
    for block in torch.split(torch.eye(size, dtype=at.dtype, device=at.device), _BLOCK):
        many = [each.expand(len(block), *each.shape[1:]) for each in (at, *injected)]
        rows.append(layer.adjoint(many[0], tuple(many[1:]))(block.reshape(-1, *at.shape[1:])).flatten(1))
    return torch.cat(rows).double().cpu().numpy()


def _products(layer: Map, at: Tensor, injected: tuple[Tensor, ...]) -> tuple[_Product, _Product]:
    """Return the products of arrays with J and with its transpose."""
    pull = layer.adjoint(at, injected)

    def push(v: Tensor) -> Tensor:
        return torch.func.jvp(lambda z: layer.step(z, *injected), (at,), (v,))[1]

    def on_arrays(product: Callable[[Tensor], Tensor]) -> _Product:
        def apply(v: FloatArray) -> FloatArray:
            tensor = torch.from_numpy(np.ascontiguousarray(v, dtype=float)).reshape(at.shape).to(at)
            return product(tensor).detach().double().cpu().numpy().ravel()

        return apply

    return on_arrays(push), on_arrays(pull)


def _of_products(size: int, forward: _Product, backward: _Product, start: FloatArray) -> JacobianEnds:
    def operator(forward: _Product, backward: _Product) -> Any:
        return LinearOperator((size, size), matvec=forward, rmatvec=backward, dtype=np.float64)

    J = operator(forward, backward)
    Y = operator(lambda v: v.ravel() - forward(v), lambda v: v.ravel() - backward(v))

    def solved(A: Any, b: FloatArray) -> FloatArray:
        found, info = gmres(A, b, rtol=1e-2 * _DIGITS, restart=50, maxiter=40)
        if info:
            raise ConvergenceError(
                "The smallest singular value of 1 - J was not found: GMRES does not solve with 1 - J, which is nearly "
                "singular. Lower sigma_a2, or the scale of the recurrent weights."
            )
        return np.asarray(found)

    smallest = _smallest(size, lambda v: solved(Y, solved(Y.H, v)), start)
    return JacobianEnds(_radius(J, start), _largest(J, start), smallest, _largest(Y, start))


def _radius(J: Any, start: FloatArray) -> float:
    try:
        values = eigs(J, k=2, which="LM", v0=start, ncv=60, tol=_DIGITS, return_eigenvectors=False)
    except ArpackNoConvergence as error:
        values = error.eigenvalues
        if not values.size:
            raise ConvergenceError(
                "The largest eigenvalue of the Jacobian was not found: too many have nearly its modulus."
            ) from error
    return float(abs(values).max())


def _largest(matrix: Any, start: FloatArray) -> float:
    """Return the largest singular value."""
    return float(svds(matrix, k=1, v0=start, tol=_DIGITS, return_singular_vectors=False)[0])


def _smallest(size: int, inverse: _Product, start: FloatArray) -> float:
    """Return the smallest singular value of Y from the largest eigenvalue of (YᵀY)^{-1}."""
    operator = LinearOperator((size, size), matvec=inverse, dtype=np.float64)
    (value,) = eigsh(operator, k=1, which="LM", v0=start, ncv=10, tol=_DIGITS, return_eigenvectors=False)
    return float(value**-0.5)
