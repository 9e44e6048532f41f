"""What a fixed-point iteration does with an image: take it, or combine it with earlier ones.

Every row of a state (N, …) is a problem of its own; the small systems of all rows are solved together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rmtdeq.models.rows import at_least_single, unit_rows

_ANDERSON_MEMORY = 5
_BROYDEN_MEMORY = 30


class Plain:
    """The next state is the image."""

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but some."""

    def next(self, z: Tensor, image: Tensor, change: Tensor) -> Tensor:
        """Return the state after z, whose image and change (image - z) are given."""
        return image


class Anderson(Plain):
    """Anderson acceleration: the combination of the last images, of sum one, with the least combined change.

    Source: Walker and Ni, SIAM J. Numer. Anal. 49 (2011), type II, without damping.
    """

    def __init__(self) -> None:
        self.images: list[Tensor] = []
        self.directions: list[Tensor] = []
        self.lengths: list[Tensor] = []

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but some."""
        self.images = [each[rows] for each in self.images]
        self.directions = [each[rows] for each in self.directions]
        self.lengths = [each[rows] for each in self.lengths]

    def next(self, z: Tensor, image: Tensor, change: Tensor) -> Tensor:
        """Return the state after z, whose image and change (image - z) are given."""
        wide = at_least_single(z.dtype)
        direction, length = unit_rows(change.flatten(1).to(wide))
        self.images = [*self.images, image.flatten(1)][-_ANDERSON_MEMORY:]
        self.directions = [*self.directions, direction][-_ANDERSON_MEMORY:]
        self.lengths = [*self.lengths, length][-_ANDERSON_MEMORY:]
        if len(self.images) == 1:
            return image
        # Nothing may depend on a row's scale: the Gram matrix is that of directions, and lengths are relative to the
        # least.  A state that did not change is at rest, and gets all the weight.
        lengths, directions = torch.stack(self.lengths, dim=1), torch.stack(self.directions, dim=1)
        lengths = lengths.clamp_min(torch.finfo(wide).tiny)
        nearness = lengths.amin(dim=1, keepdim=True) / lengths
        ridge = 10 * torch.finfo(z.dtype).eps
        gram = directions @ directions.mT + ridge * torch.eye(lengths.shape[1], dtype=wide, device=z.device)
        weights = torch.linalg.solve(gram, nearness) * nearness
        weights = weights / weights.sum(dim=1, keepdim=True)
        combined = torch.stack(self.images, dim=1).mul(weights[:, :, None]).sum(dim=1)
        return combined.to(z.dtype).reshape(image.shape)


class Broyden(Plain):
    """Broyden's method on f(z) - z, beginning from the plain iteration, with a limited memory.

    Source: Broyden, Math. Comp. 19 (1965), his first ("good") update, of the inverse Jacobian: -I + Σ u vᵀ.
    """

    def __init__(self) -> None:
        self.left: list[Tensor] = []
        self.right: list[Tensor] = []
        self.last: tuple[Tensor, Tensor] | None = None

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but some."""
        self.left = [each[rows] for each in self.left]
        self.right = [each[rows] for each in self.right]
        if self.last is not None:
            self.last = (self.last[0][rows], self.last[1][rows])

    def next(self, z: Tensor, image: Tensor, change: Tensor) -> Tensor:
        """Return the state after z, whose image and change (image - z) are given."""
        wide = at_least_single(z.dtype)
        at, gap = z.flatten(1).to(wide), change.flatten(1).to(wide)
        if self.last is not None:
            if len(self.left) == _BROYDEN_MEMORY:
                self.left, self.right = [], []
            moved, length = unit_rows(at - self.last[0])
            by = (gap - self.last[1]) / length.clamp_min(torch.finfo(wide).tiny)[:, None]
            inverse_by = self._apply(by, self.left, self.right)
            along = self._apply(moved, self.right, self.left)
            size = (moved * inverse_by).sum(dim=1, keepdim=True)
            # Nothing is learnt of a row that has not moved, nor from a change across the step.
            told = size.abs() > torch.finfo(z.dtype).eps
            scale = torch.where(told, 1 / size, torch.zeros_like(size))
            self.left.append((moved - inverse_by) * scale)
            self.right.append(along)
        self.last = (at, gap)
        return (at - self._apply(gap, self.left, self.right)).to(z.dtype).reshape(z.shape)

    @staticmethod
    def _apply(x: Tensor, left: list[Tensor], right: list[Tensor]) -> Tensor:
        """Multiply by -I + Σ u vᵀ; with the lists exchanged, by its transpose."""
        result = -x
        for u, v in zip(left, right, strict=True):
            result = torch.addcmul(result, u, (v * x).sum(dim=1, keepdim=True))
        return result
