"""Input checks: every public function passes its arguments through here before any long work."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq._lib.arrays import taken
from rmtdeq._lib.errors import InvalidInputError, MemoryLimitError
from rmtdeq._lib.memory import available_memory
from rmtdeq._lib.types import KINDS, RECURRENT, FloatArray, IntArray, Kind, Recurrent, Seed

T = TypeVar("T")

_NAMED = 4
"""So many names are told in a sentence."""


def real_array(value: ArrayLike, name: str, *, ndim: int | None = None) -> FloatArray:
    """Return `value` as a finite floating-point array (float32 stays float32, all else is float64)."""
    _dense(value, name)
    try:
        array = _plain(value)
    except Exception as error:  # an object with __array__ raises what it likes
        reason = _short_text(str(error))
        raise InvalidInputError(f"{name} is not a rectangular array of numbers: {reason}.") from error
    if array.dtype.kind not in "fiub":
        raise InvalidInputError(f"{name} must hold real numbers, not {array.dtype}.")
    single = array.dtype.newbyteorder("=") == np.float32
    with np.errstate(over="ignore"):  # what a longer type holds beyond the range of doubles counts as infinite below
        array = array.astype(np.float32 if single else np.float64, copy=False)
    if ndim is not None and array.ndim != ndim:
        raise InvalidInputError(f"{name} must have {ndim} dimension(s), not {array.ndim} (shape {array.shape}).")
    finite(array.size - int(np.isfinite(array).sum()), name, masked=np.ma.is_masked(value))
    return cast(FloatArray, array)


def finite(bad: int, name: str, *, masked: bool = False) -> None:
    """Raise if some entries, `bad` of them, are missing, NaN or infinite."""
    if bad:
        many = f"{bad} masked," if masked else bad
        raise InvalidInputError(f"{name} holds {many} NaN or infinite value(s); remove or impute them first.")


def _plain(value: Any) -> np.ndarray[Any, Any]:
    """Return an array, tensor, table or nested list of any type as an array of numpy's own, NaN for what is missing."""
    value = taken(value)
    if hasattr(value, "detach"):
        return np.asarray(_resolved(value.cpu()).numpy())
    if np.ma.isMaskedArray(value):
        return np.where(np.ma.getmaskarray(value), np.nan, value.data) if np.ma.is_masked(value) else value.data
    if isinstance(value, (list, tuple)) and any(hasattr(each, "detach") or np.ma.isMaskedArray(each) for each in value):
        return np.asarray([_plain(each) for each in value])
    kind = _nullable(value)
    array = np.asarray(value) if kind is None else np.asarray(value.to_numpy(dtype=kind, na_value=np.nan))
    foreign = array.dtype.kind == "V" and array.dtype.type is not np.void  # such as bfloat16 of other libraries
    return array.astype(np.float64) if foreign else array


def _resolved(value: Any) -> Any:
    """Return the values of a real tensor without gradient or lazy sign, in a floating type that numpy knows."""
    value = value.detach().resolve_conj().resolve_neg()
    known = not value.is_floating_point() or str(value.dtype) in ("torch.float32", "torch.float64")
    return value if known else value.double()


def _nullable(value: Any) -> type | None:
    """Return the type for a pandas table or column of numbers some of which may be missing; None for all else."""
    if not hasattr(value, "to_numpy"):
        return None
    found: Any = getattr(value, "dtypes", getattr(value, "dtype", None))
    columns = list(found) if hasattr(found, "tolist") else [found]
    if not any(getattr(each, "_is_numeric", False) for each in columns):
        return None
    kinds = [getattr(each, "numpy_dtype", each) for each in columns]
    if not all(isinstance(each, np.dtype) and each.kind in "fiub" for each in kinds):
        return None
    return np.float32 if all(each == np.float32 for each in kinds) else np.float64


