"""Hold learning curves foretold from 1,000 images against the errors of more of them: a table.

    python benchmarks/learning_curves.py --out curves.jsonl

Kernels are CK and NTK of the tanh and the ReLU DEQ, with five ridges; errors are those on 10,000 other images, with the
first 2,000, 5,000 and 20,000 of 20,000.  Beside the curve stand a power law through generalised cross-validation at
250, 500 and 1,000, the Hermite ansatz (arXiv 2510.14878), and what a forecast would come to that took the error from
the same 1,000 images and knew exactly how it falls from there.  The ansatz is told more than the others: second moments
and targets' coefficients are taken from all 20,000.  What was measured is kept in the file, a line each, and not
measured again.  Images are those that `rmtdeq.load_dataset` finds.
"""

from __future__ import annotations

import argparse
import heapq
from collections import defaultdict
from pathlib import Path

import numpy as np
import records
from images import power_series
from scipy.optimize import brentq
from scipy.special import eval_hermitenorm, factorial

import rmtdeq as rd
from rmtdeq.learning import ridge_fit, ridge_path
from rmtdeq.learning.curve import learning_curves

IMAGES = ("mnist", "fashion-mnist", "cifar10")
ACTIVATIONS = ("relu", "tanh")
KINDS = ("ck", "ntk")
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
KNOWN, SIZES, TESTED = 1000, (2000, 5000, 20_000), 10_000
DRAWS = 6
MODES = 2000


def network_of(activation):
    """The network, of samples of mean squared norm one."""
    return rd.DEQ(activation, 0.2, 0.8).pinned(1.0)


def images(name):
    """Images to learn from, their indicators, and others."""
    X, y = rd.load_dataset(name, n=SIZES[-1] + TESTED, seed=3, shuffle=True)
    return X, np.eye(10)[y]


def errors(values, targets):
    """Mean squared error and error rate."""
    return [float(np.square(values - targets).mean()), float(np.mean(values.argmax(1) != targets.argmax(1)))]


def truths(name, activation, kind, known):
    """Errors of learning from as many images as there are sizes, with each ridge, on others."""
    X, Y = images(name)
    last = SIZES[-1]
    needed = [(size, ridge) for size in (KNOWN, *SIZES) for ridge in RIDGES if (size, ridge) not in known]
    if not needed:
        return
    largest = max(size for size, _ in needed)
    K = rd.kernel(X[:largest], network_of(activation), kind, progress=False)
    tests = rd.kernel(X[last:], network_of(activation), kind, Y=X[:largest], progress=False)
    for size, ridge in needed:
        fit = ridge_fit(K[:size, :size].copy(), Y[:size], ridge)
        values = tests[:, :size] @ fit.coefficients + fit.intercept
        yield size, ridge, errors(values, Y[last:])


