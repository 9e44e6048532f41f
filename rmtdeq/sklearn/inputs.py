"""Input checked as scikit-learn does, with its sentences and the package's exceptions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from rmtdeq._lib import check
from rmtdeq._lib.arrays import is_foreign, is_tensor
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray

_NO_TARGET = "Input y contains"


class NotNumbersError(InvalidInputError, TypeError):
    """Objects that are no numbers, for which scikit-learn's estimators raise a TypeError."""


def validated(estimator: Any, X: ArrayLike, *, reset: bool) -> FloatArray:
    """Return samples checked; `reset` where they are those that the estimator learns from."""
    return _checked(estimator, X, reset=reset)


def with_targets(estimator: Any, X: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return samples and their targets, (n,) or (n, k)."""
    found: tuple[FloatArray, FloatArray] = _checked(
        estimator, X, _known(y, "y"), multi_output=True, y_numeric=True, ensure_min_samples=2
    )
    return found


def with_labels(estimator: Any, X: ArrayLike, y: ArrayLike) -> tuple[FloatArray, np.ndarray[Any, Any]]:
    """Return samples and their labels, of any type."""
    labels = np.asarray(y.detach().cpu()) if hasattr(y, "detach") else y
    found: tuple[FloatArray, np.ndarray[Any, Any]] = _checked(estimator, X, labels, ensure_min_samples=2)
    try:
        check_classification_targets(found[1])
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
    return found


def weights(sample_weight: ArrayLike | None, n: int) -> FloatArray | None:
    """Return one weight for each of n samples, none negative; None for equal ones.

    Raises
    ------
    InvalidInputError
        Another number of them, negative ones, or fewer than two that are positive.
    """
    if sample_weight is None:
        return None
    found = check.real_array(sample_weight, "sample_weight", ndim=1).astype(float)
    if len(found) != n:
        raise InvalidInputError(f"sample_weight must hold one weight for each of the {n} samples, not {len(found)}.")
    if (found < 0).any() or np.count_nonzero(found) < 2:
        raise InvalidInputError("A sample_weight is zero or more, and for two samples at least more than zero.")
    return found


def _checked(estimator: Any, X: ArrayLike, *y: Any, **options: Any) -> Any:
    try:
        return validate_data(estimator, _known(X, "X"), *y, dtype=[np.float64, np.float32], **options)
    except (TypeError, ValueError, OverflowError) as error:
        refused = NotNumbersError if isinstance(error, TypeError) else InvalidInputError
        said = str(error).strip().removesuffix(".")
        remedy = "; leave these samples out, or fill in their targets" if said.startswith(_NO_TARGET) else ""
        raise refused(f"{said}{remedy}.") from error


def _known(array: Any, name: str) -> Any:
    """Return arrays of types that scikit-learn does not know as one that it does."""
    return check.real_array(array, name) if is_tensor(array) or is_foreign(array) else array
