"""The common basis of several covariances: commuting ones are found, rotations are not seen, the head is small."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from rmtdeq.theory.rmt import bulk, covariance_family, resolvent_diagonal

P = 24
ROTATION = ortho_group.rvs(P, random_state=3)
MEANS = np.random.default_rng(4).standard_normal((3, P))
SHARE = np.array([0.5, 0.3, 0.2])
DIAGONALS = [np.repeat([1.0, 3.0], P // 2), np.tile([0.5, 2.0], P // 2), np.full(P, 1.5)]
Z = np.array([0.5 + 0.01j, 2 + 0.5j, 8 + 0.1j])


def noncommuting(seed=0):
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((P, 2 * P)) / np.sqrt(2 * P) for _ in range(3)]
    return [part @ part.T * (a + 1) for a, part in enumerate(parts)]


def rotated(matrices):
    return [ROTATION @ (c if c.ndim == 2 else np.diag(c)) @ ROTATION.T for c in matrices]


def test_coordinates_with_equal_eigenvalues_are_one_group():
    family = covariance_family(DIAGONALS, MEANS, SHARE, 0.0)
    assert family.head is None
    assert family.head_means is None
    assert sorted(map(tuple, family.eigenvalues)) == [(a, b, 1.5) for a in (1.0, 3.0) for b in (0.5, 2.0)]
    np.testing.assert_array_equal(family.multiplicities, P / 4)
    np.testing.assert_allclose(family.mean_products.sum(axis=0), MEANS @ MEANS.T)


def test_scalars_are_one_group():
    family = covariance_family([np.array(1.0), np.array(2.0), np.array(0.0)], MEANS, SHARE, 0.0)
    np.testing.assert_array_equal(family.eigenvalues, [[1.0, 2.0, 0.0]])
    np.testing.assert_array_equal(family.multiplicities, [P])
    assert family.head is None


def test_commuting_matrices_are_detected_and_grouped_in_any_basis():
    plain = covariance_family(DIAGONALS, MEANS, SHARE, 0.0)
    family = covariance_family(rotated(DIAGONALS), MEANS @ ROTATION.T, SHARE, 0.0)
    assert family.head is None
    # Rounding may split a group of equal eigenvalues; what is summed over groups does not notice.
    for function in (lambda d: d[:, 0] * d[:, 1], lambda d: 1 / (1 + d[:, 0] + 2 * d[:, 1])):
        expected = plain.multiplicities @ function(plain.eigenvalues)
        assert family.multiplicities @ function(family.eigenvalues) == pytest.approx(expected, rel=1e-10)
    weighted = [np.einsum("m,mab->ab", 1 / (1 + f.eigenvalues[:, 0]), f.mean_products) for f in (plain, family)]
    np.testing.assert_allclose(weighted[1], weighted[0], rtol=1e-9, atol=1e-9)


def test_covariances_that_do_not_commute_are_a_head_of_all_coordinates():
    family = covariance_family(noncommuting(), MEANS, SHARE, 0.0)
    assert family.head.shape == (3, P, P)
    np.testing.assert_allclose(np.linalg.eigvalsh(family.head), np.linalg.eigvalsh(noncommuting()), atol=1e-12)
    np.testing.assert_allclose(family.head_means @ family.head_means.T, MEANS @ MEANS.T, atol=1e-12)
    np.testing.assert_allclose(np.einsum("akk->ka", family.head), family.eigenvalues, atol=1e-12)
    np.testing.assert_array_equal(family.multiplicities, np.ones(P))
    np.testing.assert_allclose(family.mean_products, np.einsum("ak,bk->kab", family.head_means, family.head_means))
    together = np.linalg.eigvalsh(np.tensordot(SHARE, family.head, 1))
    np.testing.assert_allclose(together, np.linalg.eigvalsh(np.tensordot(SHARE, noncommuting(), 1)), atol=1e-12)


@pytest.mark.parametrize("truncation", [0.001, 0.01, 0.1, 0.3, 1.0])
def test_the_head_is_the_smallest_that_leaves_out_no_more_than_the_truncation(truncation):
    whole = covariance_family(noncommuting(), MEANS, SHARE, 0.0)
    family = covariance_family(noncommuting(), MEANS, SHARE, truncation)
    d = family.head.shape[1]

    def left_out(size):
        outside = whole.head.copy()
        outside[:, :size, :size] = 0
        outside[:, np.arange(P), np.arange(P)] = 0
        return ((outside**2).sum(axis=(1, 2)) / (whole.head**2).sum(axis=(1, 2))).max()

    assert family.truncation == truncation
    assert left_out(d) <= truncation
    # There is one at least.
    if d > 1:
        assert left_out(d - 1) > truncation


@pytest.mark.parametrize("truncation", [0.05, 0.1, 0.2])
def test_a_head_holds_the_leading_coordinates_of_the_whole(truncation):
    whole = covariance_family(noncommuting(), MEANS, SHARE, 0.0)
    family = covariance_family(noncommuting(), MEANS, SHARE, truncation)
    d = family.head.shape[1]
    assert 0 < d < P
    np.testing.assert_array_equal(family.head, whole.head[:, :d, :d])
    np.testing.assert_array_equal(family.head_means, whole.head_means[:, :d])
    # Beyond the head, and of the means, nothing but the products of different coordinates is lost.
    np.testing.assert_array_equal(family.eigenvalues, whole.eigenvalues)
    np.testing.assert_array_equal(family.mean_products, whole.mean_products)


def test_the_commuting_part_keeps_the_diagonals_alone():
    family = covariance_family(noncommuting(), MEANS, SHARE, 0.0)
    part = family.commuting_part()
    assert part.head is None
    assert part.head_means is None
    np.testing.assert_array_equal(part.eigenvalues, family.eigenvalues)
    np.testing.assert_array_equal(part.mean_products, family.mean_products)


@pytest.mark.parametrize("truncation", [0.0, 0.05, 0.15, 0.25, 1.0])
@pytest.mark.parametrize("rank", [1, 3])
def test_every_truncation_has_a_resolvent(gram_model, truncation, rank):
    # Heads of all coordinates and directions, of some, and of none.
    factors = np.random.default_rng(1).standard_normal((3, rank))
    model = gram_model(noncommuting(), SHARE, gram=factors @ factors.T, means=MEANS, truncation=truncation)
    q = resolvent_diagonal(model, Z)
    assert (q.imag > 0).all()
    e, _ = model.traces(q)
    np.testing.assert_allclose(q * (model.shifts - Z[:, None] + e), 1, atol=1e-5)
    assert np.isfinite(model.mean_form(q)).all()


@pytest.mark.parametrize("kind", ["commuting", "not commuting"])
def test_the_resolvent_does_not_see_a_rotation_of_the_features(gram_model, kind):
    given = [np.diag(c) for c in DIAGONALS] if kind == "commuting" else noncommuting()
    gram = [[2.0, 1.0, 0.3], [1.0, 1.5, 0.2], [0.3, 0.2, 1.0]]
    options = {"gram": gram, "shifts": [0.0, 0.2, 0.5]}
    one = gram_model(given, SHARE, means=MEANS, **options)
    other = gram_model(rotated(given), SHARE, means=MEANS @ ROTATION.T, **options)
    q = resolvent_diagonal(one, Z)
    np.testing.assert_allclose(resolvent_diagonal(other, Z), q, rtol=1e-8)
    np.testing.assert_allclose(other.mean_form(q), one.mean_form(q), rtol=1e-8, atol=1e-10)


def test_diagonal_matrices_are_treated_like_their_diagonals(gram_model):
    plain = resolvent_diagonal(gram_model(DIAGONALS, SHARE), Z)
    full = resolvent_diagonal(gram_model([np.diag(c) for c in DIAGONALS], SHARE), Z)
    np.testing.assert_allclose(full, plain, rtol=1e-9)


def test_truncation_at_its_default_moves_the_resolvent_by_less_than_a_percent(gram_model):
    exact = resolvent_diagonal(gram_model(noncommuting(), SHARE), Z)
    truncated = resolvent_diagonal(gram_model(noncommuting(), SHARE, truncation=1e-2), Z)
    assert (abs(truncated - exact) < 0.01 * abs(exact)).all()


def test_the_bulk_of_covariances_that_do_not_commute_has_mass_one_and_the_right_mean(gram_model):
    matrices, ratios = noncommuting(), np.array([0.3, 0.2, 0.3])
    law = bulk(gram_model(matrices, ratios, truncation=1e-2))
    assert law.mass == pytest.approx(1, abs=1e-4)
    u = (np.arange(4000) + 0.5) / 4000
    expected = ratios / ratios.sum() @ [np.trace(c) / P for c in matrices]
    assert law.quantiles(u).mean() == pytest.approx(expected, rel=2e-3)
