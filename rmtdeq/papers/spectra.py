"""Spectra of the kernels of DEQs, measured and predicted (arXiv 2402.02697)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq.data.problems import Problem, image_problem, mixture_problem
from rmtdeq.papers.outcome import Curve, Outcome, Row
from rmtdeq.papers.setting import Setting

_OUTLIERS = 3
_NO_NUMBER = "a figure without numbers"


@dataclass(frozen=True)
class Mixture:
    """Parameters: the papers' Gaussian mixture, 0.8 p samples."""

    p: int = 2000
    classes: int = 2
    activations: tuple[str, ...] = ("tanh", "relu", "swish")
    kinds: tuple[str, ...] = ("ck", "ntk")
    sigma_a2: float = 0.2
    centered: bool = True


@dataclass(frozen=True)
class Images:
    """Parameters: two classes of an image data set, or of features of it."""

    dataset: str = "mnist"
    classes: tuple[int, ...] = (6, 8)
    n: int = 1000
    activations: tuple[str, ...] = ("tanh", "relu", "swish")
    kinds: tuple[str, ...] = ("ck", "ntk")
    sigma_a2: float = 0.2
    covariance: str = "common"


@dataclass(frozen=True)
class Features(Images):
    """Parameters: two classes of an image data set as a convolutional network's features."""

    dataset: str = "cifar10"
    train: int = 50_000
    epochs: int = 20


def of_mixture(parameters: Mixture, setting: Setting) -> Outcome:
    """Compare on samples of the mixture."""
    problem = mixture_problem(parameters.p, parameters.classes, seed=setting.seed)
    return _compare(problem, parameters, setting, parameters.centered, "law: none is left as n, p → ∞")


def of_images(parameters: Images, setting: Setting) -> Outcome:
    """Compare on images, with the mixture estimated from the whole classes."""
    problem = image_problem(
        parameters.dataset,
        parameters.classes,
        parameters.n,
        covariance=parameters.covariance,
        seed=setting.seed,
        data_dir=setting.data_dir,
    )
    return _compare(problem, parameters, setting, True, "")


def of_features(parameters: Features, setting: Setting) -> Outcome:
    """Compare on features of images."""
    from rmtdeq.papers.convnet import image_features

    found = image_features(parameters.dataset, parameters.train, 0, parameters.epochs, setting)
    label = np.asarray(parameters.classes)
    rows = np.isin(found.y, label)
    everything, labels = found.X[rows].astype(float), np.searchsorted(label, found.y[rows])
    everything -= everything.mean(axis=0)
    everything /= np.sqrt((everything**2).sum(axis=1).mean())
    mixture = rd.GaussianMixture.from_data(everything, labels, covariance=parameters.covariance)
    drawn = np.sort(np.random.default_rng(setting.seed).permutation(len(labels))[: parameters.n])
    drawn = drawn[np.argsort(labels[drawn], kind="stable")]
    problem = Problem(
        f"{parameters.dataset} features {' against '.join(map(str, parameters.classes))}",
        everything[drawn],
        labels[drawn],
        lambda: mixture,
        len(drawn),
        mixture.mean_squared_norm,
        tuple(map(str, parameters.classes)),
    )
    return _compare(problem, parameters, setting, True, "")


def _compare(problem: Problem, parameters: Mixture | Images, setting: Setting, centered: bool, law: str) -> Outcome:
    pairs = [(activation, kind) for activation in parameters.activations for kind in parameters.kinds]
    comparisons = []
    for activation, kind in setting.each(pairs, "spectra"):
        deq = rd.DEQ(activation, parameters.sigma_a2, 1 - parameters.sigma_a2, centered=centered)
        centre = problem.tau0_squared
        measured = rd.empirical_spectrum(problem.X, deq, kind, tau0_squared=centre, device=setting.engine)
        prediction = rd.predict_spectrum(deq, problem.mixture, len(problem.y), kind, "classwise", tau0_squared=centre)
        comparisons.append(rd.compare(measured, prediction, problem.y))
    rows = [
        row
        for pair, found in zip(pairs, comparisons, strict=True)
        for row in _rows(f"{pair[0]}, {pair[1]}", found, law)
    ]
    curves = [curve for pair, found in zip(pairs, comparisons, strict=True) for curve in _curves(" ".join(pair), found)]
    title = f"{problem.name}, n = {len(problem.y)}, $\\sigma_a^2$ = {parameters.sigma_a2:g}"
    if not centered:
        title += ", activations with their means"
    across, down = len(parameters.kinds), len(parameters.activations)

    def draw(figure: Any) -> None:
        for ax, pair, found in zip(figure.subplots(down, across, squeeze=False).flat, pairs, comparisons, strict=True):
            found.plot(ax)
            ax.set_title(f"{pair[0]}, {pair[1].upper()}: KS {found.ks:.3f}", loc="left", fontsize=10)
            style.open_frame(ax)
        figure.suptitle(title, fontsize=11)

    return Outcome(tuple(rows), tuple(curves), draw, (4.6 * across, 2.9 * down + 0.4))


def _rows(name: str, found: rd.SpectrumComparison, law: str) -> list[Row]:
    distance = Row(f"{name}: KS distance of the bulk", found.ks or 0.0, 0.0 if law else None, law or _NO_NUMBER)
    predicted, seen = found.prediction.outliers, found.matched
    return [distance] + [
        Row(f"{name}: eigenvalue of outlier {rank}", float(seen[-rank]), float(predicted[-rank]), "predicted")
        for rank in range(1, min(_OUTLIERS, predicted.size) + 1)
        if not np.isnan(seen[-rank])
    ]


def _curves(name: str, found: rd.SpectrumComparison) -> list[Curve]:
    measured, predicted = found.empirical.all_values, found.prediction.all_values
    rank = np.arange(measured.size, 0, -1)
    return [Curve(f"{name}, measured", rank, measured), Curve(f"{name}, predicted", rank, predicted)]
