"""When a layer has kernels at all: each condition once, as a check that says what is wrong and what to do.

A layer is named by its `Layer.title`.
"""

from __future__ import annotations

import math

from rmtdeq._lib.errors import IllPosedError


def require_diagonal_contraction(title: str, slope: float, where: str = "") -> None:
    """Raise unless the diagonal of the kernel map, s ↦ σ_a² E φ(√s ξ)² + …, has a slope below one."""
    _require_below_one(title, slope, "the diagonal of the kernel map has slope", where)


def require_contraction(title: str, slope: float, where: str = "") -> None:
    """Raise unless the kernel map of two nearly orthogonal samples has a slope σ_a² E[φ']² below one."""
    _require_below_one(title, slope, "the kernel map off the diagonal has slope", where)


def no_pair_contraction(title: str, pairs: int) -> IllPosedError:
    """Return the exception for pairs of samples at whose fixed point σ_a² E φ'(u)φ'(v) is one or more."""
    return IllPosedError(
        f"{title} is no contraction on these data: the kernel map has slope 1 or more for {pairs} pair(s) of samples; "
        "lower sigma_a2."
    )


def require_finite_tangent(title: str, slope: float, where: str = "") -> None:
    """Raise unless σ_a² E φ'² is below one: the NTK, a geometric series in it, is infinite there."""
    if not (math.isfinite(slope) and slope < 1):
        raise IllPosedError(
            f"The NTK of {title} is infinite{where}: σ_a² E φ'² is {slope:.4g}, and it must be below 1; lower sigma_a2."
        )


def infinite_tangent_of_jump(title: str) -> IllPosedError:
    """Return the exception for a tangent kernel that carries the infinite E φ'² of a jump."""
    return IllPosedError(
        f"The NTK of {title} is infinite: the activation jumps, and E φ'² is infinite. It has a conjugate "
        "kernel, 'ck'; of a first layer without recurrence, sigma_a2 = 0, also 'ntk', which is the same."
    )


def require_stable(title: str, slope: float, where: str = "") -> None:
    """Raise unless the iteration of random networks of finite width comes to rest: σ_a² E φ'² below one."""
    if not slope < 1:
        raise IllPosedError(
            f"Random networks of {title} have no stable equilibrium{where}: sigma_a2 E[activation'^2] is "
            f"{slope:.4g}, and at 1 or more the iteration is no contraction; lower sigma_a2."
        )


def _require_below_one(title: str, slope: float, what: str, where: str) -> None:
    if not (math.isfinite(slope) and slope < 1):
        raise IllPosedError(
            f"{title} is no contraction{where}: {what} {slope:.4g}, and it must be below 1; lower sigma_a2 or "
            "the scale of the activation."
        )
