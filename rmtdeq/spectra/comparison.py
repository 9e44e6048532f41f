"""The measured spectrum against the predicted one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.tables import Table, Tabular, by_class, largest, numbers, without_rounding
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.spectra.assumptions import COMMAND
from rmtdeq.spectra.empirical import EmpiricalSpectrum, draw_masses, even_edges
from rmtdeq.spectra.overview import overview
from rmtdeq.spectra.pairing import UNPAIRED, paired
from rmtdeq.spectra.rank_errors import RankErrors
from rmtdeq.spectra.verdict import LARGEST, Verdict, judged, repeats
from rmtdeq.theory import SpectrumPrediction
from rmtdeq.theory.rmt import kolmogorov_smirnov, wasserstein

_LARGEST = 5
_UNRELIABLE = 0.1
_FAR_BELOW = 1e-2
_FAR = 10.0
_SHOWN = 12
_MARGIN = 0.06
"""Of the axes, around a legend: what is beside them may yet make them smaller."""

_SPIKE = 3.0
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
        The measured eigenvalues that stand for the predicted outliers; NaN where none does, being near in position and
        direction, and where only larger ones were measured.
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
    leading : ndarray (v, K) or None
        The same of the eigenvectors of the largest eigenvalues, ten at most, the largest first.
    places : ndarray (r,) or None
        The index of each matched eigenvalue among those measured, ascending; -1 where there is none.
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
    leading: FloatArray | None = None
    places: IntArray | None = None

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
        columns = {"predicted": pred.outliers, "measured": self.matched, "relative error": self.outlier_errors}
        columns |= by_class(pred.alignments, "predicted alignment")
        if self.alignments is not None:
            columns |= by_class(self.alignments, "measured alignment")
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

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the prediction, a sentence each."""
        return self._notes()[1:]

    def _notes(self) -> tuple[str, ...]:
        """What is said of the bulk, and against the prediction."""
        bulk = "bulk: not measured (top eigenvalues only)"
        if self.ks is not None and self.wasserstein is not None:
            error = f" ± {self.ks_error:.4f}" if self.ks_error else ""
            bulk = f"bulk: KS distance {self.ks:.4f}{error}, Wasserstein distance {self.wasserstein:.4g}"
        notes = [bulk, *self.prediction.doubts()]
        if repeats(self.verdict, self.prediction):
            notes.append(
                "(predicted and measured are the same: the moments must be of other samples than are measured)"
            )
        if self.ks is not None and self.ks > _UNRELIABLE:
            notes.append(
                f"(a distance above {_UNRELIABLE}, of at most 1: rely on large eigenvalues alone; {COMMAND} says "
                "when the theory fails, and what to do)"
            )
        return tuple(notes)

    @cached_property
    def verdict(self) -> Verdict:
        """How far the prediction is to be relied on."""
        pred, measured = self.prediction, self.empirical.known_values
        return judged(pred.level, self.ks, pred.all_values, measured)

    @cached_property
    def rank_errors(self) -> RankErrors | None:
        """Errors of all n eigenvalues, rank by rank; None where not all were measured."""
        measured = self.empirical
        return RankErrors.between(self.prediction.all_values, measured.all_values) if measured.complete else None

    def fate(self, i: int) -> str:
        """Return why predicted outlier i has no measured eigenvalue; nothing if it has one."""
        at, emp = self.prediction.outliers[i], self.empirical
        if not np.isnan(self.matched[i]):
            return ""
        if at < 0:
            return "impossible"
        return "unmatched" if emp.has_density or at > emp.eigenvalues[0] else "not measured"

    def summary(self, class_names: Sequence[str] | None = None) -> str:
        """Return what was compared, a verdict, and the ten largest eigenvalues as text.

        Parameters
        ----------
        class_names : sequence of str, optional
            "class 0", "class 1", … by default.
        """
        return overview([self], class_names=class_names)

    def details(self) -> str:
        """Return the table of outliers, distances and warnings as text."""
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
            if instead := self.fate(i):
                lines.append(f"  {i + 1:>8} {at:>11.4f} {instead:>20}   {predicted}")
                continue
            lines.append(f"  {i + 1:>8} {at:>11.4f} {seen:>11.4f} {error:>8}   {predicted}{measured}")
        if pred.outliers.size > _SHOWN:
            known = self.outlier_errors[~np.isnan(self.outlier_errors)]
            middle = f"; median error of the {known.size} matched {np.median(known):.1%}" if known.size else ""
            lines.append(f"  (the {_SHOWN} largest of {pred.outliers.size}{middle})")
        if not pred.outliers.size:
            lines.append(f"  {'none':>8}")
        elif self.alignments is not None:
            lines.append("  (alignments: squared projections on class 0, 1, ..., predicted | measured)")
        lines.append(self._largest())
        lines += [] if self.rank_errors is None else [f"  {self.rank_errors}"]
        lines += [f"  {warning}" for warning in warnings]
        return "\n".join(lines)

    def _largest(self) -> str:
        """The largest eigenvalues of all, be they outliers or of the bulk, in a line."""
        measured = self.empirical.known_values
        count = min(_LARGEST, measured.size)
        ours, theirs = (
            " ".join(f"{value:.4g}" for value in values[: -count - 1 : -1])
            for values in (self.prediction.all_values, measured)
        )
        return f"  largest eigenvalues, outliers or not: predicted {ours} | measured {theirs}"

    def plot(self, ax: Any = None, bins: int = 60, others: Sequence[SpectrumPrediction] = ()) -> Any:
        """Draw histogram, predicted density and outliers; on a logarithmic axis if they span more than a decade.

        Where a predicted density leaves the axes, a mark says how high it goes.

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
        values = self._drawn
        lowest = max(float(values.min()), 1e-12)
        highest = max(float(values.max()), float(self.prediction.outliers.max(initial=0.0)))
        if self.bulk is not None and highest > style.WIDE * lowest:
            self._draw_logarithmic(ax, values[values > 0], bins, others)
        else:
            if self.bulk is not None:
                edges = even_edges(values, bins)
                draw_masses(ax, edges, *self._masses(edges), np.diff(edges))
                ax.set_xlabel("eigenvalue")
                ax.set_ylabel("density")
            self.prediction.plot(ax, logarithmic=False, bins=bins)
            for other in others:
                other.plot(ax, logarithmic=False, **_beside(other))
        # Measured outliers stand on the axis where the predicted ones hang.
        seen = self.matched[~np.isnan(self.matched) & (not self.prediction.gapless)]
        style.mark_outliers(ax, seen, predicted=False)
        _place_legend(ax)
        style.mark_clipped(ax)
        return ax

    @property
    def _drawn(self) -> FloatArray:
        """What the histogram shows: the bulk, and the outliers where there is no gap between them."""
        if self.bulk is None:
            return self.empirical.eigenvalues
        return self.empirical.all_values if self.prediction.gapless else self.bulk

    def _masses(self, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Share of what is drawn between neighbouring edges, and its error."""
        counts = np.histogram(self._drawn, edges)[0]
        if self.empirical.complete:
            return counts / self._drawn.size, np.zeros(counts.shape)
        return counts / self._drawn.size, self.empirical.masses(edges)[1]

    def _draw_logarithmic(self, ax: Any, values: FloatArray, bins: int, others: Sequence[SpectrumPrediction]) -> None:
        """Densities per decade."""
        edges = np.geomspace(values.min(), values.max(), bins + 1)
        mass, error = self._masses(edges)
        draw_masses(ax, edges, mass, error, np.diff(np.log10(edges)))
        law = self.prediction
        # A bulk may begin at next to nothing, with next to nothing there.
        lowest = max(float(law.quantiles(0.002)), _FAR_BELOW * float(edges[0]))
        span = (min(edges[0], 0.9 * lowest), max(edges[-1], law.edges[-1][1]))
        law.plot(ax, logarithmic=True, span=span, bins=bins if law.gapless else None)
        for other in others:
            other.plot(ax, logarithmic=True, span=span, **_beside(other))
        ax.set_ylim(0, 1.15 * float((mass / np.diff(np.log10(edges))).max()))


