"""The loss curve that a kernel, or its predicted spectrum, foretells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import ComplexArray, FloatArray
from rmtdeq.data import GaussianMixture
from rmtdeq.spectra import EmpiricalSpectrum
from rmtdeq.theory import GramPrediction, SpectrumPrediction

METHODS = ("descent", "flow")

_TILT = np.pi / 4
_PANEL = 1.0
_POINTS = 20
_SMALL = 1e-13
_BEYOND = 1.2
_NEGATIVE = 1e-9
_GONE = 800.0
_LARGE = 1e140

_GIVEN = 1e-5
"""Relative to the largest: negative eigenvalues of a matrix in single precision that are rounding."""

_MEASURED = 1e-2
"""Likewise of a measured spectrum, whose kernel may have been computed in half precision."""


@dataclass(frozen=True, eq=False)
class LossCurve:
    """The squared loss during training with a kernel that stays what it is.

    ½‖r(τ)‖² = ½ Re Σ_k w_k g(λ_k)^{2τ}, with g(λ) = 1 - ηλ for gradient descent of step η, e^{-ηλ} for gradient flow.

    Attributes
    ----------
    nodes : ndarray (k,)
        Eigenvalues, none of them negative; or points of the complex plane around them, where only the resolvent is
        known.
    weights : ndarray (k,)
        Squared components of the initial residual in the eigenvectors; or what stands for them.
    step : float
    method : str
    """

    nodes: FloatArray | ComplexArray
    weights: FloatArray | ComplexArray
    step: float
    method: str

    def __post_init__(self) -> None:
        """Refuse what is no spectrum, or no residual's."""
        for name in ("nodes", "weights"):
            values = getattr(self, name)
            if not np.isfinite(values).all() or (np.isrealobj(self.nodes) and (values < 0).any()):
                raise InvalidInputError(f"The {name} of a loss curve must be finite and not negative.")

    def __repr__(self) -> str:
        return f"LossCurve(method={self.method!r}, step={self.step:.4g}, loss {float(self.loss(0)):.4g} at the start)"

    def loss(self, epochs: ArrayLike) -> FloatArray:
        """Return ½‖r‖² after some numbers of epochs; with the flow, at time `step` times epochs.

        Raises
        ------
        InvalidInputError
            A negative number, or, with gradient descent, one that is not whole.
        """
        tau = check.real_array(epochs, "epochs")
        if (tau < 0).any():
            raise InvalidInputError("Epochs are counted from 0.")
        if self.method == "descent" and (tau != np.round(tau)).any():
            raise InvalidInputError("Gradient descent has whole epochs; use method='flow' between them.")
        flat = tau.astype(float).ravel()
        result = np.empty(flat.size)
        for part in np.array_split(np.arange(flat.size), max(1, flat.size * self.nodes.size // 1_000_000)):
            # Added up in the same order for all epochs, so that rounding does not let what falls rise.
            result[part] = 0.5 * np.real(self._factors(flat[part]) * self.weights).sum(axis=1)
        return np.maximum(result, 0.0).reshape(tau.shape)

    def _factors(self, tau: FloatArray) -> FloatArray | ComplexArray:
        """g(λ)^{2τ}, by the logarithm of g: whole powers do not depend on its branch."""
        if self.method == "flow":
            exponents = -2 * self.step * self.nodes
            decay, phase = np.real(exponents), np.imag(exponents)
        else:
            factors = 1 - self.step * self.nodes
            decay, phase = 2 * np.log(np.maximum(abs(factors), np.finfo(float).tiny)), 2 * np.angle(factors)
        # Beyond some time nothing is left of what decays, and larger exponents would overflow.
        time = np.minimum(tau[:, None], _GONE / np.maximum(-decay, _GONE / np.finfo(float).max))
        size = np.exp(time * decay)
        return size if np.isrealobj(self.nodes) else np.asarray(size * np.exp(1j * (time * phase)))

    def epochs_to(self, share: float) -> int:
        """Return the number of epochs after which at most this share of the initial loss is left.

        Raises
        ------
        InvalidInputError
            The loss never becomes so small: what is left has (nearly) zero eigenvalues.
        """
        share = check.number(share, "share", low=0, high=1, open_low=True)
        start = float(self.loss(0))
        low, high = 0, 1
        while float(self.loss(high)) > share * start:
            low, high = high, 2 * high
            if high > 2**50:
                raise InvalidInputError(f"The loss does not fall to {share:g} of what it is at the start.")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if float(self.loss(middle)) <= share * start else (middle, high)
        return high if float(self.loss(low)) > share * start else low

    def plot(self, ax: Any = None, epochs: ArrayLike | None = None, **look: Any) -> Any:
        """Draw the logarithm of the loss against epochs.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        epochs : array_like, optional
            Up to a thousandth of the initial loss, or a thousand epochs, by default.
        **look
            Of the line, as for `matplotlib.axes.Axes.plot`.

        Returns
        -------
        matplotlib.axes.Axes
        """
        ax = style.axes(ax)
        if epochs is None:
            later = np.arange(1001)
            epochs = later[: int(np.sum(self.loss(later) > 1e-3 * self.loss(0))) + 1]
        at = check.real_array(epochs, "epochs")
        ax.semilogy(at, self.loss(at), **{"color": style.THEORY, "label": "predicted", **look})
        ax.set_xlabel("epoch" if self.method == "descent" else "time / step")
        ax.set_ylabel("loss")
        return ax


def predict_training(
    spectrum: SpectrumPrediction | EmpiricalSpectrum | ArrayLike,
    y: ArrayLike,
    step: float,
    *,
    initial: ArrayLike | None = None,
    method: str = "descent",
) -> LossCurve:
    """Predict the loss ½‖f(X) - y‖² during full-batch gradient descent on a wide network.

    Parameters
    ----------
    spectrum : array_like (n, n), EmpiricalSpectrum or SpectrumPrediction
        The tangent kernel of what is trained: as a matrix (`kernel` with kind "ntk", a model's `tangent_kernel`); as
        its eigenvalues and eigenvectors; or as it is predicted for a mixture, without a sample.
    y : array_like
        Targets, (n,); for a prediction, the targets of the classes, (K,).
    step : float
        Learning rate η of the loss that is not divided by n.
    initial : array_like, optional
        Outputs before training, of the shape of y; zero by default (`gradient_descent` with ``subtract_initial``).
    method : str
        ``"descent"``: step by step; ``"flow"``: its limit of small steps.

    Returns
    -------
    LossCurve

    Raises
    ------
    InvalidInputError
        Shapes that do not fit; a spectrum of which only the top is known, or with negative eigenvalues beyond
        rounding; no positive step; a step for which gradient descent diverges, η λ_max ≥ 2.
    ConvergenceError
        The mixture equations of a prediction could not be solved at some point.

    Notes
    -----
    A kernel that does not change lets the residual decay as r(τ) = (1 - ηK)^τ r(0), and the loss never rises.  Negative
    eigenvalues that rounding leaves (down to -1e-5 of the largest of a matrix, -1e-2 of a measured spectrum, whose
    products may have been in half precision) count as zero, as do positive ones of their size: what they are about is
    never learnt.  Of a predicted spectrum what
    counts is the measure of the classes' indicator vectors on it, outliers and bulk; it is integrated along a contour
    around the positive axis, on which the resolvent is smooth (`SpectrumPrediction.class_resolvent`).  What it predicts
    on negative eigenvalues, which no kernel has, is taken as what is never learnt.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> curve = rd.predict_training(np.diag([1.0, 4.0]), [1.0, 1.0], step=0.25)
    >>> curve.loss([0, 1]).round(4).tolist()
    [1.0, 0.2812]
    """
    check.choice(method, "method", METHODS)
    eta = check.step(step)
    y = check.real_array(y, "y", ndim=1).astype(float)
    start = np.zeros(y.shape) if initial is None else check.real_array(initial, "initial", ndim=1)
    if start.shape != y.shape:
        raise InvalidInputError(f"initial has {start.size} entries and y has {y.size}; they must agree.")
    residual = start - y
    if abs(residual).max(initial=0.0) > _LARGE:
        raise InvalidInputError(
            f"Residuals y - initial beyond {_LARGE:g} have a loss that overflows; scale the targets."
        )
    if isinstance(spectrum, SpectrumPrediction) and not isinstance(spectrum, GramPrediction):
        raise InvalidInputError(
            f"Training needs the resolvent between classes, which level {spectrum.level!r} does not predict; use "
            "predict_spectrum(deq, mixture, n, kind, level='classwise')."
        )
    if isinstance(spectrum, GramPrediction):
        top = max(spectrum.edges[-1][1], float(spectrum.outliers.max(initial=0.0)))
        _check_step(eta, top, method)
        return LossCurve(*_around(spectrum, residual, eta, top, method), eta, method)
    values, vectors = _eigenpairs(spectrum, y.size)
    _check_step(eta, float(values.max(initial=0.0)), method)
    return LossCurve(values, (vectors.T @ residual) ** 2, eta, method)


def _check_step(step: float, top: float, method: str) -> None:
    if method == "descent" and step * top >= 2:
        raise InvalidInputError(
            f"Gradient descent with step {step:.4g} diverges: the largest eigenvalue is {top:.4g}, and only steps "
            f"below {2 / top:.4g} converge."
        )


def _eigenpairs(spectrum: EmpiricalSpectrum | ArrayLike, n: int) -> tuple[FloatArray, FloatArray]:
    if isinstance(spectrum, EmpiricalSpectrum):
        if spectrum.vectors.shape[1] != spectrum.n:
            raise InvalidInputError(
                "The loss needs all eigenvectors; use empirical_spectrum(X, deq, kind, method='exact') without top."
            )
        values = check.real_array(spectrum.eigenvalues, "eigenvalues", ndim=1).astype(float)
        vectors = check.real_array(spectrum.vectors, "vectors", ndim=2).astype(float)
        rounding = _MEASURED
    else:
        if isinstance(spectrum, GaussianMixture):
            raise InvalidInputError(
                "spectrum must be a prediction, a measured spectrum or a kernel; of a mixture it is "
                "predict_spectrum(deq, mixture, n, kind)."
            )
        kernel = check.real_array(spectrum, "spectrum", ndim=2).astype(float)
        if kernel.shape[0] != kernel.shape[1]:
            raise InvalidInputError(f"A kernel is a square matrix, not of shape {kernel.shape}.")
        if abs(kernel - kernel.T).max(initial=0.0) > 1e-4 * abs(kernel).max(initial=0.0):
            raise InvalidInputError("A kernel is a symmetric matrix; this one is not.")
        values, vectors = np.linalg.eigh((kernel + kernel.T) / 2)
        rounding = _GIVEN
    if values.size != n:
        raise InvalidInputError(f"y holds {n} targets, and the kernel is of {values.size} samples.")
    if values.min(initial=0.0) < -rounding * abs(values).max(initial=0.0):
        raise InvalidInputError(
            f"A kernel has no negative eigenvalues; this one has {values.min():.3g} beside {values.max():.3g}."
        )
    # Rounding makes of zeros what has either sign; the negative ones would grow.
    return np.where(values <= -values.min(initial=0.0), 0.0, values), vectors


def _around(
    prediction: GramPrediction, residual: FloatArray, step: float, top: float, method: str
) -> tuple[ComplexArray, ComplexArray]:
    """Points and weights of a contour around the predicted spectrum.

    f(K) = (1/π) Im ∫ f(z) (K - z)^{-1} dz from left to right above the axis.  Along rays from the origin the distance
    to the spectrum is in proportion to |z|, so that in log |z| one rule serves all scales.
    """
    probabilities = prediction.model.probabilities
    if residual.shape != probabilities.shape:
        raise InvalidInputError(
            f"For a prediction y holds the targets of its {probabilities.size} classes, not {residual.size} numbers."
        )
    components = residual * np.sqrt(prediction.n * probabilities)
    if top <= 0:
        raise InvalidInputError("The predicted kernel has no positive eigenvalue.")
    small = _SMALL * top
    if method == "flow" or step * top <= 1:
        right = _BEYOND * top
        paths = [_arc(small, np.pi, _TILT), _ray(small, right, _TILT), _arc(right, _TILT, 0.0)]
    else:
        # 1 - ηz is -1 at 2/η as it is 1 at 0, and both ends may be close: two rays that meet where it is imaginary, and
        # small enough there for what oscillates to decay.
        tilt, end = _TILT / 2, 2 / step
        corner, close = end / (2 * np.cos(tilt)), (end - top) / 2
        paths = [_arc(small, np.pi, tilt), _ray(small, corner, tilt)]
        # From there on they mirror those that come from zero.
        paths += [(end - z.conj(), -dz.conj()) for z, dz in (_ray(corner, close, tilt), _arc(close, tilt, 0.0))]
    z, dz = (np.concatenate(each) for each in zip(*paths, strict=True))
    form = np.einsum("a,zab,b->z", components, prediction.class_resolvent(z), components)
    # What is within the left arc is never learnt: it has the node zero.  It is taken out of the resolvent, in which it
    # has a pole that the contour comes close to.
    null = float(np.real(-z[0] * form[0]))
    weights = -1j / np.pi * (form + null / z) * dz
    # Re(-i f) = Im f.  What lies on negative eigenvalues stays, too.
    total, found = float(components @ components), null + float(np.real(weights.sum()))
    inner = paths[0][0].size
    kept = null + float(np.real(weights[:inner].sum()))
    if total - found > _NEGATIVE * total:
        kept += total - found
    return np.append(z[inner:], 0.0), np.append(weights[inner:], kept)


def _ray(start: float, end: float, tilt: float) -> tuple[ComplexArray, ComplexArray]:
    """Points and weights on a ray from zero, between two distances from it."""
    scales = np.log(end / start)
    s, width = _panels(np.log(start), np.log(end), int(np.ceil(abs(scales) / (_PANEL * tilt))))
    z = np.exp(s + 1j * tilt)
    return z, width * z


def _arc(radius: float, start: float, end: float) -> tuple[ComplexArray, ComplexArray]:
    """Points and weights on an arc around zero."""
    angle, width = _panels(start, end, 8)
    z = radius * np.exp(1j * angle)
    return z, 1j * width * z


def _panels(start: float, end: float, count: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre points and weights on equal panels."""
    x, w = np.polynomial.legendre.leggauss(_POINTS)
    edges = np.linspace(start, end, count + 1)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()