def forecasts(name, activation, kind, draw):
    """The curves of all ridges from one draw, what is left out at n, and the power law through cross-validation."""
    X, Y = images(name)
    mine = slice(KNOWN * draw, KNOWN * (draw + 1))
    x, y = X[mine], Y[mine]
    labels = y.argmax(axis=1)
    curves = learning_curves(
        x, labels, network_of(activation), kind, sizes=(KNOWN, *SIZES), ridges=RIDGES, progress=False
    )
    K = rd.kernel(x, network_of(activation), kind, progress=False)
    parts = (KNOWN // 4, KNOWN // 2, KNOWN)
    validated = [
        np.mean([_validated(K[at : at + part, at : at + part], y[at : at + part]) for at in range(0, KNOWN, part)], 0)
        for part in parts
    ]
    for row, curve in enumerate(curves):
        slope, level = np.polyfit(np.log(parts), np.log([each[row] for each in validated]), 1)
        yield (
            curve.ridge,
            {
                "left out": [curve.mse[0], curve.error_rate[0]],
                "mse": curve.mse[1:].tolist(),
                "mse band": [curve.low[1:].tolist(), curve.high[1:].tolist()],
                "rate": curve.error_rate[1:].tolist(),
                "rate band": [curve.wrong.low[1:].tolist(), curve.wrong.high[1:].tolist()],
                "gcv": np.exp(level + slope * np.log(SIZES)).tolist(),
            },
        )


def _validated(K, y):
    return [fit.gcv_error for fit in ridge_path(np.ascontiguousarray(K), y).fits(RIDGES)]


def largest_modes(gamma, coefficients, count):
    """The largest eigenvalues l! a_l Π γ_i over multisets of l coordinates, and these."""
    found = []
    for order, coefficient in enumerate(coefficients):
        if coefficient <= 1e-12:
            continue
        scale, first = float(factorial(order)) * coefficient, (0,) * order
        heap, seen = [(-scale * float(np.prod(gamma[list(first)])), first)], {first}
        for _ in range(count):
            if not heap:
                break
            value, choice = heapq.heappop(heap)
            found.append((-value, choice))
            for place in range(order):
                following = tuple(sorted((*choice[:place], choice[place] + 1, *choice[place + 1 :])))
                if following[-1] < len(gamma) and following not in seen:
                    seen.add(following)
                    heapq.heappush(heap, (-scale * float(np.prod(gamma[list(following)])), following))
    return sorted(found, reverse=True)[:count]


def hermite_ansatz(name, activation, kind):
    """Mean squared errors by size and ridge of the ansatz, all norms taken for equal.

    Coefficients are those on the Hermite polynomials made orthogonal one after another on 20,000 images, each less what
    noise has in it; what of the targets is left is noise, and what of the kernel is left a ridge.
    """
    X, Y = images(name)
    X, Y = X[: SIZES[-1]], Y[: SIZES[-1]]
    n = len(X)
    directions = X / np.linalg.norm(X, axis=1)[:, None]
    gamma, vectors = np.linalg.eigh(directions.T @ directions / n)
    gamma, vectors = gamma[::-1], vectors[:, ::-1]
    kept = gamma > 1e-9 * gamma[0]
    gamma, z = gamma[kept], directions @ vectors[:, kept] / np.sqrt(gamma[kept])
    coefficients = power_series(network_of(activation), kind=kind)
    modes = largest_modes(gamma, coefficients, MODES)
    features = np.ones((n, MODES))
    for column, (_, choice) in enumerate(modes):
        for i, power in zip(*np.unique(choice, return_counts=True), strict=True):
            features[:, column] *= eval_hermitenorm(power, z[:, int(i)]) / np.sqrt(factorial(power))
    eigenvalues = np.array([value for value, _ in modes])
    Q, _ = np.linalg.qr(features)
    targets = Y - Y.mean(axis=0)
    power = np.square(Q.T @ targets).mean(axis=1) / n
    whole = np.square(targets).mean()
    noise = max(whole - power.sum(), 0.0) / (1 - MODES / n)
    power = np.maximum(power - noise / n, 0.0)
    rest = max(float(np.sum(coefficients)) - eigenvalues.sum(), 0.0)

    def error(size, ridge):
        def excess(level):
            return (eigenvalues / (eigenvalues + np.exp(level))).sum() + (ridge + rest) * np.exp(-level) - size

        learnt = eigenvalues / (eigenvalues + np.exp(brentq(excess, -40, 20)))
        return (((1 - learnt) ** 2 * power).sum() + noise) * size / (size - (learnt**2).sum())

    return {ridge: [float(error(size, ridge)) for size in SIZES] for ridge in RIDGES}


def report(rows):
    """Print the table, a line for each quantity, of all sets and of each alone."""
    true = {tuple(row["truth"]): row["errors"] for row in rows if "truth" in row}
    ansatz = {tuple(row["ansatz"]): row["mse"] for row in rows if "ansatz" in row}
    print("| of | quantity | " + " | ".join(f"to {size:,}" for size in SIZES) + " |")
    print("|---|---|" + "---|" * len(SIZES))
    for name in (None, *IMAGES):
        found = [defaultdict(list) for _ in SIZES]
        for row in (row for row in rows if "case" in row and name in (None, row["case"][0])):
            *cell, ridge, _ = row["case"]
            start = true[*cell, ridge, KNOWN]
            for place, size in enumerate(SIZES):
                if (*cell, ridge, size) not in true:
                    continue
                (mse, rate), into = true[*cell, ridge, size], found[place]
                into["MSE, curve"].append(row["mse"][place] / mse - 1)
                into["MSE, if its fall were known"].append(row["left out"][0] / start[0] - 1)
                into["MSE, power law of GCV"].append(row["gcv"][place] / mse - 1)
                if (*cell, ridge) in ansatz:
                    into["MSE, Hermite ansatz"].append(ansatz[*cell, ridge][place] / mse - 1)
                for quantity, truth in (("mse", mse), ("rate", rate)):
                    low, high = (end[place] for end in row[f"{quantity} band"])
                    into[f"within the band of the {quantity}"].append(low <= truth <= high)
                into["rate, curve"].append(100 * (row["rate"][place] - rate))
                into["rate, if its fall were known"].append(100 * (row["left out"][1] / start[1] - 1) * rate)
        for quantity in found[0]:
            cells = " | ".join(_cell(quantity, each[quantity]) for each in found)
            print(f"| {name or 'all'} | {quantity} | {cells} |")


def _cell(quantity, values):
    """Median and largest, and how many are as they should be."""
    found = np.abs(values)
    if not found.size:
        return ""
    if quantity.startswith("within"):
        return f"{found.mean():.0%} of {len(values)}"
    if quantity.startswith("rate"):
        return f"{np.median(found):.2f}; {found.max():.1f}; within a point {np.mean(found <= 1):.0%}"
    return f"{np.median(found):.1%}; {found.max():.0%}; over 15 %: {np.mean(found > 0.15):.0%}"


def main(arguments=None):
    """Run what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="file of what was measured")
    parser.add_argument("--draws", type=int, default=DRAWS)
    options = parser.parse_args(arguments)
    file = Path(options.out)
    rows = records.read(file)

    def add(row):
        rows.append(row)
        records.append(file, row)

    for cell in [(name, activation, kind) for name in IMAGES for activation in ACTIVATIONS for kind in KINDS]:
        known = {(row["truth"][4], row["truth"][3]) for row in rows if "truth" in row and row["truth"][:3] == [*cell]}
        for size, ridge, found in truths(*cell, known):
            add({"truth": [*cell, ridge, size], "errors": found})
        done = {row["case"][4] for row in rows if "case" in row and row["case"][:3] == [*cell]}
        for draw in set(range(options.draws)) - done:
            for ridge, found in forecasts(*cell, draw):
                add({"case": [*cell, ridge, draw], **found})
        if not any(row["ansatz"][:3] == [*cell] for row in rows if "ansatz" in row):
            for ridge, found in hermite_ansatz(*cell).items():
                add({"ansatz": [*cell, ridge], "mse": found})
    report(rows)


if __name__ == "__main__":
    main()
