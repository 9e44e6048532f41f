"""Time the kernel engine against its rivals in one run: a table, a figure, and the numbers as JSON.

    python benchmarks/report.py --neural-tangents OTHER_ENVIRONMENT/bin/python --out figures/benchmark-kernels

The other environment holds neural-tangents with a JAX that it works with; last tried together were
neural-tangents==0.6.5, jax==0.4.28, jaxlib==0.4.28, scipy<1.13 and numpy<2, on Python 3.11.
"""

from __future__ import annotations

import argparse
import os
import platform

import numpy as np
import rivals
from matplotlib.figure import Figure

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq.output.files import manifest, save_figure

ACTIVATIONS = {"tanh": "tanh", "ReLU": "relu", "callable": rivals.bump}
N, P = 4000, 784


def against_product(rounds):
    """Both kernels against X Xᵀ of the same dtype."""
    rows = {}
    for dtype in ("float64", "float32"):
        X = rivals.samples(N, P).astype(dtype)
        for name, activation in ACTIVATIONS.items():
            ratio, ours, product = rivals.paired(rivals.kernels(X, activation), lambda X=X: X @ X.T, rounds)
            rows[f"{name}, {dtype}"] = {"ratio": ratio, "seconds": ours, "product": product}
            print(f"{name}, {dtype}: {ours:.3f} s, X Xᵀ {product:.3f} s, ratio {ratio:.2f}", flush=True)
    return rows


NETWORKS = {
    "5 ReLU layers": [rd.Layer("relu", sigma_b2=2.0)] * 5,
    "20 ReLU layers": [rd.Layer("relu", sigma_b2=2.0)] * 20,
    "5 ReLU layers with biases": [rd.Layer("relu", sigma_b2=2.0, sigma_c2=0.1)] * 5,
    "5 tanh layers": [rd.Layer("tanh", sigma_b2=1.5)] * 5,
    "5 tanh DEQs": [rd.DEQ("tanh", 0.2, 0.8)] * 5,
}


def of_layers(rounds):
    """Both kernels of networks against X Xᵀ, in double precision."""
    rows, X = {}, rivals.samples(N, P)
    for name, layers in NETWORKS.items():
        ratio, ours, product = rivals.paired(rivals.kernels_of(X, rd.Network(layers)), lambda: X @ X.T, rounds)
        each = (ratio - 1) / len(layers)
        rows[name] = {"ratio": ratio, "seconds": ours, "product": product, "a layer": each}
        print(f"{name}: {ours:.3f} s, X Xᵀ {product:.3f} s, ratio {ratio:.2f}, {each:.3f} a layer", flush=True)
    return rows


