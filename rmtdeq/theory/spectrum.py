"""A predicted spectrum: bulk, outliers, alignments, and what the prediction believes of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.tables import Table, Tabular, by_class, intervals, largest, numbers, without_rounding
from rmtdeq._lib.types import SAMPLED, ComplexArray, FloatArray, Kind, Seed
from rmtdeq.network import Network
from rmtdeq.theory.rmt import Bulk, Outliers, TabulatedLaw

_ROUNDING = 1e-12
_NODES = 4000
_BINS, _FEW_BINS = 240, 60
_TOLD = 12
"""Outliers of a summary."""
_OUTSIDE = "eigenvalues outside the bulk, not always the largest"
_LARGEST = "the largest eigenvalues, with or without a gap"
_LEVELS = np.linspace(0.0, 1.0, 400)


@dataclass(frozen=True)
class ExpectedError:
    """The error that a prediction expects of itself against one measurement, noise of the measurement included.

    Attributes
    ----------
    ks : float
        Kolmogorov-Smirnov distance of all eigenvalues.
    upper : float
        Median ``|log(predicted/measured)|`` of the eigenvalues of rank 1 … n/2.
    whole : float
        The same of all.
    """

    ks: float
    upper: float
    whole: float


@dataclass(frozen=True, eq=False)
class SpectrumPrediction(Tabular):
    """The spectrum that random matrix theory predicts for a kernel.

    Attributes
    ----------
    deq : DEQ or Network
    kind, level : str
    n : int
        Number of samples.
    dimension : int
        Number of features, p.
    effective_dimension : float
        How many directions the data have.
    norm_spread : float
        Standard deviation of the squared norm, next to its mean.
    bulk : Bulk or TabulatedLaw
    isolated : Outliers
    expected_error : ExpectedError or None
        What the prediction believes of itself; None where the level has no estimate of its own error.

    Notes
    -----
    Density, distribution function and quantiles are the bulk's and have mass one; outliers are apart.  `pdf`, `cdf`,
    `ppf`, `rvs`, `mean`, `var`, `std` and `support` are what a frozen distribution of scipy has, as in
    ``scipy.stats.kstest(eigenvalues, pred.cdf)``.
    """

    deq: Network
    kind: Kind
    level: str
    n: int
    dimension: int
    effective_dimension: float
    norm_spread: float
    bulk: Bulk | TabulatedLaw
    isolated: Outliers
    expected_error: ExpectedError | None = None

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.kind} of {self.deq}, n={self.n}, level={self.level!r}: bulk "
            f"{intervals(self.edges)}, {numbers(self.outliers, 'outlier')})"
        )

    @property
    def edges(self) -> list[tuple[float, float]]:
        """Intervals of the bulk's support, ascending; an atom is an interval of no width."""
        return list(self.bulk.edges)

    @property
    def atoms(self) -> list[tuple[float, float]]:
        """Position and mass of the eigenvalues of positive multiplicity."""
        return list(self.bulk.atoms)

    @property
    def outliers(self) -> FloatArray:
        """Predicted isolated eigenvalues, (r,) ascending."""
        return self.isolated.positions

    @property
    def alignments(self) -> FloatArray:
        """Squared inner products of their eigenvectors with the classes' unit indicators, (r, K)."""
        return self.isolated.alignments

    @property
    def negative_mass(self) -> float:
        """Share of the bulk below zero, where no kernel has eigenvalues: there the expansion does not hold."""
        return float(self.bulk.cdf(np.array([-_ROUNDING * self._size]))[0])

    def density(self, x: ArrayLike) -> FloatArray:
        """Return the bulk's density at x, atoms left out."""
        return self.bulk.density(check.real_array(x, "x"))

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Return the bulk's distribution function at x, atoms counted."""
        return self.bulk.cdf(check.real_array(x, "x"))

    def quantiles(self, q: ArrayLike) -> FloatArray:
        """Return the bulk's quantiles, q in [0, 1]."""
        levels = check.real_array(q, "q")
        if ((levels < 0) | (levels > 1)).any():
            raise InvalidInputError("Quantile levels lie between 0 and 1.")
        return self.bulk.quantiles(levels)

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Return the bulk's density at x: `density`."""
        return self.density(x)

    def ppf(self, q: ArrayLike) -> FloatArray:
        """Return the bulk's quantiles: `quantiles`."""
        return self.quantiles(q)

    def rvs(self, size: int | tuple[int, ...] = 1, seed: Seed = None, *, random_state: Seed = None) -> FloatArray:
        """Draw eigenvalues of the bulk.

        Parameters
        ----------
        size : int or tuple of int
            Shape of the result.
        seed, random_state : int, Generator or None
            Either; the second is scipy's name.

        Returns
        -------
        ndarray of the shape

        Raises
        ------
        InvalidInputError
            Both are given, or sizes that are not positive.
        """
        if seed is not None and random_state is not None:
            raise InvalidInputError("seed and random_state are one thing under two names; pass one of them.")
        rng = check.generator(seed if random_state is None else random_state)
        shape = tuple(check.integer(each, "size") for each in (size if isinstance(size, tuple) else (size,)))
        return self.quantiles(rng.random(shape))

    def mean(self) -> float:
        """Return the mean of the bulk, atoms counted."""
        return self.bulk.moment(1)

    def var(self) -> float:
        """Return the variance of the bulk, atoms counted."""
        return self.bulk.moment(2, self.mean())

    def std(self) -> float:
        """Return the standard deviation of the bulk, atoms counted."""
        return math.sqrt(self.var())

    def support(self) -> tuple[float, float]:
        """Return the ends of the bulk's support, which may have gaps: `edges` has its intervals."""
        return self.edges[0][0], self.edges[-1][1]

    @property
    def classes(self) -> int:
        """Number of classes that alignments are with, K."""
        return int(self.alignments.shape[1])

    @property
    def gapless(self) -> bool:
        """Whether the outliers are the largest eigenvalues by rank, with or without a gap between them and the bulk."""
        return self.level == SAMPLED

    @property
    def all_values(self) -> FloatArray:
        """All n eigenvalues as predicted, ascending: quantiles of the bulk, and the outliers."""
        rest = self.n - self.outliers.size
        return np.sort(np.concatenate([self.quantiles((np.arange(rest) + 0.5) / rest), self.outliers]))

    def stieltjes(self, z: ArrayLike) -> ComplexArray:
        """Return m(z) = E 1/(λ - z) of the bulk, for z in the upper half plane.

        Raises
        ------
        InvalidInputError
            Some z is not in the upper half plane.
        """
        points = upper_half_plane(z, "The Stieltjes transform")
        return self._stieltjes(points.ravel()).reshape(points.shape)

    def _stieltjes(self, points: ComplexArray) -> ComplexArray:
        """The same at points (points,) that were checked: from quantiles."""
        values = self.quantiles((np.arange(_NODES) + 0.5) / _NODES)
        return np.asarray((1 / (values - points[:, None])).mean(axis=-1))

    def table(self) -> Table:
        """Return the outliers, numbered as in `outliers`, and their alignments with the classes."""
        return Table(
            {"eigenvalue": self.outliers, **by_class(self.alignments, "alignment")},
            np.arange(1, self.outliers.size + 1),
            "outlier",
            self._title(),
            (*self._of_bulk(), self._legend(), *self.doubts()),
            {"eigenvalue": self._size, **dict.fromkeys(by_class(self.alignments, "alignment"), 1.0)},
        )

    @property
    def _size(self) -> float:
        """Of the largest eigenvalue."""
        return largest(self.edges, self.outliers)

    def summary(self) -> str:
        """Return the edges, atoms and outliers as text."""
        lines = [self._title(), *self._of_bulk()]
        positions, shares = without_rounding(self.outliers, self._size), without_rounding(self.alignments, 1.0)
        hidden = max(0, positions.size - _TOLD)
        if hidden:
            lines.append(f"         {hidden} smaller outliers are not told here; `outliers` and `table()` have all")
        for at, row in zip(positions[hidden:], shares[hidden:], strict=True):
            classes = " ".join(f"{value:.3f}" for value in row)
            lines.append(f"outlier  {at:.5g}   alignment with the classes: {classes}")
        if not self.outliers.size:
            lines.append("outlier  none")
        return "\n".join([*lines, self._legend(), *self.doubts()])

    def _legend(self) -> str:
        """What outliers and alignments are, in words."""
        return (
            f"(outliers are {_LARGEST if self.gapless else _OUTSIDE}; alignments are squared projections of their "
            "eigenvectors on class 0, 1, ...)"
        )

    def _title(self) -> str:
        return f"{self.kind} of {self.deq}, n = {self.n}, level {self.level!r}"

    def _of_bulk(self) -> list[str]:
        """Edges and atoms, a line each."""
        edges = f"bulk     {intervals(edge for edge in self.edges if edge[1] > edge[0]) or 'none'}"
        return [edges, *(f"atom     {at:.5g} of mass {mass:.4f}" for at, mass in self.atoms)]

    def doubts(self) -> tuple[str, ...]:
        """Return what speaks against the prediction: a sentence on eigenvalues below zero, or nothing."""
        if not self.below_zero:
            return ()
        # One eigenvalue that is wrong says little of the others; a share of the bulk does.
        advice = ": rely on the largest eigenvalues alone" if "bulk" in self.below_zero else ""
        return (
            f"(predicted below zero: {self.below_zero}; no kernel has eigenvalues there. Norms differ within "
            f"classes by more than the expansion around them bears{advice})",
        )

    @property
    def below_zero(self) -> str:
        """How much is predicted below zero, where no kernel has eigenvalues, in words; or nothing."""
        # Less than half an eigenvalue is none.
        share = self.negative_mass if self.negative_mass * self.n > 0.5 else 0.0
        isolated = int((self.outliers < 0).sum())
        parts = [f"{share:.1%} of the bulk"] * (share > 0)
        parts += [f"{isolated} outlier{'s' * (isolated > 1)}"] * (isolated > 0)
        return " and ".join(parts)

    def plot(
        self,
        ax: Any = None,
        logarithmic: bool | None = None,
        span: tuple[float, float] | None = None,
        *,
        bins: int | None = None,
        label: str = "predicted",
        colour: str = style.THEORY,
        linestyle: str = "-",
    ) -> Any:
        """Draw the density, and the outliers as triangles on the axis; without a gap, the density of all eigenvalues.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        logarithmic : bool, optional
            Density per decade over a logarithmic axis; by default where the spectrum spans more than a decade.
        span : (float, float), optional
            Range of the axis; that of the prediction by default.
        bins : int, optional
            Of a density drawn in bins.
        label, colour, linestyle : str
            Of the bulk and the outliers.

        Returns
        -------
        matplotlib.axes.Axes
        """
        ax = style.axes(ax)
        bins = bins or (_FEW_BINS if self.gapless else _BINS)
        low, high = self.edges[0][0], max(self.edges[-1][1], float(self.outliers.max(initial=0.0)))
        if low <= 0:
            # What lies at zero or below has no place on a logarithmic axis, and is seldom what is looked at.
            low = float(np.min(values := self.quantiles(_LEVELS), where=values > 0, initial=high))
        if logarithmic is None:
            logarithmic = high > style.WIDE * low
        part = "" if self.gapless else " bulk"
        left, right = span or ((0.8 * low, 1.2 * high) if logarithmic else (low, high))
        if logarithmic or self.gapless:
            # In bins: the density may have spikes of no width that a line would not show honestly.
            edges = (np.geomspace if logarithmic else np.linspace)(left, right, bins + 1)
            unit = np.diff(np.log10(edges) if logarithmic else edges)
            ax.stairs(self._shares(edges) / unit, edges, color=colour, lw=1.6, ls=linestyle, label=f"{label}{part}")
        else:
            for index, (x, density) in enumerate(self.bulk.curves()):
                text = f"{label}{part}" if index == 0 else None
                ax.plot(x, density, color=colour, lw=1.6, ls=linestyle, label=text)
        if logarithmic:
            ax.set_xscale("log")
        ax.set_ylabel("density per decade" if logarithmic else "density")
        if not self.gapless:
            style.mark_outliers(ax, self.outliers, predicted=True, colour=colour, label=label)
        said = ax.get_xlabel() or "eigenvalue"
        hidden = f"{self.level}, not drawn, below zero:\n{self.below_zero}"
        if logarithmic and self.below_zero and hidden not in said:
            said += f"\n{hidden}"
        ax.set_xlabel(said)
        return ax

    def _shares(self, edges: FloatArray) -> FloatArray:
        """Share of the bulk between neighbouring edges; without a gap, of all eigenvalues."""
        mass = np.diff(self.bulk.cdf(edges))
        if not self.gapless:
            return np.asarray(mass)
        return np.asarray((self.n - self.outliers.size) * mass + np.histogram(self.outliers, edges)[0]) / self.n


def upper_half_plane(z: ArrayLike, what: str) -> ComplexArray:
    """Return points z, or raise if one is not in the upper half plane; `what` needs them there."""
    try:
        points = np.asarray(z, dtype=complex)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{what} needs an array of complex numbers: {error}.") from error
    if not np.isfinite(points).all() or not (points.imag > 0).all():
        raise InvalidInputError(f"{what} is computed in the upper half plane, Im z > 0.")
    return points
