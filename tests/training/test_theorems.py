"""The theorems' conditions: their constants, their verdict, and what they guarantee."""

from __future__ import annotations

import math
import warnings

import matplotlib
import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ
from rmtdeq.training import population_gram, population_tangent_kernel

matplotlib.use("Agg")


def q(x):
    return (np.sqrt(np.maximum(1 - x * x, 0)) + (np.pi - np.arccos(x)) * x) / np.pi


def sphere(n, d, norm, seed=0):
    return rd.on_sphere(np.random.default_rng(seed).standard_normal((n, d)), norm)


def test_the_population_gram_matrices_are_the_papers():
    n, d, s = 10, 6, 0.09
    X = sphere(n, d, 1.0)
    cosines = np.clip(X @ X.T, -1, 1)
    np.testing.assert_allclose(population_gram(ImplicitReLU(d, 5), X), q(cosines) / 2, atol=1e-13)
    angle = cosines.copy()
    for _ in range(100):
        angle = np.clip(s * q(angle) + (1 - s) * cosines, -1, 1)
    K = population_gram(OverparameterizedDEQ(d, 5, s), np.sqrt(d) * X)
    np.testing.assert_allclose(K, q(angle) / (1 - s), atol=1e-13)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_tangent_kernels_of_wide_networks_are_near_the_limit(scale):
    X = sphere(12, 10, np.sqrt(10))
    errors = []
    for width in (200, 800):
        found = []
        for seed in range(6):
            model = OverparameterizedDEQ(10, width, 0.08, seed, read_out_scale=scale).double()
            limit = population_tangent_kernel(model, X)
            found.append(
                np.linalg.norm(model.tangent_kernel(torch.from_numpy(X)).numpy() - limit) / np.linalg.norm(limit)
            )
        errors.append(np.mean(found))
    assert errors[1] < 0.12
    assert errors[1] < 0.7 * errors[0]


def test_constants_and_inequalities_are_the_papers():
    n, d, m = 6, 8, 40
    X, y = sphere(n, d, np.sqrt(d)), np.linspace(-1, 1, n)
    model = OverparameterizedDEQ(d, m, 0.05, 1).double()
    delta = 0.1
    found = rd.check_initial_condition(model, X, y, step=1e-4, delta=delta)
    W, U, a = (each.detach().numpy() for each in (model.W, model.U, model.a))
    rho_w, rho_u, rho_a = (np.linalg.norm(W, 2) + delta, np.linalg.norm(U, 2) + delta, np.linalg.norm(a) + delta)
    c_w, c_u, c_a = rho_u * rho_a / (1 - rho_w) ** 2, rho_a / (1 - rho_w), rho_u / (1 - rho_w)
    z = model.solve(torch.from_numpy(X)).value.numpy()
    smallest, size = np.linalg.eigvalsh(z @ z.T)[0], np.linalg.norm(X)
    residual = np.linalg.norm(z @ a - y)
    expected = [
        smallest * delta / (4 * max(c_w, c_u, c_a) * size * residual),
        smallest**1.5 * rho_a / (4 * (2 + math.sqrt(2)) * (c_w**2 + c_u**2) * size**2 * residual),
        smallest / (4 * (c_w**2 + c_u**2) * size**2),
        smallest / (8 * (c_w**2 + c_u**2) * size**2),
    ]
    np.testing.assert_allclose([each.ratio for each in found.inequalities], expected, rtol=1e-6)
    for name, value in (("c_w", c_w), ("c_u", c_u), ("c_a", c_a), ("rho_w", rho_w), ("‖f(X)-y‖", residual)):
        assert found.constants[name] == pytest.approx(value, rel=1e-6)
    square = c_w**2 + c_u**2
    assert found.permitted_step == pytest.approx(
        min(2 / smallest, 2 * square / ((square + c_a**2) ** 2 * size**2)), rel=1e-6
    )
    assert found.factor == pytest.approx(1 - 1e-4 * smallest / 2, rel=1e-9)
    assert found.smallest_eigenvalue == pytest.approx(smallest, rel=1e-6)
    assert not found.holds
    assert "short by a factor" in found.summary()
    assert "nothing is guaranteed" in found.summary()


