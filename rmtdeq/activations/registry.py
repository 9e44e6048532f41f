"""Activations by name."""

from __future__ import annotations

import ast
import copyreg
from collections import deque
from collections.abc import Sequence
from inspect import signature
from math import cos as cos_of
from math import sin as sin_of
from math import sqrt
from typing import Any, cast

import numpy as np
from numpy.polynomial import hermite_e
from numpy.polynomial import polynomial as poly
from scipy.special import erf as _erf
from scipy.special import expit, gammaln, ndtr

from rmtdeq._lib.check import integer, number, real_array, suggestion
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Function
from rmtdeq.activations import dual_forms, polynomials
from rmtdeq.activations.activations import Activation, Factory
from rmtdeq.activations.quadrature import normal_density
from rmtdeq.activations.splines import NaturalSpline
from rmtdeq.activations.waves import Exponential, Wave

_HIGHEST_DEGREE = 64
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def tanh() -> Activation:
    """Hyperbolic tangent."""
    return Activation(np.tanh, lambda u: np.cosh(np.clip(u, -350, 350)) ** -2.0, name="tanh")


def erf() -> Activation:
    """Error function, erf(u) = 2/√π ∫₀ᵘ exp(-t²) dt."""
    return Activation(
        _erf, lambda u: 2 / np.sqrt(np.pi) * np.exp(-u * u), name="erf", dual_form=dual_forms.error_function
    )


def relu() -> Activation:
    """max(u, 0)."""
    return _folded("relu", lambda u: np.maximum(u, 0.0), 1.0, 0.0)


def leaky_relu(slope: float = 0.01) -> Activation:
    """u for u > 0 and slope·u below."""
    slope = number(slope, "slope")
    return _folded("leaky_relu", lambda u: np.where(u > 0, u, slope * u), 1.0, slope, parameters=(slope,))


def two_slopes(above: float = 1.0, below: float = 0.0) -> Activation:
    """above·u for u > 0 and below·u for u < 0."""
    above, below = number(above, "above"), number(below, "below")
    return _folded(
        "two_slopes", lambda u: np.where(u > 0, above * u, below * u), above, below, parameters=(above, below)
    )


def _folded(name: str, fn: Function, above: float, below: float, parameters: tuple[float, ...] = ()) -> Activation:
    form = dual_forms.FoldedLinear(0.5 * (above + below), 0.5 * (above - below))
    return Activation(
        fn,
        lambda u: np.where(u > 0, above, below),
        kinks=(0.0,),
        name=name,
        parameters=parameters,
        dual_form=form,
        expectations=form,
    )


def elu() -> Activation:
    """u for u > 0 and exp(u) - 1 below."""
    return Activation(
        lambda u: np.where(u > 0, u, np.expm1(np.minimum(u, 0.0))),
        lambda u: np.where(u > 0, 1.0, np.exp(np.minimum(u, 0.0))),
        kinks=(0.0,),
        name="elu",
    )


def selu() -> Activation:
    """s·u for u > 0 and s·1.6733·(exp(u) - 1) below, s = 1.0507 (Klambauer et al. 2017)."""
    return Activation(
        lambda u: _SELU_SCALE * np.where(u > 0, u, _SELU_ALPHA * np.expm1(np.minimum(u, 0.0))),
        lambda u: _SELU_SCALE * np.where(u > 0, 1.0, _SELU_ALPHA * np.exp(np.minimum(u, 0.0))),
        kinks=(0.0,),
        name="selu",
    )


def swish() -> Activation:
    """u·sigmoid(u)."""

    def slope(u: FloatArray) -> FloatArray:
        s = expit(u)
        return s + u * s * (1 - s)

    return Activation(lambda u: u * expit(u), slope, name="swish")


def mish() -> Activation:
    """u·tanh(log(1 + exp(u)))."""

    def slope(u: FloatArray) -> FloatArray:
        gate = np.tanh(np.logaddexp(0.0, u))
        return gate + u * (1 - gate) * (1 + gate) * expit(u)

    return Activation(lambda u: u * np.tanh(np.logaddexp(0.0, u)), slope, name="mish")


