"""Infinite ensembles of trained networks: the integrated flow, its ends, and what Gaussian processes know."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import rmtdeq as rd

NETWORKS = {
    "equilibrium": rd.DEQ("relu", 0.3, 0.8),
    "layers": rd.Network([rd.Layer("erf", sigma_b2=1.5, sigma_c2=0.1), rd.Layer("relu", sigma_b2=2.0)]),
}
networks = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
kinds = pytest.mark.parametrize("kind", ["ck", "ntk", "ntk-full"])


def problem(n=7, m=4, p=5, seed=0):
    rng = np.random.default_rng(seed)
    X, X_test = rng.standard_normal((n, p)) / np.sqrt(p), rng.standard_normal((m, p)) / np.sqrt(p)
    return X, np.stack([np.sin(3 * X[:, 0]), X[:, 1] ** 2], axis=1), X_test


@networks
@kinds
def test_it_is_the_integrated_flow(network, kind):
    """Of all outputs: they are linear in those at the start, which are Gaussian of covariance K."""
    X, y, X_test = problem()
    (n, _), every = X.shape, np.concatenate([X, X_test])
    pinned = network.pinned(float((X**2).sum(axis=1).mean()))
    prior, tangent = rd.kernel(every, pinned, "ck"), rd.kernel(every, pinned, kind)[:, :n]

    def flow(_, state):
        # Columns: outputs with targets y and start zero, and outputs with targets zero and every start by itself.
        outputs = state.reshape(len(every), -1)
        gap = outputs[:n].copy()
        gap[:, : y.shape[1]] -= y
        return -(tangent @ gap).ravel()

    start = np.concatenate([np.zeros((len(every), y.shape[1])), np.eye(len(every))], axis=1)
    times = (0.3, 2.5)
    solved = solve_ivp(flow, (0, times[-1]), start.ravel(), "DOP853", times, rtol=1e-12, atol=1e-13)
    new, old = (rd.predict_ensemble(network, X, y, at, times, kind=kind) for at in (X_test, None))
    for column, after, at_training in zip(solved.y.T, new, old, strict=True):
        mean, moved = np.split(column.reshape(len(every), -1), [y.shape[1]], axis=1)
        covariance = moved @ prior @ moved.T
        np.testing.assert_allclose(after.mean, mean[n:], rtol=0, atol=1e-8)
        np.testing.assert_allclose(after.covariance, covariance[n:, n:], rtol=0, atol=1e-8)
        np.testing.assert_allclose(at_training.mean, mean[:n], rtol=0, atol=1e-8)
        np.testing.assert_allclose(at_training.covariance, covariance[:n, :n], rtol=0, atol=1e-8)


@networks
@kinds
def test_before_training_it_is_the_prior(network, kind):
    X, y, X_test = problem()
    tau0_squared = float((X**2).sum(axis=1).mean())
    for at, samples in ((X_test, X_test), (None, X)):
        before = rd.predict_ensemble(network, X, y, at, 0, kind=kind)
        np.testing.assert_allclose(before.mean, 0, atol=1e-15)
        prior = rd.kernel(samples, network, tau0_squared=tau0_squared)
        np.testing.assert_allclose(before.covariance, prior, rtol=0, atol=1e-14)
        np.testing.assert_allclose(before.standard_deviation**2, np.diag(prior), rtol=1e-12)


@networks
@kinds
def test_its_end_is_the_limit_and_interpolates(network, kind):
    X, y, X_test = problem()
    late, end = rd.predict_ensemble(network, X, y, X_test, (1e7, np.inf), kind=kind)
    assert end.time == np.inf
    np.testing.assert_allclose(late.mean, end.mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(late.covariance, end.covariance, rtol=0, atol=1e-9)
    at_training = rd.predict_ensemble(network, X, y, kind=kind)
    np.testing.assert_allclose(at_training.mean, y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(at_training.covariance, 0, atol=1e-13)
    again = rd.predict_ensemble(network, X, y, X, kind=kind)
    np.testing.assert_allclose(again.mean, y, rtol=0, atol=1e-10)
    np.testing.assert_allclose(again.covariance, 0, atol=1e-10)


@networks
def test_a_trained_read_out_is_the_posterior_of_the_gaussian_process(network):
    X, y, X_test = problem(12)
    pinned = network.pinned(float((X**2).sum(axis=1).mean()))
    K, across, prior = rd.kernel(X, pinned), rd.kernel(X_test, pinned, Y=X), rd.kernel(X_test, pinned)
    end = rd.predict_ensemble(network, X, y, X_test, kind="ck")
    np.testing.assert_allclose(end.mean, across @ np.linalg.solve(K, y), rtol=1e-8, atol=1e-9)
    posterior = prior - across @ np.linalg.solve(K, across.T)
    np.testing.assert_allclose(end.covariance, posterior, rtol=0, atol=1e-9)


@networks
@kinds
@pytest.mark.parametrize("t", [0.1, 3.0, 1e4])
def test_covariances_are_positive_semidefinite_and_agree_with_those_of_training_samples(network, kind, t):
    X, y, X_test = problem(20, 15, 4, seed=1)
    every = rd.predict_ensemble(network, X, y, np.concatenate([X, X_test]), t, kind=kind)
    own = rd.predict_ensemble(network, X, y, t=t, kind=kind)
    size = every.covariance.max()
    assert np.linalg.eigvalsh(every.covariance)[0] > -1e-11 * max(size, 1.0)
    np.testing.assert_array_equal(every.covariance, every.covariance.T)
    np.testing.assert_allclose(every.mean[:20], own.mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(every.covariance[:20, :20], own.covariance, rtol=0, atol=1e-10)


def test_outputs_are_predicted_each_by_itself_and_as_the_targets_are():
    X, y, X_test = problem()
    both = rd.predict_ensemble(NETWORKS["layers"], X, y, X_test, 1.0)
    one = rd.predict_ensemble(NETWORKS["layers"], X, y[:, 0], X_test, 1.0)
    assert (both.mean.shape, one.mean.shape, one.covariance.shape) == ((4, 2), (4,), (4, 4))
    np.testing.assert_allclose(one.mean, both.mean[:, 0], rtol=1e-13)
    np.testing.assert_array_equal(one.covariance, both.covariance)


def test_equal_samples_are_trained_to_their_mean_in_finite_time_and_have_no_end():
    X, y, X_test = problem()
    X[1] = X[0]
    late = rd.predict_ensemble(NETWORKS["layers"], X, y, None, 1e7)
    np.testing.assert_allclose(late.mean[0], (y[0] + y[1]) / 2, atol=1e-8)
    with pytest.raises(rd.IllPosedError, match="take a finite t"):
        rd.predict_ensemble(NETWORKS["layers"], X, y, X_test)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"t": -1.0}, "t must be"),
        ({"t": np.nan}, "t must be"),
        ({"y": np.zeros(3)}, "y must be of shape"),
        ({"X_test": np.zeros((2, 3))}, "features"),
        ({"kind": "gram"}, "'ck', 'ntk', 'ntk-full'"),
        ({"deq": "relu"}, "deq must be"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(changes, remedy):
    X, y, X_test = problem()
    given = {"deq": NETWORKS["layers"], "X": X, "y": y, "X_test": X_test} | changes
    with pytest.raises(rd.InvalidInputError, match=remedy):
        rd.predict_ensemble(**given)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "seed"), [(1024, 0), (1024, 1), (4096, 0)])
def test_a_trained_network_of_finite_width_is_one_of_the_ensemble(width, seed):
    """By itself within the ensemble's spread; given where it started, within what its width leaves to chance."""
    import torch

    X, y, X_test = problem(8)
    y, size = y[:, 0], float((X**2).sum(axis=1).mean())
    network = rd.DEQ("tanh", 0.3, 0.8)
    model = network.to_regression(5, width, seed, kind="ntk", tau0_squared=size).double()

    def outputs(at):
        with torch.no_grad():
            return model(torch.from_numpy(at)).numpy()

    before, start = outputs(X), outputs(X_test)
    rd.gradient_flow(model, X, y, 2.0, progress=False)
    whole = rd.predict_ensemble(network, X, y, X_test, 2.0, kind="ntk")
    assert (abs(outputs(X_test) - whole.mean) < 4 * whole.standard_deviation).all()
    moved = rd.predict_ensemble(network, X, y - before, X_test, 2.0, kind="ntk").mean
    change = outputs(X_test) - start
    assert abs(change - moved).max() < 4 / np.sqrt(width) * abs(moved).max()
