"""Predicting the spectrum of a kernel from a model of the data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.threads import one_blas_thread
from rmtdeq._lib.types import AUTO, CLASSWISE, LEVELS, SAMPLED, ComplexArray, FloatArray, Kind
from rmtdeq.data import DataMoments, GaussianMixture
from rmtdeq.network import Network, require_network, require_varying
from rmtdeq.theory.choice import ExpansionError, expansion_errors
from rmtdeq.theory.expansion import expand
from rmtdeq.theory.gram import gram_model, standard_model
from rmtdeq.theory.rmt import (
    Bulk,
    GramModel,
    bulk,
    indicator_resolvent,
    outliers,
    point_masses,
    resolvent_diagonal,
)
from rmtdeq.theory.sampled import LEAST, sampled_predictions
from rmtdeq.theory.spectrum import SpectrumPrediction, upper_half_plane

_NO_SLOPE = 1e-12
_PATIENT = 150
"""Order of the matrices whose inverses take some seconds; see `predict_spectrum`, truncation."""


@dataclass(frozen=True, eq=False, repr=False)
class GramPrediction(SpectrumPrediction):
    """The spectrum of the random matrix that stands for a kernel on a Gaussian mixture.

    Attributes
    ----------
    model : GramModel
        That matrix.
    """

    model: GramModel = field(kw_only=True)

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

    def _stieltjes(self, points: ComplexArray) -> ComplexArray:
        """From the equations."""
        return np.asarray(resolvent_diagonal(self.model, points) @ self.model.probabilities)

    def class_resolvent(self, z: ArrayLike) -> ComplexArray:
        """Return j_aᵀ(K - z)^{-1}j_b of the whole kernel K, j_a the unit indicator of class a, shape (…, K, K).

        Its poles are the outliers, their residues the alignments; beside them it says how much of the classes lies
        where in the bulk.

        Raises
        ------
        InvalidInputError
            Some z is not in the upper half plane.
        """
        points = upper_half_plane(z, "The resolvent")
        found = indicator_resolvent(self.model, points.ravel())
        return np.asarray(found.reshape(*points.shape, *found.shape[1:]))


def predict_spectrum(
    deq: Network,
    gmm: GaussianMixture | DataMoments,
    n: int,
    kind: str | Sequence[str] = "ck",
    level: str = AUTO,
    *,
    tau0_squared: float | None = None,
    truncation: float = 1e-2,
) -> Any:
    """Predict the spectrum of a kernel on n samples of a Gaussian mixture, or of data.

    Parameters
    ----------
    deq : DEQ or Network
        With any activation; at level ``"paper"`` centred, or with an odd one.
    gmm : GaussianMixture or DataMoments
        What is known of the data.
    n : int
        Number of samples; classes of a mixture get their share.
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``, or several.
    level : str
        ``"classwise"``, second order around each pair of classes of a mixture; ``"paper"``, first order around one
        point for all classes (see `equivalent`); ``"polynomial"``, without an expansion of its own, for data of low
        effective dimension, from moments or from samples drawn from a mixture.  ``"auto"`` is polynomial for moments;
        for a mixture class-wise, unless on samples drawn from it the expansion is off by more than 0.1 in KS distance
        and 5 % in the median eigenvalue, or covariances that do not commute would take minutes.
    tau0_squared : float, optional
        Where a centred activation is centred (class-wise, polynomial) or the point of expansion (paper); see
        `equivalent`.
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
        One for each kind; class-wise and at the paper's level a `GramPrediction`.

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
    Class-wise and paper: the kernel is replaced by its equivalent, a Gram matrix of the lifted samples s_a ⊗ w_i with
    s_a·s_b = S_ab, a shift λ_a of each class and a low-rank part.  Its resolvent has a deterministic diagonal q_a(z)
    that solves the mixture equations (Benaych-Georges and Couillet 2016, where S_ab is constant).  Outliers are the
    real zeros, outside the bulk, of a determinant of size 3K; alignments are residues there.  Directions of S of less
    than 1e-10 of its largest eigenvalue are dropped, which moves eigenvalues by as little.

    Polynomial: from the spectra of kernels on the samples that the moments keep, in blocks of up to 8192.  Up to that
    size the prediction is their mean.  Beyond, it goes on as from half a block to a whole one, rank by rank and by the
    degrees of freedom tr K(K + δ)⁻¹ as a function of 1/tr(K + δ)⁻¹, which depends little on the number of samples; both
    count as they foretell the block from its halves.  That is empirical, and knows its `expected_error`: at two and a
    half blocks 0.01 to 0.02 in KS distance on images; a mixture of few dimensions, whose bulk has hard edges, may be
    off by 0.1 at twice a block.
    The largest tenth of a block's eigenvalues, at most 100, are given as outliers, whether or not there is a gap.

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
    kinds = check.kinds(kind)
    n = check.integer(n, "n")
    level = check.choice(level, "level", (AUTO, SAMPLED, *LEVELS))
    truncation = check.number(truncation, "truncation", low=0, high=1)
    centre = None if tau0_squared is None else check.squared_norm(tau0_squared, "tau0_squared")
    if n < LEAST and (level == SAMPLED or isinstance(gmm, DataMoments)):
        raise InvalidInputError(f"Level {SAMPLED!r} predicts spectra of {LEAST} samples at least, not of n = {n}.")
    if isinstance(gmm, DataMoments):
        if level in LEVELS:
            raise InvalidInputError(
                f"Level {level!r} expands around the classes of a mixture; pass a GaussianMixture, or level='auto'."
            )
        centre = gmm.mean_squared_norm if centre is None else centre
        return check.as_asked(kind, sampled_predictions(deq, gmm, n, kinds, centre))
    if not isinstance(gmm, GaussianMixture):
        raise InvalidInputError(
            f"gmm must be a GaussianMixture, or DataMoments.from_data(X) of samples, not {type(gmm).__name__}."
        )
    sizes = gmm.class_sizes(n)
    if not sizes.all():
        raise InvalidInputError(f"With n = {n} class {int(sizes.argmin())} has no sample; raise n.")
    errors: Sequence[ExpansionError | None] = [None] * len(kinds)
    if level == AUTO:
        level, errors = _chosen(deq, gmm, n, kinds, centre, truncation)
    if level == SAMPLED:
        moments = DataMoments.from_mixture(gmm)
        centre = gmm.mean_squared_norm if centre is None else centre
        return check.as_asked(kind, sampled_predictions(deq, moments, n, kinds, centre))
    with Stage("predicting the spectrum"):
        predictions = [_predicted(deq, gmm, n, each, level, tau0_squared, truncation) for each in kinds]
    expecting = [
        prediction if error is None else replace(prediction, expected_error=error.expected(prediction.all_values[::-1]))
        for prediction, error in zip(predictions, errors, strict=True)
    ]
    return check.as_asked(kind, expecting)