def gelu() -> Activation:
    """u·Φ(u), Φ the standard normal distribution function (the exact form)."""
    return Activation(
        lambda u: u * ndtr(u), lambda u: ndtr(u) + u * normal_density(u), name="gelu", dual_form=dual_forms.gated
    )


def softplus() -> Activation:
    """log(1 + exp(u))."""

    def rise(u: FloatArray) -> FloatArray:
        # u/2 + log cosh(u/2), and what the rounded log 2 lacks.
        near = np.clip(u, -1.0, 1.0)
        inside = near / 2 + (np.log1p(2 * np.sinh(near / 4) ** 2) + 2.3190468138462996e-17)
        return np.where(abs(u) < 1, inside, np.logaddexp(0.0, u) - np.log(2))

    return Activation(lambda u: np.logaddexp(0.0, u), expit, name="softplus", rise=rise)


def sigmoid() -> Activation:
    """1 / (1 + exp(-u))."""
    return Activation(
        expit, lambda u: expit(u) * expit(-u), name="sigmoid", rise=lambda u: np.asarray(np.tanh(u / 2) / 2)
    )


def softsign() -> Activation:
    """u / (1 + |u|)."""
    return Activation(lambda u: u / (1 + np.abs(u)), lambda u: (1 + np.abs(u)) ** -2.0, kinks=(0.0,), name="softsign")


