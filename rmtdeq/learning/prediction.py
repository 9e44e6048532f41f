"""The error of a network's kernel foretold from what the data are drawn from, without a kernel matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.tables import Table, Tabular
from rmtdeq._lib.types import AUTO, CLASSWISE, KINDS, SAMPLED, BoolArray, FloatArray, IntArray, Kind
from rmtdeq.data import DataMoments, GaussianMixture
from rmtdeq.data.norms import by_norm
from rmtdeq.learning.curve import learning_curves, training_sizes
from rmtdeq.learning.orthants import all_positive
from rmtdeq.network import Network, require_network, require_varying
from rmtdeq.theory.expansion import expand
from rmtdeq.theory.gram import standard_model
from rmtdeq.theory.rmt import DecisionLaw, decision_law

_NORMS = 3
"""Norms that stand for those of a class."""

_SQUARE = 20.0
"""Up to a square of the effective dimension over this many samples inner products enter by their first power."""

_DRAWN = (1024, 4096)
"""So many samples are drawn at least, and at most; twice as many as are learnt from in between."""

_LEVELS = (AUTO, CLASSWISE, SAMPLED)
_QUANTITIES = {"mse": "mean squared error", "error_rate": "error rate"}


@dataclass(frozen=True, eq=False)
class LearningPrediction(Tabular):
    """The error of kernel ridge regression by number of training samples and ridge, foretold from a data model.

    Attributes
    ----------
    sizes : ndarray (s,) of int
    ridges : ndarray (r,)
    mse : ndarray (s, r)
        Mean squared error on new samples, averaged over classes by their weights, and over targets.
    error_rate : ndarray (s, r) or None
        Share of new samples told wrong: to be of the class whose target is nearest to what is predicted, as the largest
        indicator; None where classes have the same target.
    kind : str
    sampled : ndarray (s,) of bool
        Whether the errors are those of samples, drawn from a mixture or kept by moments, and not of the theory.
    """

    sizes: IntArray
    ridges: FloatArray
    mse: FloatArray
    error_rate: FloatArray | None
    kind: Kind
    sampled: BoolArray

    def __repr__(self) -> str:
        s, r = self.mse.shape
        return f"LearningPrediction(kind={self.kind!r}, {s} sizes, {r} ridges, mse {self.mse.min():.4g} at best)"

    def table(self) -> Table:
        """Return the errors, one size and ridge a row."""
        columns: dict[str, Any] = {"ridge": np.tile(self.ridges, len(self.sizes)), "mse": self.mse.ravel()}
        if self.error_rate is not None:
            columns["error rate"] = self.error_rate.ravel()
        columns["from samples"] = np.repeat(self.sampled, len(self.ridges))
        return Table(columns, np.repeat(self.sizes, len(self.ridges)), "samples", f"{self.kind}: foretold errors")

    def plot(self, ax: Any = None, quantity: str = "mse", **look: Any) -> Any:
        """Draw an error against the number of samples, a line a ridge.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        quantity : str
            ``"mse"`` or ``"error_rate"``.
        **look
            Of the lines, as for `matplotlib.axes.Axes.plot`.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InvalidInputError
            Another quantity, or an error rate where classes have the same target.
        """
        check.choice(quantity, "quantity", _QUANTITIES)
        errors = self.mse if quantity == "mse" else self.error_rate
        if errors is None:
            raise InvalidInputError("There is no error rate where classes have the same target; draw quantity='mse'.")
        ax = style.axes(ax)
        order = np.argsort(self.sizes)
        for column, ridge in enumerate(self.ridges):
            colour = style.CLASSES[column % len(style.CLASSES)]
            line = {"color": colour, "label": f"ridge {ridge:.3g}", **look}
            ax.loglog(self.sizes[order], errors[order, column], **line)
        ax.set_xlabel("training samples")
        ax.set_ylabel(_QUANTITIES[quantity])
        ax.legend(frameon=False, fontsize=8)
        return ax


def predict_learning(
    deq: Network,
    data: GaussianMixture | DataMoments,
    targets: ArrayLike | None = None,
    sizes: Iterable[int] | None = None,
    ridge: float | ArrayLike = 1e-3,
    kind: str = "ntk",
    *,
    level: str = AUTO,
    intercept: bool = True,
    tau0_squared: float | None = None,
    truncation: float = 1e-2,
) -> LearningPrediction:
    """Foretell the test error of kernel ridge regression from what is known of the data.

    Parameters
    ----------
    deq : Network
    data : GaussianMixture or DataMoments
    targets : array_like (K,) or (K, k), optional
        Of each class, indicators by default.  With moments: (m,) or (m, k), of each sample that they keep, by default
        the indicators of its class.
    sizes : iterable of int, optional
        Numbers of training samples, p/4, p/2, p, 2p and 4p by default; classes get their share.
    ridge : float or array_like (r,)
        δ in the units of the kernel, whose diagonal is of order one.
    kind : str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``.
    level : str
        ``"classwise"``: the theory of many dimensions.  ``"polynomial"``: from samples, those that moments keep or as
        many drawn from a mixture.  ``"auto"``: of a mixture class-wise for sizes up to d²/20, d the effective dimension
        of its classes; beyond, products of two features are learnt, of which that theory knows nothing.
    intercept : bool
        Learn a constant as well, as the estimators do; from samples always.
    tau0_squared : float, optional
        Where a centred activation is centred, the data's mean squared norm by default.
    truncation : float
        Of covariances that do not commute, as for `predict_spectrum`.

    Returns
    -------
    LearningPrediction

    Raises
    ------
    InvalidInputError
        Arguments that do not fit together; a class without variance, or without a sample.
    IllPosedError
        No contraction; a kernel that is singular in the limit, and no ridge.
    ConvergenceError
        The mixture equations could not be solved.

    Notes
    -----
    A mixture: the kernel is replaced by its class-wise equivalent (see `equivalent`), whose resolvent tells mean and
    variance of what the regression predicts for a new sample of each class; that is Gaussian in the limit of large n
    and p, and error rates are its tails (Liao and Couillet, arXiv 1701.02967, for other kernels; derived here for
    kernels of networks, several targets and an intercept).  Norms enter by quadrature: every class stands for three,
    of one norm each, but for covariances that do not commute, whose norms are taken to be one.  Interpolation, with its
    peak where the number of samples meets the dimension, is in it.

    Samples: `learning_curve`.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> means = np.zeros((2, 400)); means[0, 0] = means[1, 1] = 3
    >>> gmm = rd.GaussianMixture(means, [1.0, 1.2])
    >>> found = rd.predict_learning(rd.DEQ("relu"), gmm, sizes=(200, 800), ridge=(0.01, 1.0), kind="ck")
    >>> found.mse.shape, bool((found.mse[0] > found.mse[1]).all())
    ((2, 2), True)
    """
    require_network(deq)
    require_varying(deq)
    chosen: Kind = check.choice(kind, "kind", KINDS)  # type: ignore[assignment]
    ridges = np.atleast_1d(check.real_array(ridge, "ridge")).astype(float)
    if ridges.ndim != 1 or not ridges.size:
        raise InvalidInputError("ridge must be a number, or several in a list.")
    for each in ridges:
        check.number(float(each), "ridge", low=0)
    if not isinstance(data, GaussianMixture | DataMoments):
        raise InvalidInputError(
            f"data must be a GaussianMixture, or DataMoments.from_data(X, y) of samples, not {type(data).__name__}."
        )
    p = data.dimension
    asked = training_sizes([max(2, p // 4), max(2, p // 2), p, 2 * p, 4 * p] if sizes is None else sizes)
    centre = data.mean_squared_norm if tau0_squared is None else check.squared_norm(tau0_squared, "tau0_squared")
    level = check.choice(level, "level", _LEVELS)
    constant = check.flag(intercept, "intercept")
    truncation = check.number(truncation, "truncation", low=0, high=1)
    if isinstance(data, DataMoments):
        if level == CLASSWISE:
            raise InvalidInputError("Level 'classwise' is of a mixture; pass a GaussianMixture, or level='auto'.")
        return _from_samples(deq, data, targets, asked, ridges, chosen, centre)
    of_classes = _class_targets(targets, data.classes)
    for size in asked.tolist():
        if not data.class_sizes(size).all():
            raise InvalidInputError(f"With {size} samples a class has none; take more.")
    dimensions = 2 * data.variances**2 * data.dimension / np.maximum(data.norm_variances, 1e-300)
    far = asked > float(dimensions.min()) ** 2 / _SQUARE
    sampled = far if level == AUTO else np.full(asked.shape, level == SAMPLED)
    found = []
    if not sampled.all():
        with Stage("predicting errors"):
            found.append(
                _from_classes(deq, data, of_classes, asked[~sampled], ridges, chosen, centre, constant, truncation)
            )
    if sampled.any():
        count = int(np.clip(2 * asked[sampled].max(), *_DRAWN))
        moments = DataMoments.from_mixture(data, kept=count)
        drawn = None if targets is None else of_classes[moments.labels]
        found.append(_from_samples(deq, moments, drawn, asked[sampled], ridges, chosen, centre))
    return _joined(found, np.argsort(np.argsort(sampled, kind="stable"), kind="stable"))


def _joined(parts: list[LearningPrediction], order: IntArray) -> LearningPrediction:
    """Return predictions for some sizes, and for others, as one, in this order of all."""
    rates = [part.error_rate for part in parts if part.error_rate is not None]
    return LearningPrediction(
        np.concatenate([part.sizes for part in parts])[order],
        parts[0].ridges,
        np.concatenate([part.mse for part in parts])[order],
        np.concatenate(rates)[order] if len(rates) == len(parts) else None,
        parts[0].kind,
        np.concatenate([part.sampled for part in parts])[order],
    )


def _class_targets(targets: ArrayLike | None, classes: int) -> FloatArray:
    if targets is None:
        if classes < 2:
            raise InvalidInputError("The mixture has one class, and there is nothing to tell apart; give targets.")
        return np.eye(classes)
    found = check.real_array(targets, "targets").astype(float)
    if found.ndim not in (1, 2) or len(found) != classes or not found.size:
        raise InvalidInputError(f"targets must be of shape ({classes},) or ({classes}, k), not {found.shape}.")
    return found.reshape(classes, -1)


def _from_classes(
    deq: Network,
    gmm: GaussianMixture,
    targets: FloatArray,
    sizes: IntArray,
    ridges: FloatArray,
    kind: Kind,
    centre: float,
    intercept: bool,
    truncation: float,
) -> LearningPrediction:
    nodes = _NORMS if standard_model(gmm, int(sizes[0]), truncation).commuting else 1
    split = by_norm(gmm, nodes)
    expansion = expand(deq, split, kind, tau0_squared=centre)
    model = replace(
        standard_model(split, int(sizes.max()), truncation),
        gram=expansion.gram,
        shifts=expansion.shifts,
        coupling=expansion.coupling(split),
    )
    shares = split.weights.reshape(gmm.classes, nodes) / gmm.weights[:, None]
    own = np.repeat(targets, nodes, axis=0)
    told = len(np.unique(targets, axis=0)) == len(targets) > 1
    errors, rates = [], []
    for size in sizes.tolist():
        counts = (gmm.class_sizes(size)[:, None] * shares).ravel()
        law = decision_law(replace(model, ratios=counts / gmm.dimension), own, ridges, intercept=intercept)
        squares = np.square(law.means - own) + np.einsum("rakk->rak", law.covariances)
        errors.append(np.einsum("a,rak->r", split.weights, squares) / own.shape[1])
        if told:
            rates.append(_told_wrong(law, targets, nodes) @ split.weights)
    return LearningPrediction(sizes, ridges, np.array(errors), np.array(rates) if told else None, kind, sizes < 0)


def _told_wrong(law: DecisionLaw, targets: FloatArray, nodes: int) -> FloatArray:
    """Return how probable it is that another class's target is nearer than one's own, (r, classes)."""
    r, classes, _ = law.means.shape
    found = np.empty((r, classes))
    for a in range(classes):
        others = np.arange(len(targets)) != a // nodes
        # |f - t_b|² - |f - t_a|² is linear in f.
        apart = 2 * (targets[a // nodes] - targets[others])
        level = np.square(targets[others]).sum(axis=1) - np.square(targets[a // nodes]).sum()
        found[:, a] = 1 - all_positive(
            law.means[:, a] @ apart.T + level, np.einsum("bk,rkl,cl->rbc", apart, law.covariances[:, a], apart)
        )
    return found


def _from_samples(
    deq: Network,
    moments: DataMoments,
    targets: ArrayLike | None,
    sizes: IntArray,
    ridges: FloatArray,
    kind: Kind,
    centre: float,
) -> LearningPrediction:
    if targets is None and moments.classes < 2:
        raise InvalidInputError("These moments know of one class; take them with labels, or give targets.")
    y = moments.labels if targets is None else check.real_array(targets, "targets").astype(float)
    samples = moments.samples.astype(float)
    curves = learning_curves(
        samples, y, deq, kind, sizes=sizes, ridges=ridges.tolist(), tau0_squared=centre, progress=False
    )
    rates = [curve.error_rate for curve in curves if curve.error_rate is not None]
    return LearningPrediction(
        sizes,
        ridges,
        np.stack([curve.mse for curve in curves], axis=1),
        np.stack(rates, axis=1) if rates else None,
        kind,
        sizes > 0,
    )
