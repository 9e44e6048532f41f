"""Run wide networks and compare what they do with what `rd.diagnose` foretells of them: a table.

    python benchmarks/stability.py figures/stability.jsonl
    python benchmarks/stability.py figures/stability.jsonl --table-only --infinite

Five draws of width 2000 of every activation, share of the largest σ_a² and kind of weights take half an hour of one
core; rows that the file holds are not measured again.  Each draw has a sample of a Gaussian mixture and an image of
MNIST.  What a mean of so many draws scatters by, as foretold, stands beside it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import records
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
LIMITS = {"steps": 1.0, "rate": 0.01, "spectral radius": 0.02, "smallest singular value": 0.03}
"""How far off means of the draws may be; all but steps relative."""
STEPS, LEAST = 2000, 1e-10
KEPT = 150
"""So many steps' changes are kept, ever fewer of the later ones."""


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
    """Return what one network does on the samples of its draw, and its Jacobians there."""
    module = network(name, share, squared_norms(X).ravel()).to_torch(P, width, seed=draw).double()
    phi = rd.activation(name)
    with torch.no_grad():
        module.A.copy_(recurrent_weights(weights, width, draw))
        layer, injected = module.map(), module.injected(torch.from_numpy(X[draw]))
        z, changes = module.initial(*injected), []
        while len(changes) < STEPS and (not changes or max(changes[-1]) > LEAST):
            image = layer.step(z, *injected)
            changes.append(((image - z).norm(dim=1) / image.norm(dim=1)).tolist())
            z = image
        u = (injected[0] + module.sigma_a * z @ module.A.T).numpy()
        ends = [ends_of(module.sigma_a * module.scale * phi.slope(each)[:, None] * module.A.numpy()) for each in u]
    changes = np.array(changes)
    kept = np.unique(np.geomspace(1, len(changes), KEPT).astype(int))
    return {
        "steps": [[first(column <= at) for at in TOLERANCES] for column in changes.T],
        "rate": [rate(column) for column in changes.T],
        "spectral_radius": [each.radius for each in ends],
        "smallest_singular_value": [each.smallest for each in ends],
        "changes": {int(k): [float(f"{each:.5g}") for each in changes[k - 1]] for k in kept},
        "means": [[float(np.mean(f(each) ** 2)) for f in (phi, phi.slope)] for each in u],  # of φ² and φ'²
    }


def rate(changes):
    """Return the mean factor a step over the second half of the steps of one sample."""
    last = int(np.flatnonzero(changes > LEAST)[-1])
    half = last // 2
    return float((changes[last] / changes[half]) ** (1 / (last - half)))


def first(reached):
    """Return the number of the first step that is reached, None if there is none."""
    return 1 + int(reached.argmax()) if reached.any() else None


def squared_norms(X):
    """Return those of samples (…, p)."""
    return np.einsum("...j,...j->...", X, X)


@dataclass(frozen=True)
class Compared:
    """A quantity, measured less foretold, and the standard deviation of single networks that is foretold.

    Both are (draws, samples) or (draws, samples, tolerances); relative to what is foretold, but for steps.
    """

    off: np.ndarray
    scatter: np.ndarray

    @property
    def mean(self):
        """The mean, over those that came to rest."""
        return np.nanmean(self.off, axis=(0, 1))

    @property
    def chance(self):
        """What the mean of so many draws scatters by, as foretold."""
        return self.scatter.mean(axis=(0, 1)) / np.sqrt(len(self.off))


def compared(name, share, weights, width, rows, X, infinite=False):
    """Compare single draws with what is foretold of their samples, by quantity: at this width, or at infinite width."""
    norms = squared_norms(X)
    deq = network(name, share, norms.ravel())
    laws = [rd.diagnose(deq, each, tau0_squared=1.0, recurrent=weights) for each in norms.T]
    # By the law's own norms, in ascending order.
    told = [foretold(law, width, infinite) for law in laws]
    order = np.argsort(np.argsort(norms, axis=0), axis=0)
    found = {}
    for quantity in LIMITS:
        off, scatter = [], []
        for row in rows:
            places = order[row["case"][-1]]
            measured = np.array(row[quantity.replace(" ", "_")], dtype=float)  # NaN where it did not get there
            mean, spread = (np.stack([told[j][quantity][i][at] for j, at in enumerate(places)]) for i in (0, 1))
            off.append(measured - mean if quantity == "steps" else measured / mean - 1)
            scatter.append(spread)
        found[quantity] = Compared(np.array(off), np.array(scatter))
    return found


