"""What a fixed-point iteration does with an image: take it, or combine it with earlier ones.

Every row of a state (N, …) is a problem of its own; the small systems of all rows are solved together.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
        self.changes: list[Tensor] = []

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but some."""
        self.images = [each[rows] for each in self.images]
        self.changes = [each[rows] for each in self.changes]

    def next(self, z: Tensor, image: Tensor, change: Tensor) -> Tensor:
        """Return the state after z, whose image and change (image - z) are given."""
        self.images = [*self.images, image.flatten(1)][-_ANDERSON_MEMORY:]
        self.changes = [*self.changes, change.flatten(1)][-_ANDERSON_MEMORY:]
        if len(self.images) == 1:
            return image
        # Changes of very different lengths: the Gram matrix is that of unit vectors.
        changes = torch.stack(self.changes, dim=1)
        lengths = torch.linalg.vector_norm(changes, dim=2).clamp_min(torch.finfo(z.dtype).tiny)
        gram = changes @ changes.mT / (lengths[:, :, None] * lengths[:, None, :])
        ridge = 10 * torch.finfo(z.dtype).eps
        gram = gram + ridge * torch.eye(gram.shape[1], dtype=z.dtype, device=z.device)
        weights = torch.linalg.solve(gram, 1 / lengths) / lengths
        weights = weights / weights.sum(dim=1, keepdim=True)
        combined = torch.stack(self.images, dim=1).mul(weights[:, :, None]).sum(dim=1)
        return combined.reshape(image.shape)


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
        at, gap = z.flatten(1), change.flatten(1)
        if self.last is not None:
            if len(self.left) == _BROYDEN_MEMORY:
                self.left, self.right = [], []
            moved, by = at - self.last[0], gap - self.last[1]
            inverse_by = self._apply(by, self.left, self.right)
            along = self._apply(moved, self.right, self.left)
            size = (moved * inverse_by).sum(dim=1, keepdim=True)
            tiny = torch.finfo(z.dtype).tiny
            scale = torch.where(size.abs() > tiny, 1 / size, torch.zeros_like(size))
            self.left.append((moved - inverse_by) * scale)
            self.right.append(along)
        self.last = (at, gap)
        return (at - self._apply(gap, self.left, self.right)).reshape(z.shape)

    @staticmethod
    def _apply(x: Tensor, left: list[Tensor], right: list[Tensor]) -> Tensor:
        """Multiply by -I + Σ u vᵀ; with the lists exchanged, by its transpose."""
        result = -x
        for u, v in zip(left, right, strict=True):
            result = torch.addcmul(result, u, (v * x).sum(dim=1, keepdim=True))
        return result
