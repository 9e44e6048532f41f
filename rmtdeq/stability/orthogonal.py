"""The ends of the spectrum of 1 - J of a layer whose recurrent weights are orthogonal."""

from __future__ import annotations

import math

from rmtdeq._lib.types import FloatArray
from rmtdeq.stability.edges import Edges
from rmtdeq.stability.equilibrium import Equilibrium


class OrthogonalEdges(Edges):
    """The ends where A/√m is orthogonal, of Haar measure.

    With O = A/√m and D = σ_a diag φ'(u) the singular values of 1 - J = 1 - DO are those of Oᵀ - D.  But for one
    direction O is as good as independent of u, and then free of D: the law of ± the singular values is the free
    convolution of that of ± d with (δ₁ + δ₋₁)/2 (Haagerup and Schultz, Math. Scand. 100, 2007, of R-diagonal elements).
    With Γ(ω) = E |ω|/(ω² - d²), |ω| > max d, its gap about zero and its outer end turn where

        s(ω) = -|ω| + 1/Γ + b(Γ), ω < 0,   and   s(ω) = ω + b(Γ), ω > 0,   b(Γ) = (√(1 + 4Γ²) - 1)/(2Γ)

    do.  O is known to map ẑ to ŷ.  So Oᵀ = V - a bᵀ with V Haar, a = Vŷ - ẑ and b = ŷ - Vᵀẑ, and with the resolvent R
    of the Hermitised T = V - D there are isolated singular values s where

        (1 - aᵀR₁₂b)² = (aᵀR₁₁a)(bᵀR₂₂b),   R₁₁ = R₂₂ ≈ -ω/(ω² - D²),   R₁₂ ≈ D/(ω² - D²)

    (derived here; products of R and T are those of the resolvent's equation).
    """

    lower_range = upper_range = (1e-6, 1e9)

    def __init__(self, at: Equilibrium) -> None:
        self._d, self._at = at.slope, at
        self.top = float(abs(at.slope).max())

    def lower_way(self, distance: float) -> float:
        """Return ω < 0."""
        return -self.top * (1 + 1 / distance)

    def upper_way(self, distance: float) -> float:
        """Return ω > 0."""
        return self.top * (1 + 1 / distance)

    def _kernel(self, omega: float) -> FloatArray:
        """Return 1/(ω² - d²)."""
        beyond = abs(omega) - self.top
        size = abs(self._d)
        return 1 / ((beyond + (self.top - size)) * (abs(omega) + size))

    def _gamma(self, omega: float) -> float:
        return abs(omega) * self._at.mean(self._kernel(omega))

    def _value(self, omega: float) -> float:
        """Return s(ω)."""
        gamma = self._gamma(omega)
        own = 2 * gamma / (1 + math.sqrt(1 + 4 * gamma**2))
        if omega > 0:
            return omega + own
        rest = self._at.mean(self._d**2 * self._kernel(omega))
        return own + omega * rest / (1 + rest)

    def w(self, g: float) -> float:
        """Return s², negative where s is."""
        value = self._value(g)
        return math.copysign(value**2, value)

    def alpha(self, g: float) -> float:
        """Return -E ω/(ω² - d²)/s."""
        return -math.copysign(self._gamma(g), g) / self._value(g)

    def apart(self, g: float) -> float:
        """Return the difference of both sides of the equation for isolated values."""
        at, d, s, mean = self._at, self._d, self._value(g), self._at.mean
        kernel = self._kernel(g)
        same, cross = -g * kernel, d * kernel
        z_square, yz, y_square = at.z**2, at.y * at.z, at.y_square
        overlap = mean(d * yz)
        # c = Dŷ - ẑ and e = ŷ - Dẑ are a and b without their parts Tŷ and -Tᵀẑ.
        c_square, e_square = d**2 * y_square - 2 * d * yz + z_square, y_square - 2 * d * yz + d**2 * z_square
        c_y, e_z = d * y_square - yz, yz - d * z_square
        a_square = s + s**2 * mean(y_square * same) + 2 * s * mean(c_y * cross) + mean(c_square * same)
        b_square = s + s**2 * mean(z_square * same) - 2 * s * mean(e_z * cross) + mean(e_square * same)
        c_e, c_z, e_y = d * y_square - (1 + d**2) * yz + d * z_square, d * yz - z_square, y_square - d * yz
        a_b = (
            (1 - overlap)
            + s * mean(e_y * same)
            + overlap
            - s**2 * mean(yz * cross)
            + mean(c_e * cross)
            - (overlap - 1)
            - s * mean(c_z * same)
        )
        return (1 - a_b) ** 2 - a_square * b_square
