"""The ends of the spectrum of 1 - J: special cases in closed form, and matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.network import preactivation_scale
from rmtdeq.stability.edges import LowerEnd
from rmtdeq.stability.singular_values import jacobian_law


def law_of(layer, norm=1.0, recurrent="gaussian"):
    """At a squared norm, with the scale of the pre-activation."""
    scale = preactivation_scale(layer, norm).value
    return jacobian_law(layer, layer.sigma_b2 * norm + layer.sigma_c2, scale, recurrent), scale


def jacobian(layer, scale, norm, m, seed, recurrent="gaussian"):
    """J of a random A that maps z to what u = σ_a A z + b says: an equilibrium, without solving for it."""
    rng = np.random.default_rng(seed)
    known = (layer.sigma_b2 * norm + layer.sigma_c2) / scale**2
    u = scale * rng.standard_normal(m)
    y = (1 - known) * u + scale * np.sqrt(known * (1 - known)) * rng.standard_normal(m)
    z = layer.activation(u) / np.sqrt(m)
    A = rng.standard_normal((m, m))
    if recurrent == "gaussian":
        A += np.outer(y / np.sqrt(layer.sigma_a2) - A @ z, z) / (z @ z)
    else:
        Q, R = np.linalg.qr(A)
        Q *= np.sign(np.diag(R))
        # Reflected, so that the direction of z goes to that of y.
        mirror = Q @ z / np.linalg.norm(z) - y / np.linalg.norm(y)
        A = np.sqrt(m) * (Q - 2 * np.outer(mirror, mirror @ Q) / (mirror @ mirror))
    return np.sqrt(layer.sigma_a2 / m) * layer.activation.slope(u)[:, None] * A


@pytest.mark.parametrize("a2", [0.1, 0.5, 0.9])
def test_one_variance_has_edges_in_closed_form(a2):
    law, _ = law_of(rd.Layer("polynomial(0, 1)", a2, 0.8))
    # w = (t - 1)(1 - a² t)²/t turns where 2a² t² - a² t = 1.
    t = (a2 + np.array([1, -1]) * np.sqrt(a2**2 + 8 * a2)) / (4 * a2)
    assert [law.smallest**2, law.largest**2] == pytest.approx(list((t - 1) * (1 - a2 * t) ** 2 / t), rel=1e-8)
    assert law.bulk == pytest.approx(np.sqrt(a2))


@pytest.mark.parametrize(
    "layer",
    [
        rd.Layer("tanh", 0.5, 0.8),
        rd.Layer("relu", 0.5, 0.8),
        rd.Layer("swish", 0.5, 0.8),
        rd.Layer("erf", 0.3, 0.8, 0.2),
        rd.Layer("softplus", 0.3, 0.8),
    ],
    ids=repr,
)
def test_matrices_have_these_singular_values(layer):
    law, scale = law_of(layer)
    m = 500
    values = [np.linalg.svd(np.eye(m) - jacobian(layer, scale, 1.0, m, seed), compute_uv=False) for seed in range(3)]
    assert np.mean([each[-1] for each in values]) == pytest.approx(law.smallest_at(m), rel=0.03)
    assert np.mean([each[0] for each in values]) == pytest.approx(law.largest, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh", "relu", "swish", "erf"])
@pytest.mark.parametrize("a2", [0.2, 0.5])
def test_matrices_of_width_2000_have_this_smallest_singular_value(name, a2):
    layer = rd.Layer(name, a2, 0.8)
    law, scale = law_of(layer)
    values = [np.linalg.svd(np.eye(2000) - jacobian(layer, scale, 1.0, 2000, s), compute_uv=False)[-1] for s in (0, 1)]
    assert np.mean(values) == pytest.approx(law.smallest_at(2000), rel=0.03)


@pytest.mark.parametrize("layer", [rd.Layer("relu", 1.0, 0.8), rd.Layer("tanh", 1.2, 0.8)], ids=repr)
def test_matrices_have_this_spectral_radius(layer):
    law, scale = law_of(layer)
    radii = [abs(np.linalg.eigvals(jacobian(layer, scale, 1.0, 150, seed))).max() for seed in range(40)]
    assert law.bulk < law.radius_at(1000) < law.radius_at(150)
    assert np.mean(radii) == pytest.approx(law.radius_at(150), rel=0.02)
    assert np.std(radii) / np.mean(radii) == pytest.approx(law.scatter_at(150), rel=0.3)
    assert law.radius_at(10**12) == pytest.approx(law.bulk, rel=1e-5)


def test_determinants_keep_singular_values_from_zero():
    """Equilibria are as many as |det(1 - J)| says; J itself, a multiple of a Gaussian matrix, is not rare there."""
    m, a2 = 120, 0.6
    law, _ = law_of(rd.Layer("polynomial(0, 1)", a2, 0.8))
    end = replace(law.end, distance=np.inf)  # these have no equilibrium, and no part of rank one
    rng = np.random.default_rng(0)
    J = np.sqrt(a2 / m) * rng.standard_normal((700, m, m))
    values = np.linalg.svd(np.eye(m) - J, compute_uv=False)
    weights = np.prod(values, axis=1) / np.prod(values, axis=1).sum()
    mean = weights @ values[:, -1]
    assert mean == pytest.approx(end.mean_at(m), rel=0.04)
    assert mean > 1.06 * values[:, -1].mean()
    assert np.sqrt(weights @ (values[:, -1] / mean - 1) ** 2) == pytest.approx(end.scatter_at(m), rel=0.15)


def test_ends_near_their_limits_are_continuous():
    """What takes J's rank-one part for nearly loose, or far from it, agrees with what it lies between."""
    far, near, loose = (LowerEnd(0.01, 0.01, 0.1, each) for each in (np.inf, 0.0, -1e-9))
    assert far.mean_at(1000) > near.mean_at(1000) >= loose.mean_at(1000)
    assert near.mean_at(10**6) == pytest.approx(loose.mean_at(10**6), rel=0.01)
    assert LowerEnd.still(0.25).mean_at(10) == 0.5
    assert LowerEnd.still(0.25).scatter_at(10) == 0


