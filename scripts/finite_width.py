"""How fast kernels of finite networks tend to those of infinite width, and the Gram matrix of equilibria to its limit.

    python scripts/finite_width.py --out figures/finite-width

draws the distance against the width, for the CK and both NTKs of some DEQs (true Jacobians, by implicit
differentiation) and for ZᵀZ/m of the over-parameterised DEQ; slope -1/2 is what the central limit theorem gives.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, ScalarFormatter

import rmtdeq as rd
from rmtdeq import _style
from rmtdeq.io import manifest, save_figure
from rmtdeq.models import OverparameterizedDEQ
from rmtdeq.training import population_gram

KINDS = ("ck", "ntk", "ntk-full")
SIGMA_W2 = 0.08


def distances(draw, limits, widths, most):
    """Root mean squared Frobenius distance from the limits, relative; more draws of narrow networks."""
    rows = []
    for width in widths:
        draws = range(max(3, min(most, 4 * widths[-1] // width)))
        squares = [[np.sum((a - b) ** 2) for a, b in zip(draw(width, s), limits, strict=True)] for s in draws]
        rows.append(np.sqrt(np.mean(squares, axis=0)) / [np.linalg.norm(limit) for limit in limits])
        print(f"width {width}: " + " ".join(f"{value:.4f}" for value in rows[-1]), flush=True)
    return np.array(rows)


def of_deq(deq, X, options):
    """Distances of the three kernels of a DEQ."""
    limits = rd.kernel(X, deq, KINDS)
    return distances(
        lambda width, seed: rd.finite_width_kernel(X, deq, width, KINDS, seed=seed, device=options.device),
        limits,
        options.widths,
        options.seeds,
    )


def of_gram(X, options):
    """Distance of the Gram matrix of the over-parameterised DEQ."""
    S, p = rd.on_sphere(X, np.sqrt(X.shape[1])), X.shape[1]
    limit = population_gram(OverparameterizedDEQ(p, 1, SIGMA_W2), S)

    def draw(width, seed):
        model = OverparameterizedDEQ(p, width, SIGMA_W2, seed).double().to(options.device)
        return (model.gram(torch.from_numpy(S).to(options.device)).cpu().numpy() / width,)

    return distances(draw, (limit,), options.widths, options.seeds)


def figure_of(curves, slopes, widths):
    """Draw the distances against the width."""
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    ax = figure.subplots()
    groups = list(dict.fromkeys(name.split(",")[0] for name in curves))
    marks = {"ck": "o", "ntk": "s", "ntk-full": "^", "ZᵀZ/m": "d"}
    for name, values in curves.items():
        group, kind = name.split(", ")
        look = {"color": _style.CLASSES[groups.index(group)], "marker": marks[kind], "markersize": 5, "lw": 1}
        ax.loglog(widths, values, label=f"{name} ({slopes[name]:.2f})", **look)
    guide = 0.7 * min(values[0] for values in curves.values())
    ax.loglog(widths, guide * (np.array(widths) / widths[0]) ** -0.5, "k--", lw=0.9, label="slope -1/2")
    ax.set_xticks(widths, [str(width) for width in widths])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5])
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("width m")
    ax.set_ylabel("distance from infinite width, relative")
    ax.legend(frameon=False, fontsize=8, title="kernel (fitted slope)", loc="center left", bbox_to_anchor=(1.0, 0.5))
    _style.open_frame(ax)
    return figure


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--p", type=int, default=40)
    parser.add_argument("--widths", nargs="+", type=int, default=[128, 256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--activations", nargs="+", default=["tanh", "relu", "swish"])
    parser.add_argument("--sigma-a2", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, default=16, help="draws of narrow networks, at most (default 16)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="figures/finite-width")
    options = parser.parse_args()
    X = rd.on_sphere(np.random.default_rng(0).standard_normal((options.n, options.p)))
    curves = {}
    for activation in options.activations:
        deq = rd.DEQ(activation, options.sigma_a2, 1 - options.sigma_a2)
        print(deq)
        for kind, column in zip(KINDS, of_deq(deq, X, options).T, strict=True):
            curves[f"{activation}, {kind}"] = column
    print("over-parameterised DEQ")
    curves["over-parameterised DEQ, ZᵀZ/m"] = of_gram(X, options)[:, 0]
    slopes = {name: float(np.polyfit(np.log(options.widths), np.log(v), 1)[0]) for name, v in curves.items()}
    for name, slope in slopes.items():
        print(f"slope {slope:.3f}  {name}")
    results = {"slopes": slopes, "distances": curves}
    for path in save_figure(
        figure_of(curves, slopes, options.widths),
        options.out,
        manifest("scripts/finite_width.py", vars(options), results),
    ):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
