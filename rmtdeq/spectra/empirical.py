"""The measured spectrum of a kernel on data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq import _check, _style
from rmtdeq._errors import ConvergenceError, InvalidInputError
from rmtdeq._types import KINDS, FloatArray, Kind
from rmtdeq.deq import DEQ
from rmtdeq.kernels import kernel, kernel_operator

METHODS = ("exact", "lanczos")


@dataclass(frozen=True, eq=False)
class EmpiricalSpectrum:
    """Eigenvalues, and some eigenvectors, of a kernel matrix.

    Attributes
    ----------
    eigenvalues : ndarray (n,) or (top,)
        Ascending; all of them (method "exact") or the largest (method "lanczos").
    vectors : ndarray (n, v)
        Unit eigenvectors of the last v eigenvalues, one a column, in the same order; for all eigenvalues where
        none were singled out.
    n : int
        Size of the matrix.
    kind : str
    method : str
    """

    eigenvalues: FloatArray
    vectors: FloatArray
    n: int
    kind: Kind
    method: str

    @property
    def complete(self) -> bool:
        """Whether all n eigenvalues are known."""
        return self.eigenvalues.size == self.n

    def density(self, x: ArrayLike, bandwidth: float | None = None) -> FloatArray:
        """Return the eigenvalues' density smoothed with a Gaussian.

        Parameters
        ----------
        x : array_like
        bandwidth : float, optional
            Standard deviation of the Gaussian; by default Silverman's rule on the central half of the spectrum.

        Raises
        ------
        InvalidInputError
            Only the top of the spectrum is known.
        """
        if not self.complete:
            raise InvalidInputError("Only the top eigenvalues are known; use method='exact' for a density.")
        x = _check.real_array(x, "x")
        values = self.eigenvalues
        if bandwidth is None:
            low, high = np.quantile(values, [0.25, 0.75])
            spread = (high - low) / 1.349 or float(values.std()) or 1.0
            bandwidth = 0.9 * float(spread) * values.size**-0.2
        width = _check.number(bandwidth, "bandwidth", low=0, open_low=True)
        result = np.zeros(x.size)
        flat = x.ravel()
        for part in np.array_split(values, max(1, values.size * flat.size // 4_000_000)):
            result += np.exp(-0.5 * ((flat[:, None] - part) / width) ** 2).sum(axis=1)
        return (result / (values.size * width * np.sqrt(2 * np.pi))).reshape(x.shape)

    def alignments(self, y: ArrayLike, classes: int | None = None) -> FloatArray:
        """Return squared inner products of the eigenvectors with the classes' unit indicators, (v, K).

        Parameters
        ----------
        y : array_like (n,)
            Labels 0 … K-1.
        classes : int, optional
            K, if not all classes occur.
        """
        labels = _check.labels(y, self.n, classes)
        indicator = np.zeros((self.n, classes or int(labels.max()) + 1))
        indicator[np.arange(self.n), labels] = 1.0
        sizes = np.maximum(indicator.sum(axis=0), 1.0)
        return (self.vectors.T @ indicator) ** 2 / sizes

    def plot(self, ax: Any = None, bins: int = 60) -> Any:
        """Draw a histogram of the eigenvalues.

        Returns
        -------
        matplotlib.axes.Axes
        """
        ax = _style.axes(ax)
        ax.hist(
            self.eigenvalues,
            bins=bins,
            density=True,
            color=_style.DATA,
            edgecolor=_style.DATA_EDGE,
            linewidth=0.3,
            label="eigenvalues",
        )
        ax.set_xlabel("eigenvalue")
        ax.set_ylabel("density")
        return ax


def empirical_spectrum(
    X: ArrayLike,
    deq: DEQ,
    kind: str = "ck",
    *,
    method: str = "exact",
    top: int | None = None,
    tau0_squared: float | None = None,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    memory_limit: float | None = None,
    progress: bool = True,
) -> EmpiricalSpectrum:
    """Compute the spectrum of a kernel on data.

    Parameters
    ----------
    X, deq, tau0_squared, backend, dtype, memory_limit, progress
        As for `kernel`.
    kind : str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``.
    method : str
        ``"exact"``: all eigenvalues of the dense matrix (LAPACK).  ``"lanczos"``: the `top` largest, from
        products with a matrix that is never stored.
    top : int, optional
        How many of the largest eigenvalues get eigenvectors: all by default with ``"exact"``, 6 with
        ``"lanczos"``.

    Returns
    -------
    EmpiricalSpectrum

    Raises
    ------
    InvalidInputError, IllPosedError, MemoryLimitError
        As for `kernel`.
    ConvergenceError
        Lanczos iterations did not converge.
    """
    _check.choice(method, "method", METHODS)
    (name,) = _check.kinds(_check.choice(kind, "kind", KINDS))
    X = _check.samples(X)
    n = X.shape[0]
    if top is not None:
        top = _check.integer(top, "top")
        if top > n:
            raise InvalidInputError(f"top = {top} eigenvalues were asked of a matrix of size {n}.")
    if method == "lanczos":
        return _lanczos(X, deq, name, top or min(6, n - 1), tau0_squared, backend, dtype, progress)
    from scipy.linalg import eigh, eigvalsh

    _check.memory(
        3 * 8 * n * n,
        memory_limit,
        "The kernel and its eigenvectors",
        "use method='lanczos', which never stores the matrix",
    )
    options: dict[str, Any] = {"tau0_squared": tau0_squared, "backend": backend, "dtype": dtype, "progress": progress}
    G = kernel(X, deq, name, **options)
    if top is None:
        values, vectors = eigh(G, overwrite_a=True, check_finite=False)
        return EmpiricalSpectrum(values, vectors, n, name, method)
    values = eigvalsh(G, check_finite=False)
    _, vectors = eigh(G, subset_by_index=[n - top, n - 1], overwrite_a=True, check_finite=False)
    return EmpiricalSpectrum(values, vectors, n, name, method)


def _lanczos(
    X: FloatArray,
    deq: DEQ,
    kind: Kind,
    top: int,
    tau0_squared: float | None,
    backend: str,
    dtype: DTypeLike | None,
    progress: bool,
) -> EmpiricalSpectrum:
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    n = X.shape[0]
    if top >= n:
        raise InvalidInputError(f"Lanczos finds fewer than n = {n} eigenvalues, not {top}; use method='exact'.")
    operator = kernel_operator(X, deq, kind, tau0_squared=tau0_squared, backend=backend, dtype=dtype, progress=progress)
    start = np.asarray(np.random.default_rng(0).standard_normal(n), dtype=operator.dtype)
    try:
        values, vectors = eigsh(operator, k=top, which="LA", v0=start)
    except ArpackNoConvergence as error:
        raise ConvergenceError(f"Lanczos iterations did not converge: {error}; ask for fewer eigenvalues.") from error
    order = np.argsort(values)
    return EmpiricalSpectrum(values[order], vectors[:, order], n, kind, "lanczos")
