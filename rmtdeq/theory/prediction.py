"""The predicted spectrum of a kernel: no sample is drawn and no kernel matrix formed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.tables import Table, Tabular, by_class, intervals, largest, numbers, without_rounding
from rmtdeq._lib.types import ComplexArray, FloatArray, Kind
from rmtdeq.data import GaussianMixture
from rmtdeq.data.mixture import require_mixture
from rmtdeq.network import Network, require_network, require_varying
from rmtdeq.theory.expansion import expand
from rmtdeq.theory.rmt import (
    Bulk,
    GramModel,
    Outliers,
    bulk,
    covariance_family,
    indicator_resolvent,
    outliers,
    point_masses,
    resolvent_diagonal,
)

_NO_SLOPE = 1e-12
_ROUNDING = 1e-12
_LEGEND = (
    "(outliers are eigenvalues outside the bulk, not always the largest; alignments are squared projections of their "
    "eigenvectors on class 0, 1, ...)"
)
_LEVELS = np.linspace(0.0, 1.0, 400)


@dataclass(frozen=True, eq=False)
class SpectrumPrediction(Tabular):
    """The spectrum that random matrix theory predicts for a kernel.

    Attributes
    ----------
    deq : DEQ or Network
    kind, level : str
    n : int
        Number of samples.
    model : GramModel
        The random matrix that stands for the kernel.
    bulk : Bulk
    isolated : Outliers

    Notes
    -----
    Density, distribution function and quantiles are the bulk's and have mass one; outliers are apart.
    """

    deq: Network
    kind: Kind
    level: str
    n: int
    model: GramModel
    bulk: Bulk
    isolated: Outliers

    def __repr__(self) -> str:
        return (
            f"SpectrumPrediction({self.kind} of {self.deq}, n={self.n}, level={self.level!r}: bulk "
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

    @property
    def all_values(self) -> FloatArray:
        """All n eigenvalues as predicted, ascending: quantiles of the bulk, and the outliers.

        An outlier takes the place of the quantile below it.  Where a part of the bulk is a single eigenvalue, as with
        the leading directions of images, it is that one which has moved.
        """
        values = self.quantiles((np.arange(self.n) + 0.5) / self.n)
        for outlier in self.outliers[::-1]:
            values = np.delete(values, max(0, int(np.searchsorted(values, outlier)) - 1))
        return np.sort(np.concatenate([values, self.outliers]))

    def stieltjes(self, z: ArrayLike) -> ComplexArray:
        """Return m(z) = E 1/(λ - z) of the bulk, for z in the upper half plane.

        Raises
        ------
        InvalidInputError
            Some z is not in the upper half plane.
        """
        points = _upper_half_plane(z, "The Stieltjes transform")
        q = resolvent_diagonal(self.model, points.ravel())
        return np.asarray((q @ self.model.probabilities).reshape(points.shape))

    def class_resolvent(self, z: ArrayLike) -> ComplexArray:
        """Return j_aᵀ(K - z)^{-1}j_b of the whole kernel K, j_a the unit indicator of class a, shape (…, K, K).

        Its poles are the outliers, their residues the alignments; beside them it says how much of the classes lies
        where in the bulk.

        Raises
        ------
        InvalidInputError
            Some z is not in the upper half plane.
        """
        points = _upper_half_plane(z, "The resolvent")
        found = indicator_resolvent(self.model, points.ravel())
        return np.asarray(found.reshape(*points.shape, *found.shape[1:]))

    def table(self) -> Table:
        """Return the outliers, numbered as in `outliers`, and their alignments with the classes."""
        return Table(
            {"eigenvalue": self.outliers, **by_class(self.alignments, "alignment")},
            np.arange(1, self.outliers.size + 1),
            "outlier",
            self._title(),
            (*self._of_bulk(), _LEGEND, *self.doubts()),
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
        for at, row in zip(positions, shares, strict=True):
            classes = " ".join(f"{value:.3f}" for value in row)
            lines.append(f"outlier  {at:.5g}   alignment with the classes: {classes}")
        if not self.outliers.size:
            lines.append("outlier  none")
        return "\n".join([*lines, _LEGEND, *self.doubts()])

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
        label: str = "predicted",
        colour: str = style.THEORY,
        linestyle: str = "-",
    ) -> Any:
        """Draw the density, and the outliers as triangles on the axis.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        logarithmic : bool, optional
            Density per decade over a logarithmic axis; by default where the spectrum spans more than a decade.
        span : (float, float), optional
            Range of the logarithmic axis; that of the prediction by default.
        label, colour, linestyle : str
            Of the bulk and the outliers.

        Returns
        -------
        matplotlib.axes.Axes
        """
        ax = style.axes(ax)
        low, high = self.edges[0][0], max(self.edges[-1][1], float(self.outliers.max(initial=0.0)))
        if low <= 0:
            # What lies at zero or below has no place on a logarithmic axis, and is seldom what is looked at.
            low = float(np.min(values := self.quantiles(_LEVELS), where=values > 0, initial=high))
        if logarithmic is None:
            logarithmic = high > style.WIDE * low
        if logarithmic:
            left, right = span or (0.8 * low, 1.2 * high)
            # In bins: the density may have spikes of no width that a line would not show honestly.
            edges = np.geomspace(left, right, 240)
            heights = np.diff(self.bulk.cdf(edges)) / np.diff(np.log10(edges))
            ax.stairs(heights, edges, color=colour, lw=1.6, ls=linestyle, label=f"{label} bulk")
            ax.set_xscale("log")
            ax.set_ylabel("density per decade")
        else:
            for index, part in enumerate(self.bulk.intervals):
                x, _ = part.position(np.linspace(0, np.pi, 400)[1:-1])
                text = f"{label} bulk" if index == 0 else None
                ax.plot(x, part.density(x), color=colour, lw=1.6, ls=linestyle, label=text)
            ax.set_ylabel("density")
        style.mark_outliers(ax, self.outliers, predicted=True, colour=colour, label=label)
        said = ax.get_xlabel() or "eigenvalue"
        hidden = f"{self.level}, not drawn, below zero:\n{self.below_zero}"
        if logarithmic and self.below_zero and hidden not in said:
            said += f"\n{hidden}"
        ax.set_xlabel(said)
        return ax


def _upper_half_plane(z: ArrayLike, what: str) -> ComplexArray:
    try:
        points = np.asarray(z, dtype=complex)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{what} needs an array of complex numbers: {error}.") from error
    if not np.isfinite(points).all() or not (points.imag > 0).all():
        raise InvalidInputError(f"{what} is computed in the upper half plane, Im z > 0.")
    return points


def predict_spectrum(
    deq: Network,
    gmm: GaussianMixture,
    n: int,
    kind: str | Sequence[str] = "ck",
    level: str = "classwise",
    *,
    tau0_squared: float | None = None,
    truncation: float = 1e-2,
) -> Any:
    """Predict the spectrum of a kernel on n samples of a Gaussian mixture.

    Parameters
    ----------
    deq : DEQ or Network
        With any activation; at level ``"paper"`` centred, or with an odd one.
    gmm : GaussianMixture
    n : int
        Number of samples; classes get their share.
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``, or several.
    level : str
        ``"classwise"``, second order around each pair of classes, or ``"paper"``, first order around one point for
        all classes; see `equivalent`.
    tau0_squared : float, optional
        Where a centred activation is centred (class-wise) or the point of expansion (paper); see `equivalent`.
    truncation : float
        For full covariances that do not commute, which are brought into the basis of their mean.  There the leading
        coordinates are treated exactly, so many that off-diagonal entries elsewhere hold at most this fraction of the
        squared Frobenius norm of every class; those entries are dropped.  Directions of S that hold less than five
        times this fraction of its largest eigenvalue lose their off-diagonal entries as well.  0 drops nothing.
        Some five thousand matrices of the order of what is treated exactly, r d for d coordinates and r ≤ K directions,
        are inverted: seconds at 100, a minute at 400.

    Returns
    -------
    SpectrumPrediction, or a tuple of them
        One for each kind.

    Raises
    ------
    InvalidInputError
        Arguments that do not fit together; a class without variance (class-wise); an activation with a mean (paper).
    IllPosedError
        No contraction, or an infinite NTK.
    ConvergenceError
        The density does not come out with mass one.

    Notes
    -----
    The kernel is replaced by its equivalent, a Gram matrix of the lifted samples s_a ⊗ w_i with s_a·s_b = S_ab, a shift
    λ_a of each class and a low-rank part.  Its resolvent has a deterministic diagonal q_a(z) that solves the mixture
    equations (Benaych-Georges and Couillet 2016, where S_ab is constant).  Outliers are the real zeros, outside the
    bulk, of a determinant of size 3K; alignments are residues there.  Directions of S of less than 1e-10 of its
    largest eigenvalue are dropped, which moves eigenvalues by as little.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> means = np.zeros((2, 400)); means[0, 0] = means[1, 1] = 8
    >>> gmm = rd.GaussianMixture(means, [1.0, 1.4])
    >>> pred = rd.predict_spectrum(rd.DEQ("relu", 0.2, 0.8, centered=False), gmm, n=320)
    >>> len(pred.edges), pred.outliers.size
    (1, 2)
    """
    require_network(deq)
    require_varying(deq)
    require_mixture(gmm)
    kinds = check.kinds(kind)
    n = check.integer(n, "n")
    sizes = gmm.class_sizes(n)
    if not sizes.all():
        raise InvalidInputError(f"With n = {n} class {int(sizes.argmin())} has no sample; raise n.")
    truncation = check.number(truncation, "truncation", low=0, high=1)
    with Stage("predicting the spectrum"):
        found = [_predicted(deq, gmm, n, each, level, tau0_squared, truncation) for each in kinds]
    return check.as_asked(kind, found)


def _predicted(
    deq: Network,
    gmm: GaussianMixture,
    n: int,
    kind: Kind,
    level: str,
    tau0_squared: float | None,
    truncation: float,
) -> SpectrumPrediction:
    """Predict the spectrum of one kernel; arguments are checked."""
    expansion = expand(deq, gmm, kind, level, tau0_squared)
    model = replace(
        _standard_model(gmm, n, truncation),
        gram=expansion.gram,
        shifts=expansion.shifts,
        coupling=expansion.coupling(gmm),
    )
    slope, shift = float(expansion.gram[0, 0]), float(expansion.shifts[0])
    widest = float(abs(expansion.gram).max()) * _standard_model(gmm, n, truncation).upper_bound
    if widest <= _NO_SLOPE * float(abs(expansion.shifts).max()):
        # An even activation: the kernel does not see inner products, and the bulk is one point of each class.
        law = Bulk((), point_masses(expansion.shifts, model.probabilities))
    elif (expansion.gram == slope).all() and (expansion.shifts == shift).all():
        law = _standard_bulk(gmm, n, truncation).affine(slope, shift)
    else:
        law = bulk(model)
    return SpectrumPrediction(deq, kind, level, n, model, law, outliers(model, law))


@lru_cache(maxsize=4)
def _standard_model(gmm: GaussianMixture, n: int, truncation: float) -> GramModel:
    """The model of WᵀW, without shifts or low-rank part."""
    k = gmm.classes
    covariances, means = list(gmm.covariances), gmm.means
    if gmm.principal is not None:
        vectors, values = gmm.principal
        covariances, means = list(values), means @ vectors
    return GramModel(
        gram=np.ones((k, k)),
        shifts=np.zeros(k),
        ratios=gmm.class_sizes(n) / gmm.dimension,
        covariances=covariance_family(covariances, means, gmm.weights, truncation),
        norm_variances=gmm.norm_variances,
        coupling=np.zeros((3 * k, 3 * k)),
    )


@lru_cache(maxsize=4)
def _standard_bulk(gmm: GaussianMixture, n: int, truncation: float) -> Bulk:
    # Kernels that weigh all inner products alike have the bulk of WᵀW, stretched and shifted: one computation
    # serves every kind and every network.
    return bulk(_standard_model(gmm, n, truncation))
