"""What the expansion around classes costs on a mixture, and whether another level serves it better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.data import GaussianMixture
from rmtdeq.kernels import kernel
from rmtdeq.network import Network
from rmtdeq.theory.equivalent import equivalent
from rmtdeq.theory.rmt import between_spectra
from rmtdeq.theory.spectrum import ExpectedError

_MOST = 1024
_SEED = 0
_BEARABLE, _SLIGHT = 0.1, 0.05
"""In KS distance, beyond which only the largest eigenvalues are as predicted, and in the eigenvalues' logarithms."""


@dataclass(frozen=True)
class ExpansionError:
    """How far the spectrum of a class-wise equivalent is from that of the kernel.

    Attributes
    ----------
    same : ExpectedError
        Both on the same samples: the error of the expansion.
    other : ExpectedError
        Each on samples of its own: with the noise of a measurement.
    measured : ndarray (2, m)
        Eigenvalues of the kernel on these samples and on those, descending.
    """

    same: ExpectedError
    other: ExpectedError
    measured: FloatArray

    @property
    def bearable(self) -> bool:
        """Whether a prediction by the expansion holds for more than the largest eigenvalues."""
        # Where many eigenvalues are nearly equal a small shift of all of them is far in KS distance.
        return self.same.ks <= _BEARABLE or self.same.whole <= _SLIGHT

    def expected(self, predicted: FloatArray) -> ExpectedError:
        """Return how far a predicted spectrum, descending, is from the measured ones; of more, the expansion."""
        if predicted.size != self.measured.shape[1]:
            return self.other
        return ExpectedError(*np.mean([between_spectra(predicted, each) for each in self.measured], axis=0).tolist())


def expansion_errors(
    deq: Network, gmm: GaussianMixture, n: int, kinds: Sequence[Kind], tau0_squared: float | None = None
) -> list[ExpansionError]:
    """Return how far the class-wise expansions of kernels are off on samples of a mixture.

    Parameters
    ----------
    deq : Network
    gmm : GaussianMixture
        Drawn from twice, up to 1024 samples.
    n : int
        Number of samples of the prediction.
    kinds : sequence of str
    tau0_squared : float, optional
        Where a centred activation is centred, the mixture's mean squared norm by default.
    """
    centre = gmm.mean_squared_norm if tau0_squared is None else tau0_squared
    rng = np.random.default_rng(_SEED)
    (X, y), (others, _) = (gmm.sample(min(n, _MOST), rng) for _ in range(2))
    expanded = equivalent(X, y, deq, gmm, tuple(kinds), tau0_squared=centre)
    exact, elsewhere = (kernel(each, deq, tuple(kinds), tau0_squared=centre, progress=False) for each in (X, others))
    return [_error(*each) for each in zip(expanded, exact, elsewhere, strict=True)]


def _error(*matrices: FloatArray) -> ExpansionError:
    expanded, exact, elsewhere = (np.linalg.eigvalsh(each)[::-1] for each in matrices)
    same, other = (ExpectedError(*between_spectra(expanded, each)) for each in (exact, elsewhere))
    return ExpansionError(same, other, np.array([exact, elsewhere]))
