"""Options that commands share, and what they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import rmtdeq
from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq.data.datasets import DATASETS
from rmtdeq.data.openml import is_openml
from rmtdeq.data.problems import Problem, image_problem, mixture_problem, own_problem

_OF_OWN = ("labels", "label_column", "drop", "drop_missing", "standardize", "as_is")
"""Options of --data."""

_DIMENSION = 2000
"""Of a mixture."""


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the options of the DEQ."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--activation", default="tanh", help="name, with parameters in parentheses if any, as leaky_relu(0.1)"
    )
    group.add_argument("--sigma-a2", type=float, default=0.2, help="variance of the recurrent weights (default 0.2)")
    group.add_argument("--sigma-b2", type=float, default=0.8, help="variance of the input weights (default 0.8)")
    group.add_argument("--uncentered", action="store_true", help="leave the activation's mean in")


_MEASURED = (
    "samples (default 0.8 p, as far as there are; of --data all, up to 4000, and half of them where compare predicts "
    "from the others)"
)


def add_data(parser: argparse.ArgumentParser, default: str | None = "fashion-sample", samples: str = _MEASURED) -> None:
    """Add the options of the data; `default` is the data set used if none is named, `samples` the help of --n."""
    group = parser.add_argument_group("data")
    source = group.add_mutually_exclusive_group()
    source.add_argument(
        "--dataset",
        default=default,
        help="fashion-sample and digits (in the package), mnist, fashion-mnist, cifar10, svhn, openml:NAME, or mixture "
        f"(default {default or 'none'})",
    )
    source.add_argument(
        "--data",
        help="samples of your own, one a row, in a file .npy, .npz (arrays X and y), .csv, .tsv, .txt or .parquet; "
        "they are centred and scaled by one number",
    )
    labels = group.add_mutually_exclusive_group()
    labels.add_argument(
        "--labels", help="their labels, whole numbers or texts, in a file of their own (default: one class)"
    )
    labels.add_argument(
        "--label-column", type=label, help="the column of --data with the labels: name, or number from 0"
    )
    group.add_argument("--drop", nargs="+", type=label, default=[], help="columns of --data to leave out")
    group.add_argument("--drop-missing", action="store_true", help="leave out samples of --data that lack a value")
    scaling = group.add_mutually_exclusive_group()
    scaling.add_argument(
        "--standardize",
        action="store_true",
        help="scale every feature of --data to the same variance, as for columns in units of their own",
    )
    scaling.add_argument(
        "--as-is", action="store_true", help="take the samples of --data as they are, of squared norms of order one"
    )
    group.add_argument("--classes", nargs="+", type=label, help="labels or names of classes; for mixture, how many")
    group.add_argument("--n", type=int, help=samples)
    group.add_argument("--p", type=int, help=f"dimension of --dataset mixture (default {_DIMENSION})")
    group.add_argument(
        "--covariance",
        default="common",
        choices=("full", "common", "diagonal", "scalar"),
        help="estimate of the classes' covariances (default common: the same eigenvectors for all)",
    )
    group.add_argument("--data-dir", help="folder with the files of a data set that is not in the package")
    group.add_argument("--seed", type=int, default=0, help="of the samples drawn (default 0)")


def label(text: str) -> int | str:
    """Return a label as the whole number that it is written as, or as the text."""
    try:
        number = int(text)
    except ValueError:
        return text
    return number if str(number) == text else text


def _dimension(options: argparse.Namespace) -> int:
    """Return the dimension of --dataset mixture."""
    return _DIMENSION if options.p is None else int(options.p)


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the option of the report."""
    parser.add_argument("--report", help="page to write, .html: tables, figures and how they were made in one file")


def network_of(options: argparse.Namespace) -> rmtdeq.DEQ:
    """Return the DEQ of the options."""
    return rmtdeq.DEQ(options.activation, options.sigma_a2, options.sigma_b2, centered=not options.uncentered)


def own_options(options: argparse.Namespace) -> str:
    """Return the options given that are for --data alone, as they are typed."""
    given = [name for name in _OF_OWN if vars(options)[name] not in (None, False, [])]
    return " and ".join("--" + name.replace("_", "-") for name in given)


