"""An explicit network with given activations: its kernels, its coefficients, and its description as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.files import as_json, require_writable, write_text
from rmtdeq._lib.optional import require
from rmtdeq._lib.tables import Table, Tabular
from rmtdeq._lib.types import KINDS, FloatArray, Kind, Seed
from rmtdeq.activations import Activation, activation
from rmtdeq.designs.recursion import explicit_coefficients
from rmtdeq.kernels import kernel
from rmtdeq.network import Network, ordinary
from rmtdeq.theory import KernelCoefficients
from rmtdeq.theory.coefficients import coefficient_scales

if TYPE_CHECKING:
    from rmtdeq.models import ExplicitModule

_FORMAT = "rmtdeq explicit network 1"
_NOTHING, _VANISHES = 1e-12, 1e-12

EXACT = 1e-10
"""Relative errors of coefficients that match."""

Targets = Mapping[Kind, KernelCoefficients]
"""What kernels are to have, by kind."""

_MATTERS = 0.01
"""A distance of kernels; designs with exact coefficients leave 0.0001 to 0.02 on images, whose norms vary."""


class DesignStatus(StrEnum):
    """Outcome of a design; the value is the message."""

    EXACT = "exact: every coefficient matched to rounding"
    INFEASIBLE = "infeasible: the family does not reach these coefficients; this is the nearest found"
    TRADE_OFF = "trade-off: no member of the family matches both kernels; this is the best compromise found"
    SPHERE = "spherical: the kernel is matched to all orders on samples of one norm; where norms vary it is not"
    CLASSWISE = "class-wise: fitted around the squared norms; the coefficients at their mean agree as far as that goes"


@dataclass(frozen=True)
class NormMatch:
    """Where a network was fitted to the kernel, and how well.

    Attributes
    ----------
    norms : tuple of float
        Squared norms.
    residual : float
        At any pair of them, or of norms 7 % off, the largest error of an entry at inner product zero, of its slope
        in the inner product (times τ0²), or of the diagonal; relative to the mean diagonal.
    """

    norms: tuple[float, ...]
    residual: float


@dataclass(frozen=True)
class SphereMatch:
    """How well one layer has a kernel on a sphere.

    Attributes
    ----------
    squared_norm : float
        Of the samples.
    residual : float
        Largest error of an entry over all cosines, relative to the diagonal.
    reach : float
        The layer is a spline for pre-activations up to there, and a line beyond.
    """

    squared_norm: float
    residual: float
    reach: float


@dataclass(frozen=True)
class Distance:
    """How far a kernel is from the DEQ's on Gaussian samples, in operator norm and relative to that.

    Attributes
    ----------
    network : float
        Of the designed network.
    plain : float
        Of a network with the DEQ's own activation.
    """

    network: float
    plain: float


@dataclass(frozen=True, eq=False, repr=False)
class ExplicitNetwork(Network, Tabular):
    """A network x ↦ σ_L(W_L … σ_1(W_1 x)/√m_1 …)/√m_L of at most a few layers, W of independent N(0, 1) entries.

    Attributes
    ----------
    layers : tuple of Layer
        Ordinary ones with σ_b² = 1, made of σ_1 … σ_L, each without mean at the scale of its input but for a layer made
        for samples of one norm.
    tau0_squared : float
        Mean squared norm of the inputs that it was made for.
    targets : dict
        The `KernelCoefficients` that it was asked to have, by kind.
    family : str
    status : DesignStatus
    at_norms : NormMatch or None
        Of piecewise linear layers fitted to the kernel.
    distances : dict of Distance, or None
        By kind, what the residual comes to, where coefficients are not matched.
    on_sphere : SphereMatch or None
        Of a layer made for samples of one norm.
    """

    tau0_squared: float
    targets: Mapping[Kind, KernelCoefficients]
    family: str
    status: DesignStatus
    at_norms: NormMatch | None = None
    distances: Mapping[Kind, Distance] | None = None
    on_sphere: SphereMatch | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", Network(self.layers).layers)

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The functions σ_1 … σ_L."""
        return tuple(layer.activation for layer in self.layers)

    def coefficients(self, kind: str | None = None) -> KernelCoefficients:
        """Return the coefficients of a kernel, by default the first that was asked for.

        They are, for the CK (NTK) of a DEQ, α1 (β1), α2, α3 and γ² (κ²) of `Coefficients`.
        """
        name: Kind = next(iter(self.targets)) if kind is None else check.kinds(check.choice(kind, "kind", KINDS))[0]
        return explicit_coefficients(self.activations, self.tau0_squared, name)

    def errors(self, kind: str) -> FloatArray:
        """Return the relative errors of the four coefficients of a kernel that was asked for, (4,).

        Coefficients that vanish are held against the diagonal.
        """
        name = check.choice(kind, "kind", self.targets)
        return relative_errors(self.coefficients(name), self.targets[name], self.tau0_squared)  # type: ignore[index]

    def table(self) -> Table:
        """Return the coefficients of the kernels that it was asked to have: the DEQ's, its own, the relative error."""
        index: list[str] = []
        columns: dict[str, list[float]] = {"DEQ": [], "network": [], "relative error": []}
        for kind, target in self.targets.items():
            found, errors = vars(self.coefficients(kind)), self.errors(kind)
            for (name, wanted), error in zip(vars(target).items(), errors, strict=True):
                index.append(f"{kind}, {name}")
                for column, value in zip(columns.values(), (wanted, found[name], float(error)), strict=True):
                    column.append(value)
        notes = [f"layer {depth}: {phi!r}" for depth, phi in enumerate(self.activations, start=1)]
        notes += [self.consequence] if self.consequence else []
        # The least of any coefficient's: a column holds them all.
        sizes = (coefficient_scales(target.diagonal, self.tau0_squared) for target in self.targets.values())
        scales = dict.fromkeys(("DEQ", "network"), min(value for each in sizes for value in vars(each).values()))
        return Table(columns, index, "coefficient", f"explicit network, {self.status}", tuple(notes), scales)

    @property
    def residuals(self) -> dict[Kind, float]:
        """The largest relative error of a coefficient, for each kernel that was asked for."""
        return {kind: float(abs(self.errors(kind)).max()) for kind in self.targets}

    @property
    def residual(self) -> float:
        """The largest relative error of any coefficient asked for."""
        return max(self.residuals.values())

    @property
    def consequence(self) -> str:
        """Whether the residual matters, in a sentence; nothing where there is none to speak of."""
        if not self.distances:
            return ""
        matters = max(each.network for each in self.distances.values()) > _MATTERS
        found = (
            f"the {kind}'s distance from the DEQ's is {each.network:.2g}, a plain network's {each.plain:.2g}"
            for kind, each in self.distances.items()
        )
        return (
            f"the residual {'matters' if matters else 'does not matter'}: on Gaussian samples {', '.join(found)} "
            f"(operator norm, relative; up to {_MATTERS:g} does not matter)"
        )

    def kernel(
        self,
        X: ArrayLike,
        kind: str | Sequence[str] | None = None,
        *,
        Y: ArrayLike | None = None,
        backend: str = "auto",
        dtype: DTypeLike | None = None,
        device: Any = None,
        products: str = "full",
        memory_limit: float | None = None,
        progress: bool = True,
    ) -> Any:
        """Compute the exact kernels at infinite width.

        Parameters
        ----------
        X : array_like (n, p)
        kind : str or tuple of str, optional
            The kernel that it was designed for by default.
        Y, backend, dtype, device, products, memory_limit, progress
            As for `rmtdeq.kernel`.

        Returns
        -------
        ndarray (n, m), or a tuple of them
        """
        wanted = next(iter(self.targets)) if kind is None else kind
        return kernel(
            X,
            self,
            wanted,
            Y=Y,
            backend=backend,
            dtype=dtype,
            device=device,
            products=products,
            memory_limit=memory_limit,
            progress=progress,
        )

    def to_torch(  # type: ignore[override] # it has no equilibria to solve for, and nothing to centre
        self, in_features: int, width: int | Sequence[int], seed: Seed = 0
    ) -> ExplicitModule:
        """Return a network of finite width as a torch module.

        Parameters
        ----------
        in_features : int
            The dimension p of the inputs.
        width : int or sequence of int
            Of all layers, or of each.
        seed : int, Generator or None
            Of the weights, drawn in torch's default precision.

        Returns
        -------
        rmtdeq.models.ExplicitModule
            Maps (…, p) to features (…, m), whose inner products tend to the conjugate kernel as m grows.  All its
            weights are parameters; the kernel "ntk" is that of training with the first layer's fixed,
            ``module.weights[0].requires_grad_(False)``, under a linear read-out that is trained too.

        Raises
        ------
        MissingDependencyError
            No torch.
        MemoryLimitError
            The weights do not fit into memory.
        """
        require("torch")
        from rmtdeq.models import ExplicitModule

        widths = list(width) if np.iterable(width) else [width] * self.depth
        return ExplicitModule(in_features, widths, self.activations, seed)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write a description as JSON and return its path.

        Raises
        ------
        InvalidInputError
            A layer is no registered activation, or no file can be written there.
        """
        require_writable(path, "path")
        record = {
            "format": _FORMAT,
            "family": self.family,
            "status": self.status.name,
            "tau0_squared": self.tau0_squared,
            "layers": [_described(phi) for phi in self.activations],
            "targets": {kind: vars(target) for kind, target in self.targets.items()},
            "at_norms": None if self.at_norms is None else vars(self.at_norms),
            "distances": {kind: vars(each) for kind, each in (self.distances or {}).items()},
            "on_sphere": None if self.on_sphere is None else vars(self.on_sphere),
        }
        write_text(Path(path), as_json(record))
        return Path(path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> ExplicitNetwork:
        """Read what `save` wrote.

        Raises
        ------
        InvalidInputError
            The file cannot be read, or is no such description.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise InvalidInputError(f"{path} cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise InvalidInputError(f"{path} does not describe an explicit network: it is no text.") from error
        try:
            record = json.loads(text)
            if record["format"] != _FORMAT:
                raise KeyError("format")
            return cls(
                layers=ordinary(_remade(layer) for layer in record["layers"]),
                tau0_squared=check.squared_norm(record["tau0_squared"], "tau0_squared"),
                targets={
                    check.kinds(kind)[0]: KernelCoefficients(**target) for kind, target in record["targets"].items()
                },
                family=str(record["family"]),
                status=DesignStatus[record["status"]],
                at_norms=_norm_match(record["at_norms"]),
                distances=_distances(record.get("distances")),
                on_sphere=_sphere_match(record.get("on_sphere")),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"there is no {error} as save writes it" if isinstance(error, KeyError) else error
            raise InvalidInputError(f"{path} does not describe an explicit network ({reason}).") from error

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self.activations))
        fitted = "" if self.at_norms is None else f", at its norms {self.at_norms.residual:.1e}"
        if self.on_sphere is not None:
            fitted = f", on the sphere {self.on_sphere.residual:.1e}"
        return f"ExplicitNetwork({layers}; residual {self.residual:.1e}{fitted}, {self.status.name.lower()})"


