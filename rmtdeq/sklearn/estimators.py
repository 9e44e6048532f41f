"""Estimators that learn with the kernel of a network, as the network itself would at infinite width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import KINDS, FloatArray, Function
from rmtdeq.data import ScaledRows, Scaling
from rmtdeq.learning import RidgeFit, Solver, inverse_temperature
from rmtdeq.network import DEQ, Network
from rmtdeq.sklearn.inputs import validated, weights, with_labels, with_targets

if TYPE_CHECKING:
    from rmtdeq.activations import Activation

_CRITERIA = ("loo", "gcv")


class _KernelRidge(BaseEstimator):
    """Kernel ridge regression with the kernel of a network."""

    def __init__(
        self,
        deq: Network | Activation | str | Function = "relu",
        kind: str = "ntk",
        *,
        ridge: str | float | ArrayLike = "loo",
        scale: bool = True,
        fit_intercept: bool = True,
        backend: str = "auto",
        dtype: DTypeLike | None = None,
        device: Any = None,
        memory_limit: float | None = None,
        solver: str = "auto",
        checkpoint: str | Path | None = None,
        centres: int | None = None,
    ) -> None:
        self.deq = deq
        self.kind = kind
        self.ridge = ridge
        self.scale = scale
        self.fit_intercept = fit_intercept
        self.backend = backend
        self.dtype = dtype
        self.device = device
        self.memory_limit = memory_limit
        self.solver = solver
        self.checkpoint = checkpoint
        self.centres = centres

    def _learn(self, X: FloatArray, targets: FloatArray, weights: FloatArray | None) -> tuple[list[RidgeFit], int]:
        """Fit to targets (n, k) with every ridge; return what came of each, and which is the best."""
        ridges = self._given_ridges()
        check.choice(self.kind, "kind", KINDS)
        intercept = check.flag(self.fit_intercept, "fit_intercept")
        folder = None if self.checkpoint is None else check.folder(self.checkpoint, "checkpoint")
        solver = Solver(self.solver, self.backend, self.device, self.memory_limit, folder, self.centres)
        precision = check.precision(self.dtype, X)
        # What has no room is refused before anything is computed.
        chosen = solver.choice(len(X), ridges is not None and len(ridges) == 1, precision)
        solver = replace(solver, name=chosen)

        self.scaling_ = Scaling.of(X, weights) if check.flag(self.scale, "scale") else None
        samples = ScaledRows(X, self.scaling_, precision)
        network = self.deq if isinstance(self.deq, Network) else DEQ(self.deq)
        # One network for the samples of the training and of the test.
        self.network_ = network.pinned(samples.mean_squared_norm(weights))
        self.X_fit_, fits = solver.learn(
            samples, targets, self.network_, self.kind, ridges, weights=weights, intercept=intercept
        )
        self.ridges_ = np.array([fit.ridge for fit in fits])
        self.loo_error_ = np.array([fit.loo_error for fit in fits])
        self.gcv_error_ = np.array([fit.gcv_error for fit in fits])
        by_gcv = isinstance(self.ridge, str) and self.ridge == "gcv"
        best = int(np.argmin(self.gcv_error_ if by_gcv else self.loo_error_))
        self.ridge_ = float(self.ridges_[best])
        self.dual_coef_ = fits[best].coefficients
        self.intercept_: Any = fits[best].intercept
        return fits, best

    def _given_ridges(self) -> list[float] | None:
        """Return the ridges that were asked for, None for those that the kernel suggests."""
        if isinstance(self.ridge, str):
            check.choice(self.ridge, "ridge", _CRITERIA)
            return None
        ridges = np.atleast_1d(check.real_array(self.ridge, "ridge"))
        if ridges.ndim != 1 or not ridges.size:
            raise InvalidInputError(f"ridge must be {_CRITERIA[0]!r}, {_CRITERIA[1]!r}, a number, or several.")
        return [check.number(ridge, "ridge", low=0) for ridge in ridges]

    def _values(self, X: ArrayLike) -> FloatArray:
        """Return what was learnt at samples (m, p): (m, k)."""
        check_is_fitted(self)
        samples = ScaledRows(validated(self, X, reset=False), self.scaling_, self.X_fit_.dtype)
        coefficients = self.dual_coef_.reshape(len(self.X_fit_), -1)
        solver = Solver(backend=self.backend, device=self.device)
        return solver.values(samples, self.X_fit_, self.network_, self.kind, coefficients, self.intercept_)


class DEQRegressor(MultiOutputMixin, RegressorMixin, _KernelRidge):
    """Kernel ridge regression with the kernel of a network of infinite width, with a ridge that it finds itself.

    One decomposition of the kernel serves all ridges, and tells for each the exact error of predicting every sample
    from all others.

    Parameters
    ----------
    deq : Network, or str, Activation or callable
        A `rmtdeq.DEQ` or another `rmtdeq.Network`; an activation stands for ``DEQ(activation)``.
    kind : str
        ``"ntk"`` (what training the network leads to, input weights fixed), ``"ntk-full"`` (all weights trained) or
        ``"ck"`` (only the read-out trained).
    ridge : "loo", "gcv", float, or array_like of float
        δ in the units of the kernel, whose diagonal is of order one.  ``"loo"``, ``"gcv"``: of two a decade, from what
        interpolates to what leaves nothing but the mean, the one with the least error by leave-one-out, or by
        generalised cross-validation; of several given, the best by leave-one-out.  A single one needs a Cholesky
        decomposition, with half the memory and a quarter of the time of the eigenvectors that several need.
    scale : bool
        Take the mean off the samples and divide them by their root mean squared norm, those of the training, so that
        squared norms are of order one, as the networks are meant for.  Features whose units differ are standardised
        before, as by StandardScaler.  False: take samples as they are.
    fit_intercept : bool
        Learn a constant as well, which the ridge leaves alone: targets may have any mean.
    backend, dtype, device
        Of the kernel, as for `rmtdeq.kernel`.  In float32, that of samples in float32, half the memory, and ridges are
        not below what rounding leaves of the smallest eigenvalues.
    memory_limit : float, optional
        Bytes that n x n matrices may take, one for a single ridge and two for several, half of one with conjugate
        gradients; nine tenths of the free memory by default.
    solver : str
        ``"direct"``: one decomposition of the kernel, exact.  ``"iterative"``: conjugate gradients, half the kernel in
        memory, predictions to a relative 1e-5; the leave-one-out errors, which choose the ridge, are then estimated,
        within 3 % where it was tried.  ``"nystrom"``: on the span of `centres` of the samples, in two passes over them,
        which may be a memory map; nothing has n² entries, and leave-one-out is exact for these centres.  ``"auto"``:
        the first up to 8192 samples (20,000 with a single ridge), as far as there is memory; the second where half the
        kernel fits into memory, or there is a `checkpoint`; else the third, with a warning.
    checkpoint : path, optional
        Folder in which conjugate gradients keep the kernel and what they have solved, so that an interrupted `fit` goes
        on there.
    centres : int, optional
        Samples that ``"nystrom"`` takes, drawn at random, always the same; four times the root of n by default, but
        1000 at least.  The time goes with n times its square.  All is in double precision then.

    Attributes
    ----------
    ridge_ : float
        The one that predictions are made with.
    ridges_, loo_error_, gcv_error_ : ndarray (m,)
        All that were tried, and for each the mean squared error by leave-one-out and by generalised cross-validation,
        averaged over targets, weighted as the samples are.
    dual_coef_ : ndarray (n,) or (n, k)
        Predictions are ``kernel(x, X_fit_) @ dual_coef_ + intercept_``.
    intercept_ : float or ndarray (k,)
    X_fit_ : ndarray (n, p)
        The training samples, scaled, without those of weight zero; with ``"nystrom"`` the centres.
    scaling_ : rmtdeq.data.Scaling or None
    network_ : Network
        Its activations centred for these samples, where they are to be.
    n_features_in_ : int

    Notes
    -----
    Minimised is Σ_i w_i ‖y_i - b - f(x_i)‖² + δ‖f‖²: weights scale rows and columns of the kernel, and the targets, by
    their roots, and a sample of weight two is the same as two of weight one.  Leave-one-out leaves all of a sample's
    weight out; a copy of it stays.  Centre and scale of the samples are those of all.

    Generalised cross-validation takes all samples to be equally hard to tell from the others.  Where they are not, it
    is too low for small ridges: half of the true error for 5000 images of MNIST.  Leave-one-out does not assume it.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> X = np.random.default_rng(0).standard_normal((300, 5))
    >>> y = X[:, 0] * X[:, 1] + 3
    >>> model = rd.DEQRegressor("relu", kind="ntk").fit(X[:200], y[:200])
    >>> model.score(X[200:], y[200:]) > 0.85
    True
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> DEQRegressor:
        """Learn from samples and their targets.

        Parameters
        ----------
        X : array_like (n, p)
        y : array_like (n,) or (n, k)
        sample_weight : array_like (n,), optional
            Not negative; a sample of weight zero is as if it were not there.

        Returns
        -------
        self

        Raises
        ------
        InvalidInputError
            NaN, shapes that do not agree, fewer than two samples, samples that are all the same.
        IllPosedError
            No contraction on these data; a ridge too small for a singular kernel.
        MemoryLimitError
            No room for the kernel with ``solver="direct"``, which is told before it is computed.
        ConvergenceError
            Conjugate gradients do not end, for a ridge that is too small for the precision.
        """
        X, targets = with_targets(self, X, y)
        X, targets, w = _of_weight(X, targets, sample_weight)
        self._learn(X, targets, w)
        if targets.ndim == 1:
            self.dual_coef_, self.intercept_ = self.dual_coef_[:, 0], float(self.intercept_[0])
        return self

    def predict(self, X: ArrayLike) -> FloatArray:
        """Return the predictions for samples (m, p), (m,) or (m, k), a block of rows at a time."""
        values = self._values(X)
        return values[:, 0] if self.dual_coef_.ndim == 1 else values


