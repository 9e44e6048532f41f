"""Images shifted and mirrored at random."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_SHIFT = 4


def shifted_and_mirrored(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Return images (n, channels, h, w) shifted by up to 4 pixels each way, and half of them mirrored.

    What comes in from outside is zero.
    """
    n, channels, height, width = x.shape
    down, right = (torch.from_numpy(rng.integers(0, 2 * _SHIFT + 1, n)).to(x.device) for _ in range(2))
    rows = down[:, None] + torch.arange(height, device=x.device)
    columns = right[:, None] + torch.arange(width, device=x.device)
    mirrored = torch.from_numpy(rng.random(n) < 0.5).to(x.device)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    every, channel = torch.arange(n, device=x.device), torch.arange(channels, device=x.device)
    padded = F.pad(x, (_SHIFT,) * 4)
    return padded[
        every[:, None, None, None], channel[None, :, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]