def scaling_option(options: argparse.Namespace) -> Literal["common", "each", "none"]:
    """Return how the features of --data are to be scaled."""
    return "none" if options.as_is else "each" if options.standardize else "common"


def data_dir_of(options: argparse.Namespace, dataset: str | None) -> str | None:
    """Return the folder to search for a data set's files.

    Raises
    ------
    InvalidInputError
        There are no files to search for: the samples are drawn, or come with the package.
    """
    files = DATASETS[dataset].files if dataset is not None and dataset in DATASETS else ()
    if options.data_dir is not None and not files:
        raise InvalidInputError(
            f"--data-dir is for data sets that are read from files, not for {dataset}; leave it out."
        )
    return options.data_dir


def problem_of(options: argparse.Namespace, spared: float = 0.0) -> Problem:
    """Load or draw the data of the options; `spared` is the share of a table that is not measured."""
    if options.p is not None and (options.data is not None or options.dataset != "mixture"):
        raise InvalidInputError(
            "--p is of --dataset mixture, other samples have a dimension of their own; leave it out."
        )
    table = options.data
    if table is not None:
        data_dir_of(options, "--data")
    elif is_openml(options.dataset):
        table = options.dataset
        read = [name for name in ("labels", "label_column", "drop", "drop_missing") if vars(options)[name]]
        if read:
            raise InvalidInputError(
                f"--{read[0].replace('_', '-')} is for a file of your own; OpenML says which column has the labels."
            )
    if table is not None:
        return own_problem(
            table,
            options.labels,
            options.classes,
            options.n,
            label_column=options.label_column,
            drop=options.drop,
            drop_missing=options.drop_missing,
            scaling=scaling_option(options),
            spared=spared,
            covariance=options.covariance,
            seed=options.seed,
            data_dir=options.data_dir,
        )
    if given := own_options(options):
        raise InvalidInputError(f"{given}: for samples of your own alone; name their file with --data.")
    check.choice(options.dataset, "--dataset", (*rmtdeq.dataset_names(), "mixture"))
    data_dir = data_dir_of(options, options.dataset)
    if options.dataset == "mixture":
        if options.classes is not None and not (len(options.classes) == 1 and isinstance(options.classes[0], int)):
            raise InvalidInputError("For --dataset mixture, --classes takes one number: how many classes.")
        classes = 2 if options.classes is None else options.classes[0]
        return mixture_problem(_dimension(options), classes, options.n, options.seed)
    return image_problem(
        options.dataset,
        options.classes,
        options.n,
        covariance=options.covariance,
        seed=options.seed,
        data_dir=data_dir,
    )


def record_of(program: str, options: argparse.Namespace, results: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the manifest of a command."""
    from rmtdeq.output.files import manifest

    return manifest(program, arguments_of(options), results)


def arguments_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options by name, a mixture's dimension also where it is the default."""
    left_out = ("run", "command", *(["dataset"] if getattr(options, "data", None) else []))
    given = {name: value for name, value in vars(options).items() if name not in left_out}
    return {**given, "p": _dimension(options)} if given.get("dataset") == "mixture" else given


def save(figure: Any, options: argparse.Namespace, record: dict[str, Any]) -> None:
    """Save a command's figure and say so."""
    from rmtdeq.output.files import save_figure

    with Stage("drawing the figure"):
        paths = save_figure(figure, options.out, record)
    for path in paths:
        print(f"wrote {path}")


def save_report(
    title: str, sections: Sequence[rmtdeq.Section], options: argparse.Namespace, problem: Problem | None = None
) -> None:
    """Write a command's report and say so."""
    left_out = {"seed", "out", "save", "report"}
    given = arguments_of(options)
    shown = {name: value for name, value in given.items() if value is not None and name not in left_out}
    if problem is not None:
        shown |= {"samples": problem.n, "dimension": problem.X.shape[1], "mean squared norm": problem.tau0_squared}
        shown["names of the classes"] = list(problem.class_names)
    place = rmtdeq.write_report(
        options.report, sections, title=title, command=options.command, parameters=shown, seed=options.seed
    )
    print(f"wrote {place}")
