"""What ridge regression with a Gram model predicts, against what leaving samples out says of its resolvent."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.theory.rmt import decision_law

P = 300
SIGNS = np.array([[1.0], [-1.0]])


@pytest.fixture(scope="module")
def mixture():
    """Two classes that differ by the sign of their mean alone."""
    means = np.zeros((2, P))
    means[:, 0] = 3.0, -3.0
    return rd.GaussianMixture(means, [np.linspace(0.5, 1.5, P)] * 2)


def model_of(mixture, activation, n, kind="ck"):
    return rd.predict_spectrum(rd.DEQ(activation), mixture, n, kind, level="classwise")


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("n", [150, 600])
@pytest.mark.parametrize("ridge", [1e-2, 0.3])
def test_the_error_is_that_of_leaving_out(mixture, activation, n, ridge):
    # The residual of sample i under all others is [Q y]_i / Q_ii; alike classes have one Q_ii, and ‖Q y‖² is the
    # derivative of yᵀ Q y.
    prediction = model_of(mixture, activation, n)
    law = decision_law(prediction.model, SIGNS, np.array([ridge]), intercept=False)
    error = np.mean(np.square(law.means[0] - SIGNS) + law.covariances[0, :, :, 0])
    step = 1e-4 * ridge
    below, above = prediction.class_resolvent(-ridge + np.array([-step, step]) + 1e-9j)
    y = SIGNS[:, 0] * np.sqrt(n / 2)
    squared = (y @ (above - below) @ y).real / (2 * step)
    trace = prediction.stieltjes(np.array([-ridge + 1e-9j]))[0].real
    assert error == pytest.approx(squared / n / trace**2, rel=1e-6)


def test_it_is_linear_in_targets_and_blind_to_constants(mixture):
    model, ridges = model_of(mixture, "relu", 200).model, np.array([0.01, 1.0])
    one, other = np.array([[0.3], [2.0]]), np.array([[-1.0], [0.5]])
    first, second = (decision_law(model, each, ridges) for each in (one, other))
    both = decision_law(model, np.hstack([one, other]), ridges)
    np.testing.assert_allclose(both.means, np.concatenate([first.means, second.means], axis=2), rtol=1e-9)
    mixed = decision_law(model, 2 * one - other + 5, ridges)
    np.testing.assert_allclose(mixed.means, 2 * first.means - second.means + 5, rtol=1e-9)
    np.testing.assert_allclose(mixed.intercepts, 2 * first.intercepts - second.intercepts + 5, rtol=1e-9)
    weights = np.array([2.0, -1.0])
    np.testing.assert_allclose(mixed.covariances[..., 0, 0], weights @ both.covariances @ weights, rtol=1e-9)
    constant = decision_law(model, np.full((2, 1), 7.0), ridges)
    np.testing.assert_allclose(constant.means, 7.0)
    np.testing.assert_allclose(constant.covariances, 0.0, atol=1e-20)


def test_a_large_ridge_leaves_the_mean(mixture):
    law = decision_law(model_of(mixture, "relu", 200).model, np.array([[0.0], [4.0]]), np.array([1e7]))
    np.testing.assert_allclose(law.means, 2.0, rtol=1e-4)
    np.testing.assert_allclose(law.covariances, 0.0, atol=1e-8)


def test_covariances_are_positive_and_classes_that_are_alike_have_one_law(mixture):
    law = decision_law(model_of(mixture, "tanh", 450, "ntk").model, np.eye(2), np.geomspace(1e-3, 10, 5))
    # Two indicators sum to one, and what is predicted of them as well.
    np.testing.assert_allclose(law.means.sum(axis=2), 1.0, rtol=1e-9)
    assert (np.linalg.eigvalsh(law.covariances)[..., 1] > 0).all()
    np.testing.assert_allclose(law.covariances.sum(axis=(2, 3)), 0.0, atol=1e-9)
    np.testing.assert_allclose(law.means[:, 0, 0], law.means[:, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(law.covariances[:, 0, 0, 0], law.covariances[:, 1, 0, 0], rtol=1e-6)


def test_a_singular_kernel_needs_a_ridge(mixture):
    model = model_of(mixture, rd.activation("polynomial(0, 1)"), 200).model
    with pytest.raises(rd.IllPosedError, match="singular"):
        decision_law(model, SIGNS, np.array([0.0]))
