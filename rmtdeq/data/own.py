"""Tables of a user's own: samples and their labels, with the names of features and classes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import BoolArray, FloatArray, IntArray, Seed
from rmtdeq.data.sheets import Column, Sheet, read_labels, read_sheet

_FLAGS = {"true": True, "yes": True, "false": False, "no": False}
_LEFT_OUT = "leave those samples out (drop_missing, on the command line --drop-missing)"


@dataclass(frozen=True, eq=False)
class DataTable:
    """Samples with the names of features and classes, as `load_table` reads them.

    Attributes
    ----------
    name : str
        Of the file.
    X : ndarray (n, p)
        One sample a row, as stored: neither centred nor scaled.
    y : ndarray of int (n,)
        The class of each sample.
    feature_names : tuple of str
        Of the columns of X.
    class_names : tuple of str
        What the labels say, sorted; ``("all",)`` without labels.
    """

    name: str
    X: FloatArray
    y: IntArray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        (n, p), classes = self.X.shape, len(self.class_names)
        return f"DataTable({self.name}: n={n}, p={p}, {classes} {'class' if classes == 1 else 'classes'})"

    def of_classes(self, classes: Sequence[int | str]) -> DataTable:
        """Return the samples whose labels are among these, in their order."""
        wanted = tuple(str(label) for label in classes)
        unknown = [label for label in wanted if label not in self.class_names]
        if unknown or len(set(wanted)) != len(wanted):
            which = f"there is no {', '.join(unknown)}" if unknown else "one is named twice"
            raise InvalidInputError(f"--classes must be labels among {', '.join(self.class_names)}: {which}.")
        number = np.full(len(self.class_names), -1)
        number[[self.class_names.index(label) for label in wanted]] = np.arange(len(wanted))
        kept = number[self.y] >= 0
        return replace(self, X=self.X[kept], y=number[self.y][kept], class_names=wanted)

    def split(self, n: int, seed: Seed = 0) -> tuple[DataTable, DataTable]:
        """Return n of the samples, drawn at random, and the others: such as to measure and to predict from.

        Raises
        ------
        InvalidInputError
            There are no more than n.
        """
        n = check.integer(n, "n")
        if n >= len(self.X):
            raise InvalidInputError(f"n={n} leaves none of the {len(self.X)} samples of {self.name}; take fewer.")
        order = check.generator(seed).permutation(len(self.X))
        first, others = (replace(self, X=self.X[rows], y=self.y[rows]) for rows in (order[:n], order[n:]))
        return first, others


@Stage("reading samples")
def load_table(
    source: Any,
    labels: str | os.PathLike[str] | None = None,
    *,
    label_column: str | int | None = None,
    drop: str | int | Iterable[str | int] = (),
    drop_missing: bool = False,
) -> DataTable:
    """Read samples of your own.

    Parameters
    ----------
    source : path or pandas.DataFrame
        A file of `numpy.save` or `numpy.savez` (.npy, .npz: arrays ``X`` and, if there, ``y``), text with or without
        names in its first line (.csv, .tsv, .txt; separated by commas, semicolons, tabs, bars or blanks), a .parquet
        file, or a frame.  One sample a row; arrays of more than two dimensions are flattened sample by sample.
    labels : path, optional
        Another such file, with one column.
    label_column : str or int, optional
        The column with the labels, by name or number (from 0; negative: from the end); of an .npz file the array.
    drop : str or int, or several
        Columns to leave out, by name or number.
    drop_missing : bool
        Leave out samples in which a value is missing; a warning says how many.

    Returns
    -------
    DataTable
        Columns that are constant or empty are left out, which a warning says, as is the unnamed column of 0, 1, 2, …
        that `pandas.DataFrame.to_csv` writes.

    Raises
    ------
    DataNotFoundError
        A file does not exist.
    InvalidInputError
        A file cannot be read; columns hold texts, or lack values (they are named); labels are neither whole numbers
        nor texts.
    MissingDependencyError
        A .parquet file without pandas and pyarrow.

    Examples
    --------
    >>> import pandas as pd, rmtdeq as rd
    >>> frame = pd.DataFrame({"length": [1.0, 2.0, 4.0], "width": [1, 1, 2], "kind": ["ant", "bee", "ant"]})
    >>> table = rd.load_table(frame, label_column="kind")
    >>> table.X.shape, table.y.tolist(), table.class_names
    ((3, 2), [0, 1, 0], ('ant', 'bee'))
    """
    if labels is not None and label_column is not None:
        raise InvalidInputError("Labels are in a file of their own or in a column: give labels or label_column.")
    name = Path(source).name if isinstance(source, (str, os.PathLike)) else "table"
    sheet, given = read_sheet(source, label_column)
    unwanted = (drop,) if isinstance(drop, (str, int)) else drop
    left_out, told = [sheet.place(each, "drop") for each in unwanted], f"The array of labels in {name}"
    if given is None and label_column is not None:
        place = sheet.place(label_column, "the labels")
        given, told = sheet.columns[place], f"Column {sheet.names[place]!r} of {name}"
        left_out.append(place)
    if labels is not None:
        if sheet.columns and all(column.dtype.kind in "US" for column in sheet.columns):
            raise InvalidInputError(f"{name} must hold real numbers, not texts (are --data and --labels swapped?).")
        given, told = read_labels(labels), Path(labels).name
    sheet = sheet.without(left_out)
    n = len(sheet.columns[0]) if sheet.columns else 0
    if given is not None and given.shape != (n,):
        p = len(sheet.columns)
        raise InvalidInputError(
            f"{told} must hold one label for each of the {n} samples, not shape {given.shape}"
            f"{check.one_hot(given) or check.transposed(given.shape, p)}."
        )
    sheet = _telling(sheet, name)
    sheet = _numbers(sheet, name)
    lacking = [_lacking(column) for column in sheet.columns]
    unlabelled = np.zeros(n, bool) if given is None else _lacking(given)
    if drop_missing:
        kept = ~np.any([unlabelled, *lacking], axis=0)
        sheet, given = sheet.rows(kept), None if given is None else given[kept]
        if not kept.all():
            warnings.warn(
                f"{n - kept.sum()} of the {n} samples of {name} lack a value and were left out.", stacklevel=3
            )
        lacking, n = [], int(kept.sum())
    elif unlabelled.any():
        raise InvalidInputError(f"{told} lacks {unlabelled.sum()} of the {n} labels; {_LEFT_OUT}.")
    if holes := _holes(sheet.names, lacking):
        raise InvalidInputError(
            f"Values of {name} are missing (NaN), in {holes}; leave the columns out (drop, on the command line "
            f"--drop), or {_LEFT_OUT}, or impute them."
        )
    if not sheet.columns or not n:
        raise InvalidInputError(f"{name} has no {'sample' if sheet.columns else 'column'} left to compare.")
    names, y = (("all",), np.zeros(n, np.int64)) if given is None else _numbered(given, told)
    return DataTable(name, check.samples(np.column_stack(sheet.columns), name), y, sheet.names, names)


def _lacking(column: Column) -> BoolArray:
    """Say where values are missing."""
    if column.dtype.kind in "fU":
        return np.asarray(np.isnan(column) if column.dtype.kind == "f" else column == "")
    return np.zeros(column.shape, bool)


def _holes(names: Sequence[str], lacking: Sequence[BoolArray | None]) -> str:
    """Return the columns in which values are missing, and how many; nothing where there are none."""
    pairs = zip(names, lacking, strict=False)
    return check.listed(
        [f"{each!r} ({lack.sum()} of {lack.size})" for each, lack in pairs if lack is not None and lack.any()]
    )


def _numbered(given: Column, told: str) -> tuple[tuple[str, ...], IntArray]:
    """Return what labels say, sorted, and the number of each sample's."""
    whole = given.dtype.kind in "biuSU" or (given.dtype.kind == "f" and np.equal(np.mod(given, 1), 0).all())
    if not whole:
        raise InvalidInputError(f"{told} must hold labels, whole numbers or texts, not {given.dtype}.")
    values, y = np.unique(given.astype(np.int64) if given.dtype.kind == "f" else given, return_inverse=True)
    return tuple(value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values), y