class DEQClassifier(ClassifierMixin, _KernelRidge):
    """Classification by kernel ridge regression of class indicators, with the kernel of a network of infinite width.

    A class is predicted where its indicator's regression is largest.

    Parameters
    ----------
    deq, kind, ridge, scale, fit_intercept, backend, dtype, device, memory_limit, solver, checkpoint, centres
        As for `DEQRegressor`; the error by which a ridge is chosen is that of the indicators.

    Attributes
    ----------
    classes_ : ndarray (K,)
        Labels, of any type, in order.
    loo_error_rate_ : ndarray (m,)
        Share of the training samples that are not told right from all others, for each ridge.
    inverse_temperature_ : float
        Probabilities are ``softmax(inverse_temperature_ * values)`` of the K indicators.  It has the least log loss on
        the values that leave-one-out gives, which a sample has no part in.
    ridge_, ridges_, loo_error_, gcv_error_, dual_coef_, intercept_, X_fit_, scaling_, network_, n_features_in_
        As for `DEQRegressor`, with K targets.

    Notes
    -----
    With weights as for `DEQRegressor`.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> X, y = rd.load_dataset("digits", n=600, seed=0)
    >>> model = rd.DEQClassifier("relu", kind="ntk").fit(X[::2], y[::2])
    >>> model.score(X[1::2], y[1::2]) > 0.95, bool(model.loo_error_rate_.min() < 0.05)
    (True, True)
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> DEQClassifier:
        """Learn from samples and their labels.

        Parameters
        ----------
        X : array_like (n, p)
        y : array_like (n,)
            Labels of any type, of two classes at least.
        sample_weight : array_like (n,), optional
            Not negative; a sample of weight zero is as if it were not there.

        Returns
        -------
        self

        Raises
        ------
        InvalidInputError, IllPosedError, MemoryLimitError
            As for `DEQRegressor.fit`, and where there is only one class.
        """
        X, labels = with_labels(self, X, y)
        X, labels, w = _of_weight(X, labels, sample_weight)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidInputError(
                f"All samples are of one class, {self.classes_[0]!r}; a classifier learns from two classes at least."
            )
        indicators = np.eye(len(self.classes_))[codes]
        fits, best = self._learn(X, indicators, w)
        left_out = [indicators - fit.residuals for fit in fits]
        wrong = [values.argmax(axis=1) != codes for values in left_out]
        self.loo_error_rate_ = np.array([np.average(each, weights=w) for each in wrong])
        self.inverse_temperature_ = inverse_temperature(left_out[best], codes, w)
        return self

    def decision_function(self, X: ArrayLike) -> FloatArray:
        """Return the regression of the indicators at samples (m, p).

        Parameters
        ----------
        X : array_like (m, p)

        Returns
        -------
        ndarray (m, K)
            Of two classes the difference, (m,), positive for the second.
        """
        values = self._values(X)
        return values[:, 1] - values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, X: ArrayLike) -> np.ndarray[Any, Any]:
        """Return the most likely class of samples (m, p), (m,)."""
        best = self._values(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Return the probabilities of the classes for samples (m, p), (m, K)."""
        values = self._values(X)
        return np.asarray(softmax(self.inverse_temperature_ * values, axis=1))


def _of_weight(
    X: FloatArray, y: np.ndarray[Any, Any], sample_weight: ArrayLike | None
) -> tuple[FloatArray, np.ndarray[Any, Any], FloatArray | None]:
    """Return samples, targets and weights without what weighs nothing."""
    w = weights(sample_weight, len(X))
    if w is None or w.all():
        return X, y, w
    return X[w > 0], y[w > 0], w[w > 0]
