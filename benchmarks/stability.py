"""Run wide networks and compare what they do with what `rd.diagnose` foretells of them: a table.

    python benchmarks/stability.py figures/stability.jsonl
    python benchmarks/stability.py figures/stability.jsonl --table-only

Five draws of width 2000 of every activation, share of the largest σ_a² and kind of weights take over an hour; rows that
the file holds are not measured again.  Each draw has a sample of a Gaussian mixture and an image of MNIST.
"""

from __future__ import annotations

import argparse
import json
from functools import cache, lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import torch

import rmtdeq as rd
from rmtdeq.stability.jacobian import ends_of

NAMES = ("tanh", "relu", "swish", "erf")
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95)
WEIGHTS = ("gaussian", "orthogonal")
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
SIGMA_B2 = 0.8
DATA = ("mixture", "images")
P = 784
SHOWN = [0, 2, 4, 6]
QUANTITIES = ("rate", "spectral radius", "smallest singular value")
STEPS, LEAST = 2000, 1e-10


def samples(draws):
    """Return a sample of each data set for each draw, (draws, 2, p); both sets have mean squared norm 1."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((3, P)) / np.sqrt(P)
    mixture = rd.GaussianMixture(0.3 * np.sqrt(P) * means, [0.5, 0.9, 1.4], [1 / 3] * 3)
    drawn, _ = mixture.sample(max(300, draws), seed=1)
    images, _ = rd.load_dataset("mnist", n=max(300, draws), seed=1)
    return np.stack([rng.permutation(each)[:draws] for each in (drawn, images)], axis=1)


@cache
def limit_of(name, norms):
    """Return the largest σ_a² for some squared norms."""
    return rd.diagnose(rd.DEQ(name, 0.1, SIGMA_B2, centered=False), norms).limit


def network(name, share, norms):
    """Return the DEQ whose σ_a² is a share of the largest for some squared norms."""
    return rd.DEQ(name, share * limit_of(name, tuple(norms)), SIGMA_B2, centered=False)


@lru_cache(maxsize=2)
def recurrent_weights(weights, width, draw):
    """Return A, which all activations share."""
    return rd.DEQ("relu", 0.1, SIGMA_B2).to_torch(P, width, seed=draw, recurrent=weights).double().A.detach()


def measure(name, share, weights, width, draw, X):
    """Return what one network does on the samples of its draw, and its Jacobian at one of them."""
    module = network(name, share, squared_norms(X).ravel()).to_torch(P, width, seed=draw).double()
    with torch.no_grad():
        module.A.copy_(recurrent_weights(weights, width, draw))
        layer, injected = module.map(), module.injected(torch.from_numpy(X[draw]))
        z, changes = module.initial(*injected), []
        while len(changes) < STEPS and (not changes or max(changes[-1]) > LEAST):
            image = layer.step(z, *injected)
            changes.append(((image - z).norm(dim=1) / image.norm(dim=1)).tolist())
            z = image
        one = draw % len(DATA)
        u = injected[0][one] + module.sigma_a * module.A @ z[one]
        slopes = rd.activation(name).slope(u.numpy())
        ends = ends_of(module.sigma_a * module.scale * slopes[:, None] * module.A.numpy())
    changes = np.array(changes)
    half = len(changes) // 2
    return {
        "steps": [[first(column <= at) for at in TOLERANCES] for column in changes.T],
        "rate": ((changes[-1] / changes[half - 1]) ** (1 / (len(changes) - half))).tolist(),
        "data": DATA[one],
        "spectral_radius": ends.radius,
        "smallest_singular_value": ends.smallest,
    }


def first(reached):
    """Return the number of the first step that is reached, None if there is none."""
    return 1 + int(reached.argmax()) if reached.any() else None


def squared_norms(X):
    """Return those of samples (…, p)."""
    return np.einsum("...j,...j->...", X, X)


def compared(name, share, weights, width, rows, X):
    """Return deviations of single draws from what is foretold of their samples, by quantity, and the scatter foretold.

    Steps are compared as numbers, (draws, samples, tolerances), all else by their logarithm.
    """
    norms = squared_norms(X)
    deq = network(name, share, norms.ravel())
    laws = [rd.diagnose(deq, each, tau0_squared=1.0, recurrent=weights) for each in norms.T]
    found = {"steps": [], "rate": [], "spectral radius": [], "smallest singular value": []}
    for row in rows:
        draw, one = row["case"][-1], DATA.index(row["data"])
        places = [int(np.searchsorted(law.squared_norms, norm)) for law, norm in zip(laws, norms[draw], strict=True)]
        steps = np.array(row["steps"], dtype=float)  # NaN where it did not get there
        sure = [[law.iterations(at)[i] for at in TOLERANCES] for law, i in zip(laws, places, strict=True)]
        found["steps"].append(steps - sure)
        at, law = places[one], laws[one]
        found["rate"].append(np.log(row["rate"][one] / law.rate[at]))
        found["spectral radius"].append(np.log(row["spectral_radius"] / law.spectral_radius_at(width)[at]))
        smallest = law.smallest_singular_value_at(width)[at]
        found["smallest singular value"].append(np.log(row["smallest_singular_value"] / smallest))
    scatter = max(float(law.rate_scatter_at(width).max()) for law in laws)
    of_steps = max(float(law.iterations_scatter_at(TOLERANCES[-1], width).max()) for law in laws)
    return {quantity: np.array(values) for quantity, values in found.items()}, scatter, of_steps


def numbers(name, share, weights, width, rows, X):
    """Return what the table tells of one network."""
    found, scatter, of_steps = compared(name, share, weights, width, rows, X)
    steps = found.pop("steps")
    rest = ~np.isnan(steps)
    told = {
        "steps": steps[:, :, SHOWN].mean(axis=(0, 1)),
        "within": np.mean(abs(steps[rest]) <= 1),
        "at rest": rest[:, :, -1].mean(),
        "scatter of steps": of_steps,
        "scatter": scatter,
    }
    return told | {quantity: np.array([np.mean(each), np.std(each)]) for quantity, each in found.items()}


def line(name, share, weights, draws, told):
    """Return a line of the table."""
    steps = ", ".join("–" if np.isnan(each) else f"{each:+.1f}" for each in told["steps"])
    cells = [f"{100 * told[each][0]:+.1f} ± {100 * told[each][1]:.1f}" for each in QUANTITIES]
    cells[1:1] = [f"{100 * told['scatter']:.1f}"]
    within = f"{told['within']:.0%} ({told['at rest']:.0%} at rest)"
    return f"| {name} | {share} | {weights} | {draws} | {steps} | {within} | {told['scatter of steps']:.1f} | " + (
        " | ".join(cells) + " |"
    )


def worst(told):
    """Return what a line of the table tells of several networks: the largest deviations of means."""
    sizes = np.max([abs(each["steps"]) for each in told], axis=0)
    found = {
        name: [max((each[name] for each in told), key=lambda pair: abs(pair[0]))[i] for i in (0, 1)]
        for name in QUANTITIES
    }
    means = {name: np.mean([each[name] for each in told]) for name in ("within", "at rest")}
    most = {name: max(each[name] for each in told) for name in ("scatter", "scatter of steps")}
    return {"steps": sizes, **found, **means, **most}


COLUMNS = (
    "φ",
    "share",
    "A",
    "draws",
    "steps to 1e-2, 1e-4, 1e-6, 1e-8, mean less law",
    "single counts within 1",
    "scatter at 1e-8, foretold",
    "rate, % off",
    "scatter foretold, %",
    "spectral radius, % off",
    "smallest singular value, % off",
)


def main(arguments=None):
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--width", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--weights", nargs="+", default=WEIGHTS)
    parser.add_argument("--table-only", action="store_true")
    args = parser.parse_args(arguments)
    X = samples(args.draws)
    lines = args.file.read_text().splitlines() if args.file.exists() else []
    rows = {tuple(each["case"]): each for each in map(json.loads, lines)}
    for case in () if args.table_only else product(range(args.draws), args.weights, args.shares, args.names):
        draw, weights, share, name = case
        key = (name, share, weights, args.width, draw)
        if key not in rows:
            rows[key] = {"case": key, **measure(*key, X)}
            with args.file.open("a") as file:
                file.write(json.dumps(rows[key]) + "\n")
            print(*key, flush=True)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for weights, share in product(args.weights, args.shares):
        told = []
        for name in args.names:
            case = (name, share, weights, args.width)
            if chosen := [row for key, row in rows.items() if key[:4] == case]:
                told.append(numbers(*case, chosen, X))
                print(line(name, share, weights, len(chosen), told[-1]), flush=True)
        if len(told) > 1:
            print(line("worst", share, weights, "", worst(told)), flush=True)


if __name__ == "__main__":
    main()
