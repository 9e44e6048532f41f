"""The diagonal of a kernel alone, which depends on the samples' norms."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq import _check
from rmtdeq._types import KINDS, FloatArray
from rmtdeq.kernels.computation import Computation, placement
from rmtdeq.kernels.plan import make_plan
from rmtdeq.network import Network


def kernel_diagonal(
    X: ArrayLike,
    deq: Network,
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
    inputs = placement(X, None, Computation("numpy", dtype=dtype)).inputs
    plan = make_plan(inputs, deq, (name,), tau0_squared)
    return np.asarray(plan.diagonal(slice(0, inputs.shape[0]), (name,))[name], dtype=inputs.dtype)
