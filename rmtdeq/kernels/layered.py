"""The exact kernels of an explicit network of infinite width, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq import _check
from rmtdeq._errors import InvalidInputError
from rmtdeq._types import FloatArray, Kind
from rmtdeq.deq import DEQ
from rmtdeq.gauss import Activation
from rmtdeq.kernels.fill import scratch_bytes
from rmtdeq.kernels.inputs import LayerBefore
from rmtdeq.kernels.matrix import fill_matrix
from rmtdeq.kernels.placement import Placement, placement
from rmtdeq.kernels.plan import make_plan


def layered_kernel(
    X: ArrayLike,
    layers: Sequence[Activation],
    kind: str | Sequence[str] = "ck",
    *,
    Y: ArrayLike | None = None,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    device: Any = None,
    products: str = "full",
    memory_limit: float | None = None,
    progress: bool = True,
) -> Any:
    """Compute the kernels of x ↦ σ_L(W_L … σ_1(W_1 x)/√m … )/√m with independent N(0, 1) weights, m → ∞.

    Parameters
    ----------
    X : array_like (n, p)
    layers : sequence of Activation
        σ_1 … σ_L, each one that acts on a layer of infinite width.
    kind : str or tuple of str
        ``"ck"``; ``"ntk"``, the first layer's weights fixed; ``"ntk-full"``, all weights trained.
    Y, backend, dtype, device, products, memory_limit, progress
        As for `rmtdeq.kernel`.

    Returns
    -------
    ndarray (n, m), or a tuple of them
        One for each kind, in the order asked for.

    Raises
    ------
    InvalidInputError, MemoryLimitError
        As for `rmtdeq.kernel`; no layer; a tangent kernel of a layer that jumps.

    Notes
    -----
    CK_ℓ = E σ_ℓ(u)σ_ℓ(v) with (u, v) Gaussian of covariance CK_{ℓ-1}, and Θ_ℓ = CK_ℓ + Θ_{ℓ-1} ∘ E σ_ℓ'(u)σ_ℓ'(v),
    from Θ_0 = 0 ("ntk") or X Xᵀ ("ntk-full").
    """
    kinds = _check.kinds(kind)
    place = placement(X, Y, backend=backend, device=device, dtype=dtype, products=products)
    if not layers:
        raise InvalidInputError("An explicit network needs at least one layer.")
    n, m = place.inputs.shape
    # Each tangent kernel has its own matrix, the conjugate kernel one, and each is there twice while a layer is built.
    tangents: list[Kind] = [name for name in kinds if name != "ck"]
    _check.memory(
        2 * (1 + len(tangents)) * n * m * place.dtype.itemsize + scratch_bytes(place.dtype.itemsize),
        memory_limit,
        f"The kernels of the layers, {n} x {m} entries each,",
        "take fewer samples, or dtype='float32'",
    )
    results: dict[Kind, FloatArray] = {}
    for name in tangents or ["ck"]:
        conjugate, tangent = _through_layers(place, layers, name, progress)
        results["ck"] = conjugate
        if tangent is not None:
            results[name] = tangent
    found = tuple(results[name] for name in kinds)
    return found[0] if isinstance(kind, str) else found


def _through_layers(
    place: Placement, layers: Sequence[Activation], kind: Kind, progress: bool
) -> tuple[FloatArray, FloatArray | None]:
    """Return the conjugate kernel of the last layer, and the tangent kernel if `kind` is one."""
    conjugate, tangent, before = np.empty(0), None, None
    for depth, layer in enumerate(layers):
        # One layer is a network whose recurrence has no weight; "ntk-full" adds what its input carries.
        starts = depth == 0 and kind == "ntk"
        names: tuple[Kind, ...] = ("ck",) if kind == "ck" or starts else ("ck", "ntk-full")
        plan = make_plan(place, DEQ(layer, 0.0, 1.0, centered=False), names, progress=progress, inputs=before)
        outputs = {name: np.empty(plan.inputs.shape, place.dtype) for name in names}
        fill_matrix(plan, outputs, place.dtype, what=f"layer {depth + 1}", progress=progress)
        conjugate = outputs["ck"]
        # The first layer's weights fixed: its tangent kernel is the read-out's, which is the conjugate kernel.
        tangent = None if kind == "ck" else outputs.get("ntk-full", conjugate)
        before = LayerBefore(conjugate, plan.rows.square, plan.columns.square, tangent, plan.same)
    return conjugate, tangent
