"""The measured spectrum against the predicted one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.tables import Table, Tabular, by_class, largest, numbers, without_rounding
from rmtdeq._lib.types import FloatArray
from rmtdeq.spectra.empirical import EmpiricalSpectrum, draw_masses, even_edges
from rmtdeq.theory import SpectrumPrediction
from rmtdeq.theory.rmt import kolmogorov_smirnov, wasserstein

_LEFT = 0.55
_LARGEST = 5
_UNRELIABLE = 0.1
_FAR_BELOW = 1e-2
_FAR = 10.0
_SHOWN = 12
_RESOLVED_BINS = 24
"""What a quadrature can tell apart over some decades."""


@dataclass(frozen=True, eq=False)
class SpectrumComparison(Tabular):
    """A measured and a predicted spectrum side by side.

    Attributes
    ----------
    empirical : EmpiricalSpectrum
    prediction : SpectrumPrediction
    matched : ndarray (r,)
        The measured eigenvalues that stand for the predicted outliers, by rank; NaN where only larger ones were
        measured.
    outlier_errors : ndarray (r,)
        ``|predicted - measured| / measured``; NaN likewise.
    bulk : ndarray (n - r,) or None
        The other eigenvalues (`EmpiricalSpectrum.all_values`); None where only the top of the spectrum was measured.
    ks, wasserstein : float or None
        Kolmogorov-Smirnov and first Wasserstein distance of `bulk` from the prediction; None likewise.
    ks_error : float
        Largest standard error of the measured distribution function; 0 where all eigenvalues are known.
    alignments : ndarray (r, K) or None
        Squared inner products of the matched eigenvectors with the classes' unit indicators, where labels were
        given; NaN where an eigenvector was not computed.
    """

    empirical: EmpiricalSpectrum
    prediction: SpectrumPrediction
    matched: FloatArray
    outlier_errors: FloatArray
    bulk: FloatArray | None
    ks: float | None
    wasserstein: float | None
    alignments: FloatArray | None
    ks_error: float = 0.0

    def __repr__(self) -> str:
        pred, known = self.prediction, self.outlier_errors[~np.isnan(self.outlier_errors)]
        errors = f", errors {known.min():.1%} ... {known.max():.1%}" if known.size else ""
        distance = "bulk not measured" if self.ks is None else f"KS distance of the bulk {self.ks:.4f}"
        return (
            f"SpectrumComparison({pred.kind} of {pred.deq}, n={pred.n}, level={pred.level!r}: "
            f"{numbers(pred.outliers, 'outlier')}{errors}; {distance})"
        )

    def table(self) -> Table:
        """Return the outliers, numbered as in `prediction.outliers`: predicted, measured, and their alignments."""
        pred = self.prediction
        possible = pred.outliers >= 0
        measured, errors = (np.where(possible, each, np.nan) for each in (self.matched, self.outlier_errors))
        columns = {"predicted": pred.outliers, "measured": measured, "relative error": errors}
        columns |= by_class(pred.alignments, "predicted alignment")
        if self.alignments is not None:
            columns |= by_class(np.where(possible[:, None], self.alignments, np.nan), "measured alignment")
        scales = dict.fromkeys(columns, 1.0) | dict.fromkeys(("predicted", "measured"), self._size)
        return Table(columns, np.arange(1, pred.outliers.size + 1), "outlier", self._title(), self._notes(), scales)

    @property
    def _size(self) -> float:
        """Of the largest eigenvalue."""
        return largest(self.prediction.edges, self.prediction.outliers, self.matched)

    def _title(self) -> str:
        pred = self.prediction
        p = pred.dimension
        return f"{pred.kind.upper()} of {pred.deq}, n = {pred.n}, p = {p}, level {pred.level}"

    def _notes(self) -> tuple[str, ...]:
        """What is said of the bulk, and against the prediction."""
        bulk = "bulk: not measured (top eigenvalues only)"
        if self.ks is not None and self.wasserstein is not None:
            error = f" ± {self.ks_error:.4f}" if self.ks_error else ""
            bulk = f"bulk: KS distance {self.ks:.4f}{error}, Wasserstein distance {self.wasserstein:.4g}"
        notes = [bulk, *self.prediction.doubts()]
        if self.ks is not None and self.ks > _UNRELIABLE:
            notes.append(
                f"(a distance above {_UNRELIABLE}, of at most 1: rely on large eigenvalues alone; the documentation "
                'says more under "When the theory fails")'
            )
        return tuple(notes)

    def summary(self) -> str:
        """Return the table of outliers and distances as text."""
        pred = self.prediction
        bulk, *warnings = self._notes()
        lines = [self._title(), f"  {bulk}"]
        lines.append(f"  {'outlier':>8} {'predicted':>11} {'measured':>11} {'error':>8}   alignment with the classes")
        for i, (at, seen) in enumerate(zip(pred.outliers, self.matched, strict=True)):
            if i < pred.outliers.size - _SHOWN:
                continue
            predicted = _shares(pred.alignments[i])
            measured = "" if self.alignments is None else f" | {_shares(self.alignments[i])}"
            error = f"{self.outlier_errors[i]:.1%}" if self.outlier_errors[i] < _FAR else "far off"
            if at < 0 or np.isnan(seen):
                instead = "impossible" if at < 0 else "not measured"
                lines.append(f"  {i + 1:>8} {at:>11.4f} {instead:>20}   {predicted}")
                continue
            lines.append(f"  {i + 1:>8} {at:>11.4f} {seen:>11.4f} {error:>8}   {predicted}{measured}")
        if pred.outliers.size > _SHOWN:
            known = (pred.outliers > 0) & ~np.isnan(self.matched)
            middle = float(np.median(self.outlier_errors[known]))
            lines.append(
                f"  (the {_SHOWN} largest of {pred.outliers.size}; median error of the {known.sum()} positive ones "
                f"that were measured {middle:.1%})"
            )
        if not pred.outliers.size:
            lines.append(f"  {'none':>8}")
        elif self.alignments is not None:
            lines.append("  (alignments: squared projections on class 0, 1, ..., predicted | measured)")
        lines.append(self._largest())
        lines += [f"  {warning}" for warning in warnings]
        return "\n".join(lines)

    def _largest(self) -> str:
        """The largest eigenvalues of all, be they outliers or of the bulk, in a line."""
        emp = self.empirical
        measured = emp.all_values if emp.has_density else emp.eigenvalues
        count = min(_LARGEST, measured.size)
        ours, theirs = (
            " ".join(f"{value:.4g}" for value in values[: -count - 1 : -1])
            for values in (self.prediction.all_values, measured)
        )
        return f"  largest eigenvalues, outliers or not: predicted {ours} | measured {theirs}"

    def plot(self, ax: Any = None, bins: int = 60, others: Sequence[SpectrumPrediction] = ()) -> Any:
        """Draw histogram, predicted density and outliers; on a logarithmic axis if they span more than a decade.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        bins : int
        others : sequence of SpectrumPrediction
            Drawn with broken lines beside the one compared, each under the name of its level.

        Returns
        -------
        matplotlib.axes.Axes
        """
        ax = style.axes(ax)
        emp = self.empirical
        if emp.rest is not None:
            bins = min(bins, _RESOLVED_BINS)
        values = emp.eigenvalues if self.bulk is None else self.bulk
        lowest = max(float(values.min()), 1e-12)
        highest = max(float(values.max()), float(self.prediction.outliers.max(initial=0.0)))
        if self.bulk is not None and highest > style.WIDE * lowest:
            self._draw_logarithmic(ax, values[values > 0], bins, others)
        else:
            if self.bulk is not None:
                edges = even_edges(values, bins)
                draw_masses(ax, edges, *self._bulk_masses(edges), np.diff(edges))
                ax.set_xlabel("eigenvalue")
                ax.set_ylabel("density")
            self.prediction.plot(ax, logarithmic=False)
            for other in others:
                other.plot(ax, logarithmic=False, **_beside(other))
        # Measured outliers stand on the axis where the predicted ones hang.
        seen = self.matched[(self.prediction.outliers > 0) & ~np.isnan(self.matched)]
        style.mark_outliers(ax, seen, predicted=False)
        _place_legend(ax, float(np.quantile(values, 0.9)))
        return ax

    def _bulk_masses(self, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Share of the bulk between neighbouring edges, and its error."""
        assert self.bulk is not None
        counts = np.histogram(self.bulk, edges)[0]
        if self.empirical.complete:
            return counts / self.bulk.size, np.zeros(counts.shape)
        return counts / self.bulk.size, self.empirical.masses(edges)[1]

    def _draw_logarithmic(self, ax: Any, values: FloatArray, bins: int, others: Sequence[SpectrumPrediction]) -> None:
        """Densities per decade."""
        edges = np.geomspace(values.min(), values.max(), bins + 1)
        mass, error = self._bulk_masses(edges)
        draw_masses(ax, edges, mass, error, np.diff(np.log10(edges)))
        law = self.prediction
        # A bulk may begin at next to nothing, with next to nothing there.
        lowest = max(float(law.quantiles(0.002)), _FAR_BELOW * float(edges[0]))
        span = (min(edges[0], 0.9 * lowest), max(edges[-1], law.edges[-1][1]))
        law.plot(ax, logarithmic=True, span=span)
        for other in others:
            other.plot(ax, logarithmic=True, span=span, **_beside(other))
        ax.set_ylim(0, 1.15 * float((mass / np.diff(np.log10(edges))).max()))


