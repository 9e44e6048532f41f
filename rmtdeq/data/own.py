"""Tables of a user's own: samples and their labels, in files of arrays or text, in parquet files or pandas frames."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmtdeq._lib import check
from rmtdeq._lib.errors import DataNotFoundError, InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import BoolArray, FloatArray, IntArray
from rmtdeq.data.formats import read_arrays

_DELIMITERS = ",;\t|"
_TEXTS = (".csv", ".tsv", ".txt", ".dat", ".data")
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}
_LABELS = ("y", "labels", "label", "target", "targets")
"""Names of arrays that hold labels."""
_NAMED = 4
"""So many columns are named in a sentence."""

Column: TypeAlias = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Table:
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
        return f"Table({self.name}: n={n}, p={p}, {classes} {'class' if classes == 1 else 'classes'})"

    def of_classes(self, classes: Sequence[int | str]) -> Table:
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


@dataclass(frozen=True, eq=False)
class _Sheet:
    """Columns with names: of numbers (NaN where one is missing), truth values, or texts (empty where missing)."""

    names: tuple[str, ...]
    columns: tuple[Column, ...]

    @classmethod
    def of_array(cls, array: NDArray[Any]) -> _Sheet:
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
            known = _listed(self.names, quoted=True)
            meant = check.suggestion(str(name), self.names)
            raise InvalidInputError(f"There is no column {str(name)!r} for {what}{meant}; there are {known}.") from None

    def without(self, places: Iterable[int]) -> _Sheet:
        """Return the other columns."""
        kept = sorted(set(range(len(self.names))) - set(places))
        return _Sheet(tuple(self.names[j] for j in kept), tuple(self.columns[j] for j in kept))

    def rows(self, keep: BoolArray) -> _Sheet:
        """Return the rows to keep."""
        return _Sheet(self.names, tuple(column[keep] for column in self.columns))


@Stage("reading samples")
def load_table(
    source: Any,
    labels: str | os.PathLike[str] | None = None,
    *,
    label_column: str | int | None = None,
    drop: Iterable[str | int] = (),
    drop_missing: bool = False,
) -> Table:
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
    drop : iterable of str or int
        Columns to leave out, by name or number.
    drop_missing : bool
        Leave out samples in which a value is missing.

    Returns
    -------
    Table
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
    sheet, given = _sheet(source, label_column)
    left_out, told = [sheet.place(each, "drop") for each in drop], f"The array of labels in {name}"
    if given is None and label_column is not None:
        place = sheet.place(label_column, "the labels")
        given, told = sheet.columns[place], f"Column {sheet.names[place]!r} of {name}"
        left_out.append(place)
    if labels is not None:
        if sheet.columns and all(column.dtype.kind in "US" for column in sheet.columns):
            raise InvalidInputError(f"{name} must hold real numbers, not texts (are --data and --labels swapped?).")
        given, told = _only_column(labels, sheet), Path(labels).name
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
        lacking, n = [], int(kept.sum())
    elif unlabelled.any():
        raise InvalidInputError(f"{told} lacks {unlabelled.sum()} of the {n} labels; {_LEFT_OUT}.")
    holes = [(each, int(lack.sum())) for each, lack in zip(sheet.names, lacking, strict=False) if lack.any()]
    if holes:
        where = _listed([f"{each!r} ({count} of {n})" for each, count in holes])
        raise InvalidInputError(
            f"Values of {name} are missing (NaN), in {where}; leave the columns out (drop, on the command line "
            f"--drop), or {_LEFT_OUT}, or impute them."
        )
    if not sheet.columns or not n:
        raise InvalidInputError(f"{name} has no {'sample' if sheet.columns else 'column'} left to compare.")
    names, y = (("all",), np.zeros(n, np.int64)) if given is None else _numbered(given, told)
    return Table(name, check.samples(np.column_stack(sheet.columns), name), y, sheet.names, names)


_LEFT_OUT = "leave those samples out (drop_missing, on the command line --drop-missing)"


def _listed(names: Sequence[str], *, quoted: bool = False) -> str:
    shown = [repr(name) if quoted else name for name in names[:_NAMED]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _lacking(column: Column) -> BoolArray:
    """Say where values are missing."""
    if column.dtype.kind in "fU":
        return np.asarray(np.isnan(column) if column.dtype.kind == "f" else column == "")
    return np.zeros(column.shape, bool)


def _numbered(given: Column, told: str) -> tuple[tuple[str, ...], IntArray]:
    """Return what labels say, sorted, and the number of each sample's."""
    whole = given.dtype.kind in "biuSU" or (given.dtype.kind == "f" and np.equal(np.mod(given, 1), 0).all())
    if not whole:
        raise InvalidInputError(f"{told} must hold labels, whole numbers or texts, not {given.dtype}.")
    values, y = np.unique(given.astype(np.int64) if given.dtype.kind == "f" else given, return_inverse=True)
    return tuple(value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values), y


