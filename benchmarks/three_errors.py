"""Measure alone each of the errors that a prediction of a spectrum on images could have: a table.

    python benchmarks/three_errors.py --out three_errors.jsonl

Ten classes of images; what stands for their kernel is the kernel of as many other images, and of Gaussian samples of
the classes' means and full covariances (the data); its class-wise and its polynomial equivalent on the same images (the
expansion); and the prediction from the images that are not measured.  Errors are means over seeds, which draw the
images.  What was measured is kept in the file, a line a seed and network, and not measured again; ended early, the
program goes on where it was.  Images are those that `rmtdeq.load_dataset` finds.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import records

import rmtdeq as rd
from rmtdeq._lib.tridiagonal import eigenvalues
from rmtdeq.theory.rmt import between_spectra

KINDS = ("ck", "ntk")
IMAGES = ("mnist", "fashion-mnist", "cifar10")
ACTIVATIONS = ("tanh", "relu", "swish", "erf")
KEPT = 4096
WAYS = {
    "other": "the data: as many other images",
    "gaussian": "the data: Gaussian samples of the ten classes' means and full covariances",
    "classwise": "the expansion: `equivalent`, class-wise",
    "polynomial": "the expansion: `equivalent`, polynomial",
    "prediction": "the prediction",
}


def gaussian_like(X, y, sizes, rng):
    """Gaussian samples with the mean and the covariance of every class of some samples, (Σ sizes, p).

    A standard normal mixture of a class's own deviations has its covariance; no matrix of features is decomposed.
    """
    parts = []
    for label, size in enumerate(sizes):
        own = X[y == label]
        mean = own.mean(axis=0)
        parts.append(mean + rng.standard_normal((size, len(own))) @ (own - mean) / np.sqrt(len(own)))
    return np.concatenate(parts)


@lru_cache(maxsize=1)
def drawn(name, n, seed):
    """Images to measure and their classes, as many others, Gaussian ones, and what the unmeasured ones tell."""
    X, y = rd.load_dataset(name)
    order = np.random.default_rng(seed).permutation(len(X))
    X, y = X[order], y[order]
    mine, others, labels = X[:n], X[n:], y[n:]
    gaussian = gaussian_like(others, labels, np.bincount(y[:n]), np.random.default_rng(seed))
    mixture = rd.GaussianMixture.from_data(others, labels, covariance="common")
    moments = rd.DataMoments.from_data(others, labels, kept=KEPT, seed=seed)
    return mine, y[:n], others[-n:], gaussian, mixture, moments


def measure(name, activation, n, seed):
    """KS distance and both log-errors of every way, by kind."""
    mine, classes, others, gaussian, mixture, moments = drawn(name, n, seed)
    network, centre = rd.DEQ(activation, 0.2, 0.8, centered=False), moments.mean_squared_norm
    options = {"tau0_squared": centre}

    def kernels(X):
        return [eigenvalues(K) for K in rd.kernel(X, network, KINDS, progress=False, **options)]

    def equivalents(data, level):
        return [eigenvalues(K) for K in rd.equivalent(mine, classes, network, data, KINDS, level, **options)]

    exact = kernels(mine)
    found = {
        "other": kernels(others),
        "gaussian": kernels(gaussian),
        "classwise": equivalents(mixture, "classwise"),
        "polynomial": equivalents(moments, "polynomial"),
        "prediction": [each.all_values for each in rd.predict_spectrum(network, moments, n, KINDS, **options)],
    }
    return {
        kind: {
            way: between_spectra(np.maximum(spectra[k], 1e-12)[::-1], exact[k][::-1]) for way, spectra in found.items()
        }
        for k, kind in enumerate(KINDS)
    }


def span(numbers):
    """Least and largest, as text."""
    low, high = (f"{each:.3f}" for each in (min(numbers), max(numbers)))
    return low if low == high else f"{low}–{high}"


def report(rows):
    """Print the ranges over activations and kinds of every way's mean errors, and each cell's."""
    found = {cell: {way: np.mean([row[way] for row in of], axis=0) for way in WAYS} for cell, of in rows.items()}
    names = list(dict.fromkeys(name for name, _, _ in found))
    print(f"| KS distance; median log-error of all eigenvalues | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    for way, text in WAYS.items():
        of = [[errors[way] for (each, _, _), errors in found.items() if each == name] for name in names]
        print(f"| {text} | {' | '.join(f'{span([e[0] for e in es])}; {span([e[2] for e in es])}' for es in of)} |")
    print()
    print(f"| images, network, kernel | seeds | {' | '.join(WAYS)} |")
    print("|---" * (len(WAYS) + 2) + "|")
    for (name, activation, kind), errors in found.items():
        texts = (", ".join(f"{each:.3f}" for each in errors[way]) for way in WAYS)
        print(f"| {name}, {activation}, {kind} | {len(rows[name, activation, kind])} | {' | '.join(texts)} |")


def main(arguments=None):
    """Run what is not measured yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="file of what was measured")
    parser.add_argument("--datasets", nargs="+", default=list(IMAGES))
    parser.add_argument("--activations", nargs="+", default=list(ACTIVATIONS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=4000)
    options = parser.parse_args(arguments)
    file = Path(options.out)
    rows = defaultdict(list)
    for row in records.read(file):
        rows[row["images"], row["activation"], row["kind"]].append(row)
    for name in options.datasets:
        for seed in range(options.seeds):
            for activation in options.activations:
                if seed in {row["seed"] for row in rows.get((name, activation, KINDS[-1]), ())}:
                    continue
                for kind, found in measure(name, activation, options.n, seed).items():
                    row = {"images": name, "activation": activation, "kind": kind, "seed": seed, **found}
                    rows[name, activation, kind].append(row)
                    records.append(file, row)
    report(rows)


if __name__ == "__main__":
    main()
