"""How far the exact kernel of a designed network is from the DEQ's on data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.linalg import eigvalsh

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.tables import Table, Tabular, largest
from rmtdeq._lib.types import KINDS, FloatArray, Kind
from rmtdeq.designs.network import ExplicitNetwork
from rmtdeq.kernels import kernel
from rmtdeq.network import Layer, Network, require_network


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