def _telling(sheet: _Sheet, name: str) -> _Sheet:
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
        f"{_listed([sheet.names[j] for j in places], quoted=True)} ({why})" for why, places in reasons.items() if places
    ]
    left_out = [j for places in reasons.values() for j in places]
    if len(left_out) == len(sheet.names):
        return sheet
    if told and not all(heading.startswith("feature ") for heading in sheet.names):
        warnings.warn(f"Columns of {name} that say nothing were left out: {'; '.join(told)}.", stacklevel=4)
        return sheet.without(left_out)
    return sheet


def _numbers(sheet: _Sheet, name: str) -> _Sheet:
    """Return the columns with texts such as "yes" and "False" as 0 and 1; raise if there are others than numbers."""
    columns = tuple(_flags(column) for column in sheet.columns)
    others = [j for j, column in enumerate(columns) if column.dtype.kind not in "fiub"]
    if others:
        some = np.unique(columns[others[0]])[:2]
        raise InvalidInputError(
            f"{name} must hold real numbers, and not such as {', '.join(map(str, some))} in "
            f"{_listed([sheet.names[j] for j in others], quoted=True)}: name the column with the labels "
            "(label_column, on the command line --label-column) and leave the others out (drop, --drop)."
        )
    return _Sheet(sheet.names, columns)


def _flags(column: Column) -> Column:
    """Return a column of texts that are truth values as numbers."""
    if column.dtype.kind != "U":
        return column
    given, missing = np.char.lower(column), _lacking(column)
    if missing.all() or not (np.isin(given, list(_FLAGS)) | missing).all():
        return column
    return np.where(missing, np.nan, np.isin(given, [flag for flag, true in _FLAGS.items() if true]))


def _only_column(path: str | os.PathLike[str], samples: _Sheet) -> Column:
    """Return the labels of a file."""
    arrays = _arrays(path)
    if arrays is not None:
        found = [arrays[each] for each in _LABELS if each in arrays] or list(arrays.values())
        return found[0][:, 0] if found[0].ndim == 2 and found[0].shape[1] == 1 else found[0]
    sheet, _ = _sheet(path, None)
    if len(sheet.columns) != 1:
        raise InvalidInputError(
            f"{Path(path).name} must hold one label for each sample in one column, and has {len(sheet.columns)}: "
            f"{_listed(sheet.names, quoted=True)}."
        )
    return sheet.columns[0]


def _arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a file of numpy's; None for files of other kinds."""
    return None if Path(path).suffix.lower() in (*_TEXTS, ".parquet", ".pq") else read_arrays(Path(path))


def _sheet(source: Any, label_array: str | int | None) -> tuple[_Sheet, Column | None]:
    """Return the columns of samples, and the labels if they are an array of their own beside them."""
    if not isinstance(source, (str, os.PathLike)):
        return _of_frame(source), None
    path = Path(source)
    if not path.is_file():
        raise DataNotFoundError(f"{path} does not exist." if not path.exists() else f"{path} is a folder, not a file.")
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        require("pyarrow")
        try:
            return _of_frame(require("pandas").read_parquet(path)), None
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"{path} cannot be read as a .parquet file: {error}.") from error
    if suffix in _TEXTS:
        return _of_text(path), None
    arrays = read_arrays(path)
    beside = [each for each in (str(label_array), *_LABELS) if each in arrays and len(arrays) > 1]
    labels = arrays.pop(beside[0]) if beside and (label_array is None or beside[0] == label_array) else None
    samples = arrays["X"] if "X" in arrays else next(iter(arrays.values()))
    if len(arrays) > 1 and "X" not in arrays:
        raise InvalidInputError(
            f"{path} holds several arrays, {_listed(list(arrays), quoted=True)}; call the samples X."
        )
    if samples.ndim < 2:
        raise InvalidInputError(
            f"{path} must hold a matrix of real numbers, one sample a row, not {samples.dtype} of shape "
            f"{samples.shape} (are --data and --labels swapped?)."
        )
    return _Sheet.of_array(samples), None if labels is None else np.squeeze(labels)


def _of_frame(frame: Any) -> _Sheet:
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

    return _Sheet(tuple(map(str, frame.columns)), tuple(values(frame.iloc[:, j]) for j in range(frame.shape[1])))


def _of_text(path: Path) -> _Sheet:
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
    return _Sheet(names or tuple(f"column {j}" for j in range(len(columns))), columns)


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