def _telling(sheet: Sheet, name: str) -> Sheet:
    """Leave out, with a warning, the columns that tell nothing: empty or constant, or an unnamed count of the rows."""
    reasons: dict[str, list[int]] = {"empty": [], "constant": [], "an index": []}
    for j, (heading, column) in enumerate(zip(sheet.names, sheet.columns, strict=True)):
        filled = column[~_lacking(column)]
        if not filled.size:
            reasons["empty"].append(j)
        elif (filled == filled[0]).all():
            reasons["constant"].append(j)
        elif not heading and column.dtype.kind in "fiu" and np.array_equal(column, np.arange(len(column))):
            reasons["an index"].append(j)
    told = [
        f"{check.listed([repr(sheet.names[j]) for j in places])} ({why})" for why, places in reasons.items() if places
    ]
    left_out = [j for places in reasons.values() for j in places]
    if len(left_out) == len(sheet.names):
        return sheet
    if told and not all(heading.startswith("feature ") for heading in sheet.names):
        warnings.warn(f"Columns of {name} that say nothing were left out: {'; '.join(told)}.", stacklevel=4)
        return sheet.without(left_out)
    return sheet


def _numbers(sheet: Sheet, name: str) -> Sheet:
    """Return the columns with texts such as "yes" and "False" as 0 and 1; raise if there are others than numbers."""
    columns = tuple(_flags(column) for column in sheet.columns)
    others = [j for j, column in enumerate(columns) if column.dtype.kind not in "fiub"]
    if others:
        some = np.unique(columns[others[0]])[:2]
        holes = _holes(sheet.names, [_lacking(columns[j]) if j not in others else None for j in range(len(columns))])
        also = f"; values are missing, too, in {holes}: {_LEFT_OUT}" if holes else ""
        raise InvalidInputError(
            f"{name} must hold real numbers, and not such as {', '.join(map(str, some))} in "
            f"{check.listed([repr(sheet.names[j]) for j in others])}: name the column with the labels "
            f"(label_column, on the command line --label-column) and leave the others out (drop, --drop){also}."
        )
    return Sheet(sheet.names, columns)


def _flags(column: Column) -> Column:
    """Return a column of texts that are truth values as numbers."""
    if column.dtype.kind != "U":
        return column
    given, missing = np.char.lower(column), _lacking(column)
    if missing.all() or not (np.isin(given, list(_FLAGS)) | missing).all():
        return column
    return np.where(missing, np.nan, np.isin(given, [flag for flag, true in _FLAGS.items() if true]))
