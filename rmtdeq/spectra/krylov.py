"""The top of a spectrum and its density from products with the matrix; both from one Krylov subspace."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rmtdeq._lib.checkpoint import Checkpoint
from rmtdeq._lib.errors import ConvergenceError, InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.solvers import KrylovSubspace, RitzPairs, Step
from rmtdeq._lib.types import FloatArray
from rmtdeq.spectra.quadrature import SpectralQuadrature, quadrature_of, tolerance_of

logger = logging.getLogger(__name__)

Product = Callable[[FloatArray], FloatArray]

_RESIDUAL = 1e-9
"""Of a converged Ritz pair, relative to its value: the value's own error is of the order of the square."""

_NULL = 1e-14
"""Likewise, relative to the largest value: eigenvalues below are rounding."""

_MOST_STEPS = 400
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

    There are `top` eigenvalues, or all n where the subspace has become the whole space or, if a density was wanted, an
    invariant one that tells how often each is repeated.
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
    rest, everything, count = None, None, 0
    # How many random vectors there have been, when the last came, and when these are as far as those before them were;
    # steps after them are others than those without, in a checkpoint.
    vectors, since, ripe, history = size, 0, 0, ""
    with Stage("Lanczos", plan.steps or None, unit="step", show=progress) as stage:
        for number in range(plan.steps + _MOST_STEPS):
            if subspace.full:
                subspace.shrink(plan.top + vectors)
            subspace.take(_step(subspace, product, f"step-{number:04d}{history}", checkpoint))
            stage.update()
            taken = number + 1
            if rest is None and subspace.dimension < n and (taken == plan.steps or (plan.steps and subspace.invariant)):
                rest = quadrature_of(subspace, taken, n, plan.top)
            if not subspace.invariant and (
                taken < max(plan.steps, ripe)
                or (taken != plan.steps and number % (1 + subspace.dimension // _SMALL) != 0)
            ):
                continue
            pairs = subspace.ritz()
            if plan.steps and subspace.invariant and everything is None:
                everything = _everything(pairs, vectors, n)
            count = _count(pairs, plan.top)
            stage.note = f"{count} of {plan.top} eigenvalues"
            more = min(vectors, n - subspace.size)
            # Products that a density has left over, since the probes met every eigenvalue early, go on counting.
            spare = subspace.invariant and everything is None and subspace.size + more <= plan.steps * size
            found = count == plan.top and not _hidden(pairs, plan.top, vectors)
            if subspace.dimension == n or (found and not spare):
                break
            if more and (subspace.invariant or count == plan.top):
                ripe, since = 2 * taken - since, taken
                subspace.extend(_random(n, more, number))
                vectors, history = vectors + more, f"{history}+{more}at{taken}"
                subspace.most = min(n, max(subspace.most, krylov_plan(plan.top, plan.steps, vectors).most))
        else:
            raise ConvergenceError(
                f"Only {count} of the {plan.top} largest eigenvalues converged within {taken} block Lanczos steps; ask "
                "for fewer."
            )
    pairs = subspace.ritz()
    top = slice(pairs.values.size - min(plan.top, pairs.values.size), None)
    tops = subspace.vectors(pairs.coordinates[:, top])
    if subspace.dimension == n:
        everything = pairs.values
    if everything is not None:
        return KrylovSpectrum(everything, tops, None)
    if rest is not None:
        rest = replace(rest, highest=float(pairs.values[-max(n - rest.count, 1)]))
    return KrylovSpectrum(pairs.values[top], tops, rest)


def _step(subspace: KrylovSubspace, product: Product, name: str, checkpoint: Checkpoint | None) -> Step:
    if checkpoint is None:
        return _finite(subspace.next_step(product))
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
    limit = np.maximum(_RESIDUAL * abs(pairs.values[last]), _NULL * abs(pairs.values[-1]))
    return int((pairs.residuals[last] <= limit).sum())


def _hidden(pairs: RitzPairs, top: int, vectors: int) -> bool:
    """Whether an eigenvalue above the last of the largest may have more copies than were found.

    Of as many random vectors as there were, each has found one of a repeated eigenvalue.
    """
    last, tolerance = slice(pairs.values.size - top, None), tolerance_of(pairs)
    above = pairs.values[last] > pairs.values[-top] + tolerance[-top]
    return bool((above & (pairs.copies(last, tolerance) >= vectors)).any())


def _everything(pairs: RitzPairs, vectors: int, n: int) -> FloatArray | None:
    """All n eigenvalues, from the Ritz pairs of an invariant subspace, if they can be counted.

    A subspace begun with random vectors is invariant once it has met every eigenvalue.  Those found fewer times than
    there were vectors are not repeated more often; if there is only one other, it is repeated as often as is missing.
    """
    if pairs.values.size == n:
        return pairs.values
    tolerance = tolerance_of(pairs)
    repeated = pairs.copies(slice(None), tolerance) >= vectors
    values = pairs.values[repeated]
    if not values.size or values[-1] - values[0] > tolerance[repeated][-1]:
        return None
    return np.sort(np.append(pairs.values, np.full(n - pairs.values.size, values.mean())))


def random_block(n: int, size: int, seed: int, warm: FloatArray | None = None) -> FloatArray:
    """Return Gaussian probes (n, size); the first are replaced by vectors known to be near what is sought.

    Those with entries ±1 would not do: of an eigenspace on few coordinates they may all see the same.
    """
    block = np.random.default_rng(seed).standard_normal((n, size))
    if warm is not None and warm.size:
        # A little of the random vector stays in, so that nothing is orthogonal to what is sought.
        block = np.concatenate([warm[:, ::-1] + 1e-6 / np.sqrt(n) * _random(n, warm.shape[1], seed), block], axis=1)
        block = block[:, : max(size, warm.shape[1])]
    return block


def _random(n: int, size: int, seed: int) -> FloatArray:
    return np.random.default_rng((seed, 1)).standard_normal((n, size))
