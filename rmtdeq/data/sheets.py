"""Columns with names: in files of arrays or text, in parquet files or in pandas frames."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmtdeq._lib import check
from rmtdeq._lib.errors import DataNotFoundError, InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq._lib.types import BoolArray
from rmtdeq.data.formats import read_arrays

_DELIMITERS = ",;\t|"
_TEXTS = (".csv", ".tsv", ".txt", ".dat", ".data")
_PARQUET = (".parquet", ".pq")
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_LABELS = ("y", "labels", "label", "target", "targets")
"""Names of arrays that hold labels."""

Column: TypeAlias = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sheet:
    """Columns with names: of numbers (NaN where one is missing), truth values, or texts (empty where missing)."""

    names: tuple[str, ...]
    columns: tuple[Column, ...]

    @classmethod
    def of_array(cls, array: NDArray[Any]) -> Sheet:
        """The features of samples, flattened one by one."""
        flat = array.reshape(len(array), -1)
        return cls(tuple(f"feature {j}" for j in range(flat.shape[1])), tuple(flat.T))

    def place(self, name: str | int, what: str) -> int:
        """Return which column has a name, or is the one of that number, the last ones negative."""
        if str(name) in self.names:
            return self.names.index(str(name))
        try:
            return range(len(self.names))[int(name)]
        except (ValueError, IndexError):
            known = check.listed(map(repr, self.names))
            meant = check.suggestion(str(name), self.names)
            raise InvalidInputError(f"There is no column {str(name)!r} for {what}{meant}; there are {known}.") from None

    def without(self, places: Iterable[int]) -> Sheet:
        """Return the other columns."""
        kept = sorted(set(range(len(self.names))) - set(places))
        return Sheet(tuple(self.names[j] for j in kept), tuple(self.columns[j] for j in kept))

    def rows(self, keep: BoolArray) -> Sheet:
        """Return the rows to keep."""
        return Sheet(self.names, tuple(column[keep] for column in self.columns))


def read_sheet(source: Any, label_array: str | int | None) -> tuple[Sheet, Column | None]:
    """Return the columns of samples, and the labels if they are an array of their own beside them."""
    if not isinstance(source, (str, os.PathLike)):
        return _of_frame(source), None
    path = Path(source)
    table = _of_table(path)
    if table is not None:
        return table, None
    arrays = read_arrays(path)
    beside = [each for each in (str(label_array), *_LABELS) if each in arrays and len(arrays) > 1]
    labels = arrays.pop(beside[0]) if beside and (label_array is None or beside[0] == label_array) else None
    samples = arrays["X"] if "X" in arrays else next(iter(arrays.values()))
    if len(arrays) > 1 and "X" not in arrays:
        raise InvalidInputError(f"{path} holds several arrays, {check.listed(map(repr, arrays))}; call the samples X.")
    if samples.ndim < 2:
        raise InvalidInputError(
            f"{path} must hold a matrix of real numbers, one sample a row, not {samples.dtype} of shape "
            f"{samples.shape} (are --data and --labels swapped?)."
        )
    return Sheet.of_array(samples), None if labels is None else np.squeeze(labels)


def read_labels(source: str | os.PathLike[str]) -> Column:
    """Return the labels of a file."""
    path = Path(source)
    table = _of_table(path)
    if table is None:
        arrays = read_arrays(path)
        found = next((arrays[each] for each in _LABELS if each in arrays), next(iter(arrays.values())))
        return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    if len(table.columns) != 1:
        raise InvalidInputError(
            f"{path.name} must hold one label for each sample in one column, and has {len(table.columns)}: "
            f"{check.listed(map(repr, table.names))}."
        )
    return table.columns[0]


def _of_table(path: Path) -> Sheet | None:
    """Return the columns of a file of text or parquet; None for files of other kinds."""
    if not path.is_file():
        raise DataNotFoundError(f"{path} does not exist." if not path.exists() else f"{path} is a folder, not a file.")
    suffix = path.suffix.lower()
    if suffix in _TEXTS:
        return _of_text(path)
    if suffix not in _PARQUET:
        return None
    require("pyarrow")
    try:
        return _of_frame(require("pandas").read_parquet(path))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read as a .parquet file: {error}.") from error


def _of_frame(frame: Any) -> Sheet:
    """Return the columns of a frame of pandas, or of what makes one."""
    frame = frame.to_pandas() if hasattr(frame, "to_pandas") else frame
    if not (hasattr(frame, "columns") and hasattr(frame, "dtypes")):
        raise InvalidInputError(f"A table is a file or a pandas frame, not {type(frame).__name__}.")
    types = require("pandas").api.types

    def values(column: Any) -> Column:
        missing = column.isna().to_numpy(dtype=bool)
        if types.is_bool_dtype(column.dtype) and not missing.any():
            return np.asarray(column.to_numpy(dtype=bool))
        if types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype):
            whole = types.is_integer_dtype(column.dtype) and not missing.any()
            return np.asarray(
                column.to_numpy(dtype=np.int64 if whole else float, **({} if whole else {"na_value": np.nan}))
            )
        return np.array(["" if lacks else str(each) for each, lacks in zip(column, missing, strict=True)])

    return Sheet(tuple(map(str, frame.columns)), tuple(values(frame.iloc[:, j]) for j in range(frame.shape[1])))


def _of_text(path: Path) -> Sheet:
    """Return the columns of a text file: all numbers in one go, or else cell by cell."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in islice(file, 200) if line.strip()]
            if not lines:
                raise InvalidInputError(f"{path} is empty.")
            delimiter = _delimiter(lines)
            first = list(_rows(lines, delimiter))
            header = _has_header(first)
            names = tuple(cell.strip() for cell in first[0]) if header else None
            file.seek(0)
            try:
                matrix = np.loadtxt(
                    file, delimiter=delimiter, skiprows=int(header), ndmin=2, comments=None, quotechar='"'
                )
            except ValueError:
                matrix = None
            if matrix is None or matrix.shape[1] != len(first[0]):
                file.seek(0)
                rows = list(_rows(file, delimiter))
                columns = _columns(path, rows[int(header) :], len(first[0]), 1 + header, delimiter == ";")
            else:
                columns = tuple(matrix.T)
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is no text in UTF-8: save it as such, or as .npy.") from error
    except csv.Error as error:
        raise InvalidInputError(f"{path} cannot be read as text with columns: {error}.") from error
    return Sheet(names or tuple(f"column {j}" for j in range(len(columns))), columns)


