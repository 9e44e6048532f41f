"""A kernel as what it is between two samples: a function of their squared norms and their inner product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Function, Kind
from rmtdeq.activations import Activation, dual
from rmtdeq.activations import activation as as_activation
from rmtdeq.kernels.pairs import solve_pairs
from rmtdeq.kernels.plan import NetworkPlan, pinned, tabulate
from rmtdeq.kernels.samples import Angles
from rmtdeq.network import Layer, Network, require_network
from rmtdeq.theory.jets import entry_jet
from rmtdeq.theory.taylor import taylor_coefficients

_AT_ONCE = 1 << 16
"""Pairs that are computed at a time."""

_HIGHEST = 400
"""Degree up to which there are Taylor coefficients."""

_ROUNDING = 1e-12
"""By how much an inner product may be beyond √(uv)."""


@dataclass(frozen=True)
class ScalarKernel:
    """A kernel's entry as a function of ‖x‖², ‖y‖² and x·y.

    Attributes
    ----------
    network : Network
        Uncentred: centred activations have been shifted once and for all.
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``; of several, all methods return tuples.
    """

    network: Network
    kind: str | tuple[str, ...]

    def __call__(self, u: ArrayLike, v: ArrayLike, x: ArrayLike) -> Any:
        """Return entries.

        Parameters
        ----------
        u, v : array_like
            Squared norms, not negative.
        x : array_like
            Inner products, at most √(uv) in size; all three are broadcast against each other.

        Returns
        -------
        ndarray of the broadcast shape, or a tuple of them
            Within 1e-12 of the geometric mean of the diagonal entries, at any angle that the numbers tell: next to
            x = √(uv) they leave it open by some 1e-8, which tangent kernels of bent activations show.

        Raises
        ------
        InvalidInputError
            Negative norms, or inner products beyond the Cauchy-Schwarz bound.
        IllPosedError
            No equilibrium, no contraction, or an infinite NTK.
        """
        triples = _triples(u, v, x)
        pinned(self.network, float(max(triples.u.max(), triples.v.max())), 1.0)
        kinds = check.kinds(self.kind)

        def of_part(at: NetworkPlan, part: _Triples) -> FloatArray:
            index = np.arange(part.x.size)
            found = at.pairs(index, index, part.angles, dict.fromkeys(kinds, part.x))
            return np.stack([found[each] for each in kinds])

        return check.as_asked(self.kind, triples.by_parts(self.network, kinds, of_part))

    def derivatives(self, u: ArrayLike, v: ArrayLike, x: ArrayLike) -> Any:
        """Return value, gradient and Hessian in (u, v, x).

        Parameters
        ----------
        u, v, x : array_like
            As for the entries, norms positive and inner products smaller than √(uv).

        Returns
        -------
        Jet, or a tuple of them
            ``value`` (…), ``gradient`` (…, 3), ``hessian`` (…, 3, 3).

        Raises
        ------
        InvalidInputError, IllPosedError
            As for the entries; and of an activation that is bent and has no closed form of its derivatives, as ReLU and
            its like have, where pre-activations are nearly parallel (beyond a correlation of about 0.9).
        """
        return check.as_asked(self.kind, (entry_jet(self.network, u, v, x, k) for k in check.kinds(self.kind)))

    def taylor(self, degree: int, u: float = 1.0, v: float | None = None, *, at: float = 0.0) -> Any:
        """Return Taylor coefficients in the inner product, at given norms.

        Parameters
        ----------
        degree : int
            Of the last power.
        u, v : float
            Squared norms, positive; v is u by default.
        at : float
            The inner product around which to expand, smaller than √(uv) in size.

        Returns
        -------
        ndarray (degree + 1,), or a tuple of them
            The a_k of ``g(u, v, x) = Σ_k a_k (x - at)^k``, exact to 1e-15 of the entry at x = √(uv).  At u = v and
            zero none is negative (Schoenberg 1942).

        Raises
        ------
        InvalidInputError, IllPosedError
            As for `derivatives`.
        """
        degree = check.integer(degree, "degree", low=0, high=_HIGHEST)
        u, v = _norms(u, v)
        at = check.number(at, "at")
        if not abs(at) < np.sqrt(u * v):
            raise InvalidInputError(f"at must be smaller than √(uv) = {np.sqrt(u * v):.4g} in size, not {at:.4g}.")
        kinds = check.kinds(self.kind)
        return check.as_asked(self.kind, (taylor_coefficients(self.network, u, v, at, degree, k) for k in kinds))

    def dressed(
        self, x: ArrayLike, degree: int, u: float = 1.0, v: float | None = None, *, weights: ArrayLike | None = None
    ) -> Any:
        """Return the coefficients of the polynomial nearest to the kernel at given inner products.

        Parameters
        ----------
        x : array_like
            Inner products, at most √(uv) in size; such as those of samples.
        degree : int
            Of the polynomial; there must be more than so many different inner products.
        u, v : float
            Squared norms, positive; v is u by default.
        weights : array_like, optional
            Of the squared errors, positive; one by default.

        Returns
        -------
        ndarray (degree + 1,), or a tuple of them
            The a_k of least ``Σ_i w_i (g(u, v, x_i) - Σ_k a_k x_i^k)²``: Taylor coefficients that have taken up what
            the powers left out come to on these inner products.
        """
        degree = check.integer(degree, "degree", low=0)
        u, v = _norms(u, v)
        x = check.real_array(x, "x").ravel()
        if np.unique(x).size <= degree:
            raise InvalidInputError(f"A polynomial of degree {degree} needs {degree + 1} different inner products.")
        w = np.ones(x.size) if weights is None else check.real_array(weights, "weights").ravel()
        if w.size != x.size or not (w > 0).all():
            raise InvalidInputError(f"weights must be positive, one for each of {x.size} inner products.")
        values = self(u, v, x)

        def fitted(y: FloatArray) -> FloatArray:
            # Chebyshev's polynomials on the range of x are told apart where powers are not.
            powers = Chebyshev.fit(x, y, degree, w=np.sqrt(w)).convert(kind=Polynomial, domain=[-1, 1]).coef
            return np.pad(powers, (0, degree + 1 - powers.size))

        return check.as_asked(self.kind, map(fitted, (values,) if isinstance(self.kind, str) else values))


def scalar_kernel(deq: Network, kind: str | tuple[str, ...] = "ck", *, tau0_squared: float = 1.0) -> ScalarKernel:
    """Return a kernel as a function of two squared norms and an inner product.

    Parameters
    ----------
    deq : DEQ or Network
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` (input weights and bias of the first layer fixed), ``"ntk-full"`` (all weights trained), or
        several.
    tau0_squared : float
        Where centred activations are centred, the mean squared norm of the samples that are meant.

    Returns
    -------
    ScalarKernel
        ``g(u, v, x)`` is what `rmtdeq.kernel` has for samples of squared norms u and v and inner product x; it has
        `derivatives`, `taylor` and `dressed` coefficients.

    Raises
    ------
    InvalidInputError
        No network, or an unknown kind.
    IllPosedError
        No equilibrium at `tau0_squared`, for a centred network.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> g = rd.scalar_kernel(rd.Network([rd.Layer("relu", sigma_b2=2.0)]))
    >>> np.round(g(1.0, 1.0, [-1.0, 0.0, 1.0]), 6)
    array([0.     , 0.31831, 1.     ])
    >>> np.round(g.taylor(4), 6)
    array([0.31831 , 0.5     , 0.159155, 0.      , 0.013263])
    """
    require_network(deq)
    kinds = check.kinds(kind)
    centre = check.squared_norm(tau0_squared, "tau0_squared")
    return ScalarKernel(deq.pinned(centre), kind if isinstance(kind, str) else kinds)


@dataclass(frozen=True)
class DualActivation:
    """The dual of an activation: ``E φ(ξ)φ(ζ)`` as a function of the covariances of two centred Gaussians.

    Attributes
    ----------
    activation : Activation
    """

    activation: Activation

    def __call__(self, variance_u: ArrayLike, variance_v: ArrayLike, covariance: ArrayLike) -> FloatArray:
        """Return ``E φ(ξ)φ(ζ)``.

        Parameters
        ----------
        variance_u, variance_v : array_like
            Not negative.
        covariance : array_like
            At most √(variance_u · variance_v) in size; all three are broadcast against each other.

        Returns
        -------
        ndarray of the broadcast shape

        Raises
        ------
        InvalidInputError
            These are no covariances.
        """
        return self._both(variance_u, variance_v, covariance)[0]

    def slope(self, variance_u: ArrayLike, variance_v: ArrayLike, covariance: ArrayLike) -> FloatArray:
        """Return ``E φ'(ξ)φ'(ζ)``, the derivative in the covariance (Price's theorem); parameters as of the dual.

        Infinite where an activation that jumps meets itself, and zero where one that has no closed form jumps.
        """
        return self._both(variance_u, variance_v, covariance)[1]

    def _both(self, variance_u: ArrayLike, variance_v: ArrayLike, covariance: ArrayLike) -> tuple[FloatArray, ...]:
        triples = _triples(variance_u, variance_v, covariance)
        if not max(triples.u.max(), triples.v.max()) > 0:
            constant = dual(self.activation, triples.u, triples.v, triples.x)
            return tuple(each.reshape(triples.shape) for each in (constant.product, constant.slope))

        def of_part(at: NetworkPlan, part: _Triples) -> FloatArray:
            index = np.arange(part.x.size)
            layer, u, v, known = at.layers[0].of_pairs(index, index)
            return np.stack(solve_pairs(layer, u, v, part.angles, known)[:2])

        return triples.by_parts(Network([Layer(self.activation)]), ("ck",), of_part)


def dual_activation(activation: str | Activation | Function) -> DualActivation:
    """Return the dual of an activation (Daniely, Frostig, Singer 2016).

    Parameters
    ----------
    activation : str, Activation or callable
        As for `rmtdeq.Layer`.

    Returns
    -------
    DualActivation
        Called with two variances and a covariance, ``E φ(ξ)φ(ζ)``; `slope` is its derivative in the covariance.

    Raises
    ------
    InvalidInputError
        Unknown activation.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> relu = rd.dual_activation("relu")
    >>> np.round([relu(1.0, 1.0, 0.0), relu.slope(1.0, 1.0, 0.0)], 6)
    array([0.159155, 0.25    ])
    """
    return DualActivation(as_activation(activation))


@dataclass(frozen=True, eq=False)
class _Triples:
    """Pairs of samples known by their squared norms u, v and inner products x alone, each (pairs,)."""

    u: FloatArray
    v: FloatArray
    x: FloatArray
    shape: tuple[int, ...]

    @cached_property
    def angles(self) -> Angles:
        """Between the samples; a zero sample is orthogonal to all."""
        size = np.sqrt(self.u * self.v)
        inside = size > 0
        cosine = np.clip(np.divide(self.x, size, out=np.zeros_like(size), where=inside), -1.0, 1.0)
        versine = np.divide(np.maximum(size - abs(self.x), 0.0), size, out=np.ones_like(size), where=inside)
        return Angles(cosine, versine)

    def by_parts(
        self,
        network: Network,
        kinds: tuple[Kind, ...],
        of_part: Callable[[NetworkPlan, _Triples], FloatArray],
    ) -> tuple[FloatArray, ...]:
        """Return what a function of a network and some of the pairs makes of all, some at a time, in their shape."""
        tables = tabulate(network, kinds, np.concatenate([self.u, self.v]))
        found = []
        for start in range(0, self.x.size, _AT_ONCE):
            u, v, x = (each[start : start + _AT_ONCE] for each in (self.u, self.v, self.x))
            found.append(of_part(tables.at(u, v), _Triples(u, v, x, x.shape)))
        return tuple(each.reshape(self.shape) for each in np.concatenate(found, axis=1))


def _triples(u: ArrayLike, v: ArrayLike, x: ArrayLike) -> _Triples:
    arrays = (check.real_array(each, name).astype(float) for each, name in ((u, "u"), (v, "v"), (x, "x")))
    u, v, x = np.broadcast_arrays(*arrays)
    if not x.size:
        raise InvalidInputError("The scalar kernel needs at least one point (u, v, x).")
    if (u < 0).any() or (v < 0).any() or (abs(x) > np.sqrt(u * v) * (1 + _ROUNDING)).any():
        raise InvalidInputError(
            "[[u, x], [x, v]] is not positive semidefinite: u and v are squared norms (variances), not negative, and "
            "the inner product (covariance) x is at most √(uv) in size."
        )
    return _Triples(u.ravel(), v.ravel(), x.ravel(), x.shape)


def _norms(u: float, v: float | None) -> tuple[float, float]:
    u = check.squared_norm(u, "u")
    return u, u if v is None else check.squared_norm(v, "v")
