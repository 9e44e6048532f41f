"""Activations: a function, its derivative, its kinks, and what is needed to take expectations of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Protocol

import numpy as np
from numpy.polynomial import legendre as leg

from rmtdeq._lib.check import number
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Function, IntArray
from rmtdeq.activations.quadrature import REACH, SLOPE_TERMS, Rule, gaussian_rule, regular_rule, regular_scale, resolve

_SHOWN = 20
"""Parameters that are printed."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of centred Gaussians (u, v), each attribute of shape (pairs,).

    Attributes
    ----------
    sigma_u, sigma_v : ndarray
        Standard deviations, positive.
    size_u, size_v : ndarray
        √E φ(u)² and √E φ(v)², positive.
    theta : ndarray
        Angle between u and sign·v, in [0, π/2]: their correlation is cos θ.
    sign : ndarray
        1, or -1 for pairs that are nearer to opposite than to parallel.
    """

    sigma_u: FloatArray
    sigma_v: FloatArray
    size_u: FloatArray
    size_v: FloatArray
    theta: FloatArray
    sign: FloatArray

    @property
    def unit_u(self) -> FloatArray:
        """σ_u in units of the size of φ(u)."""
        return self.sigma_u / self.size_u

    @property
    def unit_v(self) -> FloatArray:
        """σ_v in units of the size of φ(v)."""
        return self.sigma_v / self.size_v

    def at(self, index: IntArray, theta: FloatArray) -> Pairs:
        """Return some of the pairs, at other angles."""
        return Pairs(
            self.sigma_u[index], self.sigma_v[index], self.size_u[index], self.size_v[index], theta, self.sign[index]
        )


class DualForm(Protocol):
    """Closed form of the dual activation.

    For pairs (u, v) return ``E[(φ(u)/size_u - sign φ(v)/size_v)²]`` and ``E[φ'(u) φ'(v)]``, φ the function minus
    `shift`.  The squared distance of normalised features, not the product, so that near-duplicate samples (θ → 0) and
    scales far apart lose no digits.
    """

    def __call__(self, pairs: Pairs, shift: float) -> tuple[FloatArray, FloatArray]:
        """Evaluate the form."""


class Expectations(Protocol):
    """Expectations of an activation over N(0, σ²) in closed form, for functions that no quadrature follows far out."""

    def hermite(self, sigma: float, degree: int, shift: float) -> FloatArray:
        """Return ``E[(φ(σξ) - shift) He_k(ξ)] / √k!`` for k = 0 … degree; the first may be a small difference."""

    def squares(self, sigma: float) -> tuple[float, float, float]:
        """Return ``Var φ``, its derivative in σ², and ``E φ'²``."""