def growth(sizes, samples_of, rounds):
    """Times of both kernels and of the product as something grows, with the exponents of the larger half."""
    times = []
    for size in sizes:
        X = samples_of(size)
        _, ours, product = rivals.paired(rivals.kernels(X, "tanh"), lambda X=X: X @ X.T, rounds)
        times.append((ours, product))
    ours, product = np.array(times).T
    half = slice(len(sizes) // 2, None)
    slopes = [float(np.polyfit(np.log(sizes[half]), np.log(t[half]), 1)[0]) for t in (ours, product)]
    print(f"sizes {sizes}: exponent {slopes[0]:.2f}, of the product {slopes[1]:.2f}", flush=True)
    return {"sizes": sizes, "seconds": ours, "product": product, "exponent": slopes[0], "product's exponent": slopes[1]}


NEURAL_TANGENTS = (
    # What, layers, activation, n, dtype, compiled
    ("20 ReLU layers, as documented", 20, "relu", N, "float64", False),
    ("20 ReLU layers, jit", 20, "relu", N, "float64", True),
    ("20 ReLU layers, jit, float32", 20, "relu", N, "float32", True),
    ("one quadrature layer, jit", 1, "bump", 1000, "float64", True),
    ("one quadrature layer, jit, float32", 1, "bump", 1000, "float32", True),
)


def against_neural_tangents(python):
    """Its NTK of explicit networks against the CK and the NTK of the same ones, in the same precision.

    Of a quadrature activation one layer, since twenty do not fit in 24 GiB.
    """
    rows = {}
    for what, layers, activation, n, dtype, compiled in NEURAL_TANGENTS:
        X = rivals.samples(n, P).astype(dtype)
        seconds, peak, corner = rivals.neural_tangents(python, X, layers, activation, compiled)
        network = rivals.same_layers(layers, activation)
        _, ours, product = rivals.paired(rivals.kernels_of(X, network), lambda X=X: X @ X.T, 5)
        own_peak = rivals.same_layers_peak(X, layers, activation)
        # Its inner products are divided by the dimension; all its weights are trained.
        own = rd.kernel(X[:8].astype(float) / np.sqrt(P), network, "ntk-full")
        apart = float(abs(corner - own).max() / own.max())
        rows[f"neural-tangents: {what}"] = {
            "n": n, "seconds": seconds, "ours": ours, "factor": seconds / ours, "peak": peak, "our peak": own_peak,
            "product": product, "entries apart": apart,
        }  # fmt: skip
        print(
            f"neural-tangents, {what}, n = {n}: {seconds:.2f} s, {peak / 2**30:.1f} GiB; ours {ours:.3f} s, "
            f"{own_peak / 2**30:.2f} GiB, {seconds / ours:.0f} times (the product alone {seconds / product:.0f}); "
            f"entries {apart:.1e} apart",
            flush=True,
        )
    return rows


def against_monte_carlo(p):
    """The whole estimate at dimension p."""
    seconds = rivals.monte_carlo_seconds(p)
    X = rivals.samples(int(0.8 * p), p)
    ours = rivals.seconds(rivals.kernels(X, "tanh"), 25)
    print(f"Monte Carlo p = {p}: {seconds:.0f} s; ours {ours:.4f} s, {seconds / ours:.0f} times", flush=True)
    return {f"Monte Carlo, p = {p}": {"seconds": seconds, "ours": ours, "factor": seconds / ours}}


def figure_of(product, by_n, by_p, rivals_rows):
    """Draw ratios to the product, growth with n and p, and factors over the rivals."""
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.1, 1.2, 1.0])
    names = list(product)
    left.barh(names, [product[name]["ratio"] for name in names], color=style.DATA, edgecolor=style.DATA_EDGE)
    left.axvline(1, color=style.THEORY)
    left.text(1.02, -0.62, "the product itself", color=style.THEORY, fontsize=8, va="center")
    left.set_ylim(-0.9, len(names) - 0.5)
    left.invert_yaxis()
    left.set_xlabel(f"time of both kernels / time of X Xᵀ\n(n = {N}, p = {P})")
    for rows, marker, what in ((by_n, "o", f"n, at p = {P}"), (by_p, "s", "p, at n = 2000")):
        middle.loglog(rows["sizes"], rows["product"], color=style.OTHER, ls="--", marker=marker, mfc="white", ms=4)
        middle.loglog(
            rows["sizes"], rows["seconds"], color=style.THEORY, marker=marker, ms=4,
            label=f"{what}: exponent {rows['exponent']:.2f}",
        )  # fmt: skip
    middle.plot([], [], color=style.OTHER, ls="--", label="X Xᵀ")
    middle.set_xlabel("n or p")
    middle.set_ylabel("seconds, both kernels")
    middle.legend(frameon=False, fontsize=8)
    names = list(rivals_rows)
    factors = [rivals_rows[name]["factor"] for name in names]
    right.barh([name.replace(": ", ":\n") for name in names], factors, color=style.DATA, edgecolor=style.DATA_EDGE)
    right.set_xscale("log")
    right.invert_yaxis()
    right.set_xlim(1, 10 * max(factors))
    for i, factor in enumerate(factors):
        right.text(factor, i, f" {factor:,.0f}", va="center", fontsize=8)
    right.set_xlabel("times faster")
    for ax in (left, middle, right):
        style.open_frame(ax)
        ax.tick_params(labelsize=8)
    return figure


def main():
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neural-tangents", help="python of an environment with neural-tangents (left out by default)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", default="figures/benchmark-kernels")
    options = parser.parse_args()
    factors = against_monte_carlo(500)
    product = against_product(options.rounds)
    layers = of_layers(options.rounds)
    by_n = growth([500, 1000, 2000, 4000, 8000], lambda n: rivals.samples(n, P), 5)
    by_p = growth([50, 200, 800, 3200], lambda p: rivals.samples(2000, p), 5)
    if options.neural_tangents:
        factors |= against_neural_tangents(options.neural_tangents)
    peak = {dtype: rivals.peak_memory(N, P, dtype) for dtype in ("float64", "float32")}
    print(f"peak beyond X in units of one matrix: {peak}")
    cold, warm = rivals.first_call_seconds()
    print(f"first call of a process: {cold:.1f} s without compiled code on the disk, {warm:.2f} s with it")
    results = {
        "against the product": product, "networks against the product": layers,
        "growth with n": by_n, "growth with p": by_p, "rivals": factors,
        "peak memory": peak, "first call": {"cold": cold, "warm": warm},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }  # fmt: skip
    record = manifest("benchmarks/report.py", {"rounds": options.rounds, "out": options.out}, results)
    for path in save_figure(figure_of(product, by_n, by_p, factors), options.out, record):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
