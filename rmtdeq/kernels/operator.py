"""Kernels as linear operators: products with vectors, the matrix stored by halves or not at all."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq import _check
from rmtdeq._checkpoint import Checkpoint
from rmtdeq._errors import InvalidInputError
from rmtdeq._linear import SymmetricOperator
from rmtdeq._threads import share_out
from rmtdeq._types import KINDS, FloatArray, Kind
from rmtdeq.deq import DEQ
from rmtdeq.kernels.fill import HEIGHT, WIDTH, Block
from rmtdeq.kernels.identity import identity
from rmtdeq.kernels.inputs import Samples
from rmtdeq.kernels.matrix import BlockWorker, worker_for, workers_for
from rmtdeq.kernels.panels import Layout, Panels, below_diagonal
from rmtdeq.kernels.placement import placement, prepare
from rmtdeq.kernels.plan import Plan, make_plan
from rmtdeq.kernels.storage import METHODS, choose


class KernelOperator(SymmetricOperator):
    """A symmetric kernel matrix, to be multiplied with vectors; made by `kernel_operator`.

    A scipy LinearOperator of shape (n, n).  Products are taken in double precision whatever the entries' is; they are
    returned in the precision asked for, or the vectors' where it is higher.

    Attributes
    ----------
    method : str
        How it is stored: ``"dense"``, ``"float32"``, ``"memory-mapped"`` or ``"matrix-free"``.
    entries_dtype : dtype
        Precision of the entries.
    """

    def __init__(
        self,
        plan: Plan,
        kind: Kind,
        dtype: np.dtype[Any],
        entries_dtype: np.dtype[Any],
        method: str,
        folder: Path | None = None,
        progress: bool = False,
    ) -> None:
        n = plan.inputs.shape[0]
        self.method = method
        self.entries_dtype = entries_dtype
        self._plan, self._kind, self._progress = plan, kind, progress
        self._remove_files: Callable[[], object] = lambda: None
        self._panels: Panels | None = None
        if method != "matrix-free":
            if method == "memory-mapped" and folder is None:
                folder = Path(tempfile.mkdtemp(prefix="rmtdeq-"))
                self._remove_files = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            elif folder is not None:
                Checkpoint(folder, self.identity(), "kernel")
            self._panels = Panels(Layout(n, entries_dtype), folder)
        super().__init__(dtype=dtype, shape=(n, n))

    def close(self) -> None:
        """Forget what is stored, and remove temporary files; products compute the entries afresh from then on.

        The files are removed with the operator at the latest.
        """
        self.method, self._panels = "matrix-free", None
        self._remove_files()

    def identity(self) -> dict[str, Any]:
        """Return what the matrix depends on, with checksums of samples and activation."""
        return identity(self._plan, self._kind, self.entries_dtype)

    def compute(self) -> KernelOperator:
        """Compute and store now what the first product would; return the operator itself."""
        if self._panels is not None and self._panels.missing:
            self._panels.compute(self._fill, f"{self._kind}, half of {self.shape[0]} x {self.shape[0]}", self._progress)
        return self

    def _fill(self, blocks: list[Block], entries: list[FloatArray]) -> None:
        def work(_: int) -> Callable[[tuple[Block, FloatArray]], None]:
            worker = worker_for(self._plan, self.entries_dtype)
            return lambda pair: self._fill_one(worker, *pair)

        pairs = list(zip(blocks, entries, strict=True))
        share_out(pairs, work, workers_for(self._plan, len(pairs)))

    def _fill_one(self, worker: BlockWorker, block: Block, entries: FloatArray) -> None:
        worker.fill(block, {self._kind: entries}, origin=(block.top, block.left), mirror=block.left == block.top)

    def _matmat(self, V: FloatArray) -> FloatArray:
        if np.iscomplexobj(V):
            return np.asarray(self._matmat(V.real) + 1j * self._matmat(V.imag))
        result_dtype = np.result_type(self.dtype, V.dtype)
        panels = self.compute()._panels
        pairs: list[tuple[Block, FloatArray | None]]
        if panels is None:
            pairs = [(block, None) for block in below_diagonal(self.shape[0])]
        else:
            pairs = list(panels.all_blocks())
        return self._product(pairs, np.ascontiguousarray(V, dtype=np.float64)).astype(result_dtype, copy=False)

    def _product(self, pairs: list[tuple[Block, FloatArray | None]], V: FloatArray) -> FloatArray:
        """Add up the products of all blocks and of their mirror images; blocks without entries are computed."""
        workers = workers_for(self._plan, len(pairs))
        parts = [np.zeros(V.shape) for _ in range(workers)]

        def work(number: int) -> Callable[[tuple[Block, FloatArray | None]], None]:
            worker, result = worker_for(self._plan, self.entries_dtype), parts[number]
            scratch = np.empty(HEIGHT * WIDTH, self.entries_dtype)

            def multiply(pair: tuple[Block, FloatArray | None]) -> None:
                block, entries = pair
                if entries is None:
                    entries = scratch[: block.size].reshape(block.shape)
                    self._fill_one(worker, block, entries)
                # In double precision: a rounded vector would not be the same to both halves of the matrix.
                entries = entries.astype(np.float64, copy=False)
                result[block.top : block.bottom] += entries @ V[block.left : block.right]
                if block.left != block.top:
                    result[block.left : block.right] += entries.T @ V[block.top : block.bottom]

            return multiply

        # Each thread has the same blocks every time, so that sums round the same way.
        progress = self._progress and self._panels is None
        share_out(pairs, work, workers, fixed=True, what="kernel product", progress=progress)
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total


def kernel_operator(
    X: ArrayLike,
    deq: DEQ,
    kind: str = "ck",
    *,
    method: str = "auto",
    folder: str | Path | None = None,
    tau0_squared: float | None = None,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    device: str | None = None,
    memory_limit: float | None = None,
    progress: bool = False,
) -> KernelOperator:
    """Return a kernel as a scipy LinearOperator that never stores the n x n matrix, at most one half of it.

    Parameters
    ----------
    X, deq, tau0_squared, backend, device
        As for `kernel`.
    kind : str
        One of ``"ck"``, ``"ntk"``, ``"ntk-full"``.
    method : str
        ``"dense"``: the half below the diagonal is computed once, at the first product, and kept in memory, n²/2
        entries; ``"float32"``: the same in single precision; ``"memory-mapped"``: in files; ``"matrix-free"``:
        entries are computed afresh for every product, which costs about one call of `kernel`.  ``"auto"`` takes the
        first of the four that fits and logs its choice (a warning where it lowers the precision); with a `folder`,
        ``"memory-mapped"``.
    folder : path, optional
        Where the files of ``"memory-mapped"`` are.  Files that are already there are used, so that an interrupted
        computation goes on; they must be of the same samples and model.  A temporary folder by default.
    dtype : dtype, optional
        float64 or float32 of the entries; that of X by default.  ``"auto"`` does not lower it where it is given.
    memory_limit : float, optional
        Bytes that the stored half may take; nine tenths of the free memory by default.
    progress : bool
        Show a progress bar while entries are computed, if standard error is a terminal.

    Returns
    -------
    KernelOperator
        Of shape (n, n), symmetric.

    Raises
    ------
    InvalidInputError, IllPosedError
        As for `kernel`; files in `folder` that are of another kernel.
    MemoryLimitError
        The stored half does not fit where `method` wants it.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> X = np.random.default_rng(0).standard_normal((100, 50)) / np.sqrt(50)
    >>> op = rd.kernel_operator(X, rd.DEQ("relu", sigma_a2=0.2, sigma_b2=0.8), kind="ntk")
    >>> op.method, op.shape, (op @ np.ones(100)).shape
    ('dense', (100, 100), (100,))
    """
    _check.choice(kind, "kind", KINDS)
    kinds = _check.kinds(kind)
    _check.choice(method, "method", METHODS)
    if folder is not None and method not in ("auto", "memory-mapped"):
        raise InvalidInputError(f"folder= is for method='memory-mapped', not {method!r}.")
    backend, place_of = placement(backend, device, X)
    X, _, precision = prepare(X, None, dtype)
    if method == "float32" and dtype is not None and precision != np.float32:
        raise InvalidInputError(f"method='float32' stores single precision, and dtype={precision} asks for more.")
    place = None if folder is None else _check.folder(folder, "folder")
    method = choose(method, X.shape[0], precision, dtype is not None, place, memory_limit)
    if method == "float32":
        X = np.ascontiguousarray(X, dtype=np.float32)
    plan = make_plan(Samples(X, None), deq, kinds, backend, tau0_squared, X.dtype, progress, place_of)
    return KernelOperator(plan, kinds[0], precision, X.dtype, method, place, progress)
