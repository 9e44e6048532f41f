"""The loss curve that a kernel, or its predicted spectrum, foretells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq import _check, _style
from rmtdeq._errors import InvalidInputError
from rmtdeq._types import ComplexArray, FloatArray
from rmtdeq.data import GaussianMixture
from rmtdeq.equivalents import SpectrumPrediction
from rmtdeq.spectra import EmpiricalSpectrum

METHODS = ("descent", "flow")

_TILT = np.pi / 4
_PANEL = 1.0
_POINTS = 20
_SMALL = 1e-13
_BEYOND = 1.2
_NEGATIVE = 1e-9


@dataclass(frozen=True, eq=False)
class LossCurve:
    """The squared loss during training with a kernel that stays what it is.

    ½‖r(τ)‖² = ½ Re Σ_k w_k g(λ_k)^{2τ}, with g(λ) = 1 - ηλ for gradient descent of step η, e^{-ηλ} for gradient flow.

    Attributes
    ----------
    nodes : ndarray (k,)
        Eigenvalues; or points of the complex plane around them, where only the resolvent is known.
    weights : ndarray (k,)
        Squared components of the initial residual in the eigenvectors; or what stands for them.
    step : float
    method : str
    """

    nodes: FloatArray | ComplexArray
    weights: FloatArray | ComplexArray
    step: float
    method: str

    def __repr__(self) -> str:
        return f"LossCurve(method={self.method!r}, step={self.step:.4g}, loss {float(self.loss(0)):.4g} at the start)"

    def loss(self, epochs: ArrayLike) -> FloatArray:
        """Return ½‖r‖² after some numbers of epochs; with the flow, at time `step` times epochs.

        Raises
        ------
        InvalidInputError
            A negative number, or, with gradient descent, one that is not whole.
        """
        tau = _check.real_array(epochs, "epochs")
        if (tau < 0).any():
            raise InvalidInputError("Epochs are counted from 0.")
        if self.method == "descent" and (tau != np.round(tau)).any():
            raise InvalidInputError("Gradient descent has whole epochs; use method='flow' between them.")
        flat = tau.astype(float).ravel()
        result = np.empty(flat.size)
        for part in np.array_split(np.arange(flat.size), max(1, flat.size * self.nodes.size // 1_000_000)):
            result[part] = 0.5 * np.real(self._factors(flat[part]) @ self.weights)
        return np.maximum(result, 0.0).reshape(tau.shape)

    def _factors(self, tau: FloatArray) -> FloatArray | ComplexArray:
        if self.method == "flow":
            return np.asarray(np.exp(-2 * self.step * np.multiply.outer(tau, self.nodes)))
        # A power by its logarithm: whole powers do not depend on the branch, and a base of zero is -inf, then zero.
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = np.exp(np.multiply.outer(2 * tau, np.log((1 - self.step * self.nodes).astype(complex))))
        factors[tau == 0] = 1.0
        return np.asarray(factors.real if np.isrealobj(self.nodes) else factors)

    def epochs_to(self, share: float) -> int:
        """Return the number of epochs after which at most this share of the initial loss is left.

        Raises
        ------
        InvalidInputError
            The loss never becomes so small: what is left has (nearly) zero eigenvalues.
        """
        share = _check.number(share, "share", low=0, high=1, open_low=True)
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
        ax = _style.axes(ax)
        if epochs is None:
            later = np.arange(1001)
            epochs = later[: int(np.sum(self.loss(later) > 1e-3 * self.loss(0))) + 1]
        at = _check.real_array(epochs, "epochs")
        ax.semilogy(at, self.loss(at), **{"color": _style.THEORY, "label": "predicted", **look})
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
        Shapes that do not fit; a spectrum of which only the top is known; no positive step; a step for which gradient
        descent diverges, η λ_max ≥ 2.
    ConvergenceError
        The mixture equations of a prediction could not be solved at some point.

    Notes
    -----
    A kernel that does not change lets the residual decay as r(τ) = (1 - ηK)^τ r(0).  Of a predicted spectrum what
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
    _check.choice(method, "method", METHODS)
    eta = _check.step(step)
    y = _check.real_array(y, "y", ndim=1).astype(float)
    start = np.zeros(y.shape) if initial is None else _check.real_array(initial, "initial", ndim=1)
    if start.shape != y.shape:
        raise InvalidInputError(f"initial has {start.size} entries and y has {y.size}; they must agree.")
    residual = start - y
    if isinstance(spectrum, SpectrumPrediction):
        top = max(spectrum.edges[-1][1], float(spectrum.outliers.max(initial=0.0)))
        _check_step(eta, top, method)
        return LossCurve(*_around(spectrum, residual, eta, top, method), eta, method)
    values, vectors = _eigenpairs(spectrum, y.size)
    _check_step(eta, float(values[-1]), method)
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
        values, vectors = spectrum.eigenvalues, spectrum.vectors
    else:
        if isinstance(spectrum, GaussianMixture):
            raise InvalidInputError(
                "spectrum must be a prediction, a measured spectrum or a kernel; of a mixture it is "
                "predict_spectrum(deq, mixture, n, kind)."
            )
        kernel = _check.real_array(spectrum, "spectrum", ndim=2).astype(float)
        if kernel.shape[0] != kernel.shape[1]:
            raise InvalidInputError(f"A kernel is a square matrix, not of shape {kernel.shape}.")
        if abs(kernel - kernel.T).max(initial=0.0) > 1e-4 * abs(kernel).max(initial=0.0):
            raise InvalidInputError("A kernel is a symmetric matrix; this one is not.")
        values, vectors = np.linalg.eigh((kernel + kernel.T) / 2)
        if values[0] < -1e-5 * abs(values[-1]):
            raise InvalidInputError(
                f"A kernel has no negative eigenvalues; this one has {values[0]:.3g} beside {values[-1]:.3g}."
            )
    if values.size != n:
        raise InvalidInputError(f"y holds {n} targets, and the kernel is of {values.size} samples.")
    return values, vectors


def _around(
    prediction: SpectrumPrediction, residual: FloatArray, step: float, top: float, method: str
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
    right, tilt = _BEYOND * top, _TILT
    if method == "descent":
        # |1 - ηz| is 1 where the cosine of the angle is η|z|/2.  Well within, what oscillates decays: for long steps
        # the contour ends nearer, and its cone is flatter.
        right = min(right, (top + 2 / step) / 2)
        tilt = min(tilt, float(np.arccos(step * right / 2)) / 2)
    small = _SMALL * top
    s, ray = _panels(np.log(small), np.log(right), int(np.ceil(np.log(right / small) / (_PANEL * tilt))))
    parts = [(np.exp(s + 1j * tilt), ray * np.exp(s + 1j * tilt))]
    # Both ends are closed by arcs, the right one finely enough for outliers close to it.
    for radius, start, end in ((small, np.pi, tilt), (right, tilt, 0.0)):
        angle, width = _panels(start, end, 8)
        parts.append((radius * np.exp(1j * angle), 1j * width * radius * np.exp(1j * angle)))
    z, dz = (np.concatenate(each) for each in zip(*parts, strict=True))
    form = np.einsum("a,zab,b->z", components, prediction.class_resolvent(z), components)
    weights = -1j / np.pi * form * dz
    # Re(-i f) = Im f.  What lies on negative eigenvalues stays: it has the node zero.
    missing = float(components @ components - np.real(weights.sum()))
    if missing > _NEGATIVE * float(components @ components):
        z, weights = np.append(z, 0.0), np.append(weights, missing)
    return z, weights


def _panels(start: float, end: float, count: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre points and weights on equal panels."""
    x, w = np.polynomial.legendre.leggauss(_POINTS)
    edges = np.linspace(start, end, count + 1)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()
