"""Eigenvalues and singular values of the Jacobian at the equilibrium of an infinitely wide recurrent layer.

At an equilibrium J = σ_a diag(φ'(u)) A/√m.  But for one direction, A is as good as independent of u: it is known to
map z to y/σ_a, y = u - σ_b B x - σ_c c.  So for Gaussian A it is a Gaussian matrix whose rows have the variances d/m,
d = σ_a² φ'(u)², and a perturbation of rank one, ``diag(φ'(u)) y zᵀ/(√m ‖z‖²)``, that adds at most an isolated
eigenvalue or singular value.  For orthogonal A eigenvalues end at the same places, singular values do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from rmtdeq._lib.types import Recurrent
from rmtdeq.activations import moments
from rmtdeq.network import Layer
from rmtdeq.stability.edges import GaussianEdges, LowerEnd
from rmtdeq.stability.equilibrium import Equilibrium
from rmtdeq.stability.orthogonal import OrthogonalEdges
from rmtdeq.stability.scatter import outermost, rate_scatter

_EDGES: dict[Recurrent, type[GaussianEdges] | type[OrthogonalEdges]] = {
    "gaussian": GaussianEdges,
    "orthogonal": OrthogonalEdges,
}

_NOTHING = 1e-30
"""Variances of J below which 1 - J is 1 to rounding."""

_EQUAL = 1e-12
"""Relative variance of φ'² below which all rows of J are as long."""

_STEP = 1e-2
"""Relative change of J by which its smallest singular value is followed."""
_CURVED = 0.8
"""By how much the mean answers to a scatter: half its square for an exponential, and the determinant's answer."""


@dataclass(frozen=True)
class RadiusLaw:
    """The law of the spectral radius of the Jacobian J at one squared norm.

    Attributes
    ----------
    bulk : float
        σ_a √E φ'²: the radius of the disk that the eigenvalues fill.
    isolated : float
        (σ_a²/2) E (φ²)'': an eigenvalue of its own where it lies outside the disk, the slope of the squared norms'
        own iteration.
    share : float
        Of Gaussian A (E φ'²)²/E φ'⁴, the share of the width that takes part in J, a half for ReLU; of orthogonal A what
        it would be for as many eigenvalues at the edge, (E φ'²)²/Var φ'².
    scatter : float
        Standard deviation of the disk's radius in single networks of width m, relative to it, in units of m^{-1/2}; see
        `rmtdeq.stability.scatter`.
    """

    bulk: float
    isolated: float
    share: float
    scatter: float

    @property
    def radius(self) -> float:
        """The spectral radius."""
        return max(self.bulk, abs(self.isolated))

    def radius_at(self, width: int) -> float:
        """Return the mean spectral radius at a finite width, that of as many eigenvalues as take part."""
        return max(self.bulk * (1 + outermost(self.share * width)[0]), abs(self.isolated))

    def scatter_at(self, width: int) -> float:
        """Return the standard deviation of the spectral radius at a finite width, relative to it."""
        return math.hypot(self.scatter / math.sqrt(width), outermost(self.share * width)[1])


