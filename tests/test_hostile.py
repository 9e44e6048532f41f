"""More than two hundred inputs that no function can make sense of, and a short run of the fuzzer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import rmtdeq as rd

sys.path.insert(0, str(Path(__file__).parent))
import fuzzing

NAN, INF = float("nan"), float("inf")
FUNCTION = {"function": len, "object": object(), "dict": {"a": 1}, "none": None, "text": "abc", "empty text": ""}

MATRICES = {
    "none": None,
    "number": 3.0,
    "text": "abc",
    "vector": np.ones(5),
    "cube": np.ones((2, 3, 4)),
    "no rows": np.ones((0, 5)),
    "no columns": np.ones((6, 0)),
    "nan": np.full((6, 5), NAN),
    "infinite": np.full((6, 5), INF),
    "ragged": [[1, 2], [3]],
    "complex": np.ones((6, 5), complex),
    "texts": np.full((6, 5), "a"),
    "objects": np.full((6, 5), None),
    "zeros": np.zeros((6, 5)),
    "huge": np.full((6, 5), 1e200),
    "dates": np.zeros((6, 5), "M8[s]"),
    "dict": {"a": 1},
}
KINDS = {"none": None, "unknown": "nngp", "number": 3, "empty": (), "twice": ("ck", "ck"), "mixed": ("ck", 3), "": ""}
POSITIVE = {"zero": 0.0, "negative": -1.0, "nan": NAN, "infinite": INF, "text": "a", "list": [1.0, 2.0], "complex": 1j}
NONNEGATIVE = {name: value for name, value in POSITIVE.items() if name != "zero"}
COUNTS = {"zero": 0, "negative": -3, "fraction": 1.5, "nan": NAN, "text": "3a", "none": None, "huge": 10**30}
LABELS = {
    "short": [0, 1],
    "negative": [0, 0, 0, -1, 1, 1],
    "fractions": np.full(6, 0.5),
    "texts": list("aabbab"),
    "nan": np.full(6, NAN),
    "matrix": np.zeros((6, 2)),
    "number": 3,
}
TARGETS = np.linspace(0.1, 0.7, 6)
NAMES = {"unknown": "nonsense", "number": 3, "none": None, "list": ["auto"]}
MODELS = {"text": "tanh", "none": None, "class": rd.DEQ, "number": 0.2}
ACTIVATIONS = {
    "unknown": "nonsense",
    "too many": "leaky_relu(1, 2)",
    "nan": "leaky_relu(nan)",
    "open": "relu(",
    "number": 3.0,
    "none": None,
    "makes nan": lambda u: u * NAN,
    "makes text": lambda u: str(u),
    "makes complex numbers": lambda u: u + 1j,
    "another shape": lambda u: u[:1],
    "raises": lambda u: 1 / 0,
    "makes none": lambda u: None,
}

CONSTANT = {"constant": rd.DEQ("polynomial(1)", 0.2, 0.8)}

BAD: dict[str, dict[str, dict[str, object]]] = {
    "DEQ": {"activation": ACTIVATIONS, "sigma_a2": NONNEGATIVE, "sigma_b2": POSITIVE, "centered": FUNCTION},
    "solve": {"deq": MODELS, "tau0_squared": POSITIVE, "kind": KINDS},
    "kernel": {
        "X": MATRICES,
        "deq": MODELS,
        "kind": KINDS,
        "tau0_squared": POSITIVE,
        "backend": NAMES,
        "products": NAMES,
    },
    "DEQKernel": {
        "X": MATRICES,
        "activation": ACTIVATIONS,
        "sigma_a2": NONNEGATIVE,
        "kind": KINDS,
        "scale": POSITIVE,
        "tau0_squared": POSITIVE,
        "backend": NAMES,
    },
    "DEQRegressor": {
        "X": {k: v for k, v in MATRICES.items() if k != "huge"}
        | {"one row": np.ones((1, 5)), "copies": np.ones((6, 5))},
        "y": {"short": [1.0], "nan": np.full(6, NAN), "text": "ab", "none": None, "cube": np.ones((6, 2, 2))},
        "sample_weight": {"short": [1.0], "negative": -np.ones(6), "zero": np.zeros(6), "matrix": np.ones((6, 2))},
        "deq": ACTIVATIONS,
        "kind": KINDS | {"two": ("ck", "ntk")},
        "ridge": NAMES
        | {"negative": -1.0, "nan": NAN, "nothing": [], "matrix": np.ones((2, 2)), "below": [1.0, -1.0]}
        | {"number": -3},
        "scale": FUNCTION,
        "fit_intercept": FUNCTION,
        "backend": NAMES,
        "dtype": {"half": "float16", "whole": int},
        "memory_limit": POSITIVE | {"small": 100},
        "solver": NAMES,
    },
    "DEQClassifier": {
        "y": {"short": [0, 1], "numbers": TARGETS, "one class": np.zeros(6), "nan": np.full(6, NAN), "none": None},
    },
    "learning_curve": {
        "X": MATRICES,
        "y": {
            "short": [0, 1],
            "one class": np.zeros(64, int),
            "nan": np.full(64, NAN),
            "none": None,
            "ragged": [[1], []],
        },
        "deq": MODELS,
        "kind": KINDS | {"two": ("ck", "ntk")},
        "sizes": {"number": 3, "text": "ab", "empty": (), "one": (1,), "fraction": (1.5,), "huge": (10**30,)},
        "ridge": {name: value for name, value in NONNEGATIVE.items() if name != "list"} | {"name": "loo"},
        "memory_limit": POSITIVE | {"small": 100},
    },
    "write_report": {
        "contents": {"text": "abc", "none": None, "number": [3], "dict": [{}], "nested": [["a"]]},
        "title": NAMES | {"unknown": None},
    },
    "kernel_operator": {
        "X": MATRICES,
        "deq": MODELS,
        "method": NAMES,
        "memory_limit": POSITIVE,
        "folder": {"too long": "a" * 400, "empty": "", "number": 3},
    },
    "empirical_spectrum": {"X": MATRICES, "top": {k: v for k, v in COUNTS.items() if k != "none"}, "block": COUNTS},
    "equivalent": {"y": LABELS, "gmm": MODELS, "level": NAMES, "diagonal": NAMES},
    "predict_spectrum": {
        "deq": MODELS | CONSTANT | {"tiny": rd.DEQ("tanh", 0.2, 1e-300)},
        "gmm": MODELS,
        "n": COUNTS,
        "level": NAMES,
    },
    "prediction.stieltjes": {"z": {"real": 1.0, "below": 1 - 1j, "nan": NAN, "text": "u", "none": None}},
    "spectrum.alignments": {"y": LABELS},
    "spectrum.masses": {"edges": {"one": [1.0], "falling": [1, 0], "text": "ab", "matrix": [[0, 1]], "nan": [0, NAN]}},
    "finite_width_kernel": {"deq": CONSTANT},
    "sample_features": {"X": MATRICES, "width": COUNTS | {"empty": [], "empty text": ""}, "batch": COUNTS},
    "GaussianMixture": {
        "means": {k: v for k, v in MATRICES.items() if k not in ("zeros", "huge")},
        "covariances": {
            "one": [1.0],
            "negative": [1.0, -1.0],
            "nan": [1.0, NAN],
            "none": None,
            "text": "ab",
            "not square": [np.ones((2, 3)), 1.0],
            "not symmetric": [np.array([[1, 2], [0, 1.0]]), 1.0],
        },
        "weights": {"zero": [0, 1], "negative": [2, -1], "nan": [NAN, 1], "three": [1, 1, 1]},
    },
    "mixture.sample": {"n": COUNTS},
    "from_data": {
        "X": {k: v for k, v in MATRICES.items() if k not in ("zeros", "huge")},
        "y": LABELS,
        "covariance": NAMES,
    },
    "predict_training": {
        "y": {"short": [1.0], "nan": np.full(6, NAN), "text": "ab"},
        "step": POSITIVE,
        "method": NAMES,
    },
    "gradient_descent": {
        "X": {k: v for k, v in MATRICES.items() if k != "zeros"},
        "step": POSITIVE | {"beyond single precision": 1e50},
        "epochs": {"negative": -1, "text": "a"},
    },
    "train_classifier": {"batch": COUNTS, "step": POSITIVE, "precision": NAMES, "augment": FUNCTION},
    "load_dataset": {
        "name": NAMES,
        "classes": {"unknown": (77,), "twice": (1, 1), "empty": (), "text": "12", "number": 3},
    },
    "design": {"deq": MODELS | CONSTANT, "tau0_squared": POSITIVE, "kind": NAMES, "family": NAMES},
}

CASES = [
    (function, argument, what)
    for function, arguments in BAD.items()
    for argument, values in arguments.items()
    for what in values
]


def test_there_are_more_than_two_hundred():
    assert len(CASES) > 300


@pytest.mark.parametrize(("function", "argument", "what"), CASES)
def test_bad_input_is_refused_by_an_exception_of_the_package(function, argument, what, seconds):
    call, valid = fuzzing.entries()[function]
    with seconds(5.0), pytest.raises(rd.RmtdeqError) as caught:
        call(**valid | {argument: BAD[function][argument][what]})
    # A sentence, not a word of numpy's.
    assert len(str(caught.value)) > 15
    assert str(caught.value)[-1] in ".)"


def test_a_short_run_of_the_fuzzer():
    tally = fuzzing.fuzz(120, number=11)
    assert tally.failures == {}
    assert tally.cases > 100
