"""Finding the bulk: closed forms of Marchenko and Pastur and of Silverstein and Choi, atoms, gaps, sampled spectra."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from rmtdeq.theory.rmt import bulk, kolmogorov_smirnov, resolvent_diagonal
from rmtdeq.theory.rmt.resolvent import LineResolvent, distribution

RATIOS = (0.05, 0.2, 0.5, 0.9, 1.0, 1.1, 2.0, 5.0, 20.0)


@pytest.fixture(scope="module", params=RATIOS)
def marchenko_pastur(request, gram_model):
    """Return c, the support's ends and the bulk of the Gram matrix of white data."""
    c = request.param
    return c, (1 - np.sqrt(c)) ** 2, (1 + np.sqrt(c)) ** 2, bulk(gram_model([np.ones(3)], [c]))


def mass_below(c, low, high, x):
    """Integrate the density of Marchenko and Pastur up to x, on the half circle where it is smooth."""
    half, middle = (high - low) / 2, (high + low) / 2

    def integrand(theta):
        at = middle - half * np.cos(theta)
        return half**2 * np.sin(theta) ** 2 / (2 * np.pi * c * at)

    return quad(integrand, 0, np.arccos((middle - x) / half), epsabs=1e-11)[0]


def test_white_data_have_the_edges_of_marchenko_and_pastur(marchenko_pastur):
    _, low, high, law = marchenko_pastur
    (part,) = law.intervals
    assert part.low == pytest.approx(low, abs=1e-6 * high)
    assert part.high == pytest.approx(high, rel=1e-6)


def test_white_data_have_the_density_of_marchenko_and_pastur(marchenko_pastur):
    c, low, high, law = marchenko_pastur
    x = low + (high - low) * np.linspace(0.01, 0.99, 99)
    expected = np.sqrt((high - x) * (x - low)) / (2 * np.pi * c * x)
    np.testing.assert_allclose(law.density(x), expected, rtol=1e-3)
    np.testing.assert_array_equal(law.density(np.array([low - 0.5, high + 0.5])), 0.0)


def test_white_data_have_the_distribution_of_marchenko_and_pastur(marchenko_pastur):
    c, low, high, law = marchenko_pastur
    x = low + (high - low) * np.linspace(0.02, 0.98, 13)
    expected = [max(0.0, 1 - 1 / c) + mass_below(c, low, high, at) for at in x]
    np.testing.assert_allclose(law.cdf(x), expected, atol=1e-4)


def test_more_samples_than_features_leave_an_atom_at_zero(marchenko_pastur):
    c, _, _, law = marchenko_pastur
    if c <= 1:
        assert law.atoms == ()
    else:
        ((at, mass),) = law.atoms
        assert at == 0
        assert mass == pytest.approx(1 - 1 / c, abs=1e-6)


def test_equal_classes_are_one_class(gram_model):
    one = bulk(gram_model([np.ones(2)], [0.7]))
    many = bulk(gram_model([np.ones(2)] * 4, [0.01, 0.09, 0.2, 0.4]))
    np.testing.assert_allclose(many.edges, one.edges, rtol=1e-7)
    x = np.linspace(0, 4, 50)
    np.testing.assert_allclose(many.cdf(x), one.cdf(x), atol=1e-7)


def test_scaling_and_shifting_the_matrix_scale_and_shift_the_law(gram_model):
    mixture = ([np.array([1.0, 2.0, 4.0]), np.array(0.5) * np.ones(3)], [0.8, 0.6])
    standard = bulk(gram_model(*mixture))
    moved = bulk(gram_model(*mixture, gram=np.full((2, 2), 2.5), shifts=[-0.7, -0.7]))
    image = standard.affine(2.5, -0.7)
    np.testing.assert_allclose(moved.edges, image.edges, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.ravel(moved.atoms), np.ravel(image.atoms), atol=1e-6)
    x = np.linspace(-1, 25, 400)
    np.testing.assert_allclose(moved.cdf(x), image.cdf(x), atol=1e-5)
    np.testing.assert_allclose(image.cdf(2.5 * x - 0.7), standard.cdf(x), atol=1e-12)
    np.testing.assert_allclose(2.5 * image.density(2.5 * x - 0.7), standard.density(x), atol=1e-9)


def silverstein_choi(eigenvalues, c):
    """Return the support's ends above zero: extrema of z(q) = (1/p)Σ d/(1 + c q d) - 1/q on the real line."""

    def slope(q):
        return np.mean(-c * eigenvalues**2 / (1 + c * q * eigenvalues) ** 2) + 1 / q**2

    poles = np.sort(np.concatenate([-1 / (c * np.unique(eigenvalues)), [0.0]]))
    bounds = np.concatenate([[poles[0] * 1e4], poles, [1e4]])
    ends = []
    for a, b in pairwise(bounds):
        q = a + (b - a) * (1 - np.cos(np.linspace(0, np.pi, 20001)[1:-1])) / 2
        values = np.array([slope(at) for at in q])
        for i in np.flatnonzero(np.diff(np.sign(values))):
            root = brentq(slope, q[i], q[i + 1], xtol=1e-15)
            ends.append(np.mean(eigenvalues / (1 + c * root * eigenvalues)) - 1 / root)
    return np.sort(ends)