def _place_legend(ax: Any) -> None:
    """Put the legend into the upper right, where nothing shall be as high: the axes reach further up if need be."""
    legend = ax.legend(loc="upper right", framealpha=0.8, edgecolor="none", fontsize=7.5)
    box = legend.get_window_extent().transformed(ax.transAxes.inverted())
    low, top = ax.get_ylim()
    # Spikes that go far beyond the axes stay beyond them.
    heights = [each for each in _heights(ax, box.x0 - _MARGIN) if each < _SPIKE * top]
    ax.set_ylim(low, max(top, max(heights, default=0.0) / max(box.y0 - _MARGIN, 0.3)))


def _heights(ax: Any, left: float) -> list[float]:
    """Heights of bars, steps and lines to the right of a place on the axes."""
    start = ax.transData.inverted().transform(ax.transAxes.transform((left, 0.0)))[0]
    found = []
    for patch in ax.patches:
        if not hasattr(patch, "get_width"):
            heights, edges, _ = patch.get_data()
            found += heights[edges[1:] > start].tolist()
        elif patch.get_x() + patch.get_width() > start:
            found.append(patch.get_height())
    for line in ax.get_lines():
        found += [y for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True) if x > start]
    return found


def _shares(alignments: FloatArray) -> str:
    """Alignments as text: none where the eigenvector was not computed."""
    return (
        "no vector" if np.isnan(alignments).any() else " ".join(f"{v:.2f}" for v in without_rounding(alignments, 1.0))
    )


