"""Fit what a tile costs on this machine, and plan a job with it.

    python benchmarks/size_job.py --n 1000000 --p 784 --cores 1024 --memory 4096

A tile of side s with p features takes a + b s² + c s² p seconds on one core: what a tile costs at all, its entries, and
the inner products (p of some hundred or more; of fewer features, correlations are larger and entries take longer).  Its
products with 8 vectors take d s², and the scheduler its time.  docs/scaling.md holds the constants of one machine.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import numpy as np
import rivals
from scipy.optimize import nnls

import rmtdeq as rd
from rmtdeq._lib.threads import alone
from rmtdeq._lib.types import KINDS
from rmtdeq.kernels.computation import Computation
from rmtdeq.kernels.pieces import side_of
from rmtdeq.kernels.plan import tabulate
from rmtdeq.kernels.stores.cluster import Recipe, multiply, tile

VECTORS = 8

TASK = 2e-3
"""Seconds that Dask takes for a tile, or for its products, whatever its size; of 2,000 to 8,000 small tiles."""


def seconds(call, rounds=3):
    """Least time of some calls, as other work on the machine only ever adds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measured(kind, dtype, sides, features):
    """Return side, p, and the seconds of tiles and of their products with vectors."""
    deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8).pinned(1.0)
    rows = []
    for p in features:
        for side in sides:
            X, Y = (rivals.samples(side, p, seed).astype(dtype) for seed in (0, 1))
            norms = np.concatenate([(each.astype(float) ** 2).sum(axis=1) for each in (X, Y)])
            recipe = Recipe(tabulate(deq, (kind,), norms), (kind,), Computation(dtype=dtype))
            with alone():
                V = rivals.samples(side, VECTORS)
                times = seconds(partial(tile, recipe, X, Y)), seconds(partial(multiply, tile(recipe, X, Y), V, V))
            rows.append((side, p, *times))
    return np.array(rows)


def fitted(rows):
    """Return a, b, c, d and the largest relative error of a tile's time, by least squares on relative errors."""
    side, p, tiles, products = rows.T
    terms = np.stack([np.ones_like(side), side**2, side**2 * p], axis=1)
    scale = terms.max(axis=0)
    coefficients = nnls(terms / scale / tiles[:, None], np.ones_like(tiles))[0] / scale
    error = float(abs(terms @ coefficients / tiles - 1).max())
    return (*coefficients.tolist(), float((products / side**2).mean()), error)


def plan(constants, n, p, itemsize, cores, memory, steps):
    """Return the plan of a job as lines of text; memory in GiB, of all workers."""
    a, b, c, d, _ = constants
    side = side_of(n)
    count = -(-n // side)
    tiles = count * (count + 1) // 2
    stored = tiles * side**2 * itemsize
    each = a + b * side**2 + c * side**2 * p
    kept = stored <= 0.6 * memory * 2**30
    kernel = tiles * each / cores + tiles * TASK
    products = steps * (tiles * d * side**2 / cores + tiles * TASK)
    if not kept:
        products += (steps - 1) * kernel
    return [
        f"samples {n:,} x {p}: {n * p * itemsize / 2**30:,.1f} GiB, held twice",
        f"tiles {tiles:,} of {side} x {side}, {side**2 * itemsize / 2**20:,.0f} MiB and {each:.2f} s of a core each",
        f"stored half {stored / 2**30:,.0f} GiB: "
        + ("kept by the workers" if kept else f"more than 60 % of {memory:,.0f} GiB, computed for every product"),
        f"kernel {tiles * each:,.0f} s of a core, {kernel:,.0f} s on {cores}",
        f"{steps} products with {VECTORS} vectors: {products:,.0f} s, "
        f"{steps * 4 * n * VECTORS * 8 * count / 2**30:,.0f} GiB between workers",
    ]


def positive(text, number=float):
    """Read a number above zero."""
    value = number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def count(text):
    """Read a whole number above zero."""
    return positive(text, int)


def main(arguments=None):
    """Measure, fit and plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=count, default=1_000_000)
    parser.add_argument("--p", type=count, default=784)
    parser.add_argument("--cores", type=count, default=1024, help="of all workers")
    parser.add_argument("--memory", type=positive, default=4096, help="of all workers, GiB")
    parser.add_argument("--steps", type=count, default=64, help="of Lanczos")
    parser.add_argument("--kind", default="ntk", choices=KINDS)
    parser.add_argument("--dtype", default="float64", choices=("float64", "float32"))
    parser.add_argument("--sides", nargs="+", type=count, default=[512, 1024, 2048, 4096])
    parser.add_argument("--features", nargs="+", type=count, default=[256, 784, 3072])
    options = parser.parse_args(arguments)
    constants = fitted(measured(options.kind, options.dtype, options.sides, options.features))
    a, b, c, d, error = constants
    print(
        f"a tile: {1e3 * a:.1f} ms + {1e9 * b:.2f} ns an entry + {1e12 * c:.1f} ps an entry and feature (within "
        f"{error:.0%}); its products with {VECTORS} vectors: {1e9 * d:.2f} ns an entry"
    )
    itemsize = np.dtype(options.dtype).itemsize
    for line in plan(constants, options.n, options.p, itemsize, options.cores, options.memory, options.steps):
        print(line)


if __name__ == "__main__":
    main()