@pytest.mark.parametrize("c", [0.2, 20.0])
def test_the_support_ends_at_the_extrema_of_the_inverse_transform(gram_model, c):
    # With twenty samples a feature the two population variances are told apart; with a fifth they are not.
    eigenvalues = np.repeat([1.0, 30.0], [3, 1])
    law = bulk(gram_model([eigenvalues], [c]))
    ends = silverstein_choi(eigenvalues, c)
    assert len(law.intervals) == (2 if c > 1 else 1)
    np.testing.assert_allclose([(i.low, i.high) for i in law.intervals], ends.reshape(-1, 2), rtol=1e-5)


def test_separate_intervals_hold_the_eigenvalues_of_their_features(gram_model):
    # Exact separation: as many eigenvalues as features of that variance.
    law = bulk(gram_model([np.repeat([1.0, 30.0], [3, 1])], [20.0]))
    np.testing.assert_allclose([part.mass for part in law.intervals], [0.75 / 20, 0.25 / 20], rtol=1e-4)
    ((at, mass),) = law.atoms
    assert (at, mass) == (0, pytest.approx(0.95, abs=1e-6))


def test_at_a_hard_edge_the_density_grows_like_an_inverse_square_root(gram_model):
    law = bulk(gram_model([np.ones(2)], [1.0]))
    x = np.geomspace(1e-6, 1e-3, 7)
    np.testing.assert_allclose(law.density(x) * np.sqrt(x) * np.pi, 1, rtol=2e-3)
    np.testing.assert_allclose(law.cdf(x), 2 * np.sqrt(x) / np.pi, atol=1e-4)
    assert law.atoms == ()


def test_a_class_with_more_samples_than_features_has_its_atom_amid_the_others(gram_model, moments_of, expected_moments):
    # Two classes that do not see each other: Marchenko–Pastur laws, one of which covers the other's atom.
    model = gram_model([np.ones(2)] * 2, [0.5, 2.0], gram=np.diag([1.0, 1.0]) + 1e-3, shifts=[0.0, 1.0])
    law = bulk(model)
    ((at, mass),) = law.atoms
    assert (at, mass) == (1.0, pytest.approx(0.4, abs=1e-5))
    assert law.mass == pytest.approx(1, abs=1e-4)
    mean, second = expected_moments(model)
    np.testing.assert_allclose(moments_of(law)[1:], [mean, second], rtol=4e-3)


def test_a_mixture_without_variance_is_made_of_atoms(gram_model):
    law = bulk(gram_model([np.zeros(3)] * 3, [0.1, 0.2, 0.7], shifts=[1.0, -2.0, 1.0]))
    assert law.intervals == ()
    np.testing.assert_allclose(law.atoms, [(-2.0, 0.2), (1.0, 0.8)])
    np.testing.assert_allclose(law.cdf(np.array([-2.1, -2.0, 0.9, 1.0])), [0, 0.2, 0.2, 1])
    np.testing.assert_array_equal(law.density(np.array([-2.0, 1.0])), 0)


def test_a_class_without_variance_is_an_atom_beside_the_others(gram_model):
    law = bulk(gram_model([np.ones(2), np.zeros(2)], [0.25, 0.25], shifts=[0.0, 9.0]))
    ((at, mass),) = law.atoms
    assert (at, mass) == (9.0, pytest.approx(0.5, abs=1e-6))
    np.testing.assert_allclose(law.edges, [(0.25, 2.25), (9.0, 9.0)], rtol=1e-5)


@pytest.mark.parametrize("distance", [20.0, 100.0, 1e3])
def test_classes_far_apart_are_a_marchenko_pastur_law_each(gram_model, distance):
    # Classes that do not see each other; a gap of any width between them and outside.
    c = np.array([0.2, 0.5, 0.05])
    law = bulk(gram_model([np.ones(2)] * 3, c, gram=np.eye(3), shifts=distance * np.arange(3)))
    ends = [(distance * a + (1 - np.sqrt(r)) ** 2, distance * a + (1 + np.sqrt(r)) ** 2) for a, r in enumerate(c)]
    assert law.atoms == ()
    np.testing.assert_allclose([(i.low, i.high) for i in law.intervals], ends, rtol=1e-6)
    np.testing.assert_allclose([part.mass for part in law.intervals], c / c.sum(), atol=2e-5)


