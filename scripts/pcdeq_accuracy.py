"""Accuracy and iterations of positive concave DEQs on MNIST, beside published figures of monDEQ.

    python scripts/pcdeq_accuracy.py --out figures/pcdeq-mnist-linear

trains the network of one linear equilibrium layer with 80 units on all 60,000 images, three times for each activation
(four minutes on two cores).  `--network conv` and `--network three-blocks` train the convolutional ones, for which a
GPU (`--device cuda`) is wanted.  Interrupted, the same command goes on from `--checkpoint`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import rmtdeq as rd
from rmtdeq import _style
from rmtdeq.io import manifest, save_figure

MONDEQ = {"linear": 98.1, "conv": 99.1}
"""Test accuracy on MNIST as its paper gives it (fully connected, one convolution)."""


def network(name, activation, seed):
    """Return a network of the paper, as sized for MNIST."""
    from rmtdeq.models import pcdeq

    makers = {"linear": pcdeq.linear_network, "conv": pcdeq.conv_network, "three-blocks": pcdeq.three_block_network}
    return makers[name](activation=activation, seed=seed)


def train(options, activation, seed, data):
    """Train one network; return its run."""
    from rmtdeq.models.weights import place

    X, y, test = data
    folder = None if options.checkpoint is None else Path(options.checkpoint) / f"{activation}-{seed}"
    return rd.train_classifier(
        place(network(options.network, activation, seed), options.device, "float32"),
        X,
        y,
        test=test,
        epochs=options.epochs,
        rate=options.rate,
        weight_decay=options.weight_decay,
        milestones=options.milestones,
        seed=seed,
        checkpoint=folder,
    )


def draw(runs, options):
    """Test accuracy, one thin line a seed and their mean, and the mean numbers of iterations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, (activation, of) in zip(_style.CLASSES, runs.items(), strict=False):
        epochs = np.arange(1, options.epochs + 1)
        for run in of:
            run.plot(left, color=colour, lw=0.6, alpha=0.6, label=None)
        left.plot(
            epochs, 100 * np.mean([run.test_accuracy for run in of], axis=0), color=colour, lw=2, label=activation
        )
        for quantity, line, what in (("iterations", "-", "equilibrium"), ("adjoint_iterations", ":", "gradient")):
            values = np.mean([getattr(run, quantity).mean(axis=1) for run in of], axis=0)
            right.plot(epochs, values, line, color=colour, label=f"{activation}, {what}")
    if options.network in MONDEQ:
        left.axhline(MONDEQ[options.network], color=_style.OTHER, ls="--", lw=1, label="monDEQ, as published")
    left.set_ylabel("test accuracy (%)")
    right.set_xlabel("epoch")
    right.set_ylabel("mean number of iterations")
    right.set_ylim(bottom=0)
    for ax, columns in ((left, 3), (right, 2)):
        _style.open_frame(ax)
        ax.legend(frameon=False, fontsize=8, ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.suptitle(f"pcDEQ on MNIST, {options.network}, {len(options.seeds)} seeds", fontsize=11)
    return figure


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="linear", choices=("linear", "conv", "three-blocks"))
    parser.add_argument("--activations", nargs="+", default=["tanh", "sigmoid"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--milestones", nargs="*", type=int, default=[15])
    parser.add_argument("--n", type=int, help="training images (default: all)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data-dir")
    parser.add_argument("--checkpoint", help="folder to resume from")
    parser.add_argument("--out", default="figures/pcdeq-mnist-linear")
    options = parser.parse_args()
    data = rd.load_classification("mnist", n=options.n, data_dir=options.data_dir)
    runs = {
        activation: [train(options, activation, seed, data) for seed in options.seeds]
        for activation in options.activations
    }
    results = {}
    for activation, of in runs.items():
        last = np.array([run.test_accuracy[-1] for run in of])
        iterations, adjoint, seconds = (
            float(np.mean([getattr(run, name).mean() for run in of]))
            for name in ("iterations", "adjoint_iterations", "seconds")
        )
        print(
            f"{activation}: test accuracy {100 * last.mean():.2f} % "
            f"({', '.join(f'{100 * each:.2f}' for each in last)}), {iterations:.1f} iterations for the equilibrium, "
            f"{adjoint:.1f} for the gradient, {seconds:.1f} s an epoch"
        )
        results[activation] = {
            "parameters": of[0].parameters,
            "test accuracy": [run.test_accuracy for run in of],
            "iterations": [run.iterations.mean(axis=1) for run in of],
            "adjoint iterations": [run.adjoint_iterations.mean(axis=1) for run in of],
            "seconds an epoch": seconds,
        }
    if options.network in MONDEQ:
        print(f"monDEQ, as published: {MONDEQ[options.network]:.1f} %")
    for path in save_figure(draw(runs, options), options.out, manifest("pcdeq_accuracy", vars(options), results)):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
