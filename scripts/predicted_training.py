"""The loss during training of a wide DEQ, against its NTK's prediction and against that of the spectrum alone.

    python scripts/predicted_training.py --widths 512 2048 8192 --out figures/predicted-training

Left: a Gaussian mixture with class labels as targets, for which the predicted spectrum (bulk, outliers and alignments;
no sample, no kernel) gives the curve; right: random targets on the sphere, the over-parameterised DEQ and the limit of
its tangent kernel.
"""

from __future__ import annotations

import argparse

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import rmtdeq as rd
from rmtdeq import _style
from rmtdeq.cli import example_mixture
from rmtdeq.io import manifest, save_figure
from rmtdeq.models import OverparameterizedDEQ, Solver
from rmtdeq.training import population_tangent_kernel

SOLVER = Solver(tolerance=1e-5)


def decade_error(curve, run):
    """Largest relative error of a predicted loss over the first decade of decrease."""
    inside = run.loss >= 0.1 * run.loss[0]
    return float(abs(curve.loss(run.at) / run.loss - 1)[inside].max())


def mixture(options, ax):
    """Train a DEQ with A and its read-out free on the labels of a mixture."""
    gmm = example_mixture(options.p, 2)
    n = int(0.8 * options.p)
    deq = rd.DEQ(options.activation, 0.2, 0.8)
    X, labels = gmm.sample(n, options.seed)
    y = 2.0 * labels - 1
    spectrum = rd.predict_spectrum(deq, gmm, n, "ntk")
    step = 0.2 / spectrum.outliers[-1]
    alone = rd.predict_training(spectrum, [-1.0, 1.0], step)
    of_kernel = rd.predict_training(rd.kernel(X, deq, "ntk", tau0_squared=gmm.mean_squared_norm), y, step)
    epochs = of_kernel.epochs_to(options.share)
    errors = {}
    for i, width in enumerate(options.widths):
        model = deq.to_regression(options.p, width, options.seed, tau0_squared=gmm.mean_squared_norm, solver=SOLVER).to(
            options.device
        )
        run = rd.gradient_descent(
            model, X, y, step=step, epochs=epochs, subtract_initial=True, measure_every=max(1, epochs)
        )
        run.plot(ax, color=_style.CLASSES[i], lw=1.6)
        errors[width] = {"of the kernel": decade_error(of_kernel, run), "of the spectrum": decade_error(alone, run)}
        print(f"{deq}, width {width}: error over a decade {errors[width]}", flush=True)
    at = np.arange(epochs + 1)
    of_kernel.plot(ax, at, color="black", ls="--", lw=1.1, label="infinite-width NTK")
    alone.plot(ax, at, color=_style.THEORY, ls=":", lw=1.8, label="predicted spectrum alone")
    ax.set_title(f"{options.activation} DEQ, two Gaussian classes, n = {n}, p = {options.p}", loc="left", fontsize=9)
    return errors


def sphere(options, ax):
    """Train the over-parameterised DEQ on random targets."""
    n = d = options.n
    rng = np.random.default_rng(options.seed)
    X, y = rd.on_sphere(rng.standard_normal((n, d)), np.sqrt(d)), rng.standard_normal(n)
    errors = {}
    for i, width in enumerate(options.widths):
        model = OverparameterizedDEQ(d, width, 0.08, options.seed, solver=SOLVER).to(options.device)
        kernel = population_tangent_kernel(model, X)
        step = 1 / np.linalg.eigvalsh(kernel)[-1]
        curve = rd.predict_training(kernel, y, step)
        epochs = curve.epochs_to(options.share)
        run = rd.gradient_descent(
            model, X, y, step=step, epochs=epochs, subtract_initial=True, measure_every=max(1, epochs)
        )
        run.plot(ax, color=_style.CLASSES[i], lw=1.6)
        errors[width] = decade_error(curve, run)
        print(f"over-parameterised DEQ, width {width}: error over a decade {errors[width]:.4f}", flush=True)
    curve.plot(ax, run.at, color="black", ls="--", lw=1.1, label="limit of the tangent kernel")
    ax.set_title(f"over-parameterised DEQ, random targets, n = p = {n}", loc="left", fontsize=9)
    return errors


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", type=int, default=[512, 2048, 8192])
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--p", type=int, default=125, help="dimension of the mixture (default 125)")
    parser.add_argument("--n", type=int, default=50, help="samples on the sphere, and their dimension (default 50)")
    parser.add_argument("--share", type=float, default=0.03, help="of the loss at which to stop (default 0.03)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="figures/predicted-training")
    options = parser.parse_args()
    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    results = {"mixture": mixture(options, left), "sphere": sphere(options, right)}
    for ax in (left, right):
        ax.legend(frameon=False, fontsize=8)
        ax.yaxis.set_minor_formatter(NullFormatter())
        _style.open_frame(ax)
    for path in save_figure(figure, options.out, manifest("scripts/predicted_training.py", vars(options), results)):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
