"""Networks of finite width: what was foretold of them, and the measurements by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import ImplicitModule, ImplicitReLU, Solver, pcdeq
from rmtdeq.stability import jacobian as module_of_jacobians
from rmtdeq.stability import measured as module_of_measuring

TOLERANCES = (1e-2, 1e-4, 1e-6, 1e-8)
NAMES = ("tanh", "relu", "swish", "erf")


def samples(p=20):
    """Three samples of squared norms 0.6, 1, 1.6."""
    X = np.random.default_rng(0).standard_normal((3, p))
    return X / np.linalg.norm(X, axis=1)[:, None] * np.sqrt([[0.6], [1.0], [1.6]])


def pair(name, share, width, seed, p=20):
    """A DEQ with a share of the largest σ_a², as foretold and as measured in one network."""
    X = samples(p)
    limit = rd.diagnose(rd.DEQ(name, 0.1, 0.8, centered=False), X).limit
    deq = rd.DEQ(name, share * limit, 0.8, centered=False)
    return rd.diagnose(deq, X), rd.diagnose(deq.to_torch(p, width, seed=seed).double(), X)


def counts(diagnosis):
    return np.array([diagnosis.iterations(tolerance) for tolerance in TOLERANCES])


@pytest.mark.parametrize("name", NAMES)
def test_networks_take_as_many_steps_as_foretold(name):
    foretold, measured = pair(name, 0.1, 1000, 1)
    assert abs(counts(foretold) - counts(measured)).max() <= 1
    np.testing.assert_allclose(measured.rate, foretold.rate, rtol=0.05)
    np.testing.assert_allclose(measured.smallest_singular_value, foretold.smallest_singular_value, rtol=0.05)
    np.testing.assert_allclose(measured.largest_singular_value, foretold.largest_singular_value, rtol=0.05)
    np.testing.assert_allclose(measured.residuals[:4], foretold.residuals[:4], rtol=0.15)
    np.testing.assert_allclose(measured.errors[:4], foretold.errors[:4], rtol=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_orthogonal_weights_do_what_is_foretold_of_them(name):
    X = samples()
    deq = rd.DEQ(name, 0.5, 0.8, centered=False)
    module = deq.to_torch(20, 600, seed=0, recurrent="orthogonal").double()
    torch.testing.assert_close(module.A @ module.A.T, 600 * torch.eye(600).double(), atol=2e-3, rtol=0)
    assert torch.equal(module.B, deq.to_torch(20, 600, seed=0).double().B)
    foretold, measured = rd.diagnose(deq, X, recurrent="orthogonal"), rd.diagnose(module, X)
    assert abs(foretold.iterations(1e-4) - measured.iterations(1e-4)).max() <= 1
    expected = foretold.smallest_singular_value_at(600)
    np.testing.assert_allclose(measured.smallest_singular_value, expected, rtol=0.04)
    np.testing.assert_allclose(measured.largest_singular_value, foretold.largest_singular_value, rtol=0.03)


def test_weights_are_gaussian_or_orthogonal():
    with pytest.raises(rd.InvalidInputError, match="recurrent"):
        rd.diagnose(rd.DEQ("tanh"), [1.0], recurrent="uniform")
    with pytest.raises(rd.InvalidInputError, match="recurrent"):
        rd.DEQ("tanh").to_torch(3, 4, recurrent="uniform")


class Linear(ImplicitModule):
    """z = zWᵀ + x."""

    def __init__(self, W):
        super().__init__()
        self.W = torch.nn.Parameter(torch.as_tensor(W))

    def injected(self, x):
        return (x,)

    def step(self, z, x):
        return z @ self.W.T + x


@pytest.mark.parametrize("size", [40, 300])
def test_the_jacobian_of_a_linear_layer_is_its_matrix(size):
    W = 0.6 * np.random.default_rng(0).standard_normal((size, size)) / np.sqrt(size)
    found = rd.diagnose(Linear(W), np.ones((1, size)))
    values = np.linalg.svd(np.eye(size) - W, compute_uv=False)
    assert found.spectral_radius[0] == pytest.approx(abs(np.linalg.eigvals(W)).max(), rel=2e-3)
    assert found.smallest_singular_value[0] == pytest.approx(values[-1], rel=2e-3)
    assert found.largest_singular_value[0] == pytest.approx(values[0], rel=2e-3)
    assert found.converges.all()


def test_products_alone_say_the_same_as_the_matrix(monkeypatch):
    module, X = rd.DEQ("tanh", 0.5, 0.8).to_torch(20, 200, seed=0).double(), samples()[:1]
    by_matrix = rd.diagnose(module, X)
    monkeypatch.setattr(module_of_jacobians, "_MATRIX", 0)
    by_products = rd.diagnose(module, X)
    for name in ("spectral_radius", "smallest_singular_value", "largest_singular_value"):
        np.testing.assert_allclose(getattr(by_products, name), getattr(by_matrix, name), rtol=2e-3)


@pytest.mark.parametrize("stop", ["row", "batch"])
def test_counts_are_the_solver_s(stop):
    solver = Solver(tolerance=1e-5, stop=stop)
    module = rd.DEQ("relu", 0.8, 0.8).to_torch(20, 100, seed=0, solver=solver).double()
    counted = module.solve(torch.from_numpy(samples())).iterations.numpy()
    found = rd.diagnose(module, samples()).iterations(1e-5)
    np.testing.assert_array_equal(counted, found if stop == "row" else found.max())


@pytest.mark.parametrize("matrices", [0, 4096])
@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (rd.DEQ("tanh", 0.5, 0.8).to_regression(20, 200, seed=0), (2, 20)),
        (ImplicitReLU(20, 150, seed=0), (2, 20)),
        (pcdeq.PcDEQLinear(200, seed=0), (2, 200)),
        (pcdeq.PcDEQConv2d(4, seed=0), (2, 4, 6, 6)),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, torch.nn.Module) else "",
)
def test_every_implicit_layer_can_be_measured(monkeypatch, matrices, module, shape):
    monkeypatch.setattr(module_of_jacobians, "_MATRIX", matrices)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).double()
    found = rd.diagnose(module.double(), x)
    with torch.no_grad():
        np.testing.assert_allclose(found.spectral_radius, module.spectral_radius(x).numpy(), rtol=0.02)
    # |1 - λ| of every eigenvalue lies between the singular values of 1 - J.
    assert (found.smallest_singular_value <= 1 + found.spectral_radius).all()
    assert (found.largest_singular_value >= 1 - found.spectral_radius).all()
    assert found.errors[-1].max() < 1e-10


def test_distances_end_at_the_equilibrium():
    module = rd.DEQ("tanh", 0.5, 0.8).to_torch(20, 100, seed=0).double()
    found = rd.diagnose(module, samples())
    z = module(torch.from_numpy(samples())).detach().numpy()
    first = module.step(torch.zeros(3, 100, dtype=torch.float64), *module.injected(torch.from_numpy(samples())))
    sizes = np.linalg.norm(z, axis=1)
    np.testing.assert_allclose(found.errors[0], 1, rtol=1e-12)
    np.testing.assert_allclose(found.errors[1], np.linalg.norm(first.detach().numpy() - z, axis=1) / sizes, rtol=1e-6)
    assert found.errors[-1].max() < 1e-12


def test_many_samples_are_examined_at_a_few():
    X = np.random.default_rng(0).standard_normal((12, 20)) / np.sqrt(20)
    found = rd.diagnose(rd.DEQ("tanh", 0.5, 0.8).to_torch(20, 50, seed=0), X)
    assert found.residuals.shape[1] == found.converges.size == 12
    assert found.jacobian_norms.size == found.spectral_radius.size == 4
    norms = (X**2).sum(axis=1)
    assert sorted(found.jacobian_norms)[::3] == pytest.approx([norms.min(), norms.max()], rel=1e-6)


def test_what_does_not_come_to_rest_is_measured_all_the_same(monkeypatch):
    monkeypatch.setattr(module_of_measuring, "_MOST_STEPS", 100)
    module = rd.DEQ("tanh", 0.5, 0.8).to_torch(20, 200, seed=0).double()
    with torch.no_grad():
        module.A *= 4
    found = rd.diagnose(module, samples()[:1])
    assert not found.converges.any()
    assert len(found.residuals) == 100
    assert found.spectral_radius[0] > 1
    with pytest.raises(rd.IllPosedError, match="Lower sigma_a2"):
        found.iterations(1e-2)
    assert "does not come to rest" in found.summary()


def test_single_precision_ends_at_rounding():
    found = rd.diagnose(rd.DEQ("tanh", 0.5, 0.8).to_torch(20, 100, seed=0).float(), samples())
    assert found.converges.all()
    assert found.iterations(1e-5).max() < 30
    assert "1e-08" not in found.summary()
    with pytest.raises(rd.InvalidInputError, match="double precision"):
        found.iterations(1e-12)


def test_what_is_refused():
    module = rd.DEQ("tanh", 0.5, 0.8).to_torch(20, 100, seed=0).double()
    with pytest.raises(rd.InvalidInputError, match="infinite width"):
        rd.diagnose(module, samples(), tau0_squared=1.0)
    with pytest.raises(rd.InvalidInputError, match="deq must be a network"):
        rd.diagnose(torch.nn.Linear(2, 2), samples())
    with torch.no_grad():
        module.A *= 100
    module.activation = torch.nn.ReLU()
    with pytest.raises(rd.ConvergenceError, match="grow without bound"):
        rd.diagnose(module, samples())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_wide_networks_take_as_many_steps_as_foretold(name, share):
    width = 2000
    found = [pair(name, share, width, seed) for seed in range(3)]
    foretold = found[0][0]
    measured = np.mean([counts(each) for _, each in found], axis=0)
    # An error of 1 % in the rate is one step in a hundred at 0.1 of the limit, and more nearer to it.
    assert (abs(measured - counts(foretold)) <= 1 + 0.05 * counts(foretold)).all()
    radii = np.mean([each.spectral_radius for _, each in found], axis=0)
    np.testing.assert_allclose(radii, foretold.spectral_radius_at(width), rtol=0.03)
    smallest = np.mean([each.smallest_singular_value for _, each in found], axis=0)
    np.testing.assert_allclose(smallest, foretold.smallest_singular_value_at(width), rtol=0.1)