def _place_legend(ax: Any, end: float) -> None:
    """Put the legend beside the data where these end on the left, and above them otherwise."""
    position = ax.transAxes.inverted().transform(ax.transData.transform((end, 0.0)))[0]
    look = {"framealpha": 0.8, "edgecolor": "none", "fontsize": 8}
    if position < _LEFT:
        ax.set_ylim(0, 1.1 * ax.get_ylim()[1])
        ax.legend(loc="upper right", **look)
    else:
        ax.set_ylim(0, 1.45 * ax.get_ylim()[1])
        ax.legend(loc="upper center", ncols=2, **look)


def _shares(alignments: FloatArray) -> str:
    """Alignments as text: none where the eigenvector was not computed."""
    return (
        "no vector" if np.isnan(alignments).any() else " ".join(f"{v:.2f}" for v in without_rounding(alignments, 1.0))
    )


def _beside(prediction: SpectrumPrediction) -> dict[str, Any]:
    return {"label": f"{prediction.level} level's", "colour": style.OTHER, "linestyle": "--"}


def compare(emp: EmpiricalSpectrum, pred: SpectrumPrediction, y: ArrayLike | None = None) -> SpectrumComparison:
    """Compare a measured spectrum with a predicted one.

    Predicted outliers are matched with measured eigenvalues by rank, the k-th of n in order; one between two
    parts of the bulk with the nearest of those whose rank differs by at most the number of outliers (a
    perturbation of that rank moves ranks no further).  An outlier that is predicted in the wrong order, or beside one
    that does not exist, is therefore held against a neighbour: its alignments tell.  The distances are those of the
    other eigenvalues from the predicted bulk.

    Parameters
    ----------
    emp : EmpiricalSpectrum
    pred : SpectrumPrediction
        Of the same kernel and number of samples.
    y : array_like (n,), optional
        Labels of the samples, for the measured alignments.

    Returns
    -------
    SpectrumComparison

    Raises
    ------
    InvalidInputError
        The two are of different kernels or sizes, labels do not fit, or fewer eigenvalues were measured than
        outliers predicted.
    """
    if not isinstance(emp, EmpiricalSpectrum) or not isinstance(pred, SpectrumPrediction):
        raise InvalidInputError("compare takes an EmpiricalSpectrum and a SpectrumPrediction, in this order.")
    if emp.kind != pred.kind:
        raise InvalidInputError(f"The measured spectrum is of the {emp.kind}, the predicted one of the {pred.kind}.")
    if emp.n != pred.n:
        raise InvalidInputError(f"The measured spectrum has n = {emp.n}, the prediction n = {pred.n}.")
    r = pred.outliers.size
    values = emp.all_values if emp.has_density else emp.eigenvalues
    ranks = _ranks(values, pred, emp.n - values.size)
    if r and ranks.max() < 0:
        raise InvalidInputError(
            f"None of the predicted outliers is among the {values.size} largest eigenvalues, which alone were "
            "measured; use method='slq' or 'exact'."
        )
    matched = np.where(ranks >= 0, values[np.maximum(ranks, 0)], np.nan)
    errors = abs(pred.outliers - matched) / np.maximum(abs(matched), 1e-300)
    alignments = None
    if y is not None:
        columns = ranks - (values.size - emp.vectors.shape[1])
        known = columns >= 0
        alignments = np.full((r, pred.classes), np.nan)
        alignments[known] = emp.alignments(y, pred.classes)[columns[known]]
    bulk = ks = distance = None
    ks_error = 0.0
    if emp.has_density and values.size > ranks.size:
        bulk = np.delete(values, ranks)
        if emp.rest is not None:
            ks_error = float(emp.rest.cdf_error(values).max())
        ks = kolmogorov_smirnov(bulk, pred.cdf, pred.bulk.atoms)
        distance = wasserstein(bulk, pred.quantiles)
    return SpectrumComparison(emp, pred, matched, errors, bulk, ks, distance, alignments, ks_error)


def _ranks(values: FloatArray, pred: SpectrumPrediction, missing: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Index of the measured eigenvalue that stands for each predicted outlier; negative if not measured."""
    r = pred.outliers.size
    below = pred.cdf(pred.outliers)
    # Below an outlier lie its share of the bulk and the outliers before it.
    ranks = np.rint((pred.n - r) * below).astype(np.int64) + np.arange(r) - missing
    within = (below > 0) & (below < 1)
    taken = set(ranks[~within].tolist())
    for i in np.flatnonzero(within)[::-1]:
        window = [k for k in range(ranks[i] - r, ranks[i] + r + 1) if 0 <= k < values.size and k not in taken]
        if window:
            ranks[i] = min(window, key=lambda k: abs(values[k] - pred.outliers[i]))
        taken.add(int(ranks[i]))
    return ranks
