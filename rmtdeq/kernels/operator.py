"""Kernels as linear operators: products with vectors, the matrix never stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq import _check
from rmtdeq._linear import SymmetricOperator
from rmtdeq._types import KINDS, FloatArray, Kind
from rmtdeq.deq import DEQ
from rmtdeq.kernels.fill import fill_rows
from rmtdeq.kernels.gram import prepare
from rmtdeq.kernels.inputs import Samples
from rmtdeq.kernels.plan import Plan, make_plan

_ROWS_BYTES = 64 << 20


class KernelOperator(SymmetricOperator):
    """A symmetric kernel matrix that is recomputed, some rows at a time, for every product.

    Made by `kernel_operator`; a scipy LinearOperator of shape (n, n).
    """

    def __init__(self, plan: Plan, kind: Kind, dtype: np.dtype[Any], progress: bool) -> None:
        n = plan.inputs.shape[0]
        self._plan = plan
        self._kind = kind
        self._progress = progress
        self._rows = max(1, min(n, _ROWS_BYTES // (n * dtype.itemsize)))
        super().__init__(dtype=dtype, shape=(n, n))

    def _matmat(self, V: FloatArray) -> FloatArray:
        from tqdm import tqdm

        n = self.shape[0]
        result = np.empty((n, V.shape[1]), dtype=np.result_type(self.dtype, V.dtype))
        scratch = np.empty((self._rows, n), dtype=self.dtype)
        starts = range(0, n, self._rows)
        # disable=None: silent where stderr is not a terminal.
        for start in tqdm(starts, desc="kernel product", disable=None if self._progress else True, leave=False):
            stop = min(start + self._rows, n)
            part = scratch[: stop - start]
            fill_rows(self._plan, start, stop, {self._kind: part}, mirror=False)
            np.matmul(part, V, out=result[start:stop])
        return result


def kernel_operator(
    X: ArrayLike,
    deq: DEQ,
    kind: str = "ck",
    *,
    tau0_squared: float | None = None,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    device: str | None = None,
    progress: bool = False,
) -> Any:
    """Return a kernel as a scipy LinearOperator that never stores the n x n matrix.

    Every product computes the kernel afresh, 64 MiB of rows at a time; it costs about two calls of `kernel`.

    Parameters
    ----------
    X, deq, tau0_squared, backend, dtype, device, progress
        As for `kernel`.
    kind : str
        One of ``"ck"``, ``"ntk"``, ``"ntk-full"``.

    Returns
    -------
    KernelOperator
        Of shape (n, n), symmetric.

    Raises
    ------
    InvalidInputError, IllPosedError
        As for `kernel`.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> X = np.random.default_rng(0).standard_normal((100, 50)) / np.sqrt(50)
    >>> op = rd.kernel_operator(X, rd.DEQ("relu", sigma_a2=0.2, sigma_b2=0.8), kind="ntk")
    >>> op.shape, (op @ np.ones(100)).shape
    ((100, 100), (100,))
    """
    _check.choice(kind, "kind", KINDS)
    kinds = _check.kinds(kind)
    X, _, _ = prepare(X, None, dtype, backend, device)
    return KernelOperator(make_plan(Samples(X, None), deq, kinds, backend, tau0_squared), kinds[0], X.dtype, progress)
