"""The diagonal of a kernel alone, which depends on the samples' norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from rmtdeq._lib import check
from rmtdeq._lib.arrays import as_given
from rmtdeq.kernels.computation import Computation, placement
from rmtdeq.kernels.plan import make_plan
from rmtdeq.network import Network


def kernel_diagonal(
    X: ArrayLike,
    deq: Network,
    kind: str | Sequence[str] = "ck",
    *,
    tau0_squared: float | None = None,
    dtype: DTypeLike | None = None,
) -> Any:
    """Compute the diagonal of a kernel.

    Parameters
    ----------
    X, deq, tau0_squared, dtype
        As for `rmtdeq.kernel`.
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``, or several.

    Returns
    -------
    ndarray (n,), or a tuple of them, one for each kind; in the library of X, as for `rmtdeq.kernel`

    Raises
    ------
    InvalidInputError, IllPosedError
        As for `rmtdeq.kernel`.
    """
    kinds = check.kinds(kind)
    inputs = placement(X, None, Computation("numpy", dtype=dtype)).inputs
    found = make_plan(inputs, deq, kinds, tau0_squared).diagonal(slice(0, inputs.shape[0]), kinds)
    return check.as_asked(kind, (as_given(found[each].astype(inputs.dtype, copy=False), X) for each in kinds))
