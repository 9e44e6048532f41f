"""The diagonal of a kernel alone, which depends on the samples' norms."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq import _check
from rmtdeq._types import KINDS, FloatArray
from rmtdeq.deq import DEQ
from rmtdeq.kernels.fill import Block, diagonal_entries
from rmtdeq.kernels.placement import placement
from rmtdeq.kernels.plan import make_plan


def kernel_diagonal(
    X: ArrayLike,
    deq: DEQ,
    kind: str = "ck",
    *,
    tau0_squared: float | None = None,
    dtype: DTypeLike | None = None,
) -> FloatArray:
    """Compute the diagonal of a kernel.

    Parameters
    ----------
    X, deq, tau0_squared, dtype
        As for `rmtdeq.kernel`.
    kind : str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``.

    Returns
    -------
    ndarray (n,)

    Raises
    ------
    InvalidInputError, IllPosedError
        As for `rmtdeq.kernel`.
    """
    (name,) = _check.kinds(_check.choice(kind, "kind", KINDS))
    place = placement(X, backend="numpy", dtype=dtype)
    n = place.inputs.shape[0]
    plan = make_plan(place, deq, (name,), tau0_squared)
    entries = diagonal_entries(plan, Block(0, n, 0, n), (name,))[1][name]
    return np.asarray(entries, dtype=place.dtype)
