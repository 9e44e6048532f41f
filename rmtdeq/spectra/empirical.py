"""The measured spectrum of a kernel on data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq._lib import check, style
from rmtdeq._lib.arrays import is_tensor
from rmtdeq._lib.checkpoint import Checkpoint, checksum
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage, afford
from rmtdeq._lib.tables import Table, Tabular, largest, without_rounding
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.kernels.computation import Computation, engine
from rmtdeq.kernels.gram import dense_kernels
from rmtdeq.kernels.operator import operators_of
from rmtdeq.network import Network
from rmtdeq.spectra.dense import eigenpairs, expected_seconds
from rmtdeq.spectra.krylov import KrylovPlan, krylov_plan, krylov_spectrum, random_block
from rmtdeq.spectra.quadrature import SpectralQuadrature

METHODS = ("exact", "lanczos", "slq")

BLOCK = 8
"""Vectors multiplied at a time: about as many as a core can use while the matrix comes from memory."""

STEPS = 64
"""Block Lanczos steps for a density."""


_NARROWEST = 1e-300
_EQUAL = 1e-9
"""Of the largest value: values whose spread is less are one value."""

_FARTHEST = 40.0
"""Standard deviations of a Gaussian, beyond which it is zero."""


@dataclass(frozen=True, eq=False)
class EmpiricalSpectrum(Tabular):
    """Eigenvalues, and some eigenvectors, of a kernel matrix.

    Attributes
    ----------
    eigenvalues : ndarray (n,) or (top,)
        Ascending; all of them (method "exact", and the others where they have found all) or the largest.
    vectors : ndarray (n, v)
        Unit eigenvectors of the last v eigenvalues, one a column, in the same order; for all eigenvalues where
        none were singled out.
    n : int
        Size of the matrix.
    kind : str
    method : str
    rest : SpectralQuadrature or None
        The distribution of the other eigenvalues, and of those of the largest whose eigenspaces were not found whole,
        with its error (method "slq").
    """

    eigenvalues: FloatArray
    vectors: FloatArray
    n: int
    kind: Kind
    method: str
    rest: SpectralQuadrature | None = None

    def __repr__(self) -> str:
        found, count = self.eigenvalues, self.eigenvalues.size
        which = "all" if self.complete else f"the {count} largest" if count != 1 else "the largest"
        others = "" if self.rest is None or self.complete else ", the others in distribution"
        span = f"{found[0]:.4g} ... {found[-1]:.4g}" if count else "none"
        return (
            f"EmpiricalSpectrum({self.kind}, n={self.n}, method={self.method!r}: {which} eigenvalues {span}{others}, "
            f"{self.vectors.shape[1]} eigenvectors)"
        )

    @property
    def complete(self) -> bool:
        """Whether all n eigenvalues are known."""
        return self.eigenvalues.size == self.n

    @property
    def has_density(self) -> bool:
        """Whether the whole distribution is known, eigenvalue by eigenvalue or as a quadrature."""
        return self.complete or self.rest is not None

    @cached_property
    def all_values(self) -> FloatArray:
        """All n eigenvalues, ascending; those that are not known one by one stand at the quantiles of `rest`.

        Raises
        ------
        InvalidInputError
            Only the top of the spectrum is known.
        """
        if self.rest is None:
            if not self.complete:
                raise InvalidInputError(
                    "Only the top eigenvalues are known; use method='exact' or 'slq' for the whole spectrum."
                )
            return self.eigenvalues
        others = self.rest.quantiles((np.arange(self.rest.count) + 0.5) / self.rest.count)
        lower = others[: self.n - self.eigenvalues.size]
        return np.sort(np.concatenate([np.minimum(lower, self.eigenvalues[0]), self.eigenvalues]))

    @property
    def known_values(self) -> FloatArray:
        """All eigenvalues where the whole distribution is known, or else the largest; ascending."""
        return self.all_values if self.has_density else self.eigenvalues

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Return the share of the eigenvalues up to x; those that rounding has made negative are zeros."""
        x = check.real_array(x, "x")
        return np.asarray(np.searchsorted(np.maximum(self.all_values, 0.0), x, side="right") / self.n)

    def cdf_error(self, x: ArrayLike) -> FloatArray:
        """Return the standard error of `cdf` where x is no eigenvalue; zero where all eigenvalues are known."""
        x = check.real_array(x, "x")
        self.all_values  # noqa: B018 - raises where only the top is known
        return np.zeros(x.shape) if self.rest is None else self.rest.cdf_error(x) * (self.rest.count / self.n)

    def masses(self, edges: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the share of the eigenvalues between neighbouring edges, and its standard error.

        An edge belongs to what is below it, the first to what is above it; eigenvalues that rounding has made negative
        are zeros.

        Parameters
        ----------
        edges : array_like (k + 1,)
            Ascending; the first and the last may be infinite.

        Returns
        -------
        mass : ndarray (k,)
        error : ndarray (k,)
            Of edges that are no eigenvalues; zero where all eigenvalues are known.
        """
        try:
            edges = np.asarray(edges, dtype=float)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"edges must be two or more ascending numbers: {error}.") from error
        if edges.ndim != 1 or edges.size < 2 or not (edges[1:] > edges[:-1]).all():
            raise InvalidInputError("edges must be two or more ascending numbers.")
        values = np.maximum(self.all_values, 0.0)
        below = np.append(np.searchsorted(values, edges[:1]), np.searchsorted(values, edges[1:], side="right"))
        mass = np.diff(below) / self.n
        if self.rest is None:
            return mass, np.zeros(mass.shape)
        return mass, self.rest.masses(edges)[1] * (self.rest.count / self.n)

    def density(self, x: ArrayLike, bandwidth: float | None = None) -> FloatArray:
        """Return the eigenvalues' density smoothed with a Gaussian.

        Parameters
        ----------
        x : array_like
        bandwidth : float, optional
            Standard deviation of the Gaussian; by default Silverman's rule on the central half of the spectrum, on all
            of it where that half is one value, and on this value itself where there is no other.

        Raises
        ------
        InvalidInputError
            Only the top of the spectrum is known.
        """
        x = check.real_array(x, "x")
        values = self.all_values
        if bandwidth is None:
            size = float(abs(values).max())
            low, high = np.quantile(values, [0.25, 0.75])
            spreads = [float(high - low) / 1.349, float(values.std()), size]
            spread = next((each for each in spreads if each > _EQUAL * size), 1.0)
            bandwidth = 0.9 * spread * values.size**-0.2
        width = check.number(bandwidth, "bandwidth", low=_NARROWEST)
        result = np.zeros(x.size)
        flat = x.ravel()
        for part in np.array_split(values, max(1, values.size * flat.size // 4_000_000)):
            # Farther away there is nothing, and the square might be too large.
            apart = np.minimum(abs(flat[:, None] - part), _FARTHEST * width) / width
            result += np.exp(-0.5 * apart**2).sum(axis=1)
        return (result / (values.size * width * np.sqrt(2 * np.pi))).reshape(x.shape)

    def alignments(self, y: ArrayLike, classes: int | None = None) -> FloatArray:
        """Return squared inner products of the eigenvectors with the classes' unit indicators, (v, K).

        Parameters
        ----------
        y : array_like (n,)
            Labels 0 … K-1.
        classes : int, optional
            K, if not all classes occur.
        """
        labels = check.labels(y, self.n, classes)
        count = int(labels.max()) + 1 if classes is None else int(classes)
        check.memory(8 * self.n * count, None, f"Indicators of {count} classes", "relabel the classes 0, 1, ...")
        indicator = np.zeros((self.n, count))
        indicator[np.arange(self.n), labels] = 1.0
        sizes = np.maximum(indicator.sum(axis=0), 1.0)
        return (self.vectors.T @ indicator) ** 2 / sizes

    def table(self) -> Table:
        """Return the eigenvalues that are known one by one by rank, the largest first."""
        return Table(
            {"eigenvalue": self.eigenvalues[::-1]},
            np.arange(1, self.eigenvalues.size + 1),
            "rank",
            f"{self.kind}, n = {self.n}, method {self.method!r}",
            scales={"eigenvalue": largest(self.eigenvalues)},
        )

    def plot(self, ax: Any = None, bins: int = 60) -> Any:
        """Draw a histogram of the eigenvalues, on a logarithmic axis if they span more than a decade.

        Returns
        -------
        matplotlib.axes.Axes
        """
        ax = style.axes(ax)
        values = self.all_values if self.has_density else self.eigenvalues
        positive = np.sort(values[without_rounding(values, largest(values)) > 0])
        logarithmic = positive.size > 0 and positive[-1] > style.WIDE * positive[0]
        if logarithmic:
            edges = np.geomspace(positive[0], positive[-1], bins + 1)
            unit, per = np.diff(np.log10(edges)), " per decade"
            ax.set_xscale("log")
        else:
            edges = even_edges(values, bins)
            unit, per = np.diff(edges), ""
        if self.has_density:
            draw_masses(ax, edges, *self.masses(edges), unit)
            ax.set_ylabel(f"density{per}")
        else:
            counts = np.histogram(values, edges)[0] / values.size
            draw_masses(ax, edges, counts, np.zeros(counts.shape), unit)
            ax.set_ylabel(f"density{per} among the {values.size} largest")
        ax.set_xlabel("eigenvalue")
        return ax


def even_edges(values: FloatArray, bins: int) -> FloatArray:
    """Return the edges of equal bins; around values that are all equal, up to rounding, they are wider than these."""
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    if high - low <= _EQUAL * size:
        half = size / 2 or 0.5
        low, high = low - half, high + half
    return np.linspace(low, high, bins + 1)


def draw_masses(ax: Any, edges: FloatArray, mass: FloatArray, error: FloatArray, unit: FloatArray) -> None:
    """Draw shares of the eigenvalues as bars of height mass/unit, with error bars where there is an error."""
    ax.bar(
        edges[:-1],
        mass / unit,
        np.diff(edges),
        align="edge",
        color=style.DATA,
        edgecolor=style.DATA_EDGE,
        linewidth=0.3,
        label="eigenvalues",
    )
    if error.any():
        middle = (edges[1:] + edges[:-1]) / 2
        ax.errorbar(middle, mass / unit, error / unit, fmt="none", ecolor=style.DATA_EDGE, elinewidth=0.8)


def empirical_spectrum(
    X: ArrayLike,
    deq: Network,
    kind: str | Sequence[str] = "ck",
    *,
    method: str = "exact",
    top: int | None = None,
    steps: int | None = None,
    block: int = BLOCK,
    storage: str = "auto",
    checkpoint: str | PathLike[str] | None = None,
    start: EmpiricalSpectrum | None = None,
    seed: int = 0,
    tau0_squared: float | None = None,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    device: Any = None,
    products: str = "full",
    group: Any = None,
    memory_limit: float | None = None,
    progress: bool = True,
) -> Any:
    """Compute the spectrum of a kernel on data.

    Parameters
    ----------
    X, deq, tau0_squared, backend, dtype, device, products, progress
        As for `kernel`.  On a device that torch or Triton compute on, the matrix stays there if it fits, and so do its
        products or eigenvalues.
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``; of several, the samples are read and the dense kernels computed once.
    method : str
        ``"exact"``: all eigenvalues of the dense matrix (LAPACK).  ``"lanczos"``: the `top` largest, by block Lanczos
        iterations, which need products with the matrix only.  ``"slq"``: the same, and the distribution of all others
        by stochastic Lanczos quadrature, with error bars.
    top : int, optional
        How many of the largest eigenvalues get eigenvectors: all by default with ``"exact"``, 6 with the others.
    steps : int, optional
        Products for the density of ``"slq"``, at least, 64 by default; more resolve finer structure.
    block : int
        Vectors multiplied at a time; for ``"slq"`` they are the probes.  Where an eigenvalue among the largest may be
        repeated more often, more random vectors are added until all of its copies are found.
    storage : str
        How the matrix is kept for ``"lanczos"`` and ``"slq"``: the `method` of `kernel_operator`.
    checkpoint : path, optional
        Folder that keeps the matrix (in files, unless `storage` says otherwise) and every step of ``"lanczos"`` and
        ``"slq"``.  The same call with the same folder goes on where it was interrupted, and so does one with more
        `steps` or another `top` for ``"slq"``.  It holds 4 n² bytes and more in double precision, and is not removed.
    start : EmpiricalSpectrum, optional
        Of a similar matrix, such as that of another σ_a²: its vectors are where ``"lanczos"`` begins.
    seed : int
        Of the vectors that the iterations begin with.
    memory_limit : float, optional
        Bytes that the matrix may take; nine tenths of the free memory by default.
    group : torch.distributed.ProcessGroup, optional
        Processes that share the matrix of ``"lanczos"`` and ``"slq"``, as for `kernel_operator`: all of them call this
        function, with the same arguments but the device, and get the same result.

    Returns
    -------
    EmpiricalSpectrum, or a tuple of them
        One for each kind.

    Raises
    ------
    InvalidInputError, IllPosedError, MemoryLimitError
        As for `kernel`; a checkpoint that belongs to another computation.
    ConvergenceError
        Lanczos iterations did not converge.

    Notes
    -----
    Stochastic Lanczos quadrature: Ubaru, Chen, Saad, SIAM J. Matrix Anal. Appl. 38 (2017).  The largest eigenvalues
    count exactly, and are taken out of the probes, where all of their eigenspaces has been found.  The error bars are
    the standard error over Gaussian probes and what the moments of the probes leave open, added in squares; they are
    those of the distribution function where it does not jump.  Iterations that end early, since the probes have met
    every eigenvalue, give all eigenvalues exactly if at most one is repeated as often as there are probes.
    """
    check.choice(method, "method", METHODS)
    kinds = check.kinds(kind)
    how = Computation(backend, device, dtype, products, memory_limit)
    if backend != "dask":
        # Samples that are on a device are computed with there.
        chosen, place = engine(X, backend=backend, device=device)
        how = replace(how, backend=chosen, device=place)
    if how.device is not None and backend != "dask" and (method == "exact" or is_tensor(X)):
        # Checked where they are computed with: they are not brought to the host.
        from rmtdeq.kernels.tensors import checked

        X = checked(X, "X", how.device, None, "full")
    elif backend != "dask" or not hasattr(X, "dask"):
        X = check.samples(X)
    n = len(X)  # type: ignore[arg-type]
    if top is not None:
        top = check.integer(top, "top")
        if top > n:
            raise InvalidInputError(f"top = {top} eigenvalues were asked of a matrix of size {n}.")
    if steps is not None and method != "slq":
        raise InvalidInputError(f"steps is for method='slq'; {method!r} takes as many as it needs.")
    if method == "exact":
        if checkpoint is not None or start is not None or storage != "auto" or group is not None:
            raise InvalidInputError("checkpoint, start, storage and group are for the methods 'lanczos' and 'slq'.")
        return check.as_asked(kind, _exact(X, deq, kinds, how, top, tau0_squared, progress))
    if start is not None and (not isinstance(start, EmpiricalSpectrum) or start.n != n):
        raise InvalidInputError(f"start must be an EmpiricalSpectrum of a matrix of size {n}.")
    if start is not None and method == "slq":
        raise InvalidInputError("The probes of method='slq' are random; start is for method='lanczos'.")
    size = min(check.integer(block, "block"), n)
    least = min(check.integer(STEPS if steps is None else steps, "steps", low=4), n) if method == "slq" else 0
    first = random_block(n, size, check.integer(seed, "seed", low=0), None if start is None else start.vectors)
    plan = krylov_plan(min(6, n) if top is None else top, least, size)
    folder = None if checkpoint is None else check.folder(checkpoint, "checkpoint")
    if folder is not None and group is not None:
        raise InvalidInputError("checkpoint is for one process; those of a group would write to the same files.")
    in_files = folder is not None and storage in ("auto", "memory-mapped") and backend != "dask"
    operators = operators_of(
        X,
        deq,
        kinds,
        how,
        method=storage,
        folder=folder / "kernel" if folder is not None and in_files else None,
        tau0_squared=tau0_squared,
        group=group,
        apart=not isinstance(kind, str),
        progress=progress,
    )
    results = []
    for name, operator in zip(kinds, operators, strict=True):
        kept = None
        if folder is not None:
            own = folder if isinstance(kind, str) else folder / name
            kept = Checkpoint(own / method, operator.identity() | _what_steps_depend_on(plan, first), "lanczos")
        try:
            found = krylov_spectrum(operator.compute().matmat, first, plan, kept, progress)
        except KeyboardInterrupt as error:
            if folder is not None:
                error.add_note(f"What is done is kept in {folder}; the same call goes on from there.")
            raise
        if len(kinds) > 1:
            operator.close()
        results.append(EmpiricalSpectrum(found.eigenvalues, found.vectors, n, name, method, found.rest))
    return check.as_asked(kind, results)


def _what_steps_depend_on(plan: KrylovPlan, first: FloatArray) -> dict[str, Any]:
    """Restarts depend on what is sought; a density has none, and more of it may be asked for later."""
    record = {"first block": checksum(first), "largest subspace": plan.most}
    return record if plan.steps else record | {"top": plan.top}


def _exact(
    X: Any,
    network: Network,
    kinds: tuple[Kind, ...],
    how: Computation,
    top: int | None,
    tau0_squared: float | None,
    progress: bool,
) -> Iterator[EmpiricalSpectrum]:
    n = len(X)
    on_card = how.backend != "dask" and how.device is not None and how.device.type != "cpu"
    if not on_card:
        _check_dense(n, how.memory_limit, len(kinds))
    seconds = expected_seconds(n) if progress and not on_card else None
    if seconds is not None:
        afford(seconds * len(kinds), f"The eigenvalues of {n} x {n} matrices")
    matrices = list(dense_kernels(X, network, kinds, how, tau0_squared=tau0_squared, progress=progress))
    if on_card and matrices[0].device.type == "cpu":
        _check_dense(n, how.memory_limit, len(kinds))
    for kind in kinds:
        matrix = matrices.pop(0)
        matrix = np.asarray(matrix) if how.backend == "dask" else matrix
        with Stage(f"eigenvalues of the {kind}, {n} x {n}", seconds=seconds, show=progress):
            found = eigenpairs(matrix, top)
        yield EmpiricalSpectrum(*found, n, kind, "exact")


def _check_dense(n: int, memory_limit: float | None, kinds: int) -> None:
    check.memory(
        (2 + kinds) * 8 * n * n,
        memory_limit,
        "The kernel and its eigenvectors",
        "use method='slq' (density and top eigenvalues) or 'lanczos', which need half a matrix at most",
    )
