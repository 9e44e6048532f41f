"""Tables of OpenML, through scikit-learn, as tables of one's own."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from rmtdeq._lib.errors import DataNotFoundError, InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq._lib.progress import Stage
from rmtdeq.data.own import DataTable, load_table

PREFIX = "openml:"
"""What names of these begin with: ``openml:NAME``, or ``openml:NAME@VERSION``."""


def from_openml(name: str, data_dir: str | os.PathLike[str] | None = None) -> DataTable:
    """Return a table of OpenML with its labels.

    Parameters
    ----------
    name : str
        ``"openml:NAME"``, of the version that is active there, or ``"openml:NAME@VERSION"``.
    data_dir : path, optional
        Where scikit-learn keeps what it downloads.

    Returns
    -------
    DataTable
        Columns and labels as `load_table` takes them.

    Raises
    ------
    InvalidInputError
        No such table, one without labels, or columns of texts.
    DataNotFoundError
        It is not on this machine, and OpenML cannot be reached.
    MissingDependencyError
        No scikit-learn, or no pandas.
    """
    known, _, version = name.removeprefix(PREFIX).strip().partition("@")
    if not known or (version and not version.isdigit()):
        raise InvalidInputError(f"A table of OpenML is named as openml:NAME or openml:NAME@VERSION, not {name!r}.")
    require("pandas")
    fetch = require("sklearn.datasets").fetch_openml
    place: Any = None if data_dir is None else os.fspath(data_dir)
    try:
        with Stage(f"fetching {known}"):
            found = fetch(
                known, version=int(version) if version else "active", data_home=place, as_frame=True, parser="auto"
            )
    except OSError as error:
        raise DataNotFoundError(
            f"{known} is not on this machine, and OpenML did not give it ({error}): check the name and the connection, "
            "or take a file of it with load_table, on the command line --data."
        ) from error
    except (ValueError, KeyError) as error:
        raise InvalidInputError(f"OpenML has no table {known!r} that can be read: {error}") from error
    targets = list(found.target_names or ())
    if len(targets) != 1:
        raise InvalidInputError(
            f"{known} of OpenML has {len(targets) or 'no'} columns of targets, and one with labels is needed; read it "
            "with scikit-learn's fetch_openml and choose."
        )
    labels = found.frame[targets[0]]
    if labels.dtype.kind == "f" and (labels.dropna() % 1).any():
        raise InvalidInputError(
            f"{known} of OpenML has numbers to be predicted, in {targets[0]!r}, and no labels; read it with "
            "scikit-learn's fetch_openml, and learn with DEQRegressor."
        )
    return replace(load_table(found.frame, label_column=targets[0]), name=known)


def is_openml(name: object) -> bool:
    """Return whether a name is that of a table of OpenML."""
    return isinstance(name, str) and name.startswith(PREFIX)