def foretold(law, width, infinite):
    """Return the mean and the scatter of each quantity by norm."""
    steps = [law.iterations(at) if infinite else law.iterations_at(at, width) for at in TOLERANCES]
    scatter = [law.iterations_scatter_at(at, width) for at in TOLERANCES]
    smallest = law.smallest_singular_value if infinite else law.smallest_singular_value_at(width)
    return {
        "steps": (np.stack(steps, axis=1), np.stack(scatter, axis=1)),
        "rate": (law.rate if infinite else law.rate_at(width), law.rate_scatter_at(width)),
        "spectral radius": (
            law.spectral_radius if infinite else law.spectral_radius_at(width),
            law.rate_scatter_at(width),
        ),
        "smallest singular value": (smallest, law.smallest_singular_value_scatter_at(width)),
    }


def line(name, share, weights, draws, found):
    """Return a line of the table."""
    steps = found["steps"]
    rest = ~np.isnan(steps.off)
    shown = ", ".join("–" if not rest[:, :, at].all() else f"{steps.mean[at]:+.1f}" for at in SHOWN)
    single = f"{np.mean(abs(steps.off[rest]) <= 1):.0%} ({rest[:, :, -1].mean():.0%} at rest)"
    cells = [f"{100 * found[each].mean:+.1f} ± {100 * found[each].chance:.1f}" for each in QUANTITIES]
    return (
        " | ".join([f"| {name}", str(share), weights, str(draws), shown, f"{steps.chance[-1]:.1f}", single, *cells])
        + " |"
    )


def verdict(share, weights, cells):
    """Return, of several networks, how far off the worst is, how many are within the limits, and how many can be.

    Those can whose limit is at least the mean's own foretold scatter.
    """
    told = []
    for quantity, limit in LIMITS.items():
        sizes = [float(np.max(abs(each[quantity].mean))) for each in cells]
        chances = [float(np.max(each[quantity].chance)) for each in cells]
        unit = 1 if quantity == "steps" else 100
        within, able = (sum(at <= limit for at in values) for values in (sizes, chances))
        told.append(f"{quantity} {unit * max(sizes):.1f} ± {unit * max(chances):.1f}, {within} within, {able} can be")
    return f"{share}, {weights}, {len(cells)} networks: " + "; ".join(told)


COLUMNS = (
    "φ",
    "share",
    "A",
    "draws",
    "steps to 1e-2, 1e-4, 1e-6, 1e-8, mean less foretold",
    "± at 1e-8",
    "single counts within 1",
    "rate, % off",
    "spectral radius, % off",
    "smallest singular value, % off",
)


def main(arguments=None):
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--width", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", nargs="+", type=int, help="numbers of the draws to measure, from 0; all by default")
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--weights", nargs="+", default=WEIGHTS)
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--infinite", action="store_true", help="compare with what is foretold at infinite width")
    args = parser.parse_args(arguments)
    X = samples(args.draws)
    rows = {tuple(each["case"]): each for each in records.read(args.file)}
    for case in (
        () if args.table_only else product(args.only or range(args.draws), args.weights, args.shares, args.names)
    ):
        draw, weights, share, name = case
        key = (name, share, weights, args.width, draw)
        if key not in rows:
            rows[key] = {"case": key, **measure(*key, X)}
            records.append(args.file, rows[key])
            print(*key, flush=True)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    verdicts = []
    for weights, share in product(args.weights, args.shares):
        cells = []
        for name in args.names:
            case = (name, share, weights, args.width)
            if chosen := [row for key, row in rows.items() if key[:4] == case]:
                cells.append(compared(*case, chosen, X, args.infinite))
                print(line(name, share, weights, len(chosen), cells[-1]), flush=True)
        if cells:
            verdicts.append(verdict(share, weights, cells))
    print("", *verdicts, sep="\n")


if __name__ == "__main__":
    main()
