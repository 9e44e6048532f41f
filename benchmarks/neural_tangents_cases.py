"""Values of neural-tangents that the kernels are tested against; run in an environment that has it.

    python -m venv nt && nt/bin/pip install neural-tangents==0.6.5 jax==0.4.28 jaxlib==0.4.28 "numpy<2" "scipy<1.13"
    nt/bin/python benchmarks/neural_tangents_cases.py tests/kernels/data/neural_tangents.json

Fully connected networks: every activation that both have, variances of weights and biases, both parametrisations,
depths to twenty, and predictions of three ensembles.  Their last layer is a read-out of W_std = 1 without bias, as
ours is.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from neural_tangents import predict, stax

jax.config.update("jax_enable_x64", True)

EXACT = {
    "relu": (stax.Relu, ()),
    "leaky_relu(0.1)": (stax.LeakyRelu, (0.1,)),
    "two_slopes(1.2, -0.3)": (stax.ABRelu, (-0.3, 1.2)),
    "abs": (stax.Abs, ()),
    "erf": (stax.Erf, ()),
    "gelu": (stax.Gelu, ()),
    "sin(0.8, 1.3, 0.4)": (stax.Sin, (0.8, 1.3, 0.4)),
    "cos(0.8, 1.3, 0.4)": (stax.Cos, (0.8, 1.3, 0.4)),
    "exp(0.5, 0.3)": (stax.Exp, (0.5, 0.3)),
    "rbf(0.7)": (stax.Rbf, (0.7,)),
    "monomial(3)": (stax.Monomial, (3,)),
    "polynomial(0.1, 1, 0.2, -0.05)": (stax.Polynomial, ((0.1, 1, 0.2, -0.05),)),
    "sign": (stax.Sign, ()),
    "hermite(3)": (stax.Hermite, (3,)),
    "tanh": (stax.ElementwiseNumerical, (jax.numpy.tanh, 200)),
}
"""Our names of activations, theirs with their parameters."""

SCALES = ((1.0, None), (1.3, 0.0), (0.9, 0.2))
"""W_std and b_std."""

DEPTHS = (1, 2, 5)


P = 4


def samples(n, seed):
    """Samples of squared norm about p, as theirs are."""
    return np.random.default_rng(seed).standard_normal((n, P))


def network(name, depth, W_std, b_std, parameterization):
    """A network of hidden layers, as wide as there are features, and a read-out."""
    make, parameters = EXACT[name]
    layers = []
    for _ in range(depth):
        layers += [stax.Dense(P, W_std, b_std, parameterization=parameterization), make(*parameters)]
    return stax.serial(*layers, stax.Dense(1, 1.0, None, parameterization=parameterization))[2]


def case(name, depth, W_std, b_std, parameterization, seed):
    """The kernels of one network on a few samples."""
    X = samples(5, seed)
    X[4] = -0.7 * X[0]
    if name.startswith("hermite"):
        # Theirs holds at squared norms p alone.
        X *= np.sqrt(P) / np.linalg.norm(X, axis=1, keepdims=True)
    # The standard parametrisation weighs biases in the tangent kernel as no variance of ours does.
    get = ("nngp",) if name == "sign" or (parameterization == "standard" and b_std is not None) else ("nngp", "ntk")
    found = network(name, depth, W_std, b_std, parameterization)(X, None, get)
    upper = np.triu_indices(len(X))
    return {
        "activation": name,
        "depth": depth,
        "W_std": W_std,
        "b_std": b_std,
        "parameterization": parameterization,
        "X": X.tolist(),
        **{kind: np.asarray(getattr(found, kind))[upper].tolist() for kind in get},
    }


def kernels():
    """All cases: every activation at depths 1, 2 and 5, some at twenty."""
    cases = []
    for number, name in enumerate(EXACT):
        for depth in DEPTHS:
            if name.startswith(("exp", "monomial", "poly")) and depth > 2:
                continue
            W_std, b_std = SCALES[0 if name.startswith("hermite") else (number + depth) % 3]
            for parameterization in ("ntk", "standard"):
                cases.append((name, depth, W_std, b_std, parameterization))
    cases += [(name, 20, *SCALES[1], "ntk") for name in ("relu", "leaky_relu(0.1)", "erf", "abs", "gelu")]
    cases += [(name, 20, *SCALES[0], "standard") for name in ("relu", "erf")]
    cases += [
        ("relu", 20, 2**0.5, 0.1, "ntk"),
        ("erf", 20, *SCALES[2], "ntk"),
        ("sin(0.8, 1.3, 0.4)", 20, *SCALES[2], "ntk"),
    ]
    return [case(*each, seed) for seed, each in enumerate(cases)]


def predictions():
    """Means and covariances of three ensembles before, during and after training."""
    found = []
    for seed, (name, depth, W_std, b_std) in enumerate(
        [("relu", 2, 2**0.5, 0.1), ("erf", 1, 1.5, 0.05), ("gelu", 3, 1.2, 0.0)]
    ):
        X, X_test = samples(8, 100 + seed), samples(3, 200 + seed)
        y = np.sin(X[:, :2])
        at = predict.gradient_descent_mse_ensemble(network(name, depth, W_std, b_std, "ntk"), X, y, diag_reg=0.0)
        times = [0.0, 0.5, 20.0, None]
        for get in ("ntk", "nngp"):
            each = [at(t, X_test, get, compute_cov=True) for t in times]
            found.append(
                {
                    "activation": name,
                    "depth": depth,
                    "W_std": W_std,
                    "b_std": b_std,
                    "X": X.tolist(),
                    "X_test": X_test.tolist(),
                    "get": get,
                    "times": times,
                    "mean": [np.asarray(one.mean).tolist() for one in each],
                    "covariance": [np.asarray(one.covariance).tolist() for one in each],
                }
            )
    return found


if __name__ == "__main__":
    packages = ("neural-tangents", "jax", "jaxlib", "numpy", "scipy")
    record = {
        "versions": {name: version(name) for name in packages},
        "kernels": kernels(),
        "predictions": predictions(),
    }
    Path(sys.argv[1]).write_text(json.dumps(record, separators=(",", ":")) + "\n")