@dataclass(frozen=True)
class Activation:
    """An activation φ: fn minus `shift`.

    Parameters
    ----------
    fn : callable
        Vectorised: an array in, an array of the same shape out.
    derivative : callable, optional
        φ', vectorised; without it the derivative of the piecewise interpolant is used (about twelve digits).
    kinks : tuple of float
        Every point where φ or one of its derivatives jumps.
    name : str
        For messages and figures.
    parameters : tuple of float
        What a registered activation was made with.
    shift : float
        Constant taken off `fn`; see `centered`.
    dual_form : DualForm, optional
        Closed form of the dual activation.
    expectations : Expectations, optional
        Of `fn`, in closed form.
    rise : callable, optional
        ``fn(u)`` less the number ``fn(0)``, to full precision next to zero, for a function that is not zero there.

    Raises
    ------
    InvalidInputError
        `fn` is no callable, is not vectorised or not finite, or is not smooth at a point missing from `kinks`;
        `derivative` is not the derivative of `fn`.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> rd.Activation(lambda u: np.maximum(u, -0.5), kinks=(-0.5,)).name
    'callable'
    """

    fn: Function
    derivative: Function | None = None
    kinks: tuple[float, ...] = ()
    name: str = "callable"
    parameters: tuple[float, ...] = ()
    shift: float = 0.0
    dual_form: DualForm | None = field(default=None, repr=False)
    expectations: Expectations | None = field(default=None, repr=False)
    rise: Function | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise InvalidInputError(f"An activation is a name or a vectorised callable, not {self.fn!r}.")
        if self.derivative is not None and not callable(self.derivative):
            raise InvalidInputError(f"derivative must be a vectorised callable, not {self.derivative!r}.")
        try:
            hash(self.fn)
        except TypeError:
            # numpy's polynomials, for instance; results are cached by function, so give it an identity.
            object.__setattr__(self, "fn", partial(self.fn))
        kinks = (self.kinks,) if np.isscalar(self.kinks) else self.kinks
        object.__setattr__(self, "kinks", tuple(sorted({number(k, "kinks") for k in kinks})))
        self._check_smoothness_and_derivative()

    def _check_smoothness_and_derivative(self) -> None:
        panels = _panels(self.fn, self.kinks, 16.0)
        if self.derivative is None:
            return
        u = np.linspace(-8.03, 8.03, 401)
        u = u[np.min(abs(u[:, None] - np.append(self.kinks, np.inf)), axis=1) > 1e-3]
        if not u.size:
            return
        given = np.asarray(self.derivative(u), dtype=float)
        expected = panels.derivative(u)
        if given.shape != u.shape:
            raise InvalidInputError("derivative must act entrywise on arrays, as the activation does.")
        # Where φ is flat the slope of the interpolant is rounding, in proportion to φ.
        size = max(1e-300, float(abs(expected).max()), 1e-2 * float(abs(np.asarray(self.fn(u))).max()))
        error = abs(given - expected) / size
        if not error.max() < 1e-6:
            worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
            raise InvalidInputError(
                f"derivative is not the derivative of the activation: at u = {u[worst]:.4g} it is "
                f"{given[worst]:.6g}, the slope there is {expected[worst]:.6g}."
            )

    def __call__(self, u: FloatArray) -> FloatArray:
        """Return φ(u)."""
        if not self.shift:
            return self.fn(u)
        if self.rise is not None:
            # Centred, it may be small next to what is taken off.
            return self.rise(u) + (float(self.fn(np.zeros(1))[0]) - self.shift)
        return self.fn(u) - self.shift

    def slope(self, u: FloatArray) -> FloatArray:
        """Return φ'(u): the given derivative, or that of the piecewise interpolant."""
        if self.derivative is not None:
            return np.asarray(self.derivative(u), dtype=float)
        u = np.asarray(u, dtype=float)
        reach = 2.0 ** np.ceil(np.log2(max(16.0, float(abs(u).max(initial=0.0)))))
        return _panels(self.fn, self.kinks, reach).derivative(u)

    def minus(self, constant: float) -> Activation:
        """Return φ minus a constant."""
        # Not `replace`: what has been checked of φ holds for φ minus a constant.
        shifted = object.__new__(type(self))
        vars(shifted).update(vars(self), shift=self.shift + float(constant))
        return shifted

    def __copy__(self) -> Activation:
        """Return the activation itself, which never changes; what is known of its function is kept by identity."""
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Activation:
        """Return the activation itself, which never changes."""
        return self

    def edges(self, reach: float) -> FloatArray:
        """Return points that cut [-reach, reach] into panels on which φ is a polynomial to rounding."""
        power = 2.0 ** np.ceil(np.log2(max(16.0, reach)))
        return _panels(self.fn, self.kinks, power).edges

    def rule(self, sigma: float, width: float = 1.0) -> Rule:
        """Return a rule for expectations of functions of φ(σξ), φ'(σξ) and ξ over ξ ~ N(0, 1)."""
        if not any(self.kinks) and sigma <= regular_scale(self.fn, width):
            return regular_rule(width)
        if sigma == 0:
            return gaussian_rule(np.array([0.0]), width)
        return gaussian_rule(self.edges(REACH * sigma) / sigma, width)

    @property
    def spec(self) -> str:
        """`fn` as it is typed, with at most twenty of its parameters."""
        shown = [f"{value + 0.0:g}" for value in self.parameters[:_SHOWN]]
        if len(self.parameters) > _SHOWN:
            shown.append(f"… {len(self.parameters) - _SHOWN} more")
        return f"{self.name}({', '.join(shown)})" if shown else self.name

    def __repr__(self) -> str:
        return f"{self.spec} {'-' if self.shift > 0 else '+'} {abs(self.shift):.6g}" if self.shift else self.spec


@dataclass(frozen=True)
class _Panels:
    edges: FloatArray
    coefficients: FloatArray

    @cached_property
    def _slopes(self) -> FloatArray:
        """Legendre coefficients of the derivative on each panel."""
        unscaled = leg.legder(self.coefficients[:, :SLOPE_TERMS], axis=1)
        return np.asarray(unscaled * 2 / np.diff(self.edges)[:, None])

    def derivative(self, u: FloatArray) -> FloatArray:
        panel = np.clip(np.searchsorted(self.edges, u, side="right") - 1, 0, len(self.edges) - 2)
        left, right = self.edges[panel], self.edges[panel + 1]
        local = (2 * u - left - right) / (right - left)
        slopes = self._slopes
        return np.einsum("...k,...k->...", leg.legvander(local, slopes.shape[1] - 1), slopes[panel])


@lru_cache(maxsize=256)
def _panels(fn: Function, kinks: tuple[float, ...], reach: float) -> _Panels:
    return _Panels(*resolve(fn, kinks, reach))


Factory = Callable[..., Activation]
