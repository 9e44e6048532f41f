"""How far the exact kernel of a designed network is from the DEQ's on data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.linalg import eigvalsh

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.tables import Table, Tabular, largest
from rmtdeq._lib.types import KINDS, FloatArray, Kind
from rmtdeq.designs.network import Distance, ExplicitNetwork
from rmtdeq.designs.recursion import moments_of_layer
from rmtdeq.kernels import kernel
from rmtdeq.network import Layer, Network, require_network

_SAMPLES = 200
_PROBED = 32
_PROBE = (0.9, 1.0, 1.1)  # squared norms in units of τ0²
_MEAN = 0.05  # the part of them that a class has in common
_TOGETHER = 1000  # entries of a block add up, those of the diagonal do not
_ALIKE = 1e-3


@dataclass(frozen=True, eq=False)
class KernelComparison(Tabular):
    """The kernels of a DEQ, of a designed network and of a plain one on the same samples.

    The plain network is x ↦ φ(W x)/√m with the DEQ's own activation, centred at the same scale (with all of a stack's).

    Attributes
    ----------
    kind : str
    deq, network, plain : ndarray (n,)
        Eigenvalues, ascending.
    distance, distance_plain : float
        ‖K - K_DEQ‖/‖K_DEQ‖ in operator norm, of the designed and of the plain network.
    """

    kind: Kind
    deq: FloatArray
    network: FloatArray
    plain: FloatArray
    distance: float
    distance_plain: float

    def __repr__(self) -> str:
        return (
            f"KernelComparison({self.kind}, n={self.deq.size}: distance={self.distance:.3g}, "
            f"distance_plain={self.distance_plain:.3g})"
        )

    def table(self) -> Table:
        """Return the eigenvalues of the three kernels by rank, the largest first."""
        columns = {"DEQ": self.deq, "designed network": self.network, "plain network": self.plain}
        descending = {name: values[::-1] for name, values in columns.items()}
        scales = {name: largest(values) for name, values in columns.items()}
        return Table(descending, np.arange(1, self.deq.size + 1), "rank", self.summary(), scales=scales)

    def summary(self) -> str:
        """Return the distances in words."""
        return (
            f"kind {self.kind}, n = {self.deq.size}: the designed network's kernel is {self.distance:.3g} from the "
            f"DEQ's (operator norm, relative), a plain network's {self.distance_plain:.3g}"
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the eigenvalues by rank, both axes logarithmic.

        Returns
        -------
        matplotlib.axes.Axes
        """
        ax = style.axes(ax)
        rank = np.arange(1, self.deq.size + 1)
        ax.loglog(
            rank,
            _descending(self.deq),
            **style.POINTS,
            markersize=4,
            label="DEQ",
        )
        ax.loglog(rank, _descending(self.plain), color=style.OTHER, lw=1.2, ls="--", label="plain network, one layer")
        ax.loglog(rank, _descending(self.network), color=style.THEORY, lw=1.5, label="designed network")
        ax.set_xlabel("rank")
        ax.set_ylabel("eigenvalue")
        ax.legend(frameon=False, fontsize=8)
        return ax


def compare_kernels(
    X: ArrayLike,
    deq: Network,
    network: ExplicitNetwork,
    kind: str | None = None,
    *,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    memory_limit: float | None = None,
    progress: bool = True,
) -> KernelComparison:
    """Compare the exact kernels of a DEQ and of an explicit network on data.

    Parameters
    ----------
    X : array_like (n, p)
    deq : DEQ
        Centred, where it is, at the scale that the network was designed for.
    network : ExplicitNetwork
    kind : str, optional
        The kernel that the network was designed for by default.
    backend, dtype, memory_limit, progress
        As for `kernel`.

    Returns
    -------
    KernelComparison

    Raises
    ------
    InvalidInputError, IllPosedError, MemoryLimitError
        As for `kernel`.
    """
    require_network(deq)
    if not isinstance(network, ExplicitNetwork):
        raise InvalidInputError(f"network must be an ExplicitNetwork, as design returns it, not {network!r}.")
    name: Kind = next(iter(network.targets)) if kind is None else check.kinds(check.choice(kind, "kind", KINDS))[0]
    options: dict[str, Any] = {
        "backend": backend,
        "dtype": dtype,
        "memory_limit": memory_limit,
        "progress": progress,
    }
    plain = Network([Layer(layer.activation, centered=layer.centered) for layer in deq.layers])
    wanted = kernel(X, deq, kind=name, tau0_squared=network.tau0_squared, **options)
    spectrum = eigvalsh(wanted)
    designed = _spectrum_and_distance(network.kernel(X, name, **options), wanted, spectrum[-1])
    rival = _spectrum_and_distance(
        kernel(X, plain, kind=name, tau0_squared=network.tau0_squared, **options), wanted, spectrum[-1]
    )
    return KernelComparison(name, spectrum, designed[0], rival[0], designed[1], rival[1])


