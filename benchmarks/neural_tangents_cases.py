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


def dense(W_std, b_std=None):
    """A layer of weights, as wide as there are features, without an activation."""
    return stax.Dense(P, W_std, b_std)


def residual(*branch):
    """A branch beside what it is given."""
    return stax.serial(stax.FanOut(2), stax.parallel(stax.serial(*branch), stax.Identity()), stax.FanInSum())


BRANCHED = {
    "normalized": [dense(1.3, 0.2), stax.LayerNorm(), stax.Relu(), dense(0.9, 0.1), stax.LayerNorm(), stax.Erf()],
    "dropout": [
        dense(1.3, 0.2), stax.Relu(), stax.Dropout(0.7, mode="train"),
        dense(0.9, 0.1), stax.Erf(), stax.Dropout(0.8, mode="train"),
    ],
    "residual": [
        dense(1.2, 0.1), residual(stax.Relu(), dense(0.8, 0.3)), residual(stax.Erf(), dense(1.1)), stax.Gelu(),
    ],
    "residual, five blocks of ReLU": [
        dense(1.0), *(residual(stax.Relu(), dense(0.7)) for _ in range(5)), stax.Relu(),
    ],
    "residual, normalized": [
        dense(1.2, 0.1), residual(stax.LayerNorm(), stax.Relu(), dense(0.8, 0.3)), stax.LayerNorm(), stax.Erf(),
    ],
    "sum": [
        stax.FanOut(3),
        stax.parallel(
            dense(1.0, 0.2),
            stax.serial(dense(1.1), stax.Relu(), dense(0.7)),
            stax.serial(dense(0.6, 0.1), stax.Erf(), dense(1.2, 0.3)),
        ),
        stax.FanInSum(), stax.Relu(),
    ],
    "concatenation": [
        stax.FanOut(2),
        stax.parallel(
            stax.serial(stax.Dense(2, 1.1, 0.1), stax.Relu()),
            stax.serial(stax.Dense(6, 0.9, 0.2), stax.Erf(), stax.Dense(6, 1.3, 0.0), stax.Gelu()),
        ),
        stax.FanInConcat(-1), dense(1.4, 0.1), stax.Relu(),
    ],
}  # fmt: skip
"""Layers before the read-out, by the name by which the tests know the same network of ours."""


def branched():
    """The kernels of networks with branches, normalisation and dropout."""
    found = []
    for seed, (name, layers) in enumerate(BRANCHED.items()):
        X = samples(5, 300 + seed)
        X[4] = 1.7 * X[0]
        kernels = stax.serial(*layers, stax.Dense(1))[2](X, None, ("nngp", "ntk"))
        upper = np.triu_indices(len(X))
        values = {kind: np.asarray(getattr(kernels, kind))[upper].tolist() for kind in ("nngp", "ntk")}
        found.append({"network": name, "X": X.tolist(), **values})
    return found


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
        "branched": branched(),
        "predictions": predictions(),
    }
    Path(sys.argv[1]).write_text(json.dumps(record, separators=(",", ":")) + "\n")