def _delimiter(lines: Sequence[str]) -> str | None:
    """Return what stands between the columns, the same number of times in every line; None for blanks."""
    for each in _DELIMITERS:
        counts = {len(row) for row in csv.reader(lines[:50], delimiter=each)}
        if len(counts) == 1 and counts != {1}:
            return each
    most = max(_DELIMITERS, key=lambda each: lines[0].count(each))
    if lines[0].count(most):
        return most
    words = lines[-1].split()
    return None if sum(map(_number, words)) > max(1, len(words) // 2) else ","


def _rows(lines: Iterable[str], delimiter: str | None) -> Iterable[list[str]]:
    if delimiter is None:
        return (line.split() for line in lines if line.strip())
    return (row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row)


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _all_numbers(cells: Iterable[str]) -> bool:
    return all(_number(cell) for cell in cells)


def _missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Say whether the first row names the columns: a text above numbers, or texts that their columns do not repeat."""
    first, rest = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    below = [[row[j] for row in rest if not _missing(row[j])] for j in range(len(first))]
    named = [not _number(cell) and not _missing(cell) for cell in first]
    if any(name and cells and _all_numbers(cells) for name, cells in zip(named, below, strict=True)):
        return True
    texts = not any(_number(cell) for cell in first)
    return texts and any(named) and all(cell not in cells for cell, cells in zip(first, below, strict=True))


def _columns(
    path: Path, rows: Sequence[Sequence[str]], width: int, start: int, decimal_commas: bool
) -> tuple[Column, ...]:
    """Return cells column by column, as numbers, truth values or texts."""
    for i, row in enumerate(rows):
        if len(row) != width:
            raise InvalidInputError(f"Row {i + start} of {path} has {len(row)} cells, and the first row {width}.")
    return tuple(_column(cells, decimal_commas) for cells in zip(*rows, strict=True)) or (np.empty(0),) * width


def _column(cells: Sequence[str], decimal_commas: bool) -> Column:
    given = np.array([cell.strip() for cell in cells])
    missing = np.isin(np.char.lower(given), list(_MISSING))
    for values in (given, np.char.replace(given, ",", ".")) if decimal_commas else (given,):
        try:
            return np.where(missing, "nan", values).astype(float)
        except ValueError:
            continue
    return np.where(missing, "", given)
