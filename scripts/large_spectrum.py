"""The spectrum of a kernel on a whole data set, against exact spectra of subsamples and against the prediction.

Top eigenvalues and the density come from products with half a matrix kept in files; the program goes on where it was
interrupted if it is started again with the same arguments.

    python scripts/large_spectrum.py --dataset mnist --checkpoint scratch/mnist --out figures/large-spectrum-mnist-tanh
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import rmtdeq as rd
from rmtdeq import _style
from rmtdeq.io import manifest, save_figure


def subsample_spectra(options, deq, tau0_squared):
    """Exact spectra of some subsamples, and those by quadrature beside them."""
    pairs = []
    for seed in range(options.subsamples):
        X, _ = rd.load_dataset(options.dataset, n=options.n_subsample, seed=seed, data_dir=options.data_dir)
        common = {"kind": options.kind, "top": options.top, "tau0_squared": tau0_squared}
        exact = rd.empirical_spectrum(X, deq, method="exact", **common)
        quadrature = rd.empirical_spectrum(X, deq, method="slq", steps=options.steps, seed=seed, **common)
        pairs.append((exact, quadrature))
    return pairs


def agreement(exact, quadrature):
    """How far the quadrature is from the exact spectrum of the same samples."""
    top = quadrature.eigenvalues.size
    values = exact.eigenvalues[:-top]
    middle = (np.arange(values.size) + 0.5) / values.size
    off, error = abs(quadrature.rest.cdf(values) - middle), quadrature.rest.cdf_error(values)
    return {
        "top eigenvalues, relative": float(abs(quadrature.eigenvalues / exact.eigenvalues[-top:] - 1).max()),
        "distribution function": float(off.max()),
        "its standard error": float(error.max()),
        "share within two standard errors": float((off <= 2 * error).mean()),
    }


def figure_of(whole, pairs, prediction, title):
    """Draw eigenvalues by rank, as shares of n, and the distribution function with its error."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    predicted = prediction.all_values
    for ax, of in ((left, "rank"), (right, "share")):
        curves = [(emp.eigenvalues, {"color": _style.CLASSES[i % 4], "lw": 1}) for i, (emp, _) in enumerate(pairs)]
        curves += [(whole.all_values, {"color": _style.DATA_EDGE, "lw": 2.2}), (predicted, {"color": _style.THEORY})]
        labels = [f"exact, n = {emp.n}, sample {i + 1}" for i, (emp, _) in enumerate(pairs)]
        labels += [f"n = {whole.n}, by Lanczos", f"predicted for n = {whole.n}"]
        for (values, look), label in zip(curves, labels, strict=True):
            share = np.arange(values.size, 0, -1)
            if of == "rank":
                ax.loglog(share, np.maximum(values, 1e-12) / values.size, label=label, **look)
            else:
                ax.plot(np.maximum(values, 1e-12), 1 - (share - 0.5) / values.size, label=label, **look)
    x = np.geomspace(*np.quantile(whole.all_values, [1e-4, 0.999]), 400)
    at, error = whole.rest.cdf(x), whole.rest.cdf_error(x)
    right.fill_between(x, at - error, at + error, color=_style.DATA, alpha=0.6, lw=0, label="its standard error")
    left.set_xlim(1, 2000)
    left.set_ylim(predicted[-2000] / prediction.n / 3, 2 * predicted[-1] / prediction.n)
    left.set_xlabel("rank")
    left.set_ylabel("eigenvalue / n")
    right.set_xscale("log")
    right.set_xlim(x[0] / 2, x[-1])
    right.set_xlabel("eigenvalue")
    right.set_ylabel("share of eigenvalues below")
    right.legend(frameon=False, fontsize=7.5, loc="lower right")
    for ax in (left, right):
        _style.open_frame(ax)
    figure.suptitle(title, fontsize=11)
    return figure


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--sigma-a2", type=float, default=0.2)
    parser.add_argument("--kind", default="ntk", choices=("ck", "ntk", "ntk-full"))
    parser.add_argument("--n", type=int, help="samples (default all)")
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--subsamples", type=int, default=3)
    parser.add_argument("--n-subsample", type=int, default=4000)
    parser.add_argument("--checkpoint", required=True, help="folder for half the matrix, 4 n² bytes, and the steps")
    parser.add_argument("--out", default="figures/large-spectrum")
    options = parser.parse_args()
    deq = rd.DEQ(options.activation, options.sigma_a2, 0.8)
    X, y = rd.load_dataset(options.dataset, n=options.n, seed=0, data_dir=options.data_dir)
    mixture = rd.GaussianMixture.from_data(X, y, covariance="common")
    tau0_squared = mixture.mean_squared_norm
    whole = rd.empirical_spectrum(
        X, deq, options.kind, method="slq", top=options.top, steps=options.steps, tau0_squared=tau0_squared,
        checkpoint=Path(options.checkpoint) / options.kind,
    )  # fmt: skip
    prediction = rd.predict_spectrum(deq, mixture, whole.n, options.kind, tau0_squared=tau0_squared)
    comparison = rd.compare(whole, prediction, y)
    print(comparison.summary())
    predicted = prediction.all_values[-options.top :]
    print(f"{'rank':>5} {'measured':>11} {'predicted':>11}")
    for rank in range(1, options.top + 1):
        print(f"{rank:>5} {whole.eigenvalues[-rank]:>11.4f} {predicted[-rank]:>11.4f}")
    for ranks in (slice(-10, None), slice(-100, None), slice(-300, None)):
        off = abs(prediction.all_values[ranks] / whole.all_values[ranks] - 1)
        print(f"the {-ranks.start} largest: predicted within {off.max():.1%}, median {np.median(off):.1%}")
    pairs = subsample_spectra(options, deq, tau0_squared)
    found = [agreement(*pair) for pair in pairs]
    for one in found:
        print("subsample: " + ", ".join(f"{name} {value:.2g}" for name, value in one.items()))
    spread = np.array([emp.eigenvalues[-options.top :] / emp.n for emp, _ in pairs])
    ratio = whole.eigenvalues / whole.n / spread.mean(axis=0)
    print(f"top eigenvalues / n, whole set over mean of subsamples: {ratio.min():.3f} to {ratio.max():.3f}")
    results = {
        "top": whole.eigenvalues, "predicted, by rank": predicted, "ks": comparison.ks,
        "ks_error": comparison.ks_error, "subsamples": found, "whole over subsamples": ratio,
    }  # fmt: skip
    title = f"{options.dataset}: {options.kind.upper()} of the {options.activation} DEQ"
    record = manifest("scripts/large_spectrum.py", vars(options), results)
    for path in save_figure(figure_of(whole, pairs, prediction, title), options.out, record):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