def _beside(prediction: SpectrumPrediction) -> dict[str, Any]:
    return {"label": f"{prediction.level} level's", "colour": style.OTHER, "linestyle": "--"}


def compare(emp: EmpiricalSpectrum, pred: SpectrumPrediction, y: ArrayLike | None = None) -> SpectrumComparison:
    """Compare a measured spectrum with a predicted one.

    Predicted outliers are paired with measured eigenvalues by position and, where labels are given, by direction: of
    those whose rank differs by at most the number of outliers (a perturbation of that rank moves ranks no further) the
    one that is near and whose eigenvector is as aligned with the classes as predicted.  Where there is none, the
    outlier is unmatched.  The distances are those of the other eigenvalues from the predicted bulk.

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
    values = emp.known_values
    alignments = None if y is None else emp.alignments(y, pred.classes)
    places = paired(values, pred, emp.n - values.size, alignments)
    found = places != UNPAIRED
    if not (emp.has_density or found.any()) and pred.outliers.max(initial=-np.inf) < values[0] and found.size:
        raise InvalidInputError(
            f"None of the predicted outliers is among the {values.size} largest eigenvalues, which alone were "
            "measured; use method='slq' or 'exact'."
        )
    matched = np.where(found, values[places], np.nan)
    errors = abs(pred.outliers - matched) / np.maximum(abs(matched), 1e-300)
    directions = leading = None
    if alignments is not None:
        columns = places - (values.size - len(alignments))
        known = found & (columns >= 0)
        directions = np.full((places.size, alignments.shape[1]), np.nan)
        directions[known] = alignments[columns[known]]
        leading = alignments[::-1][:LARGEST]
    bulk = ks = distance = None
    ks_error = 0.0
    if emp.has_density and values.size > found.sum():
        bulk = np.delete(values, places[found])
        if emp.rest is not None:
            ks_error = float(emp.rest.cdf_error(values).max())
        ks = kolmogorov_smirnov(bulk, pred.cdf, pred.bulk.atoms)
        distance = wasserstein(bulk, pred.quantiles)
    return SpectrumComparison(emp, pred, matched, errors, bulk, ks, distance, directions, ks_error, leading, places)
