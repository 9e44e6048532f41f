"""The forward solve of a network of infinite width, foretold from the squared norms of its inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import IllPosedError, InvalidInputError
from rmtdeq._lib.types import FloatArray, Recurrent
from rmtdeq.activations import jumps, moments
from rmtdeq.network import Layer, Network, preactivation_scale, require_plain, require_varying
from rmtdeq.stability.diagnosis import ForetoldDiagnosis
from rmtdeq.stability.iteration import forward_course
from rmtdeq.stability.limits import limits
from rmtdeq.stability.singular_values import jacobian_law, spectral_radii

_MOST_NORMS = 65
_NODES, _RATIO = 8, 32.0
"""So many intervals for norms within such a factor of each other, as many again for the next such factor."""
_TINY = 1e-300
_LEAST, _MOST = 1e-60, 1e20


def foretell(
    network: Network,
    squared_norms: FloatArray,
    tau0_squared: float | None = None,
    layer: int | None = None,
    recurrent: Recurrent = "gaussian",
) -> ForetoldDiagnosis:
    """Diagnose a recurrent layer on inputs of given squared norms; see `diagnose` for what is raised.

    Parameters
    ----------
    network : Network
    squared_norms : ndarray (n,)
    tau0_squared : float, optional
        Where centred activations are centred; the mean squared norm by default.
    layer : int, optional
        Number of the layer, from 0; the only recurrent one by default.
    recurrent : {"gaussian", "orthogonal"}
        What its recurrent weights are.
    """
    require_varying(network)
    require_plain(network, "A forecast of the forward solve")
    depth = _recurrent(network, layer)
    _require_continuous(network.layers[depth])
    norms = np.unique(squared_norms)
    if norms.size > _MOST_NORMS:
        norms = np.unique(np.quantile(squared_norms, np.linspace(0, 1, _MOST_NORMS)))
    tau0 = float(np.mean(squared_norms)) if tau0_squared is None else check.squared_norm(tau0_squared, "tau0_squared")
    # A bias is a constant feature, for samples of norm zero as well.
    constant = network.layers[0].bias
    if not norms[0] + constant > 0:
        raise InvalidInputError(
            "Some sample has norm zero, and the network no bias: its states have no size. Leave such samples out, or "
            "give the layer sigma_c2."
        )
    grid = _Grid.over(norms + constant)
    at_nodes = grid.nodes - constant
    *below, given = network.layers[: depth + 1]
    (mean,), inside, nodes = (_inputs(below, given, tau0, some) for some in ([tau0], norms, at_nodes))
    _require_range(given, given.sigma_b2 * nodes)
    bare = replace(given, sigma_c2=0.0)
    most = limits(bare, float(mean), nodes, recurrent)
    try:
        own = bare.pinned(float(mean))
        scales, scales_at_nodes = (_scales(own, some) for some in (inside, nodes))
    except IllPosedError as error:
        raise IllPosedError(f"{error} For these squared norms it must be below {most.iteration:.4g}.") from error
    sources = own.sigma_b2 * nodes
    course = forward_course(own, sources, scales_at_nodes)
    laws = [
        jacobian_law(own, float(source), float(scale), recurrent)
        for source, scale in zip(sources, scales_at_nodes, strict=True)
    ]
    sizes, residuals, errors = (
        grid.between(each / course.errors[0], norms + constant)
        for each in (course.sizes, course.changes, course.errors)
    )
    radii = [spectral_radii(own, float(scale)) for scale in scales]
    return ForetoldDiagnosis(
        model=given.title,
        squared_norms=norms,
        sizes=sizes,
        residuals=residuals,
        errors=errors,
        rate=np.array([max(bulk, abs(isolated)) for bulk, isolated in radii]),
        jacobian_norms=at_nodes,
        spectral_radius=np.array([law.radius for law in laws]),
        smallest_singular_value=np.array([law.smallest for law in laws]),
        largest_singular_value=np.array([law.largest for law in laws]),
        sigma_a2=given.sigma_a2,
        limits=most,
        laws=tuple(laws),
    )


def _recurrent(network: Network, layer: int | None) -> int:
    """Return the number of the layer that is meant."""
    found = [i for i, each in enumerate(network.layers) if each.recurrent]
    if not found:
        raise InvalidInputError(
            f"{network!r} has no recurrent layer: nothing is iterated. Give one a sigma_a2 above 0."
        )
    if layer is None:
        if len(found) > 1:
            raise InvalidInputError(
                f"The network has {len(found)} recurrent layers, each with an iteration of its own: say which, as in "
                f"layer={found[0]}; they are {', '.join(map(str, found))}."
            )
        return found[0]
    depth = check.integer(layer, "layer", low=0)
    if depth not in found:
        raise InvalidInputError(f"layer must be the number of a recurrent layer, {check.listed(map(str, found))}.")
    return depth


def _require_continuous(layer: Layer) -> None:
    if jumps(layer.activation):
        raise IllPosedError(
            f"The iteration of {layer.title} does not come to rest at any sigma_a2: the activation jumps, and tears "
            "states apart however near they are. Take one that is continuous."
        )


def _require_range(layer: Layer, sources: FloatArray) -> None:
    """Raise unless the variances of the first pre-activations have squares that doubles can be computed with."""
    low, high = float(sources.min()), float(sources.max())
    if low < _LEAST or high > _MOST:
        raise InvalidInputError(
            f"{layer.title} gives these samples pre-activations of variances {low:.4g} to {high:.4g}, beyond what can "
            "be computed with; scale the samples, or change sigma_b2."
        )


def _inputs(below: Sequence[Layer], layer: Layer, tau0_squared: float, squared_norms: ArrayLike) -> FloatArray:
    """Return the squared norms of what a layer is given, the constant feature of its bias included."""
    found = np.array(squared_norms, dtype=float)
    for each in below:
        pinned = replace(each, sigma_c2=0.0).pinned(tau0_squared + each.bias)
        found, (tau0_squared,) = (
            np.array([moments(pinned.activation, scale).square for scale in _scales(pinned, some + each.bias)])
            for some in (found, np.array([tau0_squared]))
        )
    return found + layer.bias


def _scales(layer: Layer, squared_norms: FloatArray) -> FloatArray:
    """Return the standard deviations of the pre-activations."""
    return np.array([preactivation_scale(layer, float(at)).value for at in squared_norms])


@dataclass(frozen=True, eq=False)
class _Grid:
    """Squared norms at which the iteration is followed; between them its logarithm is a polynomial in theirs."""

    nodes: FloatArray

    @classmethod
    def over(cls, norms: FloatArray) -> _Grid:
        """Return the norms themselves if they are few, else Chebyshev points from the first to the last."""
        first, last = np.log(norms[[0, -1]])
        intervals = _NODES * max(1, math.ceil((last - first) / math.log(_RATIO)))
        if norms.size <= intervals + 1:
            return cls(norms)
        return cls(
            np.exp((first + last) / 2 - (last - first) / 2 * np.cos(np.pi * np.arange(intervals + 1) / intervals))
        )

    def between(self, values: FloatArray, norms: FloatArray) -> FloatArray:
        """Return positive values (k, nodes) at all norms, (k, norms)."""
        if norms.size == self.nodes.size and (norms == self.nodes).all():
            return values
        first, last = np.log(norms[[0, -1]])
        at_nodes, at_norms = (2 * (np.log(each) - first) / (last - first) - 1 for each in (self.nodes, norms))
        logarithms = np.log(np.maximum(values, _TINY)).T
        return np.exp(chebyshev.chebval(at_norms, chebyshev.chebfit(at_nodes, logarithms, self.nodes.size - 1)))
