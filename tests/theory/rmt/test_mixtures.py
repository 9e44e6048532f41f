"""Laws of any mixture: mass, moments, Stieltjes transform and distribution function, class-wise shifts included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rmtdeq.theory.rmt import bulk, resolvent_diagonal, support
from rmtdeq.theory.rmt.resolvent import LineResolvent

EXAMPLES = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)

variances = st.one_of(st.just(0.0), st.floats(0.05, 20.0))
seeds = st.integers(0, 2**32 - 1)


@st.composite
def mixtures(draw, *, singular: bool = True, most: float = 4.0):
    """Draw 1–4 classes: balanced or not, scalar or diagonal covariances, some of them singular; n_a/p up to `most`."""
    k = draw(st.integers(1, 4))
    p = draw(st.integers(2, 6))
    entries = variances if singular else st.floats(0.05, 20.0)
    one = st.one_of(entries, st.lists(entries, min_size=p, max_size=p))
    covariances = [np.asarray(draw(one)) for _ in range(k)]
    ratios = draw(st.lists(st.floats(0.02, most), min_size=k, max_size=k))
    return [np.broadcast_to(c, (p,)) for c in covariances], ratios


def covariance(kind, p, rng):
    """Return one covariance of the given kind, with variances from 0.05 to 20."""
    scale = np.exp(rng.uniform(np.log(0.05), np.log(20)))
    if kind == "matrix":
        part = rng.standard_normal((p, rng.integers(1, 2 * p)))
        return scale * part @ part.T / p
    variances = {
        "zero": np.zeros(p),
        "scalar": np.full(p, scale),
        "diagonal": np.exp(rng.uniform(np.log(0.05), np.log(20), p)),
        "singular": scale * (rng.random(p) < 0.5),
    }
    return variances[kind]


@st.composite
def weighted(draw, *, commuting: bool):
    """Draw 1–4 classes with weights of any rank and shifts equal, near or far; the arguments of a model."""
    k, p, rank = draw(st.integers(1, 4)), draw(st.integers(1, 8)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(seeds))
    kinds = ["scalar", "diagonal", "singular", "zero"] + ([] if commuting else ["matrix"] * 4)
    covariances = [covariance(draw(st.sampled_from(kinds)), p, rng) for _ in range(k)]
    factors = rng.standard_normal((k, rank))
    width = draw(st.sampled_from([0.0, 1e-4, 1e-2, 1.0, 100.0]))
    # On a grid of 64 steps: shifts are equal or at least that far apart.
    shifts = rng.uniform(-1, 1) + width * rng.integers(-32, 33, k) / 32
    ratios = [draw(st.floats(np.log(0.02), np.log(20)).map(np.exp)) for _ in range(k)]
    if not commuting:
        # Inverses of whole matrices lose digits near an atom, and laws of the mass its neighbourhood holds: fewer
        # samples in a class than its covariance has directions.
        ranks = [np.linalg.matrix_rank(c if c.ndim == 2 else np.diag(c)) for c in covariances]
        ratios = [min(c, 0.8 * max(r, 1) / p) for c, r in zip(ratios, ranks, strict=True)]
    return covariances, ratios, {"gram": factors @ factors.T, "shifts": shifts, "means": np.zeros((k, p))}


def check(law, model, moments_of, expected_moments):
    """Compare a law with what is known of it exactly."""
    mass, mean, second = moments_of(law)
    expected = expected_moments(model)
    scale = np.sqrt(expected[1])
    assert law.mass == pytest.approx(1, abs=1e-4)
    assert mass == pytest.approx(law.mass, abs=1e-9)
    assert mean == pytest.approx(expected[0], abs=1e-3 * scale + 1e-9)
    assert second == pytest.approx(expected[1], rel=2e-3, abs=1e-9)
    low, high = law.edges[0][0], law.edges[-1][1]
    width = high - low
    assert high <= model.upper_bound + 1e-9 * max(1.0, width)
    assert all(part.low < part.high for part in law.intervals)
    margin = 0.01 * max(width, 1.0)
    values = law.cdf(np.linspace(low - margin, high + margin, 1001))
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert values[-1] == pytest.approx(1, abs=1e-9)
    assert np.diff(values).min() >= 0
    assert (law.density(np.linspace(low - margin, high + margin, 1001)) >= 0).all()
    assert np.isfinite(law.quantiles(np.linspace(0, 1, 101))).all()


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(mixture=mixtures())
def test_the_law_of_any_mixture_has_mass_one_and_the_moments_of_its_entries(
    gram_model, moments_of, expected_moments, mixture
):
    model = gram_model(*mixture)
    law = bulk(model)
    mass, mean, second = moments_of(law)
    expected = expected_moments(model)
    assert law.mass == pytest.approx(1, abs=1e-4)
    assert mass == pytest.approx(1, abs=1e-4)
    assert mean == pytest.approx(expected[0], rel=2e-3, abs=1e-9)
    assert second == pytest.approx(expected[1], rel=4e-3, abs=1e-9)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(mixture=mixtures(singular=False, most=0.25), seed=st.integers(0, 2**32 - 1))
def test_the_law_keeps_its_moments_under_class_wise_weights_and_shifts(
    gram_model, moments_of, expected_moments, mixture, seed
):
    # Few samples a feature: the eigenvalues of a class keep away from its own shift, where they would be a hard edge
    # amid those of the others.
    rng = np.random.default_rng(seed)
    k = len(mixture[1])
    factors = rng.standard_normal((k, 2))
    model = gram_model(*mixture, gram=factors @ factors.T + 0.1 * np.eye(k), shifts=rng.uniform(-1, 1, k))
    law = bulk(model)
    mass, mean, second = moments_of(law)
    expected = expected_moments(model)
    scale = np.sqrt(expected[1])
    assert mass == pytest.approx(1, abs=1e-4)
    assert mean == pytest.approx(expected[0], abs=2e-3 * scale)
    assert second == pytest.approx(expected[1], rel=4e-3)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(mixture=mixtures(), x=st.floats(-2, 60), height=st.floats(1e-3, 5))
def test_the_stieltjes_transform_maps_the_upper_half_plane_into_itself(gram_model, mixture, x, height):
    model = gram_model(*mixture)
    q = resolvent_diagonal(model, np.array([x + 1j * height]))
    assert (q.imag > 0).all()
    assert (abs(q) <= (1 + 1e-9) / height).all()


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(mixture=mixtures(), angle=st.floats(0.1, 3.0))
def test_far_from_the_spectrum_the_stieltjes_transform_is_minus_one_over_z(gram_model, mixture, angle):
    model = gram_model(*mixture)
    z = 1e6 * max(model.upper_bound, 1.0) * np.exp(1j * np.array([angle]))
    m = resolvent_diagonal(model, z) @ model.probabilities
    # -z m(z) = 1 - E λ/z + …
    np.testing.assert_allclose(-z * m, 1, atol=2e-6)


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(mixture=mixtures())
def test_the_distribution_function_rises_from_zero_to_one(gram_model, mixture):
    law = bulk(gram_model(*mixture))
    low, high = law.edges[0][0], law.edges[-1][1]
    values = law.cdf(np.linspace(low - 0.1, high + 0.1, 2001))
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert values[-1] == pytest.approx(1, abs=1e-12)
    assert np.diff(values).min() >= 0


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(mixture=mixtures())
def test_quantiles_invert_the_distribution_function(gram_model, mixture):
    law = bulk(gram_model(*mixture))
    levels = np.linspace(0.003, 0.997, 101)
    x = law.quantiles(levels)
    assert (np.diff(x) >= -1e-9).all()
    step = 1e-7 * max(1.0, law.edges[-1][1])
    # The generalised inverse, jumps included: F(x-) ≤ q ≤ F(x).
    assert (law.cdf(x + step) >= levels - 1e-5).all()
    assert (law.cdf(x - step) <= levels + 1e-4).all()


@EXAMPLES
@given(mixture=weighted(commuting=True))
def test_class_wise_weights_and_shifts_have_a_law(gram_model, moments_of, expected_moments, mixture):
    covariances, ratios, options = mixture
    model = gram_model(covariances, ratios, **options)
    check(bulk(model), model, moments_of, expected_moments)


@settings(EXAMPLES, max_examples=10)
@given(mixture=weighted(commuting=False))
def test_covariances_that_do_not_commute_have_a_law(gram_model, moments_of, expected_moments, mixture):
    covariances, ratios, options = mixture
    model = gram_model(covariances, ratios, **options)
    check(bulk(model), model, moments_of, expected_moments)


def test_a_wrong_point_of_a_scan_is_solved_again_once_later_points_contradict_it(gram_model):
    model = gram_model([np.ones(4)], [0.3])
    line = support._Line(LineResolvent(model), np.zeros(1), model.upper_bound)
    right = support._Scan.of(line, np.linspace(0.3, 2.0, 12))
    wrong = replace(right, below=right.below.copy(), density=right.density.copy())
    wrong.below[5], wrong.density[5] = 0.5 * right.below[4], 0.0
    later = (right.x[4:6].sum()) / 2
    found = wrong.extended(line, np.array([later]))
    expected = right.extended(line, np.array([later]))
    np.testing.assert_allclose(found.below, expected.below, atol=1e-9)
    np.testing.assert_allclose(found.density, expected.density, rtol=1e-6)


@EXAMPLES
@given(mixture=weighted(commuting=False), height=st.floats(1e-4, 5), angle=st.floats(0.1, 3.0))
def test_class_wise_stieltjes_transforms_map_the_upper_half_plane_into_itself(gram_model, mixture, height, angle):
    covariances, ratios, options = mixture
    model = gram_model(covariances, ratios, **options)
    low, high = model.shifts.min(), model.upper_bound
    z = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), 9) + 1j * height
    q = resolvent_diagonal(model, z)
    assert (q.imag > 0).all()
    assert (abs(q) <= (1 + 1e-6) / height).all()
    far = 1e6 * max(abs(model.shifts).max(), high, 1.0) * np.exp(1j * np.array([angle]))
    np.testing.assert_allclose(-far * (resolvent_diagonal(model, far) @ model.probabilities), 1, atol=3e-6)


def weights(seed, k, rank=2):
    factors = np.random.default_rng(seed).standard_normal((k, rank))
    return factors @ factors.T + 0.1 * np.eye(k)


def test_a_small_example_has_a_law(gram_model, moments_of, expected_moments):
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((3, 2))
    covariances = [0.125 * np.ones(2), 0.125 * np.ones(2), np.ones(2)]
    options = {"gram": factors @ factors.T + 0.1 * np.eye(3), "shifts": rng.uniform(-1, 1, 3)}
    model = gram_model(covariances, [0.875, 0.5, 0.5], **options)
    check(bulk(model), model, moments_of, expected_moments)


@pytest.mark.parametrize("ratio", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("shifts", [(0.0, 0.0, 0.0), (0.3, -0.6, 0.3), (0.0, 1e-3, 40.0)])
def test_few_samples_as_many_as_features_and_many_have_a_law(
    gram_model, moments_of, expected_moments, ratio, k, shifts
):
    covariances = [np.array([1.0, 2.0, 0.3]), np.ones(3), np.array([0.1, 0.1, 6.0])][:k]
    model = gram_model(covariances, [ratio] * k, gram=weights(1, k), shifts=shifts[:k])
    check(bulk(model), model, moments_of, expected_moments)


@pytest.mark.parametrize("ratios", [(1e-3, 1.0, 0.2), (1e-3, 50.0, 0.5), (0.5, 1e-4, 1e-4)])
@pytest.mark.parametrize("shifts", [(0.0, 0.0, 0.0), (0.5, -0.6, 0.1)])
def test_classes_of_very_different_size_have_a_law(gram_model, moments_of, expected_moments, ratios, shifts):
    covariances = [np.array([1.0, 2.0]), np.ones(2), np.array([0.1, 6.0])]
    model = gram_model(covariances, ratios, gram=weights(2, 3), shifts=shifts)
    check(bulk(model), model, moments_of, expected_moments)


@pytest.mark.parametrize("nonzero", [1, 2, 4])
@pytest.mark.parametrize("shifts", [(0.0, 0.0), (0.5, -0.5), (0.5, -0.501)])
@pytest.mark.parametrize("rank", [1, 2])
def test_as_many_samples_as_the_rank_of_the_covariance_have_a_law(
    gram_model, moments_of, expected_moments, nonzero, shifts, rank
):
    covariances = [np.repeat([1.5, 0.0], [nonzero, 4 - nonzero]), np.array([1.0, 0.5, 2.0, 1.0])]
    factors = np.random.default_rng(3).standard_normal((2, rank))
    model = gram_model(covariances, [nonzero / 4, 0.3], gram=factors @ factors.T, shifts=shifts)
    check(bulk(model), model, moments_of, expected_moments)


def test_several_bulks_have_a_law(gram_model, moments_of, expected_moments):
    covariances = [np.repeat([1.0, 30.0, 900.0], [5, 2, 1]), np.full(8, 0.01)]
    model = gram_model(covariances, [20.0, 0.2], gram=np.array([[1.0, 0.1], [0.1, 1.0]]), shifts=[0.0, -50.0])
    law = bulk(model)
    check(law, model, moments_of, expected_moments)
    assert len(law.intervals) == 4


def test_an_interval_that_begins_beside_a_shift_does_not_reach_back_over_it(gram_model):
    covariances = [
        np.array([8.92753858, 6.49610044, 1.05614946, 10.53689372, 6.89843061]),
        np.array([0.0, 0.1029998, 0.0, 0.0, 0.1029998]),
        np.zeros(5),
        np.array([2.14559635, 1.6883314, 9.83797161, 5.14056518, 0.88318798]),
    ]
    gram = [
        [2.8697813, 0.51521262, 0.89758392, -3.5951699],
        [0.51521262, 1.01778501, -1.48973548, 1.13615018],
        [0.89758392, -1.48973548, 3.22619849, -4.30313996],
        [-3.5951699, 1.13615018, -4.30313996, 7.9342698],
    ]
    shifts = np.array([-96.26644385, 72.48355615, 6.85855615, -71.26644385])
    ratios = [1.18915308, 6.68589444, 1.0, 1.56534519]
    law = bulk(gram_model(covariances, ratios, gram=np.array(gram), shifts=shifts, means=np.zeros((4, 5))))
    assert (np.diff(np.ravel(law.edges)) >= 0).all()
    assert law.mass == pytest.approx(1, abs=1e-5)
