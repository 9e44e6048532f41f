"""Krylov subspaces of maps that act linearly on every row of a tensor by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rmtdeq._lib.errors import ConvergenceError
from rmtdeq.models.fixed_point import Equilibrium
from rmtdeq.models.rows import at_least_single, row_norms, unit_rows

_RESTART = 30
_LOOK = 5


class Arnoldi:
    """Orthonormal bases of the rows' Krylov subspaces, and the map in them.

    Parameters
    ----------
    product : callable
        The linear map of (N, …).
    start : Tensor (N, …)
        Zero beyond the dimension of an invariant subspace are the basis' vectors.
    """

    def __init__(self, product: Callable[[Tensor], Tensor], start: Tensor) -> None:
        self._product, self._shape, self._dtype = product, start.shape, start.dtype
        first, self.norms = unit_rows(start.flatten(1).to(at_least_single(start.dtype)))
        self.basis = first[:, None, :]
        self.reduced = first.new_zeros(first.shape[0], 1, 0)

    def extend(self, steps: int) -> None:
        """Take further steps: `basis` is then (N, k + 1, D) and `reduced`, upper Hessenberg, (N, k + 1, k)."""
        n, size, k = self.reduced.shape
        reduced = self.reduced.new_zeros(n, size + steps, k + steps)
        reduced[:, :size, :k] = self.reduced
        basis = self.basis.new_zeros(n, size + steps, self.basis.shape[2])
        basis[:, :size] = self.basis
        rounding = 10 * torch.finfo(self._dtype).eps
        for j in range(k, k + steps):
            w = self._product(basis[:, j].reshape(self._shape).to(self._dtype)).flatten(1).to(basis.dtype)
            length = row_norms(w)
            for _ in range(2):  # twice is enough: the basis stays orthogonal to rounding
                shares = torch.einsum("nkd,nd->nk", basis[:, : j + 1], w)
                w = w - torch.einsum("nkd,nk->nd", basis[:, : j + 1], shares)
                reduced[:, : j + 1, j] += shares
            left = row_norms(w)
            goes_on = left > rounding * length
            reduced[:, j + 1, j] = torch.where(goes_on, left, torch.zeros_like(left))
            basis[:, j + 1] = torch.where(
                goes_on[:, None], w / torch.where(goes_on, left, torch.ones_like(left))[:, None], 0.0
            )
        self.basis, self.reduced = basis, reduced

    def least_squares(self) -> tuple[Tensor, Tensor]:
        """Return the elements of the subspaces whose images are nearest to the start, and their distances (N,)."""
        right = torch.zeros_like(self.reduced[:, :, :1])
        right[:, 0, 0] = self.norms
        small, wanted = self.reduced.cpu(), right.cpu()
        shares = torch.linalg.lstsq(small, wanted, driver="gelsd").solution
        gap = row_norms(wanted - small @ shares).to(right.device)
        found = torch.einsum("nkd,nk->nd", self.basis[:, :-1], shares[:, :, 0].to(right.device))
        return found.reshape(self._shape).to(self._dtype), gap


def gmres(
    product: Callable[[Tensor], Tensor], b: Tensor, start: Tensor, tolerance: float, max_iterations: int
) -> Equilibrium:
    """Solve product(x) = b for every row by GMRES, restarted after 30 steps.

    Source: Saad and Schultz, SIAM J. Sci. Stat. Comput. 7 (1986).

    Raises
    ------
    ConvergenceError
        The residual of some row stays above `tolerance` times ‖b‖.
    """
    x, done = start, 0
    size = row_norms(b)
    limit = tolerance * size
    before = torch.full_like(size, torch.inf)
    while True:
        gap = b - product(x)
        left = row_norms(gap)
        if not bool(left.isfinite().all()):
            raise ConvergenceError(f"GMRES met NaN or infinite values after {done} steps: the right side holds such.")
        if bool((left <= limit).all()):
            relative = torch.where(left == 0, left, left / size)
            return Equilibrium(x, torch.full(size.shape, done, dtype=torch.int64, device=b.device), relative)
        stuck = (left > limit) & ~(left < 0.99 * before)
        if done >= max_iterations or bool(stuck.any()):
            raise ConvergenceError(
                f"GMRES did not solve the adjoint equation: after {done} steps the largest relative residual is "
                f"{float((left / size).max()):.1e}, more than {tolerance:.1e}. The equilibrium is nearly degenerate "
                "(an eigenvalue of the layer's Jacobian is near 1), or tolerance and max_iterations are too strict."
            )
        space = Arnoldi(product, gap)
        most = min(_RESTART, b[0].numel(), max_iterations - done)
        while space.reduced.shape[2] < most:
            space.extend(min(_LOOK, most - space.reduced.shape[2]))
            found, rest = space.least_squares()
            if bool((rest <= 0.5 * limit).all()):
                break
        x, before, done = x + found, left, done + space.reduced.shape[2]
