"""What an infinite ensemble of networks of infinite width predicts after training by gradient flow, exactly.

With the tangent kernel Θ of what is trained and the conjugate kernel K, networks are Gaussian processes of covariance K
at the start, and by f' = -Θ(f(X) - y), the flow of the loss ½‖f(X) - y‖², they stay Gaussian.  With
``A_t = Θ(x, X) Θ⁻¹ (1 - exp(-Θ t))`` mean and covariance at the time t are

    A_t y,    K(x, x') - A_t K(X, x') - K(x, X) A_t'ᵀ + A_t K(X, X) A_t'ᵀ

(Lee et al. 2019, *Wide neural networks of any depth evolve as linear models under gradient descent*, equations 14 to
16).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from rmtdeq._lib import check
from rmtdeq._lib.errors import IllPosedError, InvalidInputError
from rmtdeq._lib.types import KINDS, FloatArray
from rmtdeq.kernels import kernel
from rmtdeq.network import Network, require_network


@dataclass(frozen=True, eq=False)
class EnsemblePrediction:
    """The outputs of an infinite ensemble on some samples, which are Gaussian.

    Attributes
    ----------
    time : float
        Of training, infinite where it has come to its end.
    mean : ndarray (m,) or (m, k)
        As the targets are.
    covariance : ndarray (m, m)
        Of the outputs of one network on the samples; that of each of k outputs, which are independent.
    """

    time: float
    mean: FloatArray
    covariance: FloatArray

    @property
    def variance(self) -> FloatArray:
        """Of the output on each sample, (m,)."""
        return np.maximum(self.covariance.diagonal(), 0.0)

    @property
    def standard_deviation(self) -> FloatArray:
        """Of the output on each sample, (m,)."""
        return np.sqrt(self.variance)


def predict_ensemble(
    deq: Network,
    X: ArrayLike,
    y: ArrayLike,
    X_test: ArrayLike | None = None,
    t: float | Sequence[float] = math.inf,
    *,
    kind: str = "ntk-full",
    tau0_squared: float | None = None,
) -> EnsemblePrediction | tuple[EnsemblePrediction, ...]:
    """Predict with an infinite ensemble of networks of infinite width, trained by gradient flow for some time.

    Parameters
    ----------
    deq : DEQ or Network
        With a Gaussian read-out of variance one on top, and no bias there.
    X : array_like (n, p)
        Training samples.
    y : array_like (n,) or (n, k)
        Targets.
    X_test : array_like (m, p), optional
        Where to predict; the training samples by default.
    t : float or sequence of float
        Times of the flow of ½‖f(X) - y‖², which is not divided by n; zero is before training, ``inf`` its end.
    kind : str
        What is trained: ``"ntk-full"``, all weights and biases; ``"ntk"``, all but those at the input; ``"ck"``, the
        read-out alone, whose end is the posterior of the Gaussian process with the conjugate kernel.
    tau0_squared : float, optional
        Where centred activations are centred; the mean squared norm of X by default.

    Returns
    -------
    EnsemblePrediction, or a tuple of them
        One for each time.

    Raises
    ------
    InvalidInputError
        Shapes that do not agree, NaN, a negative time.
    IllPosedError
        No kernel on these samples; or no end of training, where samples are equal or nearly so.
    MemoryLimitError
        The kernels do not fit into memory.

    Notes
    -----
    One eigendecomposition of the tangent kernel of X serves all times.  A read-out of variance σ² with a bias of
    variance β makes all kernels σ²K + β.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> rng = np.random.default_rng(0)
    >>> X, X_test = rng.standard_normal((40, 5)) / 5**0.5, rng.standard_normal((3, 5)) / 5**0.5
    >>> before, after = rd.predict_ensemble(rd.DEQ("relu"), X, X[:, 0], X_test, (0, np.inf))
    >>> bool((after.variance < before.variance).all())
    True
    """
    require_network(deq)
    kind = check.choice(kind, "kind", KINDS)
    X = check.samples(X).astype(np.float64, copy=False)
    targets = check.targets(y, len(X))
    times = [_time(each) for each in (t if isinstance(t, (Sequence, np.ndarray)) else (t,))]
    network = deq.pinned(check.mean_squared_norm(X) if tau0_squared is None else tau0_squared)
    kinds = ("ck",) if kind == "ck" else ("ck", kind)
    train = kernel(X, network, kinds, progress=False)
    values, vectors = eigh(train[-1], driver="evd")
    flow = _Flow(np.maximum(values, 0.0), vectors)
    if any(map(math.isinf, times)):
        flow.require_end()
    if X_test is None:
        found = tuple(_on_training_samples(flow, train[0], targets, each) for each in times)
    else:
        X_test = check.samples(X_test, "X_test").astype(np.float64, copy=False)
        if X_test.shape[1] != X.shape[1]:
            raise InvalidInputError(f"X_test has {X_test.shape[1]} features, and X has {X.shape[1]}.")
        across = kernel(X_test, network, kinds, Y=X, progress=False)
        prior = kernel(X_test, network, "ck", progress=False)
        found = tuple(_on_new_samples(flow, train[0], across, prior, targets, each) for each in times)
    return found if isinstance(t, (Sequence, np.ndarray)) else found[0]


@dataclass(frozen=True, eq=False)
class _Flow:
    """Eigenvalues, not negative, and vectors of the tangent kernel of the training samples."""

    values: FloatArray
    vectors: FloatArray

    def require_end(self) -> None:
        """Raise unless all of the training loss goes away."""
        lowest, highest = float(self.values[0]), float(self.values[-1])
        if not lowest > len(self.values) * np.finfo(float).eps * highest:
            raise IllPosedError(
                "The tangent kernel of the training samples is singular but for rounding: some samples are equal or "
                "nearly so, and training does not come to an end; take a finite t, or leave one of each out."
            )

    def learnt(self, time: float) -> FloatArray:
        """``(1 - exp(-λt))/λ`` for every eigenvalue: what a unit of the kernel has taken up of the targets."""
        if math.isinf(time):
            return 1 / self.values
        small = self.values * time < 1e-300
        return np.where(small, time, -np.expm1(-self.values * time) / np.where(small, 1.0, self.values))


def _on_training_samples(flow: _Flow, K: FloatArray, y: FloatArray, time: float) -> EnsemblePrediction:
    """What is left of the start is exp(-Θt), so that nothing cancels."""
    decay = flow.values * time
    rest = (flow.vectors * np.exp(-decay)) @ flow.vectors.T
    mean = (flow.vectors * -np.expm1(-decay)) @ (flow.vectors.T @ y)
    return EnsemblePrediction(time, mean, rest @ K @ rest)


def _on_new_samples(
    flow: _Flow,
    K: FloatArray,
    across: tuple[FloatArray, ...],
    prior: FloatArray,
    y: FloatArray,
    time: float,
) -> EnsemblePrediction:
    """With conjugate and tangent kernel of new samples with those of training, the first and the last of `across`."""
    A = ((across[-1] @ flow.vectors) * flow.learnt(time)) @ flow.vectors.T
    less = A @ across[0].T
    covariance = prior - less - less.T + A @ K @ A.T
    return EnsemblePrediction(time, A @ y, (covariance + covariance.T) / 2)


def _time(value: float) -> float:
    return math.inf if value == math.inf else check.number(value, "t", low=0)
