"""Learn from a million samples on the span of some of them: time, memory, and the error beside the exact solution's.

    python benchmarks/nystrom.py --n 1000000

Targets are two products of features and a sine, with noise; the error is the mean squared distance from the targets
without noise on new samples.  At 20,000 samples, with as many centres, the regression is solved as it stands as well,
by a QR decomposition of all n x m entries; and with all samples as centres, by a Cholesky decomposition of the kernel.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from scipy.linalg import cholesky, qr, solve_triangular

import rmtdeq as rd
from rmtdeq.learning import Solver

EXACT = 20_000
NOISE = 0.3
TESTED = 10_000


def draw(n, p, seed):
    """Return samples, most of whose variance is in ten features, and their targets without noise and with it."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    truth = 0.6 * X[:, 0] * X[:, 1] + 0.4 * X[:, 2] * X[:, 3] + np.sin(X[:, 4])
    X[:, 10:] *= 0.2
    return X, truth, truth + NOISE * rng.standard_normal(n)


def by_decomposition(X, y, network, kind, anchors, ridge):
    """Return coefficients of the centres and a constant, from all n m entries."""
    C = rd.kernel(X, network, kind, Y=anchors, progress=False)
    root = cholesky(rd.kernel(anchors, network, kind, progress=False), lower=False)
    means = C.mean(axis=0)
    system = np.concatenate([C - means, np.sqrt(ridge) * root])
    Q, R = qr(system, mode="economic", overwrite_a=True, check_finite=False)
    a = solve_triangular(R, Q[: len(y)].T @ (y - y.mean()))
    return a, y.mean() - means @ a


def main(arguments=None):
    """Learn from both numbers of samples, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--p", type=int, default=94)
    parser.add_argument("--centres", type=int, default=4000)
    parser.add_argument("--exact", type=int, default=EXACT, help=f"samples of the comparison (default {EXACT})")
    parser.add_argument("--ridge", type=float, default=1.0, help="of the comparison (default 1)")
    options = parser.parse_args(arguments)
    Z, truth, _ = draw(TESTED, options.p, 1)
    X, _, y = draw(options.n, options.p, 0)

    def say(what, model, start):
        error = float(np.mean((model(Z) - truth) ** 2))
        seconds, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{what}: error {error:.5f}, {seconds:.0f} s of processor time, peak {peak:.2f} GiB", flush=True)
        return error

    start = time.process_time()
    model = rd.DEQRegressor("relu", centres=options.centres).fit(X, y)
    print(f"ridge {model.ridge_:.3g}, left out {model.loo_error_.min() - NOISE**2:.5f} beyond the noise", flush=True)
    say(f"n = {options.n}, {len(model.ridges_)} ridges", model.predict, start)

    few, of_few = X[: options.exact], y[: options.exact]
    start = time.process_time()
    model = rd.DEQRegressor("relu", centres=options.centres, ridge=options.ridge).fit(few, of_few)
    streamed = say(f"n = {options.exact}", model.predict, start)
    scaling, anchors, network = model.scaling_, model.X_fit_, model.network_
    start = time.process_time()
    a, b = by_decomposition(scaling.apply(few), of_few, network, "ntk", anchors, options.ridge)

    def values(new):
        return Solver().values(scaling.apply(new), anchors, network, "ntk", a[:, None], b)[:, 0]

    exact = say("the same from all entries at once", values, start)
    print(f"their errors are {100 * abs(streamed / exact - 1):.2g} % apart", flush=True)
    start = time.process_time()
    whole = rd.DEQRegressor("relu", solver="direct", ridge=options.ridge).fit(few, of_few)
    say("all samples as centres", whole.predict, start)


if __name__ == "__main__":
    main()
