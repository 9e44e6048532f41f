"""How the error of a network's kernel falls with the number of samples, from the samples that there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.tables import Table, Tabular
from rmtdeq._lib.types import KINDS, FloatArray, IntArray, Kind, Seed
from rmtdeq.kernels import kernel
from rmtdeq.kernels.blocks import scratch_bytes
from rmtdeq.learning.freedom import FreedomLaw, degrees_of_freedom
from rmtdeq.learning.ridge import ridge_grid, smallest_resolved
from rmtdeq.learning.subsets import SubsetErrors, subset_count, subset_errors
from rmtdeq.learning.targets import learning_targets
from rmtdeq.network import Network

_HALVINGS = 3
"""Subsets are of n/2, n/4, … samples."""

_LAST = (0.35, 0.5, 0.7)
"""Shares of n, in degrees of freedom, beyond which errors are a power of them,"""
_FADING = (0.1, 1.0)
"""and powers by which noise fades with the size, the first next to a logarithm: the last for curves, any for bands."""

_WIDER, _SHARE = 2.5, 0.3
"""What a band beyond n is wider by than its draws, in logarithms, and which share of the foretold change it takes in.

By experience: draws are of samples to be told, not of those that are learnt from, and the laws are not nature's.  Of
kernels of images nine in ten errors at 2 n, 5 n and 20 n were within these bands.
"""

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
    degrees : ndarray (s,)
        Degrees of freedom, tr K (K + δ)⁻¹, that the ridge leaves to as many samples: the directions that are learnt.
    n : int
        Samples that it was foretold from; errors at larger sizes are extrapolated.
    ridge : float
    kind : str
    """

    sizes: IntArray
    squared_error: Band
    wrong: Band | None
    degrees: FloatArray
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
        columns |= {"degrees of freedom": self.degrees, "extrapolated": self.sizes > self.n}
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
        Bytes that 3.25 matrices of n x n entries may take; nine tenths of the free memory by default.
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
    leaves its slope.

    Above n it is foretold from subsets of n, n/2, n/4 and n/8 samples with many ridges.  What a ridge leaves to learn,
    degrees of freedom, it leaves to fewer samples with a smaller ridge, too; errors with as many are the same but for a
    function of their share of the samples, the noise (Simon, Dickens, Karkada, DeWeese, arXiv 2110.03922, where samples
    are alike, as images are not; the function is therefore measured).  Beyond 0.7 n degrees of freedom, where nothing
    is measured, errors go on as the power of them that they have become.

    A count of n samples tells an error rate p to sqrt(p (1 - p) / n), often as much as more samples would change it.
    The rate is therefore the mean of the count and of what is expected by probabilities softmax(β · values), β by least
    log loss, which scatters less.

    Bands are those of draws of the samples, of where the power begins and how fast noise fades, and of errors that go
    on with their ridge as they fall at n; above n they are two and a half times as wide, and wider by three tenths of
    what the law changes.

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
        13 * n * n * itemsize // 4 + scratch_bytes(itemsize),
        memory_limit,
        f"A learning curve from {n} samples, 3.25 matrices of {n} x {n} entries,",
        "take fewer samples, or dtype='float32'",
    )
    rng = check.generator(seed)
    options = {**computation, "memory_limit": memory_limit, "progress": progress}
    K = np.asarray(kernel(X, deq, chosen, tau0_squared=tau0_squared, **options))

    ladder = [n >> halving for halving in range(_HALVINGS + 1)]
    measured_sizes = sorted({*ladder, *asked[asked <= n].tolist()}, reverse=True)
    grid = np.append(ridges, ridge_grid(trace := float(np.trace(K)), n, smallest_resolved(trace, K.dtype)))
    measured: dict[int, SubsetErrors] = {}
    with Stage(
        "learning curve", sum(subset_count(n, size) * size**3 for size in measured_sizes), show=progress
    ) as stage:
        for size in measured_sizes:
            subsets = [np.sort(rng.permutation(n)[:size]) for _ in range(subset_count(n, size))]
            of_size = grid if size in ladder else grid[: len(ridges)]
            measured[size] = subset_errors(K, targets, classes, subsets, of_size, stage)
    # First the samples as they are, then draws of them, the same for all sizes.
    shares = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), _DRAWS)]) / n
    return _foretold(measured, ladder, shares, asked, ridges, chosen)


def _foretold(
    measured: Mapping[int, SubsetErrors],
    ladder: Sequence[int],
    shares: FloatArray,
    asked: IntArray,
    ridges: Sequence[float],
    kind: Kind,
) -> list[LearningCurve]:
    """Return the curves of these ridges, measured first, by the laws of those measured after them.

    Errors are of each sample; `shares` (1 + d, n) are draws of the samples.
    """
    n, first = shares.shape[1], len(ridges)
    degrees = np.concatenate([measured[size].degrees[first:] for size in ladder])
    counts = np.concatenate([np.full(len(measured[size].degrees) - first, float(size)) for size in ladder])
    kappa = np.concatenate([measured[size].kappa[first:] for size in ladder])
    effective = FreedomLaw.through(degrees, counts, kappa[:, None], _LAST[-1] * n, sign=-1)

    def learnt(row: int, size: int) -> float:
        return measured[size].degrees[row] if size in measured else degrees_of_freedom(effective, size, ridges[row])

    found = [np.array([learnt(row, size) for size in asked.tolist()]) for row in range(first)]

    def bands(quantity: int, least: float) -> list[Band]:
        errors = {size: np.maximum(each.errors[:, quantity] @ shares.T, least) for size, each in measured.items()}
        rows = np.concatenate([errors[size][first:] for size in ladder])
        laws = [
            FreedomLaw.through(degrees, counts, rows, share * n, fading=fading)
            for fading, share in product(_FADING, _LAST)
        ]
        return [
            _banded(
                asked,
                {size: each[row] for size, each in errors.items()},
                [
                    _on_tangents(ladder, [errors[size][row] for size in ladder], asked),
                    *(law.at(at, asked) for law in laws),
                ],
            )
            for row, at in enumerate(found)
        ]

    squares = bands(0, float(np.finfo(float).tiny))
    told = bands(1, _HALF / n) if measured[n].errors.shape[1] > 1 else [None] * first
    return [
        LearningCurve(asked, square, wrong, at, n, ridge, kind)
        for square, wrong, at, ridge in zip(squares, told, found, ridges, strict=True)
    ]


def training_sizes(sizes: Any) -> IntArray:
    """Return numbers of training samples, checked, (s,)."""
    if not isinstance(sizes, Iterable) or isinstance(sizes, str):
        raise InvalidInputError(f"sizes must hold numbers of training samples, as in (1000, 5000), not {sizes!r}.")
    found = [check.integer(size, "A size", low=2) for size in sizes]
    if not found:
        raise InvalidInputError("sizes is empty; name at least one number of training samples.")
    return np.array(found)


def _on_tangents(sizes: Sequence[int], errors: Sequence[FloatArray], asked: IntArray) -> FloatArray:
    """Return errors (s, d) with a ridge on the tangents, at the largest size, of parabolas through their logarithms."""
    largest = max(sizes)
    _, slope, level = np.polyfit(np.log(np.array(sizes) / largest), np.log(errors), 2)
    return np.asarray(np.exp(level + np.minimum(slope, 0.0) * np.log(asked / largest)[:, None]))


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