@dataclass(frozen=True)
class JacobianLaw(RadiusLaw):
    """The law of the Jacobian J at one squared norm.

    Attributes
    ----------
    largest : float
        Singular value of 1 - J.
    end : LowerEnd
        Of the squares of the singular values.
    moved : callable
        From a factor to the lower end where J is so many times as large.

    Notes
    -----
    All other attributes are those of `RadiusLaw`.
    """

    largest: float
    end: LowerEnd
    moved: Callable[[float], LowerEnd] = field(repr=False, compare=False)

    @property
    def smallest(self) -> float:
        """Smallest singular value of 1 - J."""
        return math.sqrt(self.end.lowest)

    def smallest_at(self, width: int) -> float:
        """Return the mean of the smallest singular value of 1 - J at a finite width.

        That of the bulk's lower end, see `LowerEnd`, over networks each of which has a mean of φ'² of its own.
        """
        mean = self.end.mean_at(width)
        return mean * (1 + _CURVED * self._answer(width) ** 2) if mean else 0.0

    def smallest_scatter_at(self, width: int) -> float:
        """Return the standard deviation of the smallest singular value at a finite width, relative to it."""
        return math.hypot(self._answer(width), self.end.scatter_at(width))

    def _answer(self, width: int) -> float:
        """Return by how much its logarithm answers to a standard deviation of the disk's radius."""
        low, high = (end.mean_at(width) for end in self._sides)
        slope = math.log(low / high) / (2 * self._step) if low and high else 0.0
        return slope * self.scatter / math.sqrt(width)

    @property
    def _step(self) -> float:
        return min(_STEP, (1 - self.bulk) / 4)

    @cached_property
    def _sides(self) -> tuple[LowerEnd, LowerEnd]:
        if self.bulk >= 1:
            return self.end, self.end
        return self.moved(1 - self._step), self.moved(1 + self._step)


def spectral_radii(layer: Layer, scale: float) -> tuple[float, float]:
    """Return the radius of the disk of eigenvalues of J, and the one that may be isolated.

    Parameters
    ----------
    layer : Layer
        Recurrent and uncentred.
    scale : float
        Standard deviation of u at the equilibrium.
    """
    known = moments(layer.activation, scale)
    return math.sqrt(layer.sigma_a2 * known.first_square), layer.sigma_a2 * known.square_second / 2


def radius_law(layer: Layer, source: float, scale: float, recurrent: Recurrent = "gaussian") -> RadiusLaw:
    """Return the law of the spectral radius at an equilibrium; see `jacobian_law` for the arguments."""
    bulk, isolated = spectral_radii(layer, scale)
    if not bulk:
        return RadiusLaw(bulk, isolated, 1.0, 0.0)
    scatter = rate_scatter(layer, source, scale, recurrent)
    return RadiusLaw(bulk, isolated, _share(layer, scale, recurrent), scatter)


def jacobian_law(layer: Layer, source: float, scale: float, recurrent: Recurrent = "gaussian") -> JacobianLaw:
    """Return the law of J at an equilibrium.

    Parameters
    ----------
    layer : Layer
        Recurrent and uncentred.
    source : float
        σ_b²‖x‖² + σ_c².
    scale : float
        Standard deviation of u.
    recurrent : {"gaussian", "orthogonal"}
        What A is.
    """
    radius = radius_law(layer, source, scale, recurrent)
    known = (radius.bulk, radius.isolated, radius.share, radius.scatter)
    at = Equilibrium.of(layer, source, scale)
    if float((at.slope**2).max()) < _NOTHING:
        end = LowerEnd.still(1.0)
        return JacobianLaw(*known, 1.0, end, partial(_same, end))
    kind = _EDGES[recurrent]
    # From a radius of one on the spectrum of J covers 1.
    end = kind(at).lowest() if radius.bulk < 1 else LowerEnd.still(0.0)
    highest = math.sqrt(kind(at).highest())
    return JacobianLaw(*known, highest, end, partial(_moved, kind, at))


def _moved(kind: type[GaussianEdges] | type[OrthogonalEdges], at: Equilibrium, factor: float) -> LowerEnd:
    return kind(replace(at, slope=factor * at.slope)).lowest()


def _same(end: LowerEnd, factor: float) -> LowerEnd:
    return end


def _share(layer: Layer, scale: float, recurrent: Recurrent) -> float:
    """Return the density of eigenvalues at the edge of their disk, in units of the uniform one.

    For orthogonal A it is that of R-diagonal elements: the derivative of Haagerup and Larsen's radial law at its end.
    """
    rule = layer.activation.rule(scale)
    square = layer.activation.slope(scale * rule.nodes) ** 2
    ratio = float((rule.weights @ square**2) / (rule.weights @ square) ** 2)
    return 1 / ratio if recurrent == "gaussian" else 1 / max(ratio - 1, _EQUAL)