def test_the_default_delta_is_the_best_of_those_tried():
    model = OverparameterizedDEQ(8, 40, 0.05, 1).double()
    X, y = sphere(6, 8, np.sqrt(8)), np.linspace(-1, 1, 6)

    def worst(delta):
        return min(each.ratio for each in rd.check_initial_condition(model, X, y, delta=delta).inequalities)

    best = worst(None)
    room = 1 - float(torch.linalg.matrix_norm(model.W.detach(), 2))
    assert all(worst(share * room) <= 1.001 * best for share in (1e-4, 1e-3, 0.01, 0.1, 0.3, 0.7))


def met(width=4000):
    """Two samples, a small read-out and small targets: a network that meets every condition."""
    X, y = sphere(2, 4, 2.0, seed=3), np.array([0.05, -0.05])
    return OverparameterizedDEQ(4, width, 0.001, 1, read_out_scale=0.01).double(), X, y


@pytest.mark.slow
def test_where_the_conditions_hold_the_guarantee_does_for_every_epoch():
    model, X, y = met()
    found = rd.check_initial_condition(model, X, y)
    assert found.holds
    assert "guaranteed" in found.summary()
    run = rd.gradient_descent(model, X, y, step=found.step, epochs=600, measure_every=100)
    assert (run.loss <= found.bound(run.at, run.loss[0]) * (1 + 1e-9)).all()
    assert run.rate > 1 - found.factor
    assert (run.recurrent_norm < 1).all()
    assert (run.smallest_eigenvalue >= found.smallest_eigenvalue / 2).all()


def test_the_needed_width_is_where_the_conditions_begin_to_hold():
    _, X, y = met(10)
    needed = rd.check_initial_condition(met(10)[0], X, y).needed_width
    assert 100 < needed < 1e5
    # At that width the limits of norms and eigenvalues are met to some per cent.
    assert not rd.check_initial_condition(met(int(needed / 3))[0], X, y).holds
    assert rd.check_initial_condition(met(int(2 * needed))[0], X, y).holds


@pytest.mark.parametrize("width", [100, 1000])
def test_with_the_papers_initialisation_condition_nine_fails_at_every_width(width):
    # Its right side is at least 8 m n/(1 - ‖W‖)⁴, since ρ_u² p ≥ 2 m and ρ_a is about 1; λ0 is at most m/(1 - s).
    n, d = 10, 10
    found = rd.check_initial_condition(
        OverparameterizedDEQ(d, width, 0.08, 1).double(), sphere(n, d, np.sqrt(d)), np.ones(n)
    )
    assert math.isinf(found.needed_width)
    ninth = found.inequalities[2]
    assert ninth.left < 1.2 * width / 0.92
    assert ninth.right > 0.5 * 8 * width * n / (1 - found.constants["‖W‖"]) ** 4
    assert "at no width" in found.summary()


def test_the_relu_network_s_conditions():
    n, d = 12, 10
    X, y = sphere(n, d, 1.0), np.ones(n)
    wide = rd.check_initial_condition(ImplicitReLU(d, 3000, 0.1, 1), X, y, step=0.01)
    assert wide.holds
    population = np.linalg.eigvalsh(q(np.clip(X @ X.T, -1, 1)) / 2)[0]
    assert wide.population_eigenvalue == pytest.approx(population, rel=1e-5)
    assert wide.factor == pytest.approx(1 - 0.01 * population / 2, rel=1e-6)
    assert wide.permitted_step == pytest.approx(population / n**2, rel=1e-5)
    assert wide.constants["γ̃‖A‖"] == pytest.approx(0.2, rel=0.02)
    assert math.isnan(wide.needed_width)
    narrow = rd.check_initial_condition(ImplicitReLU(d, 8, 0.1, 1), X, y)
    assert not narrow.inequalities[0].holds
    steep = rd.check_initial_condition(ImplicitReLU(d, 100, 0.3, 1), X, y)
    assert [each.holds for each in steep.assumptions] == [True, False, True, True]


