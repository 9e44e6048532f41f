"""The iteration of infinitely wide layers: the covariance recursion, networks of finite width, rates."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.activations import dual
from rmtdeq.network import preactivation_scale
from rmtdeq.stability.iteration import forward_course
from rmtdeq.stability.singular_values import spectral_radii

LAYERS = [
    rd.Layer("tanh", 1.2, 0.8),
    rd.Layer("relu", 1.0, 0.8),
    rd.Layer("swish", 1.0, 0.8, 0.3),
    rd.Layer("erf", 0.5, 0.8),
    rd.Layer("softplus", 0.3, 0.8),
    rd.Layer("relu", 1.0, 0.8, centered=True).pinned(1.0),
]


def course_of(layer, *norms):
    """The course of samples of some squared norms."""
    sources = layer.sigma_b2 * np.array(norms) + layer.sigma_c2
    return forward_course(layer, sources, np.array([preactivation_scale(layer, norm).value for norm in norms]))


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_the_course_is_that_of_all_covariances(layer):
    found, source, steps = course_of(layer, 1.0), layer.sigma_b2 + layer.sigma_c2, 5
    C = np.zeros((steps + 1, steps + 1))
    for k in range(1, steps + 1):
        for j in range(1, k + 1):
            cov = layer.sigma_a2 * C[[k - 1, j - 1, k - 1], [k - 1, j - 1, j - 1]] + source
            C[k, j] = C[j, k] = dual(layer.activation, *cov).product
    diagonal = np.diag(C)
    changes = diagonal[1:] - 2 * np.diag(C, 1) + diagonal[:-1]
    np.testing.assert_allclose(found.sizes[:steps, 0] ** 2, diagonal[1:], rtol=1e-9)
    np.testing.assert_allclose(found.changes[:steps, 0] ** 2, changes, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_the_course_is_that_of_samples(layer):
    """A wide layer with fresh columns is played by samples: the u^k are drawn from their covariance, step by step."""
    rng, m, steps = np.random.default_rng(0), 400_000, 4
    source = np.sqrt(layer.sigma_b2 + layer.sigma_c2) * rng.standard_normal(m)
    z, directions, images = [np.zeros(m)], [], []
    for _ in range(steps):
        # A's product with what is new in a state is new noise, and linear in what is not.
        left, image = z[-1], np.zeros(m)
        for direction, known in zip(directions, images, strict=True):
            share = float(left @ direction) / m
            left, image = left - share * direction, image + share * known
        size = np.sqrt(left @ left / m)
        if size > 0:
            directions.append(left / size)
            images.append(rng.standard_normal(m))
            image = image + size * images[-1]
        z.append(layer.activation(np.sqrt(layer.sigma_a2) * image + source))
    measured = [np.sqrt(np.mean((z[k] - z[k - 1]) ** 2)) for k in range(1, steps + 1)]
    np.testing.assert_allclose(course_of(layer, 1.0).changes[:steps, 0], measured, rtol=0.02)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_late_steps_shrink_by_the_spectral_radius(layer):
    course = course_of(layer, 0.5, 2.0)
    for i, norm in enumerate((0.5, 2.0)):
        bulk, isolated = spectral_radii(layer, preactivation_scale(layer, norm).value)
        late = np.flatnonzero(course.changes[:, i] > 1e-11)[-1]
        assert course.changes[late, i] / course.changes[late - 1, i] == pytest.approx(max(bulk, isolated), rel=1e-5)
        assert course.errors[late + 1, i] / course.errors[late, i] == pytest.approx(max(bulk, isolated), rel=1e-5)


def test_orthogonal_weights_keep_the_course():
    layer, m, steps = LAYERS[0], 500, 8
    changes = np.zeros((8, steps))
    for seed, row in enumerate(changes):
        rng = np.random.default_rng(seed)
        Q, R = np.linalg.qr(rng.standard_normal((m, m)))
        A = np.sqrt(m) * Q * np.sign(np.diag(R))
        source, z = np.sqrt(layer.sigma_b2) * rng.standard_normal(m), np.zeros(m)
        for k in range(steps):
            before, z = z, layer.activation(np.sqrt(layer.sigma_a2) * A @ z + source) / np.sqrt(m)
            row[k] = np.linalg.norm(z - before)
    np.testing.assert_allclose(changes.mean(axis=0), course_of(layer, 1.0).changes[:steps, 0], rtol=0.1)


def test_errors_begin_at_the_equilibrium_s_size_and_bound_changes():
    course = course_of(LAYERS[0], 1.0)
    assert course.errors[0] == pytest.approx(course.sizes[-1], rel=1e-12)
    assert (course.changes <= course.errors[1:] + course.errors[:-1]).all()
