"""Hold what predictions of spectra expect of their own error against what it is: a table, a line a case.

    python benchmarks/foretold.py --out foretold.jsonl

Cases are ten classes and pairs of images, tables, mixtures, and predictions of more samples than were kept; each is
measured with several seeds, which draw the samples that are measured and those that are predicted from.  Errors are
means over seeds.  What was measured is kept in the file, a line a seed, and not measured again; ended early, the
program goes on where it was.  Images are those that `rmtdeq.load_dataset` finds, tables those of scikit-learn.
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
SEEDS = 3
"""As many for the largest cases; twice as many for the others, whose single draws differ more."""
RIDGES = np.geomspace(1e-5, 1, 16)
"""Next to the number of samples, of the degrees of freedom."""
TOP = 100
LARGE = "n = 4000"
QUANTITIES = ("KS distance", "log-error, 1 … n/2", "log-error, all")


def images(name, n, kept=4096, classes=None):
    """Images to measure, and what others tell."""

    @lru_cache(maxsize=1)
    def drawn(seed):
        X, y = rd.load_dataset(name, classes=classes)
        order = np.random.default_rng(seed).permutation(len(X))
        X, y = X[order], y[order]
        return X[:n], rd.DataMoments.from_data(X[n:], y[n:], kept=kept, seed=seed)

    return drawn


def table(name):
    """Half of a table, standardised, and what the other half tells."""

    def drawn(seed):
        from sklearn import datasets

        raw = getattr(datasets, f"load_{name}")()
        X = rd.standardize(raw.data)
        order = np.random.default_rng(seed).permutation(len(X))
        n = len(X) // 2
        return X[order[:n]], rd.DataMoments.from_data(X[order[n:]], seed=seed)

    return drawn


def mixture(p, n, distance, decay):
    """Samples of three classes whose variances fall with a power, and the mixture."""

    def drawn(seed):
        variances = np.arange(1, p + 1) ** -float(decay)
        variances *= p / variances.sum()
        directions = np.random.default_rng(0).standard_normal((3, p))
        gmm = rd.GaussianMixture(distance * np.sqrt(variances) * directions, [0.8 * variances] * 3)
        # A class-wise prediction measures the samples of seed 0 itself.
        return gmm.sample(n, seed + 1)[0], gmm

    return drawn


def cases():
    """Name, network's activation and how it is drawn, of each."""
    for name in IMAGES:
        drawn = images(name, 4000)
        for activation in ("tanh", "relu", "swish", "erf"):
            yield f"{name}, {LARGE}", activation, drawn
    for name in IMAGES:
        two, few = images(name, 1000, classes=(0, 1)), images(name, 2000, kept=1000)
        for activation in ("tanh", "relu"):
            yield f"{name}, two classes, n = 1000", activation, two
            yield f"{name}, n = 2000 from 1000", activation, few
    for name in ("digits", "breast_cancer", "wine", "diabetes"):
        for activation in ("tanh", "relu"):
            yield f"{name}, half of it", activation, table(name)
    for p, decay in ((400, 0.0), (400, 0.5), (200, 1.0)):
        for activation in ("tanh", "relu"):
            yield f"mixture, p = {p}, decay {decay:g}, n = 400", activation, mixture(p, 400, 0.7, decay)


def measure(activation, drawn, seed):
    """What was expected and what is, of both kernels."""
    X, data = drawn(seed)
    centre = data.mean_squared_norm
    network = rd.DEQ(activation, 0.2, 0.8, centered=False)
    predictions = rd.predict_spectrum(network, data, len(X), KINDS, tau0_squared=centre)
    kernels = rd.kernel(X, network, KINDS, tau0_squared=centre, progress=False)
    for kind, prediction, K in zip(KINDS, predictions, kernels, strict=True):
        found, exact = np.maximum(prediction.all_values[::-1], 1e-12), eigenvalues(K)[::-1]
        expected = prediction.expected_error
        top = abs(found[:TOP] / exact[:TOP] - 1)
        ridges = len(X) * RIDGES[:, None]
        degrees = [(each / (each + ridges)).sum(axis=1) for each in (found, exact)]
        yield (
            kind,
            {
                "level": prediction.level,
                "expected": [expected.ks, expected.upper, expected.whole],
                "true": list(between_spectra(found, exact)),
                "top": [float(np.median(top)), float(top.max())],
                "degrees": float(abs(degrees[0] / degrees[1] - 1).max()),
            },
        )


def report(rows):
    """Print the table, and how often what was expected is within a factor of two."""
    print("| case | expected KS, log-errors | true | largest 100: median, worst | degrees of freedom |")
    print("|---|---|---|---|---|")
    ratios = []
    for (name, activation, kind), found in rows.items():
        expected, true = (np.mean([row[what] for row in found], axis=0) for what in ("expected", "true"))
        ratios.append(expected / true)
        middle, worst = np.mean([row["top"] for row in found], axis=0)
        degrees = np.mean([row["degrees"] for row in found])
        told, was = (", ".join(f"{each:.3f}" for each in numbers) for numbers in (expected, true))
        print(f"| {name}; {activation}, {kind} | {told} | {was} | {middle:.1%}, {worst:.0%} | {degrees:.1%} |")
    within = (np.abs(np.log2(ratios)) <= 1).sum(axis=0)
    for quantity, count in zip(QUANTITIES, within, strict=True):
        print(f"{quantity}: within a factor of two in {count} of {len(ratios)} cases")


def main(arguments=None):
    """Run what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="file of what was measured")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    options = parser.parse_args(arguments)
    file = Path(options.out)
    rows = defaultdict(list)
    for row in records.read(file):
        rows[row["case"], row["activation"], row["kind"]].append(row)
    for seed in range(2 * options.seeds):
        for name, activation, drawn in cases():
            known = {row["seed"] for row in rows.get((name, activation, KINDS[-1]), ())}
            if options.only not in name or seed in known or (LARGE in name and seed >= options.seeds):
                continue
            for kind, found in measure(activation, drawn, seed):
                row = {"case": name, "activation": activation, "kind": kind, "seed": seed, **found}
                rows[name, activation, kind].append(row)
                records.append(file, row)
    report(rows)


if __name__ == "__main__":
    main()
