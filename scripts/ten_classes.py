"""Ten classes with full covariances: the class-wise prediction against Gaussian samples and against images.

Estimates the mixture of an image set, predicts the spectrum, and measures it three times: on the prediction's own
random matrix (which tests the solution of the mixture equations), on Gaussian samples of the estimated mixture (which
tests the expansion of the kernel) and on the images themselves (which tests the Gaussian model).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import eigvalsh

import rmtdeq as rd
from rmtdeq import _style
from rmtdeq.io import manifest, save_figure
from rmtdeq.rmt import kolmogorov_smirnov


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir", help="folder with the data set's files")
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--uncentered", action="store_true")
    parser.add_argument("--kind", default="ck", choices=("ck", "ntk", "ntk-full"))
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="figures/ten-classes", help="figure to write")
    options = parser.parse_args(arguments)

    deq = rd.DEQ(options.activation, 0.2, 0.8, centered=not options.uncentered)
    images, labels = rd.load_dataset(options.dataset, data_dir=options.data_dir)
    start = time.perf_counter()
    mixture = rd.GaussianMixture.from_data(images, labels)
    estimated = time.perf_counter()
    prediction = rd.predict_spectrum(deq, mixture, options.n, options.kind)
    seconds = {"estimate": estimated - start, "predict": time.perf_counter() - estimated}
    print(f"mixture estimated in {seconds['estimate']:.1f} s, spectrum predicted in {seconds['predict']:.1f} s")

    centre = mixture.mean_squared_norm
    X, y = mixture.sample(options.n, options.seed)
    Z, z = rd.load_dataset(options.dataset, n=options.n, seed=options.seed, data_dir=options.data_dir)
    own = eigvalsh(own_matrix(prediction, X, y, mixture))
    shown = {"its own random matrix": own}
    distances = {"its own random matrix": kolmogorov_smirnov(own, prediction.cdf, tuple(prediction.atoms))}
    for name, data, classes in (("Gaussian samples", X, y), ("images", Z, z)):
        measured = rd.empirical_spectrum(data, deq, options.kind, tau0_squared=centre, top=1)
        comparison = rd.compare(measured, prediction)
        shown[name], distances[name] = measured.eigenvalues, comparison.ks
        equivalent = rd.equivalent(data, classes, deq, mixture, options.kind, tau0_squared=centre)
        values = eigvalsh(equivalent, overwrite_a=True)
        distances[f"the equivalent's eigenvalues from the kernel's, {name}"] = two_samples(values, measured.eigenvalues)
    for name, distance in distances.items():
        print(f"KS distance, {name}: {distance:.4f}")
    record = manifest("ten_classes", vars(options), {"ks": distances, "seconds": seconds})
    for path in save_figure(figure(prediction, shown, distances, options), options.out, record):
        print(f"wrote {path}")
    return 0


def own_matrix(prediction: Any, X: Any, y: Any, mixture: Any) -> Any:
    """Return the random matrix whose bulk is predicted: S_ab w_i·w_j and the shifts λ_a."""
    w = X - mixture.means[y] / np.sqrt(mixture.dimension)
    matrix = prediction.model.gram[np.ix_(y, y)] * (w @ w.T)
    matrix[np.diag_indices(y.size)] += prediction.model.shifts[y]
    return matrix


def two_samples(one: Any, other: Any) -> float:
    """Return the KS distance of two samples of equal size."""
    at = np.sort(np.concatenate([one, other]))
    ranks = [np.searchsorted(np.sort(sample), at, side="right") for sample in (one, other)]
    return float(abs(ranks[0] - ranks[1]).max() / one.size)


def figure(prediction: Any, shown: dict[str, Any], distances: dict[str, float], options: Any) -> Any:
    """Draw a panel for each measurement."""
    result = Figure(figsize=(10.5, 3.4), layout="constrained")
    positive = np.concatenate([values[values > 0] for values in shown.values()])
    edges = np.geomspace(max(positive.min(), 1e-3), positive.max(), 70)
    for ax, (name, values) in zip(result.subplots(1, 3, sharey=True), shown.items(), strict=True):
        heights = np.histogram(values, edges)[0] / values.size / np.diff(np.log10(edges))
        bars = {"color": _style.DATA, "edgecolor": _style.DATA_EDGE, "linewidth": 0.3, "label": "measured"}
        ax.bar(edges[:-1], heights, np.diff(edges), align="edge", **bars)
        prediction.plot(ax, logarithmic=True, span=(edges[0], edges[-1]))
        ax.set_title(f"{name}: KS {distances[name]:.3f}", fontsize=10, loc="left")
        _style.open_frame(ax)
        if ax is not result.axes[0]:
            ax.set_ylabel("")
    result.axes[0].legend(frameon=False, fontsize=8)
    title = f"{options.dataset}, ten classes, n = {options.n}: {options.kind.upper()} of a {options.activation} DEQ"
    result.suptitle(title, fontsize=11)
    return result


if __name__ == "__main__":
    sys.exit(main())
