"""Stieltjes transform of a Gram model: the diagonal q_a(z) of the deterministic equivalent of (H - z)^{-1}.

``q_a = 1/(λ_a - z + e_a(q))`` has exactly one solution with positive imaginary parts for z in the upper half
plane.  It is followed from large Im z, where the map is a contraction, down to the point asked for, by Newton's
method; a step that leaves the upper half plane is replaced by damped iteration of the map, which maps that half
plane into itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rmtdeq._lib.errors import ConvergenceError
from rmtdeq._lib.types import ComplexArray, FloatArray
from rmtdeq.theory.rmt.model import GramModel

_TOLERANCE = 1e-8
_TOLERANCE_DEAR = 1e-7
_ON_THE_WAY = 1e-3
_NEWTON_STEPS = 25
_FEW_STEPS = 12
_ROUNDING = 1e-8
_ROUNDING_DEAR = 1e-7
_FAST = 1e-2
_GUESS = 1e-2
_GAP = 1e-3
_SHRINK = 0.05
_BENT = 0.5
_DESCENT = 0.05
_STEEPEST = 1e-6
_SHORTEST = 0.9
_FEW = 16
_ALMOST_REAL = 1e-12


def resolvent_diagonal(model: GramModel, z: ComplexArray) -> ComplexArray:
    """Solve for q_a(z).

    Parameters
    ----------
    model : GramModel
    z : ndarray (points,)
        In the upper half plane.

    Returns
    -------
    ndarray (points, K)
        With positive imaginary parts; the Stieltjes transform is ``Σ_a (n_a/n) q_a``.

    Raises
    ------
    ConvergenceError
        The equations could not be solved at some point.
    """
    z = np.asarray(z, dtype=complex)
    if model.commuting:
        return _descend(model, z)
    # With dense blocks an evaluation is dear: start from the solution that ignores their off-diagonal entries.
    simple = replace(model, covariances=model.covariances.commuting_part())
    q, good = _newton(model, z, _descend(simple, z), _TOLERANCE_DEAR, exact=False)
    if not good.all():
        q[~good] = _descend(model, z[~good])
    return q


class LineResolvent:
    """Solutions along a line just above the real axis: new points start from their solved neighbours.

    A Newton iteration that ends in the upper half plane has found the one solution there, wherever it started;
    points where it does not are followed down from far above.
    """

    def __init__(self, model: GramModel) -> None:
        self.model = model
        self._x = np.empty(0)
        self._q = np.empty((0, model.shifts.size), dtype=complex)

    def __call__(self, z: ComplexArray, guess: ComplexArray | None = None) -> ComplexArray:
        """Return q_a(z) for points (points,), as `resolvent_diagonal` does; from a guess (points, K) if any."""
        if guess is None and z.size > max(_FEW, 2 * self._x.size):
            # Every other point first, for the others to start from.
            order = np.argsort(z.real)
            result = np.empty((z.size, self._q.shape[1]), dtype=complex)
            for part in (order[::2], order[1::2]):
                result[part] = self(z[part])
            return result
        return self._solve(z, guess)

    def _solve(self, z: ComplexArray, guess: ComplexArray | None) -> ComplexArray:
        q = np.empty((z.size, self._q.shape[1]), dtype=complex)
        good = np.zeros(z.size, dtype=bool)
        if guess is None and self._x.size > 1:
            guess = self._interpolated(z.real)
        if guess is not None:
            guess.imag = np.maximum(guess.imag, _ALMOST_REAL * abs(guess))
            exact = self.model.commuting
            tolerance = _TOLERANCE if exact else _TOLERANCE_DEAR
            q, good = _newton(self.model, z, guess, tolerance, exact)
        if not good.all():
            q[~good] = resolvent_diagonal(self.model, z[~good])
        self._keep(z, q)
        return q

    def afresh(self, z: ComplexArray) -> None:
        """Solve without regard to neighbours, and forget what was found at these points."""
        self._keep(z, resolvent_diagonal(self.model, z))

    def _keep(self, z: ComplexArray, q: ComplexArray) -> None:
        x, order = np.unique(np.concatenate([z.real, self._x]), return_index=True)
        self._x, self._q = x, np.concatenate([q, self._q])[order]

    def _interpolated(self, x: FloatArray) -> ComplexArray:
        """Between solved neighbours: lines, or cubics, in the logarithm of the distance from the nearest shift."""
        right = np.clip(np.searchsorted(self._x, x), 1, self._x.size - 1)
        shift = self.model.shifts[np.argmin(abs(x[:, None] - self.model.shifts), axis=1)]
        around = right[:, None] + np.arange(-2, 2)
        apart = np.clip(x, self._x[0], self._x[-1]) - shift
        knots = self._x[np.clip(around, 0, self._x.size - 1)] - shift[:, None]
        same = (knots * apart[:, None] > 0) & (around >= 0) & (around < self._x.size)
        logarithmic = same[:, 1] & same[:, 2]
        at = np.where(logarithmic, np.log(abs(np.where(logarithmic, apart, 1.0))), apart)[:, None]
        knots = np.where(logarithmic[:, None], np.log(abs(np.where(same, knots, 1.0))), knots)
        low, high = knots[:, 1:2], knots[:, 2:3]
        # Neighbours may be one number as seen from the shift.
        share = np.divide(at - low, high - low, out=np.zeros_like(at), where=high != low)
        left_q, right_q = self._q[right - 1], self._q[right]
        q = (1 - share) * left_q + share * right_q
        cubic = same.all(axis=1) & (np.diff(knots * np.sign(high - low)) > 0).all(axis=1)
        weights = _lagrange(knots[cubic], at[cubic])
        bent = np.einsum("gi,gia->ga", weights, self._q[around[cubic]])
        # Neighbours on the other side of an edge say little.
        close = abs(bent - q[cubic]) <= _BENT * abs(right_q - left_q)[cubic]
        q[cubic] = np.where(close.all(axis=1)[:, None], bent, q[cubic])
        return q


def _lagrange(knots: FloatArray, at: FloatArray) -> FloatArray:
    """Weights of values at knots (points, 4) of their cubics at other places (points, 1)."""
    gaps = knots[:, :, None] - knots[:, None, :]
    parts = np.divide(at[:, :, None] - knots[:, None, :], gaps, out=np.ones_like(gaps), where=gaps != 0)
    return np.asarray(parts.prod(axis=2))


def _descend(model: GramModel, z: ComplexArray) -> ComplexArray:
    """Follow the solution from far above the real axis down to z."""
    scale = model.upper_bound - float(model.shifts.min()) + abs(model.shifts).max()
    target = z.imag
    height = np.maximum(target, 4 * scale)
    top = z.real + 1j * height
    q = _damped(model, top, 1 / (model.shifts - top[:, None]))
    stride = np.full(z.shape, _DESCENT)
    pending = np.arange(z.size)
    while pending.size:
        lower = np.maximum(height[pending] * stride[pending], target[pending])
        last = lower <= target[pending]
        at = z.real[pending] + 1j * lower
        new, good = _newton(model, at, q[pending], np.where(last, _TOLERANCE, _ON_THE_WAY))
        # Where Newton's method lost the solution, a shorter stride; where strides got short, the sure way.
        stuck = ~good & (stride[pending] > _SHORTEST)
        if stuck.any():
            new[stuck] = _damped(model, at[stuck], q[pending[stuck]])
            good |= stuck
        q[pending[good]] = new[good]
        height[pending[good]] = lower[good]
        stride[pending] = np.where(good, np.maximum(stride[pending] ** 2, _STEEPEST), np.sqrt(stride[pending]))
        pending = pending[~(good & last)]
    return q


def _newton(
    model: GramModel, z: ComplexArray, q: ComplexArray, tolerance: Any, exact: bool = True
) -> tuple[ComplexArray, np.ndarray]:
    """Newton's method at every point; say where it ended at a solution in the upper half plane.

    Without the exact Jacobian, Broyden's updates of an approximate one.
    """
    q = q.copy()
    tolerance = np.broadcast_to(tolerance, z.shape)
    good = np.zeros(z.shape, dtype=bool)
    active = np.arange(z.size)
    index = np.arange(q.shape[1])
    rounding = _ROUNDING if model.commuting else _ROUNDING_DEAR
    last: tuple[ComplexArray, ComplexArray] | None = None
    # With the exact Jacobian a guess is taken to be off by at least this.
    length_before = np.full(z.shape, _GUESS if exact and model.commuting else 0.0)
    for step_number in range(_NEWTON_STEPS):
        # Convergence is fast: steps that have stopped shrinking are what rounding leaves.
        limit = tolerance if step_number < _FEW_STEPS else np.maximum(tolerance, rounding)
        e, jacobian = model.traces(q[active], exact)
        bracket = model.shifts - z[active, None] + e
        gap = q[active] * bracket - 1
        matrix = q[active][:, :, None] * jacobian
        matrix[:, index, index] += bracket
        if last is not None:
            matrix = matrix + _broyden(matrix, gap, q[active], *last)
        try:
            step = np.linalg.solve(matrix, gap[..., None])[..., 0]
        except np.linalg.LinAlgError:
            break
        new = q[active] - step
        # A step out of the upper half plane is cut short of its border: towards the edge of the support solutions turn
        # nearly real.
        inside = new.imag > 0
        new = np.where(inside, new, new.real + 1j * _SHRINK * q[active].imag)
        sound = np.all(np.isfinite(new), axis=1)
        length = (abs(step) / np.maximum(abs(new), 1e-300)).max(axis=1)
        # Steps shrink faster and faster: what is left after one is less than the step times the last one's shrinking.
        # With the exact Jacobian that is taken on trust only once steps shrink as fast as they do near a solution.
        shrinking = length / np.maximum(length_before[active], length)
        left = length * np.where((shrinking <= _FAST) | (not model.commuting), shrinking, 1.0)
        length_before[active] = length
        # Steps may be small far from any solution, where the approximate Jacobian is large.
        gaps = abs(gap).max(axis=1)
        small = np.all(inside, axis=1) & (((left <= limit[active]) & (gaps <= _GAP)) | (gaps < 1e-15))
        before = q[active]
        q[active] = np.where(sound[:, None], new, before)
        good[active[sound & small]] = True
        stay = sound & ~small
        active = active[stay]
        if not active.size:
            break
        if not exact:
            last = ((before - new)[stay], gap[stay])
    return q, good


def _broyden(
    matrix: ComplexArray, gap: ComplexArray, q: ComplexArray, step: ComplexArray, before: ComplexArray
) -> ComplexArray:
    """Broyden's correction of an approximate Jacobian, that it may map the last step to the change it made."""
    missing = gap - before + np.einsum("gij,gj->gi", matrix, step)
    # Lengths in units of q, whose entries differ by orders of magnitude near an atom.
    dual = step.conj() / abs(q) ** 2
    length = (step * dual).sum(axis=1).real
    return -missing[:, :, None] * dual[:, None, :] / np.maximum(length, 1e-300)[:, None, None]