def test_a_small_class_in_a_gap_between_others_is_found(gram_model):
    c = np.array([0.5, 1e-3, 0.5])
    law = bulk(gram_model([np.ones(2)] * 3, c, gram=np.eye(3), shifts=[0.0, 7.0, 20.0]))
    assert len(law.intervals) == 3
    np.testing.assert_allclose([part.mass for part in law.intervals], c / c.sum(), atol=2e-5)
    middle = law.intervals[1]
    half = np.sqrt(1e-3)
    np.testing.assert_allclose([middle.low, middle.high], [7 + (1 - half) ** 2, 7 + (1 + half) ** 2], rtol=1e-6)


@pytest.mark.parametrize("height", [1.01, 1.1, 2.0])
def test_a_gap_that_opens_between_two_classes_is_found(gram_model, height):
    # Two laws that do not see each other, the second a little above the end of the first.
    c = 0.3
    width = 4 * np.sqrt(c)
    law = bulk(gram_model([np.ones(2)] * 2, [c, c], gram=np.eye(2), shifts=[0.0, height * width]))
    assert len(law.intervals) == 2
    np.testing.assert_allclose([part.mass for part in law.intervals], 0.5, atol=2e-5)


@pytest.mark.parametrize("ratios", [[0.3, 0.2, 0.1], [0.9, 0.5, 0.6]])
def test_sampled_eigenvalues_follow_the_law(sampler, ratios):
    p = 500
    drawn = sampler(
        [np.repeat(np.linspace(0.5, 2, 10), p // 10), 0.3 * np.ones(p), np.repeat([0.1, 5.0], [p - 100, 100])],
        ratios,
        gram=[[2.0, 1.0, 0.0], [1.0, 1.5, 0.3], [0.0, 0.3, 1.0]],
        shifts=[0.1, 0.4, -0.2],
    )
    law = bulk(drawn.model)
    # Eigenvalues are rigid: the distance is of order 1/n up to logarithms, here 0.003–0.005; chance plays no part.
    assert kolmogorov_smirnov(np.linalg.eigvalsh(drawn.draw(0)), law.cdf, law.atoms) < 0.015


def just_above(model, x):
    z = x + 1j * 1e-10 * abs(x - model.shifts.min())
    return distribution(model, z, resolvent_diagonal(model, z))


@pytest.mark.parametrize("c", [0.2, 1.0, 5.0])
def test_the_distribution_of_white_data_is_known_at_single_points(gram_model, c):
    low, high = (1 - np.sqrt(c)) ** 2, (1 + np.sqrt(c)) ** 2
    x = low + (high - low) * np.linspace(0.02, 0.98, 13)
    expected = [max(0.0, 1 - 1 / c) + mass_below(c, low, high, at) for at in x]
    np.testing.assert_allclose(just_above(gram_model([np.ones(3)], [c]), x), expected, atol=1e-9)


def decades(gram_model, count, ratios, k=3, p=240):
    """Return a class-wise model whose variances span so many decades."""
    rng = np.random.default_rng(0)
    variances = 10 ** np.linspace(0, -count, p) * np.exp(0.3 * rng.standard_normal((k, p)))
    factors = np.eye(k) * 0.1 + 1
    return gram_model(variances, ratios, gram=factors @ factors.T, shifts=np.linspace(0.01, 0.02, k))


@pytest.mark.parametrize("count", [2, 4, 8, 12])
@pytest.mark.parametrize("ratio", [0.1, 0.3])
def test_few_points_are_solved_however_many_decades_the_spectrum_spans(gram_model, monkeypatch, count, ratio):
    points = []
    solve = LineResolvent._solve
    monkeypatch.setattr(LineResolvent, "_solve", lambda self, z, guess: points.append(z.size) or solve(self, z, guess))
    law = bulk(decades(gram_model, count, [ratio] * 3))
    assert law.mass == pytest.approx(1, abs=1e-6)
    assert sum(points) < 4000


@pytest.mark.parametrize("ratio", [0.3, 2.0])
@pytest.mark.parametrize("count", [2, 6])
def test_the_law_has_the_distribution_known_at_single_points(gram_model, count, ratio):
    model = decades(gram_model, count, [ratio] * 3)
    law = bulk(model)
    x = np.unique(law.quantiles(np.linspace(0.001, 0.999, 200)))
    x = x[np.min(abs(x[:, None] - model.shifts), axis=1) > 1e-6]
    np.testing.assert_allclose(law.cdf(x), just_above(model, x), atol=1e-4 if ratio > 1 else 1e-6)


def test_gaps_of_little_width_are_found(gram_model):
    # Two laws that do not see each other, a thousandth of their width apart.
    c, k = 0.3, 1.001
    width = 4 * np.sqrt(c)
    law = bulk(gram_model([np.ones(2)] * 2, [c, c], gram=np.eye(2), shifts=[0.0, k * width]))
    low, high = (1 - np.sqrt(c)) ** 2, (1 + np.sqrt(c)) ** 2
    np.testing.assert_allclose(law.edges, [(low, high), (low + k * width, high + k * width)], rtol=1e-6)
