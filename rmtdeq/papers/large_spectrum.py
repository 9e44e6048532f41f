"""The spectrum of a kernel on a whole data set, against exact spectra of subsamples and against the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq.papers.outcome import Curve, Outcome, Row
from rmtdeq.papers.setting import Setting

_RANKS = (10, 100, 300)


@dataclass(frozen=True)
class LargeSpectrum:
    """Parameters: samples (n = 0 stands for all), Lanczos steps, and subsamples whose spectra are exact."""

    dataset: str = "mnist"
    activation: str = "tanh"
    sigma_a2: float = 0.2
    kind: str = "ntk"
    n: int = 0
    top: int = 20
    steps: int = 160
    subsamples: int = 3
    n_subsample: int = 4000


def of_whole_set(parameters: LargeSpectrum, setting: Setting) -> Outcome:
    """Compute top eigenvalues and density from products with half the matrix, in files if there is a checkpoint."""
    deq = rd.DEQ(parameters.activation, parameters.sigma_a2, 1 - parameters.sigma_a2)
    X, y = rd.load_dataset(parameters.dataset, n=parameters.n or None, seed=setting.seed, data_dir=setting.data_dir)
    mixture = rd.GaussianMixture.from_data(X, y, covariance="common")
    centre = mixture.mean_squared_norm
    common: dict[str, Any] = {
        "kind": parameters.kind,
        "top": parameters.top,
        "tau0_squared": centre,
        "device": setting.engine,
    }
    whole = rd.empirical_spectrum(
        X, deq, method="slq", steps=parameters.steps, checkpoint=setting.folder(parameters.kind), **common
    )
    prediction = rd.predict_spectrum(deq, mixture, whole.n, parameters.kind, "classwise", tau0_squared=centre)
    pairs = []
    for seed in setting.each(range(parameters.subsamples), "subsamples"):
        part, _ = rd.load_dataset(
            parameters.dataset, n=parameters.n_subsample, seed=setting.seed + seed, data_dir=setting.data_dir
        )
        exact = rd.empirical_spectrum(part, deq, method="exact", **common)
        pairs.append(
            (exact, rd.empirical_spectrum(part, deq, method="slq", steps=parameters.steps, seed=seed, **common))
        )
    rows = [
        *_of_prediction(whole, prediction, rd.compare(whole, prediction, y)),
        *(row for i, pair in enumerate(pairs, start=1) for row in _of_subsample(i, *pair)),
    ]
    if pairs:
        spread = np.mean([exact.eigenvalues[-parameters.top :] / exact.n for exact, _ in pairs], axis=0)
        ratio = float(np.median(whole.eigenvalues / whole.n / spread))
        rows.append(Row("largest / n: whole set by subsamples, median", ratio, 1.0, "law: they concentrate"))
    curves = [Curve("whole set", np.arange(whole.n, 0, -1), whole.all_values)]
    curves.append(Curve("predicted", np.arange(whole.n, 0, -1), prediction.all_values))
    curves += [
        Curve(f"subsample {i}", np.arange(exact.n, 0, -1), exact.eigenvalues)
        for i, (exact, _) in enumerate(pairs, start=1)
    ]
    title = f"{parameters.dataset}: {parameters.kind.upper()} of the {parameters.activation} DEQ"
    return Outcome(
        tuple(rows), tuple(curves), lambda figure: _draw(figure, whole, pairs, prediction, title), (9.5, 3.6)
    )


def _of_prediction(
    whole: rd.EmpiricalSpectrum, prediction: rd.SpectrumPrediction, found: rd.SpectrumComparison
) -> list[Row]:
    rows = [Row("KS distance of the bulk from the prediction", found.ks or 0.0)]
    for ranks in _RANKS:
        off = abs(prediction.all_values[-ranks:] / whole.all_values[-ranks:] - 1)
        rows.append(Row(f"the {ranks} largest: median error", float(np.median(off)), 0.0, "predicted"))
    return rows


def _of_subsample(i: int, exact: rd.EmpiricalSpectrum, quadrature: rd.EmpiricalSpectrum) -> list[Row]:
    """How far the quadrature is from the exact spectrum of the same samples."""
    assert quadrature.rest is not None
    top = quadrature.eigenvalues.size
    values = exact.eigenvalues[:-top]
    middle = (np.arange(values.size) + 0.5) / values.size
    off = abs(quadrature.rest.cdf(values) - middle)
    largest = float(abs(quadrature.eigenvalues / exact.eigenvalues[-top:] - 1).max())
    return [
        Row(f"subsample {i}: largest eigenvalues, error of Lanczos", largest, 0.0, "law: exact"),
        Row(f"subsample {i}: distribution function, error of the quadrature", float(off.max()), 0.0, "law: exact"),
    ]


def _draw(
    figure: Any,
    whole: rd.EmpiricalSpectrum,
    pairs: Sequence[tuple[rd.EmpiricalSpectrum, rd.EmpiricalSpectrum]],
    prediction: rd.SpectrumPrediction,
    title: str,
) -> None:
    """Eigenvalues by rank, as shares of n, and the distribution function with its error."""
    left, right = figure.subplots(1, 2)
    predicted = prediction.all_values
    curves: list[tuple[str, Any, dict[str, Any]]] = [
        (f"exact, n = {exact.n}, sample {i + 1}", exact.eigenvalues, {"color": style.CLASSES[i % 4], "lw": 1})
        for i, (exact, _) in enumerate(pairs)
    ]
    curves.append((f"n = {whole.n}, by Lanczos", whole.all_values, {"color": style.DATA_EDGE, "lw": 2.2}))
    curves.append((f"predicted for n = {whole.n}", predicted, {"color": style.THEORY}))
    for label, values, look in curves:
        rank, positive = np.arange(values.size, 0, -1), np.maximum(values, 1e-12)
        left.loglog(rank, positive / values.size, label=label, **look)
        right.plot(positive, 1 - (rank - 0.5) / values.size, label=label, **look)
    shown = min(2000, predicted.size)
    left.set_xlim(1, shown)
    left.set_ylim(max(predicted[-shown], 1e-6) / prediction.n / 3, 2 * predicted[-1] / prediction.n)
    left.set_xlabel("rank")
    left.set_ylabel("eigenvalue / n")
    if whole.rest is not None:
        low, high = np.maximum(np.quantile(whole.all_values, [1e-4, 0.999]), 1e-12)
        x = np.geomspace(low, high, 400)
        at, error = whole.rest.cdf(x), whole.rest.cdf_error(x)
        right.fill_between(x, at - error, at + error, color=style.DATA, alpha=0.6, lw=0, label="its standard error")
        right.set_xlim(x[0] / 2, x[-1])
    right.set_xscale("log")
    right.set_xlabel("eigenvalue")
    right.set_ylabel("share of eigenvalues below")
    right.legend(frameon=False, fontsize=7.5, loc="lower right")
    for ax in (left, right):
        style.open_frame(ax)
    figure.suptitle(title, fontsize=11)
