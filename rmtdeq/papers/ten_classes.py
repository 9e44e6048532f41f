"""Ten classes with full covariances: the class-wise prediction against Gaussian samples and against images.

The spectrum is measured three times: on the prediction's own random matrix, which tests the solution of the mixture
equations; on Gaussian samples of the estimated mixture, which tests the expansion of the kernel; and on the images
themselves, which tests the Gaussian model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq._lib.types import FloatArray
from rmtdeq.papers.outcome import Curve, Outcome, Row
from rmtdeq.papers.setting import Setting

_OWN = "its own random matrix"
_TOP = 10


@dataclass(frozen=True)
class TenClasses:
    """Parameters: images, their mixture's covariances, and the network."""

    dataset: str = "mnist"
    activation: str = "relu"
    centered: bool = True
    kind: str = "ck"
    n: int = 4000
    covariance: str = "full"
    sigma_a2: float = 0.2


def of_ten_classes(parameters: TenClasses, setting: Setting) -> Outcome:
    """Measure the spectrum of a kernel on all classes of a data set three times."""
    from scipy.linalg import eigvalsh

    from rmtdeq.theory.rmt import kolmogorov_smirnov

    name, kind, n = parameters.dataset, parameters.kind, parameters.n
    deq = rd.DEQ(parameters.activation, parameters.sigma_a2, 1 - parameters.sigma_a2, centered=parameters.centered)
    everything, labels = rd.load_dataset(name, data_dir=setting.data_dir)
    mixture = rd.GaussianMixture.from_data(everything, labels, covariance=parameters.covariance)
    prediction = rd.predict_spectrum(deq, mixture, n, kind, "classwise")
    centre = mixture.mean_squared_norm
    X, y = mixture.sample(n, setting.seed)
    Z, z = rd.load_dataset(name, n=n, seed=setting.seed, data_dir=setting.data_dir)
    own = eigvalsh(_own_matrix(prediction, X, y, mixture))
    shown = {_OWN: own}
    distances = {_OWN: kolmogorov_smirnov(own, prediction.cdf, tuple(prediction.atoms))}
    rows = [Row(f"KS distance, {_OWN}", distances[_OWN], 0.0, "law: none is left as n, p → ∞")]
    for label, data, classes in (("Gaussian samples", X, y), ("images", Z, z)):
        measured = rd.empirical_spectrum(data, deq, kind, tau0_squared=centre, top=1, device=setting.engine)
        shown[label] = measured.eigenvalues
        distances[label] = rd.compare(measured, prediction).ks or 0.0
        equivalent = rd.equivalent(data, classes, deq, mixture, kind, tau0_squared=centre)
        gap = _two_samples(eigvalsh(equivalent, overwrite_a=True), measured.eigenvalues)
        rows += [
            Row(f"KS distance, {label}", distances[label]),
            Row(f"KS distance of the equivalent's eigenvalues from the kernel's, {label}", gap),
        ]
        top = prediction.all_values[-_TOP:] / measured.eigenvalues[-_TOP:]
        rows.append(
            Row(f"median error of the {_TOP} largest, {label}", float(np.median(abs(top - 1))), 0.0, "predicted")
        )
    title = f"{name}, ten classes, n = {n}: {kind.upper()} of a {parameters.activation} DEQ"
    return Outcome(
        tuple(rows),
        tuple(
            Curve(label, np.arange(n, 0, -1), values)
            for label, values in {**shown, "predicted": prediction.all_values}.items()
        ),
        lambda figure: _draw(figure, prediction, shown, distances, title),
        (10.5, 3.4),
    )


def _own_matrix(prediction: rd.GramPrediction, X: FloatArray, y: Any, mixture: rd.GaussianMixture) -> FloatArray:
    """Return the random matrix whose bulk is predicted: S_ab w_i·w_j and the shifts λ_a."""
    w = X - mixture.means[y] / np.sqrt(mixture.dimension)
    matrix = prediction.model.gram[np.ix_(y, y)] * (w @ w.T)
    matrix[np.diag_indices(y.size)] += prediction.model.shifts[y]
    return np.asarray(matrix)


def _two_samples(one: FloatArray, other: FloatArray) -> float:
    """Return the KS distance of two samples of equal size."""
    at = np.sort(np.concatenate([one, other]))
    ranks = [np.searchsorted(np.sort(sample), at, side="right") for sample in (one, other)]
    return float(abs(ranks[0] - ranks[1]).max() / one.size)


def _draw(
    figure: Any,
    prediction: rd.SpectrumPrediction,
    shown: dict[str, FloatArray],
    distances: dict[str, float],
    title: str,
) -> None:
    positive = np.concatenate([values[values > 0] for values in shown.values()])
    edges = np.geomspace(max(positive.min(), 1e-3), positive.max(), 70)
    for ax, (name, values) in zip(figure.subplots(1, 3, sharey=True), shown.items(), strict=True):
        heights = np.histogram(values, edges)[0] / values.size / np.diff(np.log10(edges))
        bars = {"color": style.DATA, "edgecolor": style.DATA_EDGE, "linewidth": 0.3, "label": "measured"}
        ax.bar(edges[:-1], heights, np.diff(edges), align="edge", **bars)
        prediction.plot(ax, logarithmic=True, span=(edges[0], edges[-1]))
        ax.set_title(f"{name}: KS {distances[name]:.3f}", fontsize=10, loc="left")
        style.open_frame(ax)
        if ax is not figure.axes[0]:
            ax.set_ylabel("")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