def _dense(value: Any, name: str) -> None:
    """Raise if a matrix or tensor is sparse, ragged, quantised, or without entries; any other value passes."""
    kind = type(value)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise InvalidInputError(f"{name} is sparse ({kind.__name__}); pass {name}.toarray().")
    if not hasattr(value, "detach"):
        return
    if getattr(value, "is_meta", False):
        raise InvalidInputError(f"{name} is a tensor on the device 'meta', which holds no entries.")
    if getattr(value, "is_nested", False):
        raise InvalidInputError(f"{name} is a nested tensor; its rows must be equally long, as torch.stack makes them.")
    if getattr(value, "is_quantized", False):
        raise InvalidInputError(f"{name} is a quantised tensor; pass {name}.dequantize().")
    if str(getattr(value, "layout", "torch.strided")) != "torch.strided":
        raise InvalidInputError(f"{name} is a sparse tensor ({value.layout}); pass {name}.to_dense().")


def samples(X: ArrayLike, name: str = "X") -> FloatArray:
    """Return the data matrix (n, p), one sample a row, checked."""
    array = real_array(X, name)
    if array.ndim != 2:
        raise InvalidInputError(
            f"{name} must be a matrix (n, p) with one sample a row, not of shape {array.shape}; "
            "a single sample x is x[None, :]."
        )
    if 0 in array.shape:
        raise InvalidInputError(f"{name} is empty: shape {array.shape}.")
    return array


def samples_on(device: Any, X: Any, name: str = "X") -> Any:
    """Return the data matrix, a tensor or not, as a tensor on a device, checked there as `samples` does."""
    import torch

    _dense(X, name)
    if not hasattr(X, "detach") or X.ndim != 2 or not X.numel() or X.is_complex():
        X = torch.from_numpy(np.require(samples(X, name), requirements=["C", "W"]))
    X = _resolved(X).to(device)
    if not X.is_floating_point():
        X = X.double()
    finite(X.numel() - int(X.isfinite().sum()), name)
    return X


def targets(y: ArrayLike, n: int) -> FloatArray:
    """Return the targets of n samples in double precision, (n,) or (n, k)."""
    array = real_array(y, "y").astype(np.float64)
    if array.ndim not in (1, 2) or len(array) != n or not array.size:
        raise InvalidInputError(f"y must be of shape ({n},) or ({n}, k) for {n} samples, not {array.shape}.")
    return array


def exponents(X: FloatArray, axis: int | None = None) -> IntArray:
    """Return the e for which ``ldexp(X, -e)``, exact, has its largest entry, or that of each row, between 1/2 and 1."""
    return cast(IntArray, np.frexp(np.abs(X).max(axis=axis, keepdims=True))[1])


def mean_squared_norm(X: FloatArray, name: str = "X") -> float:
    """Return the mean squared norm of samples; raise if it is one that nothing can be computed with."""
    exponent = exponents(X)
    scaled = np.ldexp(X.astype(np.float64, copy=False), -exponent)
    mean = float(np.einsum("ij,ij->", scaled, scaled)) / len(X)
    size = 0.5 * math.log10(mean) + float(exponent.item()) * math.log10(2) if mean else 0.0
    if not _NORMS[0] <= size <= _NORMS[1]:
        raise InvalidInputError(
            f"The root mean squared norm of {name} is 1e{size:+.0f}, and must lie between 1e{_NORMS[0]} and "
            f"1e{_NORMS[1]}: scale the data so that squared norms are of order one, as rmtdeq.center_and_scale does."
        )
    return math.ldexp(mean, 2 * int(exponent.item()))


def precision(dtype: DTypeLike | None, X: FloatArray) -> np.dtype[Any]:
    """Return the floating-point type asked for, or that of X."""
    try:
        result = np.dtype(X.dtype if dtype is None else dtype)
    except Exception as error:  # numpy reads many things as types, and fails at others in many ways
        raise InvalidInputError(f"dtype must be float64 or float32, not {_short(dtype)}.") from error
    if result not in (np.float32, np.float64):
        raise InvalidInputError(f"dtype must be float64 or float32, not {result}.")
    return result


