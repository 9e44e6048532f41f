"""The stability of a network, watched while it trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ
from rmtdeq.models.network import NetworkRegression
from rmtdeq.output.figures import training_figure
from rmtdeq.stability import jacobian as module_of_jacobians

P, WIDTH = 20, 130
QUANTITIES = ("spectral_radius", "contraction", "smallest_singular_value")
MODELS = {
    "over-parameterised": (lambda: OverparameterizedDEQ(P, WIDTH, 0.08, 1).double(), np.sqrt(P)),
    "implicit ReLU": (lambda: ImplicitReLU(P, WIDTH, 0.4, 1).double(), 1.0),
    "tanh DEQ": (lambda: rd.DEQ("tanh", 0.4, 0.8).to_regression(P, WIDTH, 1, kind="ntk-full").double(), 1.0),
    "orthogonal": (lambda: rd.DEQ("tanh", 0.4, 0.8).to_regression(P, WIDTH, 1, recurrent="orthogonal").double(), 1.0),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def case(request):
    make, norm = request.param
    rng = np.random.default_rng(0)
    X = rd.on_sphere(rng.standard_normal((6, P)), norm)
    return make, X, 2 * rng.standard_normal(6)


def jacobian(model, x):
    """The whole of J at one sample, by differentiating a step."""
    injected = model.injected(x[None])
    z = model.solve(x[None]).value
    return torch.autograd.functional.jacobian(lambda at: model.step(at, *injected)[0], z)[:, 0].detach().numpy()


@pytest.mark.parametrize("matrices", [0, 4096])
def test_what_is_watched_is_what_the_jacobian_says(case, monkeypatch, matrices):
    make, X, y = case
    monkeypatch.setattr(module_of_jacobians, "_MATRIX", matrices)
    X = X.copy()
    X[1:3] *= [[0.9], [1.1]]
    model = make()
    run = rd.gradient_descent(model, X, y, epochs=1, watch="stability")
    matrices = [jacobian(model, torch.from_numpy(x)) for x in X[1:3]]
    singular = [np.linalg.svd(np.eye(WIDTH) - J, compute_uv=False)[-1] for J in matrices]
    assert run.measured.tolist() == [0, 1]
    assert run.spectral_radius[-1] == pytest.approx(max(abs(np.linalg.eigvals(J)).max() for J in matrices), rel=2e-3)
    assert run.contraction[-1] == pytest.approx(max(np.linalg.norm(J, 2) for J in matrices), rel=2e-3)
    assert run.smallest_singular_value[-1] == pytest.approx(min(singular), rel=2e-3)


def test_norms_bound_what_is_watched(case):
    make, X, y = case
    run = rd.gradient_descent(make(), X, y, epochs=40, measure_every=10, watch="stability")
    rounding = 1 + 1e-3
    assert (run.spectral_radius <= rounding * run.contraction).all()
    assert (run.contraction <= rounding * run.recurrent_norm).all()
    assert (run.smallest_singular_value >= (1 - run.contraction) / rounding).all()
    for name in QUANTITIES:
        assert len(getattr(run, name)) == 5
        assert np.ptp(getattr(run, name)) > 0


@pytest.mark.parametrize("train", [rd.gradient_descent, rd.gradient_flow])
def test_watching_changes_nothing_and_is_resumed(case, tmp_path, train):
    make, X, y = case
    end, longer = (4, 8) if train is rd.gradient_descent else (1e-3, 2e-3)
    models = [make() for _ in range(3)]
    plain = train(models[0], X, y, **_length(train, longer))
    straight = train(models[1], X, y, watch="stability", **_length(train, longer))
    np.testing.assert_array_equal(plain.loss, straight.loss)
    assert plain.spectral_radius is None
    assert not plain.stability
    if train is rd.gradient_descent:
        train(make(), X, y, watch="stability", checkpoint=tmp_path / "a", **_length(train, end))
        resumed = train(models[2], X, y, watch="stability", checkpoint=tmp_path / "a", **_length(train, longer))
        for name in QUANTITIES:
            np.testing.assert_array_equal(getattr(resumed, name), getattr(straight, name))
        with pytest.raises(rd.InvalidInputError, match="another computation"):
            train(make(), X, y, checkpoint=tmp_path / "a", **_length(train, longer))


def _length(train, end):
    """Arguments that say how long a training is."""
    return {"epochs": end, "step": 1e-4, "measure_every": 2} if train is rd.gradient_descent else {"time": end}


def test_what_is_watched_is_shown(case):
    make, X, y = case
    plain, run = (
        rd.gradient_descent(make(), X, y, epochs=2, watch=each, measure_every=2) for each in (None, "stability")
    )
    table = run.table()
    np.testing.assert_array_equal(table.columns["spectral radius"][[0, 2]], run.spectral_radius)
    assert np.isnan(table.columns["contraction"][1])
    assert "spectral radius" in run.summary()
    assert "stability" not in plain.summary()
    for quantity in QUANTITIES:
        ax = run.plot(quantity=quantity)
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), getattr(run, quantity))
        with pytest.raises(rd.InvalidInputError, match='watch="stability"'):
            plain.plot(quantity=quantity)
    assert len(training_figure([plain]).axes) == 2
    assert len(training_figure([run]).axes) == 4
    assert len(training_figure([run, plain]).axes) == 2


def test_other_things_are_not_watched(case):
    make, X, y = case
    with pytest.raises(rd.InvalidInputError, match="watch"):
        rd.gradient_descent(make(), X, y, epochs=1, watch="loss")


def test_a_jacobian_that_cannot_be_looked_at_does_not_end_a_training(case, monkeypatch):
    make, X, y = case

    def fail(*_):
        raise rd.ConvergenceError("too near to a singular matrix")

    monkeypatch.setattr(module_of_jacobians, "_ends", fail)
    run = rd.gradient_descent(make(), X, y, epochs=1, watch="stability")
    assert np.isnan(run.spectral_radius).all()
    assert np.isfinite(run.loss).all()


def test_orthogonal_weights_are_trained_and_stay_better_conditioned():
    X = rd.on_sphere(np.random.default_rng(0).standard_normal((10, P)))
    y = np.sign(X[:, 0])
    deq = rd.DEQ("tanh", 1.0, 0.8)
    runs = {}
    for recurrent in ("gaussian", "orthogonal"):
        model = deq.to_regression(P, 200, 0, recurrent=recurrent).double()
        runs[recurrent] = rd.gradient_descent(model, X, y, epochs=60, measure_every=30, watch="stability")
    assert runs["orthogonal"].recurrent_norm[0] == pytest.approx(1.0, rel=1e-3)
    better = runs["orthogonal"].smallest_singular_value / runs["gaussian"].smallest_singular_value
    assert (better > 1.15).all()
    for run in runs.values():
        assert run.loss[-1] < 0.1 * run.loss[0]


def test_stacks_take_orthogonal_weights():
    layers = rd.Network([rd.Layer("relu"), rd.Layer("tanh", sigma_a2=0.5)]).resting(1.0)
    orthogonal, gaussian = (
        NetworkRegression(P, (30, 40), layers, 0, recurrent=each) for each in ("orthogonal", "gaussian")
    )
    A = orthogonal.features[1].A
    torch.testing.assert_close(A @ A.T, 40 * torch.eye(40), rtol=0, atol=1e-3)
    assert torch.equal(orthogonal.features[0].B, gaussian.features[0].B)
    assert torch.equal(orthogonal.v, gaussian.v)
