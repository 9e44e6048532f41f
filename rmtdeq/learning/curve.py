"""How the error of a network's kernel falls with the number of samples, from the samples that there are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.special import softmax

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.tables import Table, Tabular
from rmtdeq._lib.types import KINDS, FloatArray, IntArray, Kind, Seed
from rmtdeq.kernels import kernel
from rmtdeq.kernels.blocks import scratch_bytes
from rmtdeq.learning.calibration import inverse_temperature
from rmtdeq.learning.power_law import PowerLaw
from rmtdeq.learning.ridge import ridge_fit
from rmtdeq.learning.targets import learning_targets
from rmtdeq.network import Network

_LADDER = 7
_LENGTHS = (5, 6, 7)
"""Steps of the ladder n, n/√2, n/2, … that a law is drawn through: all for the curve, any for its band."""

_AHEAD = (-0.5, 0.5, 0.0)
"""Octaves beyond n at which a parabola's tangent is taken: the last for the curve, any for its band."""

_WIDER, _SHARE = 1.5, 0.1
"""What a band beyond n is wider by than its draws, in logarithms, and which share of the foretold change it takes in.

By experience: draws are of samples to be told, not of those that are learnt from, and the laws are not nature's.  Of
kernels of images nine in ten errors at 2 n, 5 n and 20 n were within these bands.
"""

_MOST_SUBSETS = 16
_FEWEST = 64
_DRAWS = 400
_BAND = (0.05, 0.95)
_QUANTITIES = {"mse": "mean squared error", "error_rate": "error rate"}
_HALF = 0.5
"""No error among the samples counts as half a one, which has a logarithm."""