def relative_errors(found: KernelCoefficients, target: KernelCoefficients, tau0_squared: float) -> FloatArray:
    """Relative errors of the four coefficients, (4,); those that vanish are held against the diagonal."""
    unit = np.array([tau0_squared, tau0_squared**2, tau0_squared**2, 1.0])
    at, wanted = (np.array([c.linear, c.norm, c.pair, c.diagonal]) * unit for c in (found, target))
    size = np.where(abs(wanted) > _NOTHING * target.diagonal, abs(wanted), target.diagonal)
    return (at - wanted) / size


def without_rounding(target: KernelCoefficients, tau0_squared: float) -> KernelCoefficients:
    """Return coefficients of which those that vanish for an odd activation are zero."""
    least = _VANISHES * target.diagonal / tau0_squared**2
    norm, pair = (0.0 if abs(value) < least else value for value in (target.norm, target.pair))
    return KernelCoefficients(target.linear, norm, pair, target.diagonal)


def _norm_match(record: Mapping[str, Any] | None) -> NormMatch | None:
    if record is None:
        return None
    return NormMatch(tuple(float(norm) for norm in record["norms"]), float(record["residual"]))


def _sphere_match(record: Mapping[str, Any] | None) -> SphereMatch | None:
    return None if record is None else SphereMatch(**{name: float(value) for name, value in record.items()})


def _distances(record: Mapping[str, Any] | None) -> dict[Kind, Distance] | None:
    found = {
        check.kinds(kind)[0]: Distance(float(each["network"]), float(each["plain"]))
        for kind, each in (record or {}).items()
    }
    return found or None


def _described(layer: Activation) -> dict[str, Any]:
    if layer.name == "callable":
        raise InvalidInputError("A layer is a callable, which has no description; use registered activations.")
    return {"activation": layer.name, "parameters": list(layer.parameters), "shift": layer.shift}


def _remade(record: Mapping[str, Any]) -> Activation:
    made = activation(str(record["activation"]), *(float(value) for value in record["parameters"]))
    return made.minus(float(record["shift"]))