def sin(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Activation:
    """a·sin(b·u + c)."""
    a, b, c = number(a, "a"), _frequency(b, "b"), number(c, "c")
    return _wave("sin", (a, b, c), Wave(a * cos_of(c), a * sin_of(c), b))


def cos(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Activation:
    """a·cos(b·u + c)."""
    a, b, c = number(a, "a"), _frequency(b, "b"), number(c, "c")
    return _wave("cos", (a, b, c), Wave(-a * sin_of(c), a * cos_of(c), b))


def rbf(gamma: float = 1.0) -> Activation:
    """√2·sin(√(2γ)·u + π/4), whose dual is exp(-γ E(u - v)²), γ > 0 (Rahimi and Recht 2007)."""
    gamma = number(gamma, "gamma", low=0, open_low=True)
    return _wave("rbf", (gamma,), Wave(1.0, 1.0, sqrt(2 * gamma)))


def _frequency(value: float, name: str) -> float:
    frequency = number(value, name)
    if frequency == 0:
        raise InvalidInputError(f"{name} must not be zero: the activation would be a constant.")
    return frequency


def _wave(name: str, parameters: tuple[float, ...], wave: Wave) -> Activation:
    odd, even, b = wave.sine, wave.cosine, wave.frequency

    def fn(u: FloatArray) -> FloatArray:
        # A term that is not there must not turn a negative zero.
        if odd and even:
            return odd * np.sin(b * u) + even * np.cos(b * u)
        return np.asarray(odd * np.sin(b * u) if odd else even * np.cos(b * u))

    return Activation(
        fn,
        lambda u: b * (odd * np.cos(b * u) - even * np.sin(b * u)),
        name=name,
        parameters=() if parameters == (1.0, 1.0, 0.0) else parameters,
        dual_form=wave,
        expectations=wave,
        rise=lambda u: odd * np.sin(b * u) - 2 * even * np.sin(b * u / 2) ** 2,
    )


def exp(a: float = 1.0, b: float = 1.0) -> Activation:
    """a·exp(b·u)."""
    a, b = number(a, "a"), _frequency(b, "b")
    form = Exponential(a, b)
    return Activation(
        lambda u: a * np.exp(b * u),
        lambda u: a * b * np.exp(b * u),
        name="exp",
        parameters=() if (a, b) == (1.0, 1.0) else (a, b),
        dual_form=form,
        expectations=form,
        rise=lambda u: a * np.expm1(b * u),
    )


def sign() -> Activation:
    """The sign of u: -1, 0 or 1."""
    return Activation(
        np.sign,
        np.zeros_like,
        kinks=(0.0,),
        name="sign",
        dual_form=dual_forms.piecewise_constant(np.zeros(1), np.array([-1.0, 1.0])),
    )


def hard_tanh(a: float = 1.0, c: float = 1.0) -> Activation:
    """a·clip(u, -c, c), c > 0."""
    a, c = number(a, "a"), number(c, "c", low=0, open_low=True)
    return Activation(
        lambda u: a * np.clip(u, -c, c),
        lambda u: np.where(abs(u) < c, a, 0.0),
        kinks=(-c, c),
        name="hard_tanh",
        parameters=(a, c),
        dual_form=dual_forms.piecewise_linear(np.array([-c, c]), np.array([-a * c, 0, a * c]), np.array([0, a, 0])),
    )


def relu6() -> Activation:
    """clip(u, 0, 6)."""
    return _between("relu6", 0.0, 6.0, 0.0, 1.0)


def hard_sigmoid() -> Activation:
    """clip(u/6 + 1/2, 0, 1)."""
    return _between("hard_sigmoid", -3.0, 3.0, 0.5, 1 / 6)


def _between(name: str, low: float, high: float, intercept: float, slope: float) -> Activation:
    """Return intercept + slope·u between two points, and constant outside of them."""
    constants = intercept + slope * low, intercept, intercept + slope * high
    return Activation(
        lambda u: intercept + slope * np.clip(u, low, high),
        lambda u: np.where((u > low) & (u < high), slope, 0.0),
        kinks=(low, high),
        name=name,
        dual_form=dual_forms.piecewise_linear(np.array([low, high]), np.array(constants), np.array([0.0, slope, 0.0])),
        rise=lambda u: slope * np.clip(u, low, high),
    )


def hard_swish() -> Activation:
    """u·clip(u/6 + 1/2, 0, 1)."""
    return Activation(
        lambda u: u * np.clip(u / 6 + 0.5, 0.0, 1.0),
        lambda u: np.where(abs(u) < 3, u / 3 + 0.5, np.where(u > 0, 1.0, 0.0)),
        kinks=(-3.0, 3.0),
        name="hard_swish",
    )


def absolute() -> Activation:
    """|u|."""
    form = dual_forms.FoldedLinear(0.0, 1.0)
    return Activation(np.abs, np.sign, kinks=(0.0,), name="abs", dual_form=form, expectations=form)


def polynomial(*coefficients: float | Sequence[float]) -> Activation:
    """Σ_k coefficients[k]·u^k, ascending powers."""
    flat = coefficients[0] if len(coefficients) == 1 and not np.isscalar(coefficients[0]) else coefficients
    values = real_array(flat, "coefficients", ndim=1)
    if not values.size:
        raise InvalidInputError("polynomial needs at least one coefficient.")
    return _powers("polynomial", tuple(map(float, values)), values)


def monomial(degree: int) -> Activation:
    """u^degree."""
    degree = integer(degree, "degree", low=0, high=_HIGHEST_DEGREE)
    return _powers("monomial", (float(degree),), np.append(np.zeros(degree), 1.0))


def _powers(name: str, parameters: tuple[float, ...], values: FloatArray) -> Activation:
    slopes = poly.polyder(values) if values.size > 1 else np.zeros(1)
    form = polynomials.powers(values)
    return Activation(
        lambda u: poly.polyval(u, values),
        lambda u: poly.polyval(u, slopes),
        name=name,
        parameters=parameters,
        dual_form=form,
        expectations=form,
        rise=lambda u: poly.polyval(u, np.append(0.0, values[1:])),
    )


def hermite(degree: int) -> Activation:
    """He_k(u)/√k!, k the degree, He the probabilists' Hermite polynomials: of norm one at scale one."""
    degree = integer(degree, "degree", low=0, high=_HIGHEST_DEGREE)
    near = hermite_e.herme2poly(np.append(np.zeros(degree), 1.0)) / np.exp(gammaln(degree + 1) / 2)
    form = polynomials.hermite_polynomial(degree)

    def fn(u: FloatArray, k: int = degree) -> FloatArray:
        return deque(polynomials.hermite_polynomials(u, k), maxlen=1).pop()

    def rise(u: FloatArray) -> FloatArray:
        # Powers cancel far out, where the recurrence has no constant to lose.
        inside = np.clip(u, -0.5, 0.5)
        return np.where(abs(u) <= 0.5, poly.polyval(inside, np.append(0.0, near[1:])), fn(u) - near[0])

    return Activation(
        fn,
        lambda u: sqrt(degree) * fn(u, max(degree - 1, 0)),
        name="hermite",
        parameters=(float(degree),),
        dual_form=form,
        expectations=form,
        rise=rise,
    )


def piecewise_linear(*points: float | Sequence[float] | FloatArray) -> Activation:
    """Continuous, linear between the knots, its first and last piece extended to infinity.

    Parameters
    ----------
    *points : two sequences of float, or their numbers one after the other
        At least two knots, ascending, and the values there.
    """
    x, y = _two_lists(points, "knots", "values")
    if x.size != y.size or x.size < 2 or not (np.diff(x) > 0).all():
        raise InvalidInputError(
            f"piecewise_linear needs at least two ascending knots and a value for each, not {x.size} and {y.size}."
        )
    slopes = np.diff(y) / np.diff(x)
    inner = x[1:-1]
    # Each piece from its end that is nearer to zero: those that meet there have one value.
    near = np.arange(slopes.size) + (abs(x[1:]) < abs(x[:-1]))
    intercepts = y[near] - slopes * x[near]
    at_zero = intercepts[np.searchsorted(inner, 0.0, side="right")]

    def line(u: FloatArray, constants: FloatArray) -> FloatArray:
        piece = np.searchsorted(inner, u, side="right")
        return constants[piece] + slopes[piece] * u

    return Activation(
        lambda u: line(u, intercepts),
        lambda u: slopes[np.searchsorted(inner, u)],
        kinks=tuple(map(float, inner)),
        name="piecewise_linear",
        parameters=(*map(float, x), *map(float, y)),
        dual_form=dual_forms.piecewise_linear(inner, intercepts, slopes),
        rise=lambda u: line(u, intercepts - at_zero),
    )


def steps(*points: float | Sequence[float] | FloatArray) -> Activation:
    """Piecewise constant: levels[0] below thresholds[0], and one more level above each threshold.

    Parameters
    ----------
    *points : two sequences of float, or their numbers one after the other
        Ascending thresholds, and the levels, one more than those.
    """
    t, y = _two_lists(points, "thresholds", "levels")
    if y.size != t.size + 1 or not t.size or not (np.diff(t) > 0).all():
        raise InvalidInputError(
            f"steps needs ascending thresholds and one level more than those, not {t.size} and {y.size}."
        )
    return Activation(
        lambda u: y[np.searchsorted(t, u)],
        np.zeros_like,
        kinks=tuple(map(float, t)),
        name="steps",
        parameters=(*map(float, t), *map(float, y)),
        dual_form=dual_forms.piecewise_constant(t, y),
    )


def spline(*points: float | Sequence[float] | FloatArray) -> Activation:
    """Natural cubic spline through equally spaced points, linear outside of them.

    Parameters
    ----------
    *points : two sequences of float, or their numbers one after the other
        The first and the last point, and the values at all of them, three at least.
    """
    lists: Sequence[Any] = points if len(points) == 2 and not np.isscalar(points[0]) else (points[:2], points[2:])
    ends, values = (real_array(each, "ends and values", ndim=1) for each in lists)
    if ends.size != 2 or not ends[0] < ends[1] or values.size < 3:
        raise InvalidInputError(
            f"spline needs two ascending ends and at least three values, not {ends.size} and {values.size}."
        )
    low, high = map(float, ends)
    curve = NaturalSpline.through(low, high, values)
    return Activation(
        curve.value,
        curve.slope,
        kinks=tuple(map(float, np.linspace(low, high, values.size))),
        name="spline",
        parameters=(low, high, *map(float, values)),
    )


def _two_lists(points: tuple[Any, ...], first: str, second: str) -> tuple[FloatArray, FloatArray]:
    """Read two lists, or the numbers of both one after the other, the second list at least as long."""
    if len(points) == 2 and not np.isscalar(points[0]):
        return real_array(points[0], first, ndim=1), real_array(points[1], second, ndim=1)
    flat = real_array(points, f"{first} and {second}", ndim=1)
    return flat[: flat.size // 2], flat[flat.size // 2 :]


REGISTRY: dict[str, Factory] = {
    "tanh": tanh,
    "erf": erf,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "two_slopes": two_slopes,
    "elu": elu,
    "selu": selu,
    "swish": swish,
    "mish": mish,
    "gelu": gelu,
    "softplus": softplus,
    "sigmoid": sigmoid,
    "softsign": softsign,
    "sin": sin,
    "cos": cos,
    "rbf": rbf,
    "exp": exp,
    "sign": sign,
    "hard_tanh": hard_tanh,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
    "relu6": relu6,
    "abs": absolute,
    "polynomial": polynomial,
    "monomial": monomial,
    "hermite": hermite,
    "piecewise_linear": piecewise_linear,
    "steps": steps,
    "spline": spline,
}

EXAMPLES = {
    "polynomial": "polynomial(0, 1, 0, 0.2)",
    "monomial": "monomial(3)",
    "hermite": "hermite(2)",
    "piecewise_linear": "piecewise_linear([-1, 0, 1], [-0.5, 0, 1])",
    "steps": "steps([-0.5, 0.5], [-1, 0, 1])",
    "spline": "spline([-1, 1], [-0.5, 0, 1])",
}
"""How those are written that cannot do without parameters."""

ALIASES = {
    "silu": "swish",
    "hardtanh": "hard_tanh",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_swish",
    "logistic": "sigmoid",
}
"""Names that torch and others have for some of them."""


def activation_names() -> tuple[str, ...]:
    """Return the names that `activation` knows."""
    return tuple(REGISTRY)


def activation(spec: str | Activation | Function, *parameters: object) -> Activation:
    """Return the activation that `spec` stands for.

    Parameters
    ----------
    spec : str, Activation or callable
        A registered name, or torch's (``"silu"``, ``"hardtanh"``), with parameters in parentheses if it takes any
        (``"leaky_relu(0.1)"``); an `Activation`, returned as it is; or a smooth vectorised callable.
    *parameters
        Passed on to the registered activation: ``activation("hard_tanh", 1, 0.5)``.

    Raises
    ------
    InvalidInputError
        Unknown name, or parameters that do not fit it.
    """
    if isinstance(spec, Activation):
        return spec
    if not isinstance(spec, str):
        return Activation(spec)
    name, bracket, inside = spec.strip().partition("(")
    name = ALIASES.get(name, name)
    if name not in REGISTRY:
        raise InvalidInputError(
            f"Unknown activation {spec!r}{suggestion(name, (*REGISTRY, *ALIASES))}; known are "
            f"{', '.join(REGISTRY)} (rmtdeq activations says more), or pass a callable."
        )
    arguments: tuple[object, ...] = parameters
    if bracket:
        try:
            body, closing, rest = inside.rpartition(")")
            if not closing or rest:
                raise SyntaxError("unbalanced parentheses")
            arguments = ast.literal_eval(f"({body},)") if body.strip() else ()
        except (SyntaxError, ValueError) as error:
            raise InvalidInputError(
                f"Cannot read the parameters of {spec!r}; write numbers, as in leaky_relu(0.1)."
            ) from error
    try:
        return REGISTRY[name](*arguments)
    except TypeError as error:
        raise InvalidInputError(f"{name} takes {_parameters(name)}, not {len(arguments)}.") from error


def _parameters(name: str) -> str:
    """Say which parameters a registered activation takes."""
    names = tuple(signature(REGISTRY[name]).parameters)
    if not names:
        return "no parameters"
    return f"at most {len(names)} parameter{'s' if len(names) > 1 else ''} ({', '.join(names)})"


def _reduced(given: Activation) -> tuple[Any, ...]:
    """Say how an activation is pickled: a registered one by its name, since its functions cannot be."""
    if given.name in REGISTRY:
        try:
            same = REGISTRY[given.name](*given.parameters)
            u = np.append(np.linspace(-9.0, 9.0, 91), given.kinks)
            registered = given.kinks == same.kinks and np.array_equal(given.fn(u), same.fn(u))
        except (InvalidInputError, TypeError):
            registered = False
        if registered:
            return _made, (given.name, given.parameters, given.shift)
    return cast("tuple[Any, ...]", object.__reduce_ex__(given, 2))


def _made(name: str, parameters: tuple[float, ...], shift: float) -> Activation:
    return REGISTRY[name](*parameters).minus(shift)


copyreg.pickle(Activation, _reduced)