def _damped(model: GramModel, z: ComplexArray, q: ComplexArray) -> ComplexArray:
    """Averaged iteration of the map, then Newton: slow and sure."""
    good: np.ndarray = np.zeros(z.shape, dtype=bool)
    for rounds in (1, 20, 200, 2000, 20000):
        rest = ~good
        for _ in range(rounds):
            e, _ = model.traces(q[rest], exact=False)
            q[rest] = 0.5 * (q[rest] + 1 / (model.shifts - z[rest, None] + e))
        q[rest], good[rest] = _newton(model, z[rest], q[rest], _TOLERANCE)
        if good.all():
            return q
    raise ConvergenceError(
        f"The mixture equations could not be solved at {int((~good).sum())} point(s), such as z = {z[~good][0]:.6g}."
    )


def distribution(model: GramModel, z: ComplexArray, q: ComplexArray) -> FloatArray:
    """Return the fraction of the spectrum below each point just above the real axis, where the solution is q.

    ``log det(H - z)/n`` has the deterministic equivalent ``Σ_a π_a ((λ_a - z) q_a - 1 - log q_a) + log det B(q) / n``,
    stationary in q; its imaginary part is -π times that fraction.
    """
    own = np.angle(q) - ((model.shifts - z[:, None]) * q).imag
    n = model.ratios.sum() * model.covariances.dimension
    return np.asarray((own @ model.probabilities - model.argument(q) / n) / np.pi)


def resolvent_derivative(model: GramModel, z: ComplexArray, q: ComplexArray) -> ComplexArray:
    """Return dq_a/dz at a solution, by implicit differentiation."""
    e, jacobian = model.traces(q)
    matrix = q[:, :, None] * jacobian
    matrix[:, np.arange(q.shape[1]), np.arange(q.shape[1])] += model.shifts - z[:, None] + e
    return np.linalg.solve(matrix, q[..., None])[..., 0]
