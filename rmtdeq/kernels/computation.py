"""How a kernel is computed: by which engine, where, in which precision, and from what."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.arrays import is_tensor
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq.kernels.samples import PRODUCTS, Samples, samples_of

BACKENDS = ("auto", "numba", "numpy", "torch", "triton", "dask")
_ON_CPU = ("numba", "numpy")
"""Those that take arrays and no tensors."""

logger = logging.getLogger(__name__)

_SMALL = 1 << 20
"""So few entries are computed sooner by torch than Triton compiles its first kernel."""


@dataclass(frozen=True)
class Computation:
    """How to compute a kernel, as its user asked; made once by each public function.

    Attributes
    ----------
    backend : str
        ``"auto"``: numba on the CPU; on a card of CUDA or ROCm Triton, where it is installed and there is enough to do;
        torch elsewhere.  The choice is logged.
    device : str, torch.device or None
        None: where X is, or the CPU.
    dtype : dtype or None
        Of the result; None: that of the samples, or float32 where these are rounded.
    products : str
        One of `PRODUCTS`.
    memory_limit : float or None
        Bytes that results may take; None: nine tenths of the free memory.

    Raises
    ------
    InvalidInputError
        Unknown names; a precision that rounded samples do not have; a limit that is no positive number.
    """

    backend: str = "auto"
    device: Any = None
    dtype: Any = None
    products: str = "full"
    memory_limit: float | None = None

    def __post_init__(self) -> None:
        check.choice(self.backend, "backend", BACKENDS)
        check.choice(self.products, "products", PRODUCTS)
        object.__setattr__(self, "dtype", self._precision())
        if self.memory_limit is not None:
            check.memory_allowed(self.memory_limit)

    def _precision(self) -> np.dtype[Any] | None:
        rounded = self.products != "full"
        if self.dtype is None:
            return np.dtype(np.float32) if rounded else None
        found = check.precision(self.dtype, np.empty(0))
        if rounded and found != np.float32:
            raise InvalidInputError(
                f"products={self.products!r} are rounded more than dtype={self.dtype!r} says; pass dtype='float32', or "
                "none."
            )
        return found


@dataclass(frozen=True, eq=False)
class Placement:
    """An engine, its device if it has one, and the samples, checked, in their precision.

    Attributes
    ----------
    backend : str
        One of `BACKENDS` but the first.
    device : torch.device or None
        None for the engines of the CPU; what was asked for where the workers of a cluster compute.
    inputs : Samples
    """

    backend: str
    device: Any
    inputs: Samples

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples and of what is computed from them."""
        return self.inputs.dtype


def placement(X: ArrayLike, Y: ArrayLike | None, how: Computation, *, keep: bool = False) -> Placement:
    """Check samples, and say who computes.

    Parameters
    ----------
    X, Y : array_like (n, p), (m, p)
    how : Computation
    keep : bool
        Copy the samples, so that the caller may change them.

    Raises
    ------
    InvalidInputError
        Samples that are none; an engine that does not run there; a device that torch cannot use.
    MissingDependencyError
        torch or Triton is wanted and not installed.
    """
    backend, device = how.backend, how.device
    if backend != "dask":
        backend, device = engine(X, Y, backend=backend, device=device)
    if any(getattr(each, "requires_grad", False) for each in (X, Y)):
        logger.warning("Kernels have no gradient: they are computed from the values of samples that require one.")
    inputs: Samples
    if backend == "dask":
        from rmtdeq.kernels.pieces import samples_in_pieces

        inputs = samples_in_pieces(X, Y, how.dtype, how.products)
    elif device is not None and is_tensor(X):
        from rmtdeq.kernels.tensors import tensors_of

        inputs = tensors_of(X, Y, how.dtype, how.products, device)
    else:
        inputs = samples_of(X, Y, how.dtype, how.products)
    return Placement(backend, device, inputs.copy() if keep else inputs)


def engine(X: Any, Y: Any = None, *, backend: str = "auto", device: Any = None) -> tuple[str, Any]:
    """Return the name of the engine and its device, None on the CPU; see `Computation`."""
    check.choice(backend, "backend", BACKENDS)
    home = str(X.device) if is_tensor(X) else "cpu"
    wanted = home if device is None else str(device)
    if backend == "auto":
        if wanted != "cpu":
            _device(wanted)
        backend = _choice(wanted, X, Y)
    if backend in _ON_CPU:
        if device is not None and wanted != "cpu":
            raise InvalidInputError(f"backend={backend!r} runs on the CPU; for device={wanted!r} take backend='torch'.")
        return backend, None
    found = _device(wanted)
    if backend == "triton":
        _require_triton(found)
    return backend, found


def _choice(wanted: str, X: Any, Y: Any) -> str:
    kind = wanted.partition(":")[0]
    if kind == "cpu":
        return "numba"
    columns = X if Y is None else Y
    enough = all(hasattr(each, "__len__") for each in (X, columns)) and len(X) * len(columns) >= _SMALL
    if kind != "cuda":
        backend, reason = "torch", "Triton has no such device"
    elif importlib.util.find_spec("triton") is None:
        backend, reason = "torch", 'Triton, pip install "rmtdeq[triton]", would be faster'
    elif not enough:
        backend, reason = "torch", "too few samples to compile for"
    else:
        backend, reason = "triton", "one pass over each tile"
    logger.info("Kernels are computed by %s on %s (%s).", backend, wanted, reason)
    return backend


def _device(wanted: str) -> Any:
    torch = require("torch")
    try:
        device = torch.device(wanted)
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"device={wanted!r} cannot be used, or not in double precision: {reason[:200]}; leave device out to "
            "compute on the CPU."
        ) from error
    return device


def _require_triton(device: Any) -> None:
    triton = require("triton")
    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise InvalidInputError(
            f"backend='triton' needs a GPU, device='cuda', and was given {str(device)!r}; take backend='torch' there, "
            "or start Python with TRITON_INTERPRET=1 in its environment to try it, slowly, on a CPU."
        )
