"""The top of a spectrum and its density from products with the matrix; both from one Krylov subspace."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rmtdeq._checkpoint import Checkpoint
from rmtdeq._errors import ConvergenceError, InvalidInputError
from rmtdeq._progress import progress_bar
from rmtdeq._types import FloatArray
from rmtdeq.solvers import KrylovSubspace, RitzPairs, Step
from rmtdeq.spectra.quadrature import SpectralQuadrature, quadrature_of

logger = logging.getLogger(__name__)

Product = Callable[[FloatArray], FloatArray]

_RESIDUAL = 1e-9
"""Of a converged Ritz pair, relative to its value: the value's own error is of the order of the square."""

_MOST_STEPS = 400
_COARSER = 0.75
_MOST = 4096
_SMALL = 256
"""Subspaces up to here are looked at after every step; larger ones, whose eigenvalues cost more, less often."""


@dataclass(frozen=True)
class KrylovPlan:
    """What is wanted of a matrix.

    Attributes
    ----------
    top : int
        How many of the largest eigenvalues.
    steps : int
        At least so many products, for the density; 0 if none is wanted.
    most : int
        Largest dimension of the subspace; beyond it a search for eigenvalues alone is restarted.
    """

    top: int
    steps: int
    most: int


def krylov_plan(top: int, steps: int, block: int) -> KrylovPlan:
    """Return the plan for blocks of a size: a density needs the whole subspace, a search for eigenvalues does not."""
    return KrylovPlan(top, steps, max(_MOST, (steps + 1) * block) if steps else max(24 * block, 4 * (top + block)))


@dataclass(frozen=True, eq=False)
class KrylovSpectrum:
    """Eigenvalues ascending, vectors (n, top) of the last, and the quadrature of the rest where it was wanted.

    There are `top` eigenvalues, or all n where the subspace has become the whole space.
    """

    eigenvalues: FloatArray
    vectors: FloatArray
    rest: SpectralQuadrature | None


def krylov_spectrum(
    product: Product, start: FloatArray, plan: KrylovPlan, checkpoint: Checkpoint | None = None, progress: bool = False
) -> KrylovSpectrum:
    """Grow a subspace from `start` (n, b) until the top eigenvalues have converged and the density has its steps.

    With a checkpoint each step is kept, and those that it holds are not computed again.

    Raises
    ------
    ConvergenceError
        The eigenvalues have not converged.
    """
    n, size = start.shape
    subspace = KrylovSubspace(start, plan.most)
    if checkpoint is not None and (kept := checkpoint.parts("step-*")):
        logger.info("%d steps found in %s.", kept, checkpoint.folder)
    rest, coarser, count = None, 0, 0
    with progress_bar(progress, total=plan.steps or None, desc="Lanczos", unit="step") as bar:
        for number in range(plan.steps + _MOST_STEPS):
            if subspace.full:
                subspace.shrink(plan.top + size)
            subspace.take(_step(subspace, product, number, checkpoint))
            bar.update()
            if number < _COARSER * plan.steps:
                coarser = subspace.dimension
            if subspace.invariant:
                # All Ritz pairs are exact; there may be too few of them if eigenvalues are repeated.
                missing = min(plan.top, n) - subspace.dimension
                if missing <= 0:
                    break
                subspace.extend(_random(n, min(missing, size), number))
            elif number + 1 >= plan.steps:
                if number + 1 == plan.steps:
                    rest = quadrature_of(subspace, coarser, n, plan.top)
                elif number % (1 + subspace.dimension // _SMALL):
                    continue
                count = _count(subspace.ritz(), plan.top)
                bar.set_postfix(converged=f"{count}/{plan.top}")
                if count == plan.top:
                    break
        else:
            raise ConvergenceError(
                f"Only {count} of the {plan.top} largest eigenvalues converged within {number + 1} block Lanczos "
                "steps; ask for fewer."
            )
    pairs = subspace.ritz()
    top = slice(pairs.values.size - min(plan.top, pairs.values.size), None)
    vectors = subspace.vectors(pairs.coordinates[:, top])
    if subspace.dimension == n:
        return KrylovSpectrum(pairs.values, vectors, None)
    if plan.steps and rest is None:  # invariant before its last step
        rest = quadrature_of(subspace, coarser, n, plan.top)
    return KrylovSpectrum(pairs.values[top], vectors, rest)


def _step(subspace: KrylovSubspace, product: Product, number: int, checkpoint: Checkpoint | None) -> Step:
    if checkpoint is None:
        return _finite(subspace.next_step(product))
    name = f"step-{number:04d}"
    kept = checkpoint.load(name)
    if kept is None:
        step = _finite(subspace.next_step(product))
        checkpoint.save(name, {"column": step.column, "block": step.block})
        return step
    step = Step(kept.get("column", np.empty(0)), kept.get("block", np.empty(0)))
    if not subspace.fits(step):
        raise InvalidInputError(
            f"{checkpoint.folder / name}.npz does not continue the steps before it; delete it and those after it."
        )
    return step


def _finite(step: Step) -> Step:
    if not (np.isfinite(step.column).all() and np.isfinite(step.block).all()):
        raise ConvergenceError("A product with the kernel is not finite: its entries are damaged, or too large.")
    return step


def _count(pairs: RitzPairs, top: int) -> int:
    """How many of the largest Ritz pairs have converged."""
    last = slice(pairs.values.size - min(top, pairs.values.size), None)
    return int((pairs.residuals[last] <= _RESIDUAL * abs(pairs.values[last])).sum())


def random_block(n: int, size: int, seed: int, warm: FloatArray | None = None) -> FloatArray:
    """Return probes (n, size) with entries ±1; the first are replaced by vectors known to be near what is sought."""
    block = np.random.default_rng(seed).choice([-1.0, 1.0], (n, size))
    if warm is not None and warm.size:
        # A little of the random vector stays in, so that nothing is orthogonal to what is sought.
        block = np.concatenate([warm[:, ::-1] + 1e-6 / np.sqrt(n) * _random(n, warm.shape[1], seed), block], axis=1)
        block = block[:, : max(size, warm.shape[1])]
    return block


def _random(n: int, size: int, seed: int) -> FloatArray:
    return np.random.default_rng((seed, 1)).standard_normal((n, size))