@dataclass(frozen=True, eq=False)
class Band:
    """A quantity at some sizes, and what it lies between in nine cases of ten.

    Attributes
    ----------
    value, low, high : ndarray (s,)
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, eq=False)
class LearningCurve(Tabular):
    """The error of kernel ridge regression by the number of training samples, foretold from n of them.

    Attributes
    ----------
    sizes : ndarray (s,) of int
        As asked for.
    squared_error : Band
        Mean squared error on samples not learnt from, averaged over targets; of classes those are indicators.
    wrong : Band or None
        Share of samples told wrong, the mean of a count and of what calibrated probabilities say; None for targets that
        are no classes.
    floor, exponent : float
        Of the law that the mean squared error is taken to follow, floor + factor · size^-exponent.
    n : int
        Samples that it was foretold from; errors at larger sizes are extrapolated.
    ridge : float
    kind : str
    """

    sizes: IntArray
    squared_error: Band
    wrong: Band | None
    floor: float
    exponent: float
    n: int
    ridge: float
    kind: str

    def __repr__(self) -> str:
        ends = f"{self.mse[0]:.4g} at {self.sizes[0]}, {self.mse[-1]:.4g} at {self.sizes[-1]}"
        return f"LearningCurve(kind={self.kind!r}, ridge={self.ridge:g}, from n={self.n}, mse {ends})"

    @property
    def mse(self) -> FloatArray:
        """Mean squared error, (s,)."""
        return self.squared_error.value

    @property
    def low(self) -> FloatArray:
        """Lower end of the band of the mean squared error, (s,)."""
        return self.squared_error.low

    @property
    def high(self) -> FloatArray:
        """Upper end of the band of the mean squared error, (s,)."""
        return self.squared_error.high

    @property
    def error_rate(self) -> FloatArray | None:
        """Share of samples told wrong, (s,); None for targets that are no classes."""
        return None if self.wrong is None else self.wrong.value

    def table(self) -> Table:
        """Return the errors and their bands by size."""
        columns: dict[str, Any] = {"mse": self.mse, "low": self.low, "high": self.high}
        if self.wrong is not None:
            columns |= {
                "error rate": self.wrong.value,
                "error rate low": self.wrong.low,
                "error rate high": self.wrong.high,
            }
        columns["extrapolated"] = self.sizes > self.n
        title = f"{self.kind}, ridge {self.ridge:g}: foretold from {self.n} samples"
        return Table(columns, self.sizes, "samples", title)

    def plot(self, ax: Any = None, quantity: str = "mse", **look: Any) -> Any:
        """Draw an error against the number of samples, with its band; a line marks where extrapolation begins.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        quantity : str
            ``"mse"`` or ``"error_rate"``.
        **look
            Of the line, as for `matplotlib.axes.Axes.plot`.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InvalidInputError
            Another quantity, or an error rate where there are no classes.
        """
        check.choice(quantity, "quantity", _QUANTITIES)
        band = self.squared_error if quantity == "mse" else self.wrong
        if band is None:
            raise InvalidInputError("There is no error rate of targets that are no classes; draw quantity='mse'.")
        ax = style.axes(ax)
        order = np.argsort(self.sizes)
        sizes = self.sizes[order]
        ax.fill_between(sizes, band.low[order], band.high[order], color=style.DATA, alpha=0.5, linewidth=0)
        ax.loglog(sizes, band.value[order], **{"color": style.THEORY, "marker": "o", "label": self.kind, **look})
        ax.axvline(self.n, color=style.OTHER, linewidth=0.8, linestyle=":")
        ax.set_xlabel("training samples")
        ax.set_ylabel(_QUANTITIES[quantity])
        return ax


def learning_curve(
    X: ArrayLike,
    y: ArrayLike,
    deq: Network,
    kind: str = "ntk",
    *,
    sizes: Iterable[int] | None = None,
    ridge: float = 1e-3,
    seed: Seed = 0,
    tau0_squared: float | None = None,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    device: Any = None,
    memory_limit: float | None = None,
    progress: bool = True,
) -> LearningCurve:
    """Foretell what error a network's kernel comes to with other numbers of samples.

    Parameters
    ----------
    X : array_like (n, p)
        Samples in the scaling of `rmtdeq.kernel`, at least 64, in any order.
    y : array_like (n,) or (n, k)
        Labels of classes, integers or texts; or targets, floating-point numbers, one column each.
    deq : Network
    kind : str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``.
    sizes : iterable of int, optional
        Numbers of training samples, from 2 on; n/4, n/2, n, 2n and 4n by default.
    ridge : float
        δ of kernel ridge regression, the same for all sizes, in the units of the kernel, whose diagonal is of order
        one; `DEQRegressor` finds the best for n.
    seed : int or Generator
        Of the subsets.
    tau0_squared, backend, dtype, device
        Of the kernel, as for `rmtdeq.kernel`.
    memory_limit : float, optional
        Bytes that 2.25 matrices of n x n entries may take; nine tenths of the free memory by default.
    progress : bool
        Tell how far it is if standard error is a terminal.

    Returns
    -------
    LearningCurve

    Raises
    ------
    InvalidInputError
        Too few samples, targets that are none, sizes below 2.
    IllPosedError
        No contraction on these data; a ridge too small for samples that are there twice.
    MemoryLimitError
        No room for these, which is told before anything is computed.

    Notes
    -----
    Up to n, the regression is made on random subsets, and its error taken on *all* n samples: those of the subset by
    leave-one-out, exactly.  All sizes are so measured on the same samples, whose choice moves the curve as a whole and
    leaves its slope.  Above n the law floor + factor · size^-exponent through the errors from n/8 to n is followed, or,
    where they fall ever faster, the tangent at n of the parabola through their logarithms.

    A count of n samples tells an error rate p to sqrt(p (1 - p) / n), often as much as more samples would change it.
    The rate is therefore the mean of the count and of what is expected by probabilities softmax(β · values), β by least
    log loss, which scatters less.  Above n it goes with a power of the size, the tangent at n of the parabola through
    the logarithms of the rates before.

    Bands are those of draws of the samples and of ranges of sizes, above n widened by half and by a tenth of what the
    law changes.

    It is not taken from generalised cross-validation and the effective ridge κ, by which the theory of samples that are
    all alike (Simon, Dickens, Karkada, DeWeese, arXiv 2110.03922; Wei, Hu, Steinhardt, arXiv 2203.06176) continues the
    spectrum and the targets: images differ in how hard they are to tell from others, and with a small ridge it is wrong
    by half the error of MNIST at n already.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> X, y = rd.load_dataset("digits", n=400, seed=0)
    >>> curve = rd.learning_curve(X, y, rd.DEQ("relu"), sizes=(200, 400, 800))
    >>> curve.mse.shape, bool(curve.mse[0] > curve.mse[2]), bool((curve.low <= curve.high).all())
    ((3,), True, True)
    """
    ridge = check.number(ridge, "ridge", low=0)
    (found,) = learning_curves(
        X,
        y,
        deq,
        kind,
        sizes=sizes,
        ridges=[ridge],
        seed=seed,
        tau0_squared=tau0_squared,
        backend=backend,
        dtype=dtype,
        device=device,
        memory_limit=memory_limit,
        progress=progress,
    )
    return found


def learning_curves(
    X: ArrayLike,
    y: ArrayLike,
    deq: Network,
    kind: str,
    *,
    sizes: Iterable[int] | None,
    ridges: Sequence[float],
    seed: Seed = 0,
    tau0_squared: float | None = None,
    memory_limit: float | None = None,
    progress: bool = True,
    **computation: Any,
) -> list[LearningCurve]:
    """Return the `learning_curve` of each of several ridges, of one kernel and on the same subsets.

    Parameters
    ----------
    X, y, deq, kind, sizes, seed, tau0_squared, memory_limit, progress
        As for `learning_curve`.
    ridges : sequence of float
        Not negative.
    **computation
        ``backend``, ``dtype``, ``device`` of the kernel.
    """
    X = check.samples(X)
    n = len(X)
    targets, classes = learning_targets(y, n)
    if n < _FEWEST:
        raise InvalidInputError(f"A learning curve is foretold from {_FEWEST} samples at least, not from {n}.")
    asked = training_sizes((n // 4, n // 2, n, 2 * n, 4 * n) if sizes is None else sizes)
    chosen: Kind = check.choice(kind, "kind", KINDS)  # type: ignore[assignment]
    itemsize = check.precision(computation.get("dtype"), X).itemsize
    check.memory(
        9 * n * n * itemsize // 4 + scratch_bytes(itemsize),
        memory_limit,
        f"A learning curve from {n} samples, 2.25 matrices of {n} x {n} entries,",
        "take fewer samples, or dtype='float32'",
    )
    rng = check.generator(seed)
    options = {**computation, "memory_limit": memory_limit, "progress": progress}
    K = np.asarray(kernel(X, deq, chosen, tau0_squared=tau0_squared, **options))

    ladder = [round(n * 2 ** (-step / 2)) for step in range(_LADDER)]
    measured = sorted({*ladder, *asked[asked <= n].tolist()}, reverse=True)
    errors: list[dict[int, FloatArray]] = [{} for _ in ridges]
    total = len(ridges) * sum(_subsets(n, size) * size**3 for size in measured)
    with Stage("learning curve", total, show=progress) as stage:
        for size in measured:
            sums = np.zeros((len(ridges), 1 if classes is None else 2, n))
            for _ in range(_subsets(n, size)):
                subset = np.sort(rng.permutation(n)[:size])
                rows = K if size == n else K[subset]
                for each, ridge in zip(sums, ridges, strict=True):
                    each += _errors(rows, targets, classes, subset, ridge)
                    stage.update(size**3)
            for of_ridge, each in zip(errors, sums, strict=True):
                of_ridge[size] = each / _subsets(n, size)
    # First the samples as they are, then draws of them, the same for all sizes.
    shares = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), _DRAWS)]) / n
    return [
        _curve(of_ridge, shares, ladder, asked, classes is not None, ridge, chosen)
        for of_ridge, ridge in zip(errors, ridges, strict=True)
    ]


def _curve(
    errors: Mapping[int, FloatArray],
    shares: FloatArray,
    ladder: Sequence[int],
    asked: IntArray,
    tells: bool,
    ridge: float,
    kind: Kind,
) -> LearningCurve:
    """The curve through errors (1 or 2, n) of each sample, by size; of draws of the samples (1 + draws, n)."""
    n = shares.shape[1]
    squares = {size: np.maximum(shares @ each[0], np.finfo(float).tiny) for size, each in errors.items()}
    laws = [
        PowerLaw.through(ladder[:length], _rows(squares, ladder[:length]), ahead)
        for length, ahead in product(_LENGTHS, _AHEAD)
    ]
    wrong = None
    if tells:
        rates = {size: np.maximum(shares @ each[1], _HALF / n) for size, each in errors.items()}
        wrong = _banded(asked, rates, [_on_tangents(ladder[:steps], rates, asked) for steps in _LENGTHS])
    return LearningCurve(
        sizes=asked,
        squared_error=_banded(asked, squares, [law.at(asked) for law in laws]),
        wrong=wrong,
        floor=float(laws[-1].floor[0]),
        exponent=float(laws[-1].exponent[0]),
        n=n,
        ridge=ridge,
        kind=kind,
    )


def training_sizes(sizes: Any) -> IntArray:
    """Return numbers of training samples, checked, (s,)."""
    if not isinstance(sizes, Iterable) or isinstance(sizes, str):
        raise InvalidInputError(f"sizes must hold numbers of training samples, as in (1000, 5000), not {sizes!r}.")
    found = [check.integer(size, "A size", low=2) for size in sizes]
    if not found:
        raise InvalidInputError("sizes is empty; name at least one number of training samples.")
    return np.array(found)


def _subsets(n: int, size: int) -> int:
    """Return how many random subsets are looked at, twice as many of half the size."""
    return 1 if size == n else min(_MOST_SUBSETS, math.ceil((n / size) ** 2))


def _errors(
    rows: FloatArray, targets: FloatArray, classes: IntArray | None, subset: IntArray, ridge: float
) -> FloatArray:
    """Return squared errors on all samples of what is learnt from some of them, and how often they are told wrong."""
    fit = ridge_fit(np.ascontiguousarray(rows[:, subset]), targets[subset], ridge)
    values = rows.T @ fit.coefficients.astype(rows.dtype) + fit.intercept
    values[subset] = targets[subset] - fit.residuals
    squares = np.square(values - targets).mean(axis=1)
    if classes is None:
        return squares[None]
    # A prior would expect more errors by one in n for each class.
    expected = 1 - softmax(inverse_temperature(values, classes, prior=0) * values, axis=1).max(axis=1)
    return np.stack([squares, (expected + (values.argmax(axis=1) != classes)) / 2])


def _rows(errors: Mapping[int, FloatArray], sizes: Iterable[int]) -> FloatArray:
    return np.array([errors[size] for size in sizes])


def _on_tangents(sizes: Sequence[int], rates: Mapping[int, FloatArray], asked: IntArray) -> FloatArray:
    """Return rates (s, d) beyond the largest size, on the tangents there of the parabolas through their logarithms."""
    largest = max(sizes)
    _, slope, level = np.polyfit(np.log(np.array(sizes) / largest), np.log(_rows(rates, sizes)), 2)
    return np.exp(np.minimum(level + np.minimum(slope, 0.0) * np.log(asked / largest)[:, None], 0.0))


def _banded(asked: IntArray, errors: Mapping[int, FloatArray], ahead: Sequence[FloatArray]) -> Band:
    """Return an error at each size that was asked for, measured where it was, and its band.

    Parameters
    ----------
    asked : ndarray (s,)
    errors : mapping of ndarray (1 + draws,)
        By size, first of the samples as they are.
    ahead : sequence of ndarray (s, 1 + draws)
        Extrapolated from some range of sizes each, the largest last.
    """
    value, draws = ahead[-1][:, 0].copy(), np.concatenate([values[:, 1:] for values in ahead], axis=1)
    share = np.exp(_SHARE * np.abs(np.log(value / errors[max(errors)][0])))
    below, above = np.quantile(draws, _BAND, axis=1) / value
    low, high = value * np.minimum(below, 1) ** _WIDER / share, value * np.maximum(above, 1) ** _WIDER * share
    for row, size in enumerate(asked.tolist()):
        if size in errors:
            value[row], (low[row], high[row]) = errors[size][0], np.quantile(errors[size][1:], _BAND)
    return Band(value, low, high)