def number(
    value: Any,
    name: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
) -> float:
    """Return `value` as a finite float within [low, high], the lower end excluded if `open_low`."""
    if isinstance(value, (str, bytes, bytearray)):  # float would read them
        raise InvalidInputError(f"{name} must be a number, not the text {_short(value)}.")
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must be a number, not {_short(value)}.") from error
    if not math.isfinite(result):
        raise InvalidInputError(f"{name} must be finite, not {result}.")
    if result < low or result > high or (open_low and result == low):
        bound = f"> {low:g}" if open_low else f">= {low:g}"
        upper = f" and <= {high:g}" if math.isfinite(high) else ""
        raise InvalidInputError(f"{name} must be {bound}{upper}, not {result:g}.")
    return result


def step(value: Any) -> float:
    """Return `value` as a step of gradient descent, that single precision can hold."""
    return number(value, "step", low=0, high=1e30, open_low=True)


def squared_norm(value: Any, name: str) -> float:
    """Return `value` as a mean squared norm that doubles can be computed with."""
    return number(number(value, name, low=0, open_low=True), name, low=1e-200, high=1e16)


def integer(value: Any, name: str, *, low: int = 1, high: int = 1 << 53) -> int:
    """Return `value` as an int from `low` to `high`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole and not (isinstance(value, (float, np.floating)) and float(value).is_integer()):
        raise InvalidInputError(f"{name} must be an integer, not {value!r}.")
    result = int(value)
    if result < low:
        raise InvalidInputError(f"{name} must be at least {low}, not {result}.")
    if result > high:
        raise InvalidInputError(f"{name} must be at most {high}, not {_short(result)}.")
    return result


def flag(value: Any, name: str) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidInputError(f"{name} must be True or False, not {_short(value)}.")
    return bool(value)


def _short(value: Any) -> str:
    return _short_text(repr(value))


def _short_text(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def choice(value: Any, name: str, options: Iterable[str]) -> str:
    """Return `value` if it is one of `options`."""
    options = tuple(options)
    if not isinstance(value, str) or value not in options:
        raise InvalidInputError(
            f"{name} must be one of {', '.join(map(repr, options))}, not {_short(value)}{suggestion(value, options)}."
        )
    return value


def suggestion(value: Any, options: Iterable[str]) -> str:
    """Return " (did you mean …?)" with the option that `value` may have been meant for; nothing if none is near."""
    if not isinstance(value, str):
        return ""
    by_lower = {option.lower(): option for option in options}
    near = get_close_matches(value.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def listed(names: Iterable[str]) -> str:
    """Return some names for a sentence, and how many there are beyond those."""
    every = tuple(names)
    more = len(every) - _NAMED
    return ", ".join(every[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def kinds(kind: str | Iterable[str]) -> tuple[Kind, ...]:
    """Return the requested kernels as a tuple of distinct names."""
    if not isinstance(kind, Iterable):
        raise InvalidInputError(f"kind must be a name or a tuple of names, not {_short(kind)}.")
    try:
        names = (kind,) if isinstance(kind, str) else tuple(kind)
    except TypeError:  # an array without dimensions
        names = (cast(str, kind),)
    if not names:
        raise InvalidInputError(f"kind is empty; name at least one of {', '.join(map(repr, KINDS))}.")
    for name in names:
        choice(name, "kind", KINDS)
    if len(set(names)) != len(names):
        raise InvalidInputError(f"kind names the same kernel twice: {names}.")
    return cast(tuple[Kind, ...], names)


def recurrent(name: str) -> Recurrent:
    """Return the name of a law of recurrent weights."""
    return cast(Recurrent, choice(name, "recurrent", RECURRENT))


def as_asked(kind: str | Iterable[str], results: Iterable[T]) -> T | tuple[T, ...]:
    """Return the results of several kinds as a tuple, or the one result where `kind` is a name."""
    found = tuple(results)
    return found[0] if isinstance(kind, str) else found


_ORDER_ONE = (0.1, 10.0)
_NORMS = (-100, 8)
"""Powers of ten between which a norm may lie."""

RELABEL = "numpy.unique(y, return_inverse=True)[1]"
"""What makes labels 0 ... K-1 of any others."""


def labels(y: ArrayLike, n: int, classes: int | None = None, *, p: int | None = None) -> IntArray:
    """Return class labels 0..K-1 of n samples; `classes` is K and p the number of features where these are known."""
    if classes is not None:
        classes = integer(classes, "classes")
    try:
        array = _plain(y)
    except Exception as error:  # as in `real_array`
        raise InvalidInputError(f"y is not an array of labels: {_short_text(str(error))}.") from error
    if array.ndim != 1 or array.shape[0] != n:
        raise InvalidInputError(
            f"y must hold one label for each of the {n} samples, not shape {array.shape}"
            f"{one_hot(array) or transposed(array.shape, p)}."
        )
    whole = array.dtype.kind in "iub"
    if not whole and array.dtype.kind == "f":
        whole = bool(np.isfinite(array).all() and (array == np.round(array)).all())
    if not whole:
        what = {"U": "texts", "S": "texts", "f": "numbers that are not whole"}.get(array.dtype.kind, str(array.dtype))
        raise InvalidInputError(f"y must hold integer class labels 0 ... K-1, not {what}; relabel with {RELABEL}.")
    array = array.astype(np.int64)
    low, high = int(array.min()), int(array.max())
    if low < 0 or (classes is not None and high >= classes):
        known = f"0..{classes - 1}" if classes is not None else "0, 1, ..."
        raise InvalidInputError(f"y holds labels {low}..{high}, the classes are {known}; relabel with {RELABEL}.")
    return cast(IntArray, array)


def one_hot(array: np.ndarray[Any, Any]) -> str:
    """Return advice if labels are rows of indicators, one column a class; else nothing."""
    indicators = (
        array.ndim == 2
        and array.shape[1] > 1
        and array.dtype.kind in "iubf"
        and bool(((array == 0) | (array == 1)).all())
        and bool((array.sum(axis=1) == 1).all())
    )
    return "; these are indicators of classes: take y.argmax(axis=1)" if indicators else ""


def transposed(shape: tuple[int, ...], p: int | None) -> str:
    """Return a question if there are as many labels, of some shape, as the samples have features; else nothing."""
    return "; is X transposed? It has one sample a row" if shape == (p,) else ""


def warn_of_scale(mean: float, model: str = "") -> None:
    """Warn of samples whose mean squared norm is not of the order that is meant: one, or p of the named model."""
    if not mean > 0 or _ORDER_ONE[0] <= mean <= _ORDER_ONE[1]:
        return
    if model:
        meant = f"p times {mean:.3g} on average, and those of {model} should be p: take rmtdeq.on_sphere(X, p**0.5)."
    else:
        meant = (
            f"{mean:.3g} on average, and the model is meant for order one: divide them by {mean**0.5:.3g} (scale= of "
            "DEQKernel), or take rmtdeq.center_and_scale(X)."
        )
    warnings.warn(f"The samples' squared norms are {meant}", stacklevel=_callers_level())


def _callers_level() -> int:
    """Return how far up the stack, seen by `warn_of_scale`, the package's user is."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("rmtdeq"):
        frame, level = frame.f_back, level + 1
    return level


def generator(seed: Seed) -> np.random.Generator:
    """Return the numpy Generator that `seed` stands for."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(None if seed is None else integer(seed, "seed", low=0, high=1 << 128))


def folder(value: Any, name: str) -> Path:
    """Return `value` as the path of a folder, which need not be there yet."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise InvalidInputError(f"{name} must be the path of a folder, not {_short(value)}.")
    path = Path(value)
    try:
        path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise InvalidInputError(f"{name} {_short(str(path))} cannot be used: {error.strerror}.") from error
    return path


def memory_allowed(limit: float | None) -> tuple[float, str]:
    """Return how many bytes may be used and what says so: `limit`, or nine tenths of what is available."""
    if limit is None:
        return 0.9 * available_memory(), "available memory"
    return number(limit, "memory_limit", low=0, open_low=True), "memory_limit"


def memory(needed: int, limit: float | None, what: str, remedy: str) -> None:
    """Raise `MemoryLimitError` if `needed` bytes exceed what `memory_allowed` says."""
    allowed, source = memory_allowed(limit)
    if needed > allowed:
        raise MemoryLimitError(
            f"{what} takes {needed / 2**30:.3g} GiB, more than the {source} of {allowed / 2**30:.3g} GiB; {remedy}."
        )