def test_the_relu_network_decays_as_fast_as_guaranteed():
    X, y = sphere(12, 10, 1.0), np.linspace(-1, 1, 12)
    model = ImplicitReLU(10, 1000, 0.1, 1).double()
    found = rd.check_initial_condition(model, X, y)
    assert found.holds
    flow = rd.gradient_flow(model, X, y, 10.0, tolerance=0.01)
    bound = flow.loss[0] * np.exp(-2 * found.guaranteed_eigenvalue * flow.at)
    assert (flow.loss <= bound * (1 + 1e-9)).all()


def test_data_that_break_the_assumptions_are_named():
    X, y = sphere(6, 8, 1.0), np.ones(6)
    found = rd.check_initial_condition(OverparameterizedDEQ(8, 30, seed=1).double(), X, y)
    assert [each.holds for each in found.assumptions] == [True, False, True]
    X = np.sqrt(8) * X
    X[3] = -X[0]
    found = rd.check_initial_condition(OverparameterizedDEQ(8, 30, seed=1).double(), X, y)
    assert [each.holds for each in found.assumptions] == [True, True, False]


def test_plots_show_every_condition():
    model, X, y = met(50)
    found = rd.check_initial_condition(model, X, y)
    ax = found.plot()
    assert len(ax.get_yticklabels()) == len(found.assumptions) + len(found.inequalities)
    assert ax.get_xlabel()


MODEL = OverparameterizedDEQ(3, 5, seed=0).double()
X3, Y3 = np.eye(3) * np.sqrt(3), np.ones(3)
BAD = {
    "no theorem": (
        lambda: rd.check_initial_condition(rd.DEQ("tanh", 0.2, 0.8).to_regression(3, 5), X3, Y3),
        "convergence theorem",
    ),
    "no network": (lambda: rd.check_initial_condition(torch.nn.Linear(3, 1), X3, Y3), "convergence theorem"),
    "features": (lambda: rd.check_initial_condition(MODEL, np.ones((3, 4)), Y3), "4 features"),
    "targets": (lambda: rd.check_initial_condition(MODEL, X3, np.ones(4)), "4 targets"),
    "a zero row": (lambda: rd.check_initial_condition(MODEL, X3 * [[1.0], [0.0], [1.0]], Y3), "zero"),
    "delta": (lambda: rd.check_initial_condition(MODEL, X3, Y3, delta=0.999), "delta"),
    "delta of the other": (lambda: rd.check_initial_condition(ImplicitReLU(3, 5), X3, Y3, delta=0.1), "delta"),
    "step": (lambda: rd.check_initial_condition(MODEL, X3, Y3, step=0.0), "step"),
    "limit of another": (lambda: population_tangent_kernel(ImplicitReLU(3, 5), X3), "OverparameterizedDEQ"),
}


@pytest.mark.parametrize(("make", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(make, match):
    with pytest.raises(rd.InvalidInputError, match=match):
        make()


def test_weights_that_are_no_contraction_are_an_error():
    model = OverparameterizedDEQ(3, 5, seed=0).double()
    with torch.no_grad():
        model.W *= 1.2 / torch.linalg.matrix_norm(model.W, 2)
    with pytest.raises(rd.RmtdeqError, match=r"below 1|no contraction"):
        rd.check_initial_condition(model, X3, Y3)


def test_samples_off_the_sphere_are_warned_of_in_the_models_scaling():
    X = sphere(20, 30, 1.0)
    model = OverparameterizedDEQ(30, 40, sigma_w2=0.08, seed=0)
    with pytest.warns(UserWarning, match=r"should be p: take rmtdeq.on_sphere\(X, p\*\*0.5\)") as told:
        rd.check_initial_condition(model, X, np.ones(20))
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rd.check_initial_condition(model, rd.on_sphere(X, 30**0.5), np.ones(20))
