"""Distances between samples and laws, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rmtdeq.theory.rmt import bulk, kolmogorov_smirnov, wasserstein

LAW = stats.gamma(2.0)


@pytest.fixture
def sample():
    """Return draws of another law than the one they are held against."""
    return np.random.default_rng(5).normal(2.0, 1.0, 300)


def test_without_atoms_the_kolmogorov_distance_is_scipys(sample):
    assert kolmogorov_smirnov(sample, LAW.cdf) == pytest.approx(stats.kstest(sample, LAW.cdf).statistic, rel=1e-12)


def test_the_order_of_the_sample_does_not_matter(sample):
    assert kolmogorov_smirnov(sample[::-1], LAW.cdf) == kolmogorov_smirnov(np.sort(sample), LAW.cdf)
    assert wasserstein(sample[::-1], LAW.ppf) == wasserstein(np.sort(sample), LAW.ppf)


def half_atom(x):
    """Return the distribution function of half a point mass at zero and half a uniform law on (0, 1)."""
    return np.where(x >= 0, 0.5 + 0.5 * np.clip(x, 0, 1), 0.0)


ATOM = ((0.0, 0.5),)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        # All on the atom: half the mass lies above.
        (np.zeros(7), 0.5),
        # All beside the atom: the sample has nothing at zero.
        (np.full(7, 1e-9), 0.5),
        (np.full(7, -1.0), 1.0),
        # The law's own quantiles, two of four on the atom.
        (np.array([0.0, 0.0, 0.25, 0.75]), 0.125),
        # Too few on the atom: just below the second point the law has 0.6 and the sample 0.25.
        (np.array([0.0, 0.2, 0.6, 0.9]), 0.35),
    ],
)
def test_with_atoms_the_kolmogorov_distance_looks_at_both_sides_of_every_jump(sample, expected):
    assert kolmogorov_smirnov(sample, half_atom, ATOM) == pytest.approx(expected, abs=1e-6)


def test_with_atoms_the_kolmogorov_distance_is_the_supremum_over_a_fine_grid():
    rng = np.random.default_rng(6)
    sample = np.round(np.concatenate([np.zeros(40), rng.uniform(-0.2, 1.1, 50)]), 3)
    # The grid has the points of the sample, and points just beside them.
    grid = np.unique(np.concatenate([np.linspace(-1, 2, 1000), sample, sample - 1e-9, sample + 1e-9, [-1e-9]]))
    empirical = np.searchsorted(np.sort(sample), grid, side="right") / sample.size
    expected = abs(empirical - half_atom(grid)).max()
    assert kolmogorov_smirnov(sample, half_atom, ATOM) == pytest.approx(expected, abs=1e-8)


def test_the_wasserstein_distance_is_scipys(sample):
    fine = LAW.ppf((np.arange(400_000) + 0.5) / 400_000)
    expected = stats.wasserstein_distance(sample, fine)
    # The midpoint rule with four points a sample errs in the last cells of the long tail.
    assert wasserstein(sample, LAW.ppf) == pytest.approx(expected, rel=0.01)


def test_a_shift_moves_a_sample_by_its_length():
    u = (np.arange(500) + 0.5) / 500
    assert wasserstein(LAW.ppf(u) + 3.0, LAW.ppf) == pytest.approx(3.0, rel=1e-3)


def test_a_law_is_as_near_to_its_own_quantiles_as_their_number_allows(gram_model):
    law = bulk(gram_model([np.ones(2)], [2.0]))
    n = 400
    own = law.quantiles((np.arange(n) + 0.5) / n)
    # Half a step of the sample's distribution function, and the law's own error.
    assert kolmogorov_smirnov(own, law.cdf, law.atoms) < 0.5 / n + 1e-3
    assert wasserstein(own, law.quantiles) < 0.01
