"""Samples to learn from: of a data set, a table of one's own, or a mixture; with labels, or with numbers."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import rmtdeq
from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray
from rmtdeq.cli.options import add_data, label, problem_of, scaling_option
from rmtdeq.data import DataTable, Scaling
from rmtdeq.data.problems import Problem, scaling_of

FEWEST = 20
"""Samples that are learnt from, or tested on, at least."""

_USED = 2000
"""Samples that are learnt from, where no number of them is given."""


def add_samples(parser: argparse.ArgumentParser) -> None:
    """Add the options of the samples."""
    add_data(parser, default="digits", samples=f"samples to learn from (default all, up to {_USED})")
    parser.add_argument(
        "--target-column",
        type=label,
        help="the column of --data with numbers to be predicted, instead of labels: name, or number from 0",
    )


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples in random order, with labels or with targets, and how many of them are to be learnt from.

    Attributes
    ----------
    class_names : tuple of str
        Empty for targets that are numbers.
    problem : Problem or None
        Where they come from, for the report.
    scaling : Scaling or None
        That the features of a table have gone through.
    feature_names : tuple of str
        Of a table.
    """

    name: str
    X: FloatArray
    y: np.ndarray[Any, Any]
    n: int
    class_names: tuple[str, ...]
    problem: Problem | None
    scaling: Scaling | None = None
    feature_names: tuple[str, ...] = ()


def samples_of(options: argparse.Namespace) -> Samples:
    """Return the samples of the options.

    Raises
    ------
    InvalidInputError
        One class, too few samples, or options that do not fit together.
    """
    problem = None
    names: tuple[str, ...] = ()
    X: FloatArray
    y: np.ndarray[Any, Any]
    if options.target_column is not None:
        table, y = _with_targets(options)
        name, features = table.name, table.feature_names
        scaling = scaling_of(table.X, scaling_option(options))
        X = table.X if scaling is None else scaling.apply(table.X)
    else:
        problem = problem_of(options)
        name, names = problem.name, problem.class_names
        scaling, features = problem.scaling, problem.feature_names
        X, y = problem.population or (problem.X, problem.y)
        if options.n is not None and options.n > len(X):
            X, y = problem.X, problem.y
        if len(names) < 2:
            raise InvalidInputError(
                "All samples are of one class: name their labels with --labels or --label-column, or numbers to be "
                "predicted with --target-column."
            )
    n = min(len(X), _USED) if options.n is None else check.integer(options.n, "--n")
    if n < FEWEST or n > len(X):
        raise InvalidInputError(f"--n must be from {FEWEST} to the {len(X)} samples that there are, not {n}.")
    order = np.random.default_rng(options.seed).permutation(len(X))
    return Samples(name, X[order], y[order], n, names, problem, scaling, features)


def _with_targets(options: argparse.Namespace) -> tuple[DataTable, FloatArray]:
    """Return a table without the column of targets, and the targets."""
    if options.data is None:
        raise InvalidInputError("--target-column is a column of --data; name that file.")
    for given, what in ((options.labels, "--labels"), (options.label_column, "--label-column")):
        if given is not None:
            raise InvalidInputError(f"{what} and --target-column are one too many: samples have labels or targets.")
    if options.classes is not None:
        raise InvalidInputError("--classes are of labels; leave them out with --target-column.")
    table = rmtdeq.load_table(options.data, drop=options.drop, drop_missing=options.drop_missing)
    names = list(table.feature_names)
    column = options.target_column
    if isinstance(column, int) and 0 <= column < len(names):
        column = names[column]
    if column not in names:
        raise InvalidInputError(f"--target-column {column}: {table.name} has {check.listed(map(repr, names))}.")
    at = names.index(column)
    X, y = np.delete(table.X, at, axis=1), table.X[:, at]
    if not X.shape[1]:
        raise InvalidInputError(f"{table.name} has no columns but the targets.")
    del names[at]
    return replace(table, X=X, feature_names=tuple(names)), y
