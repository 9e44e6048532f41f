"""What a diagnosis says of a forward solve: steps, rates, and how well conditioned the backward solve is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import IllPosedError, InvalidInputError
from rmtdeq._lib.tables import Table, Tabular
from rmtdeq._lib.types import BoolArray, FloatArray, IntArray
from rmtdeq.stability.limits import Limits
from rmtdeq.stability.singular_values import JacobianLaw
from rmtdeq.stability.steps import FiniteSteps

_TOLERANCES = (1e-2, 1e-4, 1e-6, 1e-8)
_SHOWN = 1e-12
_SAFE = 0.9
"""Share of the limit that is advised."""
_BAD = 100.0
"""Condition number of 1 - J from which on the backward solve is called badly conditioned."""


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis(Tabular):
    """The plain iteration of a recurrent layer from z⁰ = 0, and the Jacobian J of the layer at the equilibria z*.

    Attributes
    ----------
    model : str
    squared_norms : ndarray (n,)
        Of the samples.
    sizes, residuals : ndarray (steps, n)
        ‖z^k‖ and ‖z^k - z^{k-1}‖, both relative to ‖z*‖, for k = 1 … steps.
    errors : ndarray (steps + 1, n)
        ‖z^k - z*‖/‖z*‖ for k = 0 … steps.
    rate : ndarray (n,)
        Factor by which changes shrink in a step in the end.
    jacobian_norms : ndarray (q,)
        Squared norms of the samples at which J was examined.
    spectral_radius : ndarray (q,)
        Of J; from 1 on the iteration does not come to rest.
    smallest_singular_value, largest_singular_value : ndarray (q,)
        Of 1 - J, which the backward solve inverts.
    """

    model: str
    squared_norms: FloatArray
    sizes: FloatArray
    residuals: FloatArray
    errors: FloatArray
    rate: FloatArray
    jacobian_norms: FloatArray
    spectral_radius: FloatArray
    smallest_singular_value: FloatArray
    largest_singular_value: FloatArray

    def __repr__(self) -> str:
        verdict = f"rate {self.rate.max():.4g} a step" if self.converges.all() else "does not converge"
        return f"{type(self).__name__}({self.model}, {self.squared_norms.size} squared norms: {verdict})"

    @property
    @abstractmethod
    def converges(self) -> BoolArray:
        """Whether the iteration of each sample comes to rest, (n,)."""

    @property
    def condition_number(self) -> FloatArray:
        """Of the backward solve, (q,): the ratio of the singular values of 1 - J; infinite where one is zero."""
        with np.errstate(divide="ignore"):
            return self.largest_singular_value / self.smallest_singular_value

    def iterations(self, tolerance: float) -> IntArray:
        """Return after how many steps each sample is at rest, as a `models.Solver` counts them.

        Parameters
        ----------
        tolerance : float
            On ‖z^k - z^{k-1}‖/‖z^k‖.

        Returns
        -------
        ndarray (n,)
            With a solver that stops by batches, its largest entry is the number for all.

        Raises
        ------
        InvalidInputError
            The tolerance is not positive, or below what was measured.
        IllPosedError
            Some sample does not come to rest, nor as near to it.
        """
        tolerance = check.number(tolerance, "tolerance", low=0, open_low=True)
        relative = self.residuals / self.sizes
        reached = relative <= tolerance
        left = ~reached.any(axis=0)
        steps = np.where(left, len(relative), 1 + reached.argmax(axis=0))
        if not left.any():
            return steps
        if not self.converges[left].all():
            raise self._restless()
        return np.where(left, steps + self._further(tolerance, relative[-1]), steps)

    @abstractmethod
    def _further(self, tolerance: float, reached: FloatArray) -> IntArray:
        """Return how many steps more than there are it takes, from relative residuals that were reached."""

    @abstractmethod
    def _restless(self) -> IllPosedError:
        """Return the exception for samples that do not come to rest."""

    def table(self) -> Table:
        """Return, by squared norm, the number of steps to some tolerances and the rate."""
        columns: dict[str, Any] = {"rate": self.rate}
        if self.converges.all():
            columns |= {f"steps to {at:.0e}": self.iterations(at) for at in self.tolerances}
        return Table(columns, self.squared_norms, "squared norm", self.model)

    @property
    def tolerances(self) -> tuple[float, ...]:
        """Relative changes, the largest first, to which steps are told."""
        return _TOLERANCES

    def summary(self) -> str:
        """Return what was found in words."""
        lines = [f"{self.model}, squared norms {_range(self.squared_norms)}"]
        if self.converges.all():
            steps = ", ".join(f"{at:.0e}: {_range(self.iterations(at))}" for at in self.tolerances)
            lines.append(f"  the iteration comes to rest: changes shrink by {_range(self.rate)} a step in the end")
            lines.append(f"  steps to a relative change of {steps}")
        else:
            lines.append(
                f"  the iteration does not come to rest for {int((~self.converges).sum())} of {self.rate.size} samples"
            )
        lines.append(f"  spectral radius of the Jacobian {_range(self.spectral_radius)}")
        condition = f"condition number of the backward solve {_range(self.condition_number)}"
        lines.append(f"  smallest singular value of 1 - J {_range(self.smallest_singular_value)}, {condition}")
        return "\n".join([*lines, *self._more()])

    def _more(self) -> list[str]:
        """Further lines of the summary."""
        return []

    def plot(self, ax: Any = None) -> Any:
        """Draw changes and errors by step, of the samples of the smallest, the median and the largest norm.

        Returns
        -------
        matplotlib.axes.Axes
        """
        ax = style.axes(ax)
        order = np.argsort(self.squared_norms)
        shown = dict.fromkeys(int(order[at]) for at in (0, (order.size - 1) // 2, order.size - 1))
        for i, colour in zip(shown, style.CLASSES, strict=False):
            name = f"squared norm {self.squared_norms[i]:.3g}"
            steps = np.arange(len(self.errors))
            for values, at, line, label in (
                (self.residuals[:, i], steps[1:], "-", f"change, {name}"),
                (self.errors[:, i], steps, ":", "error" if len(shown) == 1 else None),
            ):
                seen = values > _SHOWN
                ax.semilogy(at[seen], values[seen], line, color=colour, lw=1.5, label=label)
        ax.set_xlabel("step (dotted: distance from the equilibrium)")
        ax.set_ylabel("change in a step / size of z*")
        ax.legend(frameon=False, fontsize=8)
        return ax


@dataclass(frozen=True, eq=False, repr=False)
class ForetoldDiagnosis(Diagnosis):
    """A diagnosis at infinite width, of the data's squared norms alone.

    Attributes
    ----------
    sigma_a2 : float
        The layer's.
    limits : Limits
        The largest σ_a² for these squared norms.
    laws : tuple of JacobianLaw
        Of J at each of `jacobian_norms`.

    Notes
    -----
    All other attributes are those of `Diagnosis`, at the distinct squared norms in ascending order, or at 65 quantiles
    of more of them; J is examined at nine norms where they lie within a factor of 32.
    """

    sigma_a2: float
    limits: Limits
    laws: tuple[JacobianLaw, ...]

    @property
    def limit(self) -> float:
        """The largest σ_a² with which the iteration comes to rest for all these squared norms."""
        return self.limits.iteration

    @property
    def converges(self) -> BoolArray:
        """Whether the iteration of each sample comes to rest, (n,)."""
        return self.rate < 1

    def limit_at(self, width: int) -> float:
        """Return the σ_a² up to which nearly all networks of a finite width come to rest, for all these norms.

        There the typical spectral radius and twice its scatter are 1 together.

        Raises
        ------
        InvalidInputError
            The width is no positive whole number.
        """
        return self.limits.at(check.integer(width, "width"))

    def smallest_singular_value_at(self, width: int) -> FloatArray:
        """Return the expected smallest singular value of 1 - J of a network of finite width, (q,).

        The law of Tracy and Widom of real matrices at the edge of the squares, given that equilibria are rare where
        1 - J is nearly singular; see `rmtdeq.stability.edges`.

        Raises
        ------
        InvalidInputError
            The width is no positive whole number.
        """
        return self._by_law(JacobianLaw.smallest_at, width)

    def smallest_singular_value_scatter_at(self, width: int) -> FloatArray:
        """Return the standard deviation of the smallest singular value in single networks, (q,), relative to it.

        Raises
        ------
        InvalidInputError
            The width is no positive whole number.
        """
        return self._by_law(JacobianLaw.smallest_scatter_at, width)

    def spectral_radius_at(self, width: int) -> FloatArray:
        """Return the mean spectral radius of J of networks of finite width, (q,).

        It is above that of infinite width; single networks scatter about it as `rate_scatter_at` says.

        Raises
        ------
        InvalidInputError
            The width is no positive whole number.
        """
        return self._by_law(JacobianLaw.radius_at, width)

    def rate_scatter_at(self, width: int) -> FloatArray:
        """Return the standard deviation of the rates of single networks of finite width, (q,), relative to the rate.

        Each network has a mean of φ'² of its own, and an outermost eigenvalue.

        Raises
        ------
        InvalidInputError
            The width is no positive whole number.
        """
        return self._by_law(JacobianLaw.scatter_at, width)

    def resting_at(self, width: int) -> FloatArray:
        """Return the share of networks of finite width whose spectral radius is below 1, (q,).

        Raises
        ------
        InvalidInputError
            The width is no positive whole number.
        """
        radius, scatter = self.spectral_radius_at(width), self.rate_scatter_at(width)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(scatter > 0, ndtr(-np.log(radius) / scatter), radius < 1))

    def rate_at(self, width: int) -> FloatArray:
        """Return the mean rate at which changes shrink in networks of finite width, (n,), as a run measures it.

        That is the mean factor a step over the second half of the steps to a relative change of 1e-10: between the
        rate of infinite width, which decides for as many steps as the root of the width, and the spectral radius.

        Raises
        ------
        InvalidInputError
            The width is no positive whole number.
        """
        return self._steps(width).rates()

    def iterations_at(self, tolerance: float, width: int) -> FloatArray:
        """Return the mean number of steps in networks of finite width, (n,), of those that are at rest by 5000.

        It is no whole number.  Infinite where none is at rest.  From 0.9 of the limit on it is a mean with a long tail,
        which few networks come to.

        Raises
        ------
        InvalidInputError, IllPosedError
            As for `iterations`; the width is no positive whole number.
        """
        counts = self._counts(tolerance, width)
        resting = ~np.isnan(counts)
        with np.errstate(divide="ignore"):
            return np.asarray(np.where(resting, counts, 0.0).sum(axis=0) / resting.sum(axis=0))

    def iterations_scatter_at(self, tolerance: float, width: int) -> FloatArray:
        """Return the standard deviation of the number of steps in single networks of finite width, (n,).

        Of those that are at rest by 5000; infinite where none is.

        Raises
        ------
        InvalidInputError, IllPosedError
            As for `iterations`; the width is no positive whole number.
        """
        counts = self._counts(tolerance, width)
        resting = ~np.isnan(counts)
        number = np.where(resting.any(axis=0), resting.sum(axis=0), np.nan)
        mean = np.where(resting, counts, 0.0).sum(axis=0) / number
        variance = np.where(resting, counts - mean, 0.0) ** 2
        return np.nan_to_num(np.sqrt(variance.sum(axis=0) / number), nan=np.inf)

    def _by_law(self, number: Callable[[JacobianLaw, int], float], width: int) -> FloatArray:
        """Return a number of every law at a finite width, (q,)."""
        m = check.integer(width, "width")
        return np.array([number(law, m) for law in self.laws])

    def _counts(self, tolerance: float, width: int) -> FloatArray:
        tolerance = check.number(tolerance, "tolerance", low=0, open_low=True)
        if not self.converges.all():
            raise self._restless()
        return self._steps(width).counts(tolerance)

    def _steps(self, width: int) -> FiniteSteps:
        nodes = self.jacobian_norms
        shares = np.stack([np.interp(self.squared_norms, nodes, each) for each in np.eye(nodes.size)])
        relative = self.residuals / self.sizes
        return FiniteSteps.of(relative, self.rate, self.laws, shares, check.integer(width, "width"))

    def verdict(self, width: int | None = None) -> str:
        """Return, before anything is run, what the forward and the backward solve will be like, and what to do.

        Parameters
        ----------
        width : int, optional
            Of the network; infinite by default.

        Raises
        ------
        InvalidInputError
            The width is no positive whole number.
        """
        place = "" if width is None else f" at width {check.integer(width, 'width')}"
        most = self.limit if width is None else self.limit_at(width)
        remedy = f"take a sigma_a2 of {_SAFE * most:.4g}"
        if not self.converges.all():
            return f"diverges: the iteration does not come to rest; {remedy}{place}"
        if self.sigma_a2 > most:
            return f"may diverge{place}: single networks need not come to rest; {remedy}, or a wider network"
        smallest = self.smallest_singular_value if width is None else self.smallest_singular_value_at(width)
        if (self.largest_singular_value > _BAD * smallest).any():
            return (
                f"badly conditioned{place}: gradients grow by up to {1 / smallest.min():.3g} on the way back, and take "
                f"many steps; lower sigma_a2, which is {self.sigma_a2 / self.limit:.2g} of its limit, or take "
                'recurrent="orthogonal", and Solver(adjoint="gmres")'
            )
        return f"well-behaved{place}"

    def _further(self, tolerance: float, reached: FloatArray) -> IntArray:
        missing = np.log(np.maximum(reached, tolerance) / tolerance)
        return np.ceil(missing / -np.log(self.rate)).astype(np.int64)

    def _restless(self) -> IllPosedError:
        worst = int(self.rate.argmax())
        return IllPosedError(
            f"The iteration of {self.model} does not come to rest: at squared norm {self.squared_norms[worst]:.4g} the "
            f"spectral radius of the Jacobian is {self.rate[worst]:.4g}. For these squared norms sigma_a2 "
            f"must be below {self.limit:.4g}."
        )

    def _more(self) -> list[str]:
        return [
            f"  sigma_a2 is {self.sigma_a2:.4g}; the iteration comes to rest up to {self.limit:.4g}, the kernel exists "
            f"up to {self.limits.kernel:.4g}",
            f"  verdict: {self.verdict()}",
        ]


@dataclass(frozen=True, eq=False, repr=False)
class MeasuredDiagnosis(Diagnosis):
    """A diagnosis of a network of finite width, by running it.

    Attributes
    ----------
    at_rest : ndarray (n,)
        Whether each sample came to rest, to rounding or to the solver's tolerance.
    contraction : ndarray (q,)
        ‖J‖₂: the factor by which distances shrink, or grow, in one step near the equilibrium.

    Notes
    -----
    All other attributes are those of `Diagnosis`; J is examined at a few samples only.
    """

    at_rest: BoolArray
    contraction: FloatArray

    @property
    def converges(self) -> BoolArray:
        """Whether the iteration of each sample came to rest, (n,)."""
        return self.at_rest

    @property
    def tolerances(self) -> tuple[float, ...]:
        """Of those that are told, the relative changes that all samples came to."""
        reached = float((self.residuals / self.sizes)[-1].max())
        return tuple(at for at in _TOLERANCES if at >= reached)

    def _further(self, tolerance: float, reached: FloatArray) -> IntArray:
        raise InvalidInputError(
            f"A relative change of {tolerance:.1e} was not reached, but {reached.max():.1e}: ask for a larger "
            "tolerance, or take a module of double precision."
        )

    def _restless(self) -> IllPosedError:
        return IllPosedError(
            f"The iteration of {self.model} did not come to rest in {len(self.residuals)} steps; the largest relative "
            f"change is {(self.residuals / self.sizes)[-1].max():.1e}. Lower sigma_a2, or the scale of the recurrent "
            "weights, until the spectral radius of the Jacobian is below 1."
        )


def _range(values: ArrayLike) -> str:
    low, high = (f"{each:.4g}" for each in (np.min(values), np.max(values)))
    return low if low == high else f"{low} to {high}"