def _predicted(
    deq: Network,
    gmm: GaussianMixture,
    n: int,
    kind: Kind,
    level: str,
    tau0_squared: float | None,
    truncation: float,
) -> GramPrediction:
    """Predict the spectrum of one kernel; arguments are checked."""
    expansion = expand(deq, gmm, kind, level, tau0_squared)
    model = gram_model(expansion, gmm, n, truncation)
    slope, shift = float(expansion.gram[0, 0]), float(expansion.shifts[0])
    widest = float(abs(expansion.gram).max()) * standard_model(gmm, n, truncation).upper_bound
    # Matrices of some hundred rows: threads of BLAS would wait for one another, the longer the busier the machine is.
    with nullcontext() if model.large else one_blas_thread:
        if widest <= _NO_SLOPE * float(abs(expansion.shifts).max()):
            # An even activation: the kernel does not see inner products, and the bulk is one point of each class.
            law = Bulk((), point_masses(expansion.shifts, model.probabilities))
        elif (expansion.gram == slope).all() and (expansion.shifts == shift).all():
            law = _standard_bulk(gmm, n, truncation).affine(slope, shift)
        else:
            law = bulk(model)
        isolated = outliers(model, law)
    family = model.covariances
    energy = family.multiplicities @ family.eigenvalues + np.einsum("gaa->a", family.mean_products)
    # Of the squared norm within a class, relative; 2/d for a Gaussian of d equal directions.
    variance = float(model.probabilities @ (model.norm_variances * gmm.dimension / energy**2))
    return GramPrediction(
        deq,
        kind,
        level,
        n,
        gmm.dimension,
        2 / max(variance, 1e-300),
        variance**0.5,
        law,
        isolated,
        model=model,
    )


def _chosen(
    deq: Network, gmm: GaussianMixture, n: int, kinds: Sequence[Kind], centre: float | None, truncation: float
) -> tuple[str, list[ExpansionError]]:
    """The level that serves a mixture, and what the expansions around its classes cost."""
    if n >= LEAST and _takes_minutes(gmm, n, truncation):
        return SAMPLED, []
    found = expansion_errors(deq, gmm, n, kinds, centre)
    holds = n < LEAST or all(each.bearable for each in found)
    return CLASSWISE if holds else SAMPLED, found


def _takes_minutes(gmm: GaussianMixture, n: int, truncation: float) -> bool:
    """Say so of covariances that do not commute."""
    head = standard_model(gmm, n, truncation).covariances.head
    return head is not None and head.shape[1] * gmm.classes > _PATIENT


@lru_cache(maxsize=4)
def _standard_bulk(gmm: GaussianMixture, n: int, truncation: float) -> Bulk:
    # Kernels that weigh all inner products alike have the bulk of WᵀW, stretched and shifted: one computation
    # serves every kind and every network.
    return bulk(standard_model(gmm, n, truncation))
