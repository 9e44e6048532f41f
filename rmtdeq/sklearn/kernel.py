"""The kernels as scikit-learn knows them: a transformer, and a kernel of support vectors and Gaussian processes.

One class can be all of it because its kernel is one function of two samples that its parameters alone determine:
nothing but the samples themselves is learnt from data.  A kernel that were centred or scaled by the samples at hand
would be another function on test samples than on those of the training.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel
from sklearn.utils.validation import check_is_fitted

from rmtdeq._lib import check
from rmtdeq._lib.arrays import as_given
from rmtdeq._lib.errors import IllPosedError, InvalidInputError
from rmtdeq._lib.types import KINDS, FloatArray, Function
from rmtdeq.kernels import kernel, kernel_diagonal
from rmtdeq.kernels.computation import engine
from rmtdeq.network import DEQ, Network, contraction_range
from rmtdeq.sklearn.inputs import validated

if TYPE_CHECKING:
    from rmtdeq.activations import Activation

_FEATURES = "features"
_CONTRACTION = "contraction"
_STEP = 1e-3
_STENCIL = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))


class DEQKernel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, Kernel):
    """A kernel of a deep equilibrium model of infinite width, for scikit-learn.

    It is a transformer from samples to their kernel with the training samples, for estimators with
    ``kernel="precomputed"``; a callable, as in ``SVC(kernel=DEQKernel())``; and a kernel of Gaussian processes, whose
    hyperparameters are the logarithms of σ_a² and σ_b² and which adds and multiplies with others.

    Parameters
    ----------
    activation, sigma_a2, sigma_b2, centered
        Of the model, as for `rmtdeq.DEQ`.
    kind : str
        ``"ck"``, ``"ntk"`` (input weights fixed) or ``"ntk-full"`` (all weights trained).
    network : Network, optional
        Instead of the model that the first four parameters describe; its variances are fixed.
    scale : float or "features"
        What samples are divided by.  The model is meant for squared norms of order one, which `load_dataset` returns;
        ``"features"`` divides by √p and suits standardised features, of mean squared norm p.  A warning says when
        squared norms are far from one.
    tau0_squared : float
        Where a centred activation is centred: the mean squared norm of the samples, scaled, as far as it is known.
    sigma_a2_bounds : "contraction", (float, float) or "fixed"
        Range in which a Gaussian process seeks σ_a².  ``"contraction"``: from 0.001 to 0.95/L², L the largest slope of
        the activation for arguments up to 1000.  There the model is a contraction, whatever σ_b² and the samples.
        Where that leaves no range, as for polynomials, whether there is a kernel depends on σ_b² and the samples, and
        both variances are kept as they are.  In a range of your own the model must be a contraction up to the upper
        end.  σ_a² = 0 is always fixed.
    sigma_b2_bounds : (float, float) or "fixed"
        The same for σ_b².
    backend, dtype, device
        As for `rmtdeq.kernel`.

    Attributes
    ----------
    X_fit_ : ndarray (n, p)
        The training samples of `fit`.
    n_features_in_ : int

    Notes
    -----
    With a few features only, many samples are nearly parallel, and pairs of them are computed one by one, from closed
    forms, as ReLU, leaky ReLU, erf and sin have, or from tables of the dual activation.

    Bad parameters are refused when they are first used, as scikit-learn does, by an `InvalidInputError`, which is a
    ValueError, or an `IllPosedError`, an ArithmeticError, if the model is no contraction on the samples.  Gradients in
    the hyperparameters are differences of fourth order in double precision, within about 1e-9 of the kernel's size;
    they take four kernels for each.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import SVC
    >>> X, y = rd.load_dataset("digits", n=300, seed=0)
    >>> model = make_pipeline(rd.DEQKernel("relu"), SVC(kernel="precomputed", C=100)).fit(X[::2], y[::2])
    >>> same = SVC(kernel=rd.DEQKernel("relu"), C=100).fit(X[::2], y[::2])
    >>> bool((model.predict(X[1::2]) == same.predict(X[1::2])).all())
    True
    """

    def __init__(
        self,
        activation: str | Activation | Function = "tanh",
        sigma_a2: float = 0.2,
        sigma_b2: float = 0.8,
        centered: bool = True,
        kind: str = "ntk",
        *,
        network: Network | None = None,
        scale: float | str = 1.0,
        tau0_squared: float = 1.0,
        sigma_a2_bounds: tuple[float, float] | str = _CONTRACTION,
        sigma_b2_bounds: tuple[float, float] | str = (1e-3, 1e2),
        backend: str = "auto",
        dtype: DTypeLike | None = None,
        device: Any = None,
    ) -> None:
        self.activation = activation
        self.sigma_a2 = sigma_a2
        self.sigma_b2 = sigma_b2
        self.centered = centered
        self.kind = kind
        self.network = network
        self.scale = scale
        self.tau0_squared = tau0_squared
        self.sigma_a2_bounds = sigma_a2_bounds
        self.sigma_b2_bounds = sigma_b2_bounds
        self.backend = backend
        self.dtype = dtype
        self.device = device

    # The transformer.

    def fit(self, X: ArrayLike, y: Any = None) -> DEQKernel:
        """Keep the training samples, and check that the model is well-posed on them.

        Parameters
        ----------
        X : array_like (n, p)
        y : ignored

        Returns
        -------
        self
        """
        X = validated(self, X, reset=True)
        engine(X, backend=self.backend, device=self.device)
        self._diagonal(X)
        self.X_fit_ = X.copy()
        return self

    def transform(self, X: ArrayLike) -> Any:
        """Return the kernel of samples (m, p) with the training samples, (m, n)."""
        check_is_fitted(self)
        return as_given(self._kernel(validated(self, X, reset=False), self.X_fit_), X)

    def fit_transform(self, X: ArrayLike, y: Any = None) -> Any:
        """Fit to the samples and return their kernel, (n, n), at half the work of `fit` and `transform`."""
        return as_given(self.fit(X)._kernel(self.X_fit_), X)

    @property
    def _n_features_out(self) -> int:
        return int(self.X_fit_.shape[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # The kernel function.

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None, eval_gradient: bool = False) -> Any:
        """Return the kernel (n, m), and its gradient if asked for.

        Parameters
        ----------
        X : array_like (n, p)
        Y : array_like (m, p), optional
            X itself by default.
        eval_gradient : bool
            Return the derivatives in the hyperparameters that are not fixed as well, (n, n, n_dims); without Y.

        Returns
        -------
        ndarray (n, m), or that and an ndarray (n, n, n_dims)
            Arrays of the library of X, as for `rmtdeq.kernel`.
        """
        if not eval_gradient:
            return as_given(self._kernel(X, Y), X)
        if Y is not None:
            raise InvalidInputError("Gradients are of the kernel of one set of samples; leave Y out.")
        try:
            return tuple(as_given(each, X) for each in self._value_and_gradient(X))
        except IllPosedError as error:
            error.add_note(
                f"For a search of hyperparameters, lower the upper end of sigma_a2_bounds, or pass {_CONTRACTION!r}."
            )
            raise

    def _value_and_gradient(self, X: ArrayLike) -> tuple[FloatArray, FloatArray]:
        return self._kernel(X), self._gradient(check.samples(X).astype(np.float64, copy=False))

    def diag(self, X: ArrayLike) -> Any:
        """Return the diagonal of the kernel of samples (n, p), (n,), without the rest of it."""
        return as_given(self._diagonal(check.samples(X)), X)

    def is_stationary(self) -> bool:
        """Return False: the kernel depends on more than the samples' differences."""
        return False

    @property
    def hyperparameter_sigma_a2(self) -> Any:
        """The variance of the recurrent weights as scikit-learn describes it."""
        if self.sigma_a2 == 0 or self.network is not None:
            return Hyperparameter("sigma_a2", "numeric", "fixed")
        bounds = self._contraction_bounds() if self._within_contraction else self.sigma_a2_bounds
        return Hyperparameter("sigma_a2", "numeric", bounds)

    @property
    def hyperparameter_sigma_b2(self) -> Any:
        """The variance of the input weights as scikit-learn describes it."""
        if self.network is not None:
            return Hyperparameter("sigma_b2", "numeric", "fixed")
        unsafe = self._within_contraction and self.sigma_a2 != 0 and self._contraction_bounds() == "fixed"
        return Hyperparameter("sigma_b2", "numeric", "fixed" if unsafe else self.sigma_b2_bounds)

    @property
    def _within_contraction(self) -> bool:
        return isinstance(self.sigma_a2_bounds, str) and self.sigma_a2_bounds == _CONTRACTION

    def _contraction_bounds(self) -> tuple[float, float] | str:
        """Return the range of σ_a² in which the model is a contraction on all samples for every σ_b²."""
        return contraction_range(self.activation) or "fixed"

    def __dir__(self) -> list[str]:
        # scikit-learn's estimators evaluate all properties here, and its kernels find theirs here.
        return list(object.__dir__(self))

    # What both are made of.

    def _model(self, **changes: float) -> Network:
        if self.network is not None:
            return self.network
        variances = {"sigma_a2": self.sigma_a2, "sigma_b2": self.sigma_b2, **changes}
        return DEQ(self.activation, centered=self.centered, **variances)

    def _kernel(self, X: ArrayLike, Y: ArrayLike | None = None) -> FloatArray:
        rows = self._scaled(X)
        # scikit-learn passes the training samples as Y, and fits with twice the same.
        columns = None if Y is None or Y is X else self._scaled(Y)
        return self._entries(rows, columns, self._model(), self.dtype)

    def _entries(self, X: FloatArray, Y: FloatArray | None, deq: Network, dtype: DTypeLike | None) -> FloatArray:
        found = kernel(
            X,
            deq,
            check.choice(self.kind, "kind", KINDS),
            Y=Y,
            tau0_squared=self.tau0_squared,
            backend=self.backend,
            dtype=dtype,
            device=self.device,
            progress=False,
        )
        return np.asarray(found)

    def _diagonal(self, X: FloatArray) -> FloatArray:
        kind = check.choice(self.kind, "kind", KINDS)
        found: FloatArray = kernel_diagonal(
            self._scaled(X), self._model(), kind, tau0_squared=self.tau0_squared, dtype=self.dtype
        )
        return found

    def _gradient(self, X: FloatArray) -> FloatArray:
        rows = self._scaled(X)
        free = [each.name for each in self.hyperparameters if not each.fixed]
        result = np.zeros((len(rows), len(rows), len(free)))
        for k, name in enumerate(free):
            for steps, weight in _STENCIL:
                deq = self._model(**{name: getattr(self, name) * math.exp(steps * _STEP)})
                result[..., k] += weight / _STEP * self._entries(rows, None, deq, np.float64)
        return result

    def _scaled(self, X: ArrayLike) -> FloatArray:
        """Samples as the model sees them."""
        X = check.samples(X)
        if isinstance(self.scale, str):
            if self.scale != _FEATURES:
                raise InvalidInputError(f"scale must be a positive number or {_FEATURES!r}, not {self.scale!r}.")
            return X / X.dtype.type(math.sqrt(X.shape[1]))
        scale = check.number(self.scale, "scale", low=0, open_low=True)
        return X if scale == 1 else X / X.dtype.type(scale)
