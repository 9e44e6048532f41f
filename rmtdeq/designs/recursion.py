"""What layers of infinite width do to the coefficients of a kernel.

For layer ℓ, centred at the scale τ_{ℓ-1} of its input, with moments there and the CK's (a_1, a_2, a_3, a_4):

    a_1' = E[σ']²a_1,  a_2' = E[σ']²a_2 + ¼E[σ'']²a_4²,  a_3' = E[σ']²a_3 + ½E[σ'']²a_1²,  a_4' = ½E[(σ²)'']a_4

and for the tangent kernel b' = a' + E[σ']²b, with E[σ'']²a_1b_1 more in b_3', and κ'² = τ'² + κ²E[σ'²]
(arXiv 2402.02697).  It starts at b = 0 ("ntk", the first layer's weights fixed) or b_1 = 1, κ² = τ_0² ("ntk-full").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.activations import Activation, moments
from rmtdeq.designs.families import Basis
from rmtdeq.theory import KernelCoefficients


@dataclass(frozen=True)
class LayerMoments:
    """What the recursion needs of a layer: E σ', E σ'', ½E(σ²)'', E σ² and E σ'²."""

    first: float
    second: float
    half_square_second: float
    square: float
    first_square: float


def moments_of_layer(layer: Activation, tau: float) -> LayerMoments:
    """Moments at scale τ, by quadrature."""
    at = moments(layer, tau)
    return LayerMoments(at.first, at.second, 0.5 * at.square_second, at.square, at.first_square)


def moments_of_member(basis: Basis, c: FloatArray, tau: float) -> LayerMoments:
    """Moments at scale τ of a member of a family, in closed form."""
    used = np.flatnonzero(c)
    slopes = basis.slopes[np.ix_(used, used)]
    return LayerMoments(
        first=basis.linear * float(c[0]) / tau,
        second=np.sqrt(2) * basis.curved * float(c[1]) / tau**2,
        half_square_second=float(c @ basis.square @ c) / tau**2,
        square=float(c @ c),
        first_square=float(c[used] @ slopes @ c[used]) / tau**2 if np.isfinite(slopes).all() else np.inf,
    )


def explicit_coefficients(layers: Sequence[Activation], tau0_squared: float, kind: Kind) -> KernelCoefficients:
    """Return the coefficients of a network's kernel.

    Parameters
    ----------
    layers : sequence of Activation
        Each without mean at the scale of its input.
    tau0_squared : float
        Mean squared norm of the inputs.
    kind : str

    Returns
    -------
    KernelCoefficients
    """
    found, scale = [], tau0_squared
    for layer in layers:
        found.append(moments_of_layer(layer, float(np.sqrt(scale))))
        scale = found[-1].square
    return propagate(found, tau0_squared, kind)


def propagate(layers: Iterable[LayerMoments], tau0_squared: float, kind: Kind) -> KernelCoefficients:
    """Send the coefficients of the inputs through the layers."""
    start = 1.0 if kind == "ntk-full" else 0.0
    a4, square, tangent = 1.0, tau0_squared, start * tau0_squared
    a: FloatArray = np.array([1.0, 0.0, 0.0])
    b: FloatArray = np.array([start, 0.0, 0.0])
    for at in layers:
        slope, bend = at.first**2, at.second**2
        b = slope * b + np.array([0.0, 0.0, bend * a[0] * b[0]])
        a = slope * a + bend * np.array([0.0, a4**2 / 4, a[0] ** 2 / 2])
        b = b + a
        a4 *= at.half_square_second
        square = at.square
        if kind != "ck":
            # A layer that jumps passes nothing on where there is nothing: 0·∞.
            tangent = square + (tangent * at.first_square if tangent > 0 else 0.0)
    if kind == "ck":
        return KernelCoefficients(float(a[0]), float(a[1]), float(a[2]), float(square))
    return KernelCoefficients(float(b[0]), float(b[1]), float(b[2]), float(tangent))
