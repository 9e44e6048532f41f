"""Foretell the spectra of kernels on images by four ways, and compare each with the kernel of the images: a table.

    python benchmarks/images.py --freealg OTHER_ENVIRONMENT/bin/python

Level "polynomial" knows other images; level "classwise" a Gaussian mixture estimated from these; the Hermite ansatz the
covariance of the directions of these, all norms taken for equal (arXiv 2510.14878); freealg (arXiv 2506.11994, last
tried: 0.12.2) a part of the measured matrix itself, 1000 of its rows and columns, and its size.  The images are those
that `rmtdeq.load_dataset` finds.
"""

from __future__ import annotations

import argparse
import heapq
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import rmtdeq as rd
from rmtdeq.spectra import RankErrors
from rmtdeq.theory.rmt import between_spectra

ACTIVATIONS = ("tanh", "relu", "swish", "erf")
ORDERS = 8
PART = 1000

FREE = """
import sys, numpy as np, freealg
folder, size = sys.argv[1], int(sys.argv[2])
np.save(folder + "/found.npy", np.asarray(freealg.eigvalsh(np.load(folder + "/part.npy"), size=size, seed=0)))
"""


def power_series(network, orders=ORDERS, kind="ck"):
    """Coefficients a_l of the kernel of unit vectors, K(t) = Σ a_l t^l, from its values for |t| ≤ 1/2."""
    t = 0.5 * np.cos(np.pi * (np.arange(48) + 0.5) / 48)
    others = np.column_stack([t, np.sqrt(1 - t**2)])
    values = rd.kernel(np.array([[1.0, 0.0]]), network, kind, Y=others, tau0_squared=1.0, progress=False)[0]
    return np.polynomial.Polynomial.fit(t, values, 20, domain=(-0.5, 0.5)).convert().coef[: orders + 1]


def largest_products(factors, order, count):
    """The largest products of `order` of some numbers, descending order, each choice once, repetitions allowed."""
    first = (0,) * order
    heap, seen, found = [(-float(np.prod(factors[list(first)])), first)], {first}, []
    while heap and len(found) < count:
        value, choice = heapq.heappop(heap)
        found.append(-value)
        for place in range(order):
            at = choice[place] + 1
            following = tuple(sorted((*choice[:place], at, *choice[place + 1 :])))
            if at < len(factors) and following not in seen:
                seen.add(following)
                heapq.heappush(heap, (-float(np.prod(factors[list(following)])), following))
    return found


def hermite_ansatz(X, network, n):
    """The n largest of n·c_l Π γ_i^α_i, |α| = l, c_l = l! a_l, γ the eigenvalues of the mean of θθᵀ; ascending."""
    directions = X / np.linalg.norm(X, axis=1)[:, None]
    gamma = np.linalg.eigvalsh(directions.T @ directions / len(X))[::-1]
    gamma = gamma[gamma > 1e-12 * gamma[0]]
    factorial, values = 1.0, []
    for order, coefficient in enumerate(power_series(network)):
        factorial *= max(order, 1)
        if coefficient > 1e-12:
            products = [1.0] if order == 0 else largest_products(gamma, order, n)
            values += [n * factorial * coefficient * product for product in products]
    values = np.sort(values)[-n:]
    # Orders that are left out fill the rest of the spectrum, if it needs any.
    return np.concatenate([np.full(n - len(values), values[0]), values])


def by_freealg(python, K):
    """Eigenvalues from 1000 rows and columns of the matrix, ascending."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "part.npy", K[:PART, :PART])
        subprocess.run([python, "-c", FREE, folder, str(len(K))], check=True, capture_output=True)
        return np.sort(np.real(np.load(Path(folder) / "found.npy")))


def main(arguments=None):
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["mnist", "fashion-mnist", "cifar10"])
    parser.add_argument("--activations", nargs="+", default=list(ACTIVATIONS))
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--freealg", help="python of an environment with freealg (left out by default)")
    options = parser.parse_args(arguments)
    print("| images, CK | way | KS distance | median log-error, 1 … n/2 | all | largest hundred: median, worst |")
    print("|---|---|---|---|---|---|")
    for dataset in options.datasets:
        X, y = rd.load_dataset(dataset)
        order = np.random.default_rng(0).permutation(len(X))
        mine, others = order[: options.n], order[options.n :]
        moments = rd.DataMoments.from_data(X[others], y[others])
        mixture = rd.GaussianMixture.from_data(X[others], y[others], covariance="common")
        for activation in options.activations:
            network = rd.DEQ(activation, 0.2, 0.8, centered=False)
            K = rd.kernel(X[mine], network, tau0_squared=1.0, progress=False)
            exact = np.linalg.eigvalsh(K)
            ways = {
                level: rd.predict_spectrum(network, data, options.n, level=level, tau0_squared=1.0).all_values
                for level, data in (("polynomial", moments), ("classwise", mixture))
            }
            ways["Hermite ansatz"] = hermite_ansatz(X[others], network, options.n)
            if options.freealg:
                ways["freealg"] = by_freealg(options.freealg, K)
            for way, values in ways.items():
                errors = RankErrors.between(np.maximum(values, 1e-12), exact)
                top = abs(values[-100:] / exact[-100:] - 1)
                print(
                    f"| {dataset}, {activation} | {way} | {between_spectra(values[::-1], exact[::-1])[0]:.3f} "
                    f"| {errors.upper:.3f} | {errors.whole:.3f} | {np.median(top):.1%}, {top.max():.0%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