def _spectrum_and_distance(found: FloatArray, wanted: FloatArray, size: float) -> tuple[FloatArray, float]:
    """Eigenvalues of a kernel, and its distance from the one wanted."""
    eigenvalues = eigvalsh(found)
    found -= wanted
    error = eigvalsh(found, overwrite_a=True)
    return eigenvalues, float(max(-error[0], error[-1]) / size)


def _descending(eigenvalues: FloatArray) -> FloatArray:
    return np.maximum(eigenvalues[::-1], 1e-16 * eigenvalues[-1])


def with_distances(net: ExplicitNetwork, deq: Network) -> ExplicitNetwork:
    """Return a network with its kernels' distances from the DEQ's on Gaussian samples.

    These are as many as dimensions, of two classes whose means are short.
    """
    noise = np.random.default_rng(0).standard_normal((_SAMPLES, _SAMPLES)) / np.sqrt(_SAMPLES)
    means = np.sqrt(_MEAN) * np.repeat(np.eye(2, _SAMPLES), _SAMPLES // 2, axis=0)
    X = np.sqrt(net.tau0_squared) * (np.sqrt(1 - _MEAN) * noise + means)
    # Without compilation, which would take longer than the rest.
    found = {kind: compare_kernels(X, deq, net, kind, backend="numpy", progress=False) for kind in net.targets}
    return replace(net, distances={kind: Distance(each.distance, each.distance_plain) for kind, each in found.items()})


def most_alike(networks: Sequence[ExplicitNetwork], deq: Network) -> ExplicitNetwork:
    """Return the shallowest, and among those the one whose exact kernel is nearest to the DEQ's on a probe.

    Where several are as good as equal to it, the one whose last layer is nearest to linear.
    """
    depth = min(net.depth for net in networks)
    shallow = [net for net in networks if net.depth == depth]
    chosen = shallow[:: -(-len(shallow) // _PROBED)]
    if len(chosen) == 1:
        return chosen[0]
    tau0_squared, kind = chosen[0].tau0_squared, next(iter(chosen[0].targets))
    # Two small classes with means, three norms each.
    norms = np.tile(_PROBE, 4)
    X = np.hstack([np.diag(np.sqrt(norms - _MEAN)), np.sqrt(_MEAN) * np.repeat(np.eye(2), norms.size // 2, axis=0)])
    X *= np.sqrt(tau0_squared)
    # Without compilation, which would take longer than the probe does.
    wanted = kernel(X, deq, kind=kind, tau0_squared=tau0_squared, backend="numpy", progress=False)

    def distance(net: ExplicitNetwork) -> float:
        error = abs(net.kernel(X, backend="numpy", progress=False) - wanted) / wanted.max()
        own = np.diag(error).copy()
        np.fill_diagonal(error, 0.0)
        return float(own.max() + _TOGETHER * error.max())

    def bend(net: ExplicitNetwork) -> float:
        tau = np.sqrt(tau0_squared)  # the first layer keeps the scale
        last = moments_of_layer(net.activations[-1], tau)
        return 1 - last.first**2 * tau0_squared / last.square

    distances = [distance(net) for net in chosen]
    limit = min(distances) + _ALIKE
    return min((net for net, own in zip(chosen, distances, strict=True) if own <= limit), key=bend)
