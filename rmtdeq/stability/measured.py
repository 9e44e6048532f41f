"""The forward solve of a torch module, measured by running it; a large Jacobian is known by its products alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.linalg import lu_factor, lu_solve
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh, gmres, svds
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.errors import ConvergenceError
from rmtdeq._lib.types import FloatArray
from rmtdeq.models import ImplicitModule
from rmtdeq.models.implicit import Map, full_precision
from rmtdeq.stability.diagnosis import MeasuredDiagnosis

_MOST_STEPS = 2000
_ROUNDING = 1e3
_PATIENCE = 20
_EXAMINED = 4
_SMALL, _MATRIX = 128, 4096
"""Sizes of states up to which all eigenvalues of J are computed, and up to which J is stored."""
_BLOCK = 512
_DIGITS = 1e-3

_Product = Callable[[FloatArray], FloatArray]


class _Ends(NamedTuple):
    """The spectral radius of J, and the smallest and the largest singular value of 1 - J."""

    radius: float
    smallest: float
    largest: float


def measure(module: ImplicitModule, X: ArrayLike) -> MeasuredDiagnosis:
    """Diagnose a module on inputs (n, …); see `diagnose`.

    The plain iteration is run whatever the module's solver is; J is examined at four samples at most, of norms from the
    smallest to the largest.
    """
    x = _inputs(module, X)
    with torch.no_grad(), full_precision(x):
        layer, injected = module.map(), module.injected(x)
        start = (layer.initial or module.initial)(*injected)
        sizes, changes, rest = _run(layer, injected, start)
        lengths = _lengths(rest)
        errors = _distances(layer, injected, start, rest, len(sizes))
        norms = _lengths(x) ** 2
        chosen = np.unique(np.argsort(norms)[np.linspace(0, norms.size - 1, min(_EXAMINED, norms.size)).astype(int)])
        found = [_jacobian(layer, rest[i : i + 1], tuple(each[i : i + 1] for each in injected)) for i in chosen]
    relative = changes / np.maximum(sizes, np.finfo(float).tiny)
    eps = torch.finfo(rest.dtype).eps
    return MeasuredDiagnosis(
        model=module.describe(),
        squared_norms=norms,
        sizes=sizes / lengths,
        residuals=changes / lengths,
        errors=errors / lengths,
        rate=_rates(relative, _ROUNDING * eps),
        jacobian_norms=norms[chosen],
        spectral_radius=np.array([each.radius for each in found]),
        smallest_singular_value=np.array([each.smallest for each in found]),
        largest_singular_value=np.array([each.largest for each in found]),
        at_rest=relative[-1] <= max(_ROUNDING * eps, module.solver.tolerance_for(rest.dtype)),
    )


def _inputs(module: ImplicitModule, X: ArrayLike) -> Tensor:
    """Return samples as the module's own tensor."""
    like = next(module.parameters(), torch.zeros(()))
    if not isinstance(X, Tensor):
        X = torch.from_numpy(np.array(check.real_array(X, "X")))
    return module.own(X.detach().to(like))


def _run(layer: Map, injected: tuple[Tensor, ...], start: Tensor) -> tuple[FloatArray, FloatArray, Tensor]:
    """Iterate until nothing but rounding changes: the sizes and changes by step, (steps, n), and the last states."""
    z = start
    sizes: list[FloatArray] = []
    changes: list[FloatArray] = []
    eps = torch.finfo(start.dtype).eps
    best, since = np.inf, 0
    while len(sizes) < _MOST_STEPS and since < _PATIENCE:
        image = layer.step(z, *injected)
        sizes.append(_lengths(image))
        changes.append(_lengths(image - z))
        z = image
        finite = np.isfinite(sizes[-1]).all() and np.isfinite(changes[-1]).all()
        worst = float((changes[-1] / np.maximum(sizes[-1], np.finfo(float).tiny)).max()) if finite else np.inf
        if not finite:
            raise ConvergenceError(
                f"The iteration met NaN or infinite values at step {len(sizes)}: the inputs or the weights hold such "
                "values, or states grow without bound. Lower sigma_a2, or the scale of the recurrent weights."
            )
        best, since = (worst, 0) if worst < best else (best, since + (best <= _ROUNDING * eps))
        if worst == 0:
            break
    return np.stack(sizes), np.stack(changes), z


def _distances(layer: Map, injected: tuple[Tensor, ...], start: Tensor, rest: Tensor, steps: int) -> FloatArray:
    """Iterate again, and return the distances from the last states, (steps + 1, n)."""
    z, found = start, [_lengths(start - rest)]
    for _ in range(steps):
        z = layer.step(z, *injected)
        found.append(_lengths(z - rest))
    return np.stack(found)


def _lengths(rows: Tensor) -> FloatArray:
    return rows.detach().flatten(1).double().norm(dim=1).cpu().numpy()


def _rates(relative: FloatArray, floor: float) -> FloatArray:
    """Return the mean factor a step over the second half of the steps before rounding, (n,)."""
    found = []
    for column in relative.T:
        moving = np.flatnonzero(column > floor)
        last = int(moving[-1]) if moving.size else 0
        first = last // 2
        found.append((column[last] / column[first]) ** (1 / (last - first)) if last > first else 0.0)
    return np.array(found)


def _jacobian(layer: Map, at: Tensor, injected: tuple[Tensor, ...], matrices: int = _MATRIX) -> _Ends:
    """Return what is asked of J at a state (1, …); by products alone where its size is above `matrices`."""
    size = at.numel()
    start = np.random.default_rng(0).standard_normal(size)
    if size > matrices:
        return _of_products(size, *_products(layer, at, injected), start)
    J = _matrix(layer, at, injected)
    Y = np.eye(size) - J
    if size <= _SMALL:
        values = np.linalg.svd(Y, compute_uv=False)
        return _Ends(float(abs(np.linalg.eigvals(J)).max()), float(values[-1]), float(values[0]))
    factors = lu_factor(Y, check_finite=False)

    def inverse(v: FloatArray) -> FloatArray:
        return np.asarray(lu_solve(factors, lu_solve(factors, v, trans=1, check_finite=False), check_finite=False))

    return _Ends(_radius(J, start), _smallest(size, inverse, start), _largest(Y, start))


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


def _of_products(size: int, forward: _Product, backward: _Product, start: FloatArray) -> _Ends:
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
    return _Ends(_radius(J, start), smallest, _largest(Y, start))


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


def _largest(Y: Any, start: FloatArray) -> float:
    return float(svds(Y, k=1, v0=start, tol=_DIGITS, return_singular_vectors=False)[0])


def _smallest(size: int, inverse: _Product, start: FloatArray) -> float:
    """Return the smallest singular value of Y from the largest eigenvalue of (YᵀY)^{-1}."""
    operator = LinearOperator((size, size), matvec=inverse, dtype=np.float64)
    (value,) = eigsh(operator, k=1, which="LM", v0=start, ncv=10, tol=_DIGITS, return_eigenvectors=False)
    return float(value**-0.5)