def test_the_share_of_relu_is_a_half():
    assert law_of(rd.Layer("relu", 1.0, 0.8))[0].share == pytest.approx(0.5)


def test_an_eigenvalue_outside_the_disk_is_that_of_the_norms():
    """Of φ = u²/2 the squared norms return to rest more slowly than all else."""
    layer = rd.Layer("polynomial(0, 0, 0.5)", 0.66, 0.5)
    law, scale = law_of(layer)
    assert law.isolated > law.bulk
    assert law.radius == law.isolated
    found = [np.sort(abs(np.linalg.eigvals(jacobian(layer, scale, 1.0, 400, seed))))[-2:] for seed in range(4)]
    assert np.mean(found, axis=0)[1] == pytest.approx(law.isolated, rel=0.08)


def test_near_the_limit_of_the_norms_one_singular_value_is_isolated():
    layer = rd.Layer("softplus", 1.8, 0.8)
    law, scale = law_of(layer)
    assert law.end.isolated
    assert law.end.lowest < law.end.edge
    found = [np.linalg.svd(np.eye(400) - jacobian(layer, scale, 1.0, 400, s), compute_uv=False)[-2:] for s in range(8)]
    second, smallest = np.mean(found, axis=0)
    assert smallest == pytest.approx(law.smallest, rel=0.25)  # the matrices are small
    assert second > 1.8 * law.smallest


def test_without_stability_nothing_keeps_1_minus_j_from_being_singular():
    layer = rd.Layer("tanh", 6.0, 0.8)
    law, scale = law_of(layer)
    assert law.bulk > 1
    assert law.smallest == 0
    values = np.linalg.svd(np.eye(400) - jacobian(layer, scale, 1.0, 400, 0), compute_uv=False)
    assert values[0] == pytest.approx(law.largest, rel=0.02)


@pytest.mark.parametrize("a2", [0.1, 0.5, 0.9])
def test_a_multiple_of_an_orthogonal_matrix_has_its_singular_values_in_a_ring(a2):
    law, _ = law_of(rd.Layer("polynomial(0, 1)", a2, 0.8), recurrent="orthogonal")
    assert [law.smallest, law.largest] == pytest.approx([1 - np.sqrt(a2), 1 + np.sqrt(a2)], rel=1e-6)
    assert law.radius_at(100) == pytest.approx(np.sqrt(a2), rel=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        rd.Layer("tanh", 1.0, 0.8),
        rd.Layer("relu", 0.5, 0.8),
        rd.Layer("swish", 0.5, 0.8),
        rd.Layer("erf", 0.3, 0.8, 0.2),
        rd.Layer("softplus", 0.3, 0.8),
    ],
    ids=repr,
)
def test_orthogonal_weights_have_these_singular_values(layer):
    law, scale = law_of(layer, recurrent="orthogonal")
    m = 500
    J = [jacobian(layer, scale, 1.0, m, seed, "orthogonal") for seed in range(3)]
    values = [np.linalg.svd(np.eye(m) - each, compute_uv=False) for each in J]
    assert np.mean([each[-1] for each in values]) == pytest.approx(law.smallest_at(m), rel=0.03)
    assert np.mean([each[0] for each in values]) == pytest.approx(law.largest, rel=0.02)
    assert law.smallest > law_of(layer)[0].smallest


@pytest.mark.parametrize("layer", [rd.Layer("relu", 1.0, 0.8), rd.Layer("tanh", 1.2, 0.8)], ids=repr)
def test_orthogonal_weights_have_this_spectral_radius(layer):
    law, scale = law_of(layer, recurrent="orthogonal")
    assert law.bulk == law_of(layer)[0].bulk
    assert law.share > law_of(layer)[0].share
    radii = [abs(np.linalg.eigvals(jacobian(layer, scale, 1.0, 400, s, "orthogonal"))).max() for s in range(3)]
    assert np.mean(radii) == pytest.approx(law.radius_at(400), rel=0.02)
