"""What goes wrong is named before the first step, and the remedy that is named works."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import Solver
from rmtdeq.models.deq import DEQModule
from rmtdeq.stability.scatter import outermost

P, WIDTH = 20, 300
SEEDS = range(4)
NAMES = ("tanh", "relu", "swish", "erf")


def samples():
    """Three samples of squared norms 0.6, 1, 1.6."""
    X = np.random.default_rng(0).standard_normal((3, P))
    return X / np.linalg.norm(X, axis=1)[:, None] * np.sqrt([[0.6], [1.0], [1.6]])


def network(name, sigma_a2, seed, **options):
    """A network that is made whatever its weights' variance."""
    phi = rd.DEQ(name, 0.1, 0.8, centered=False).layers[0].activation
    return DEQModule(P, WIDTH, phi, sigma_a2, 0.8, seed, **options).double()


def named(verdict):
    """The sigma_a2 that a verdict advises."""
    return float(re.search(r"take a sigma_a2 of ([0-9.]+)", verdict)[1])


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_what_diverges_is_named_and_comes_to_rest_with_the_remedy(name):
    X = samples()
    limit = rd.diagnose(rd.DEQ(name, 0.1, 0.8, centered=False), X).limit
    verdict = rd.diagnose(rd.DEQ(name, 1.5 * limit, 0.8, centered=False), X).verdict(WIDTH)
    assert verdict.startswith("diverges")
    for seed in SEEDS:
        with pytest.raises(rd.ConvergenceError, match="no contraction"):
            network(name, 1.5 * limit, seed).solve(torch.from_numpy(X))
    remedied = rd.DEQ(name, named(verdict), 0.8, centered=False)
    assert not rd.diagnose(remedied, X).verdict(WIDTH).startswith(("diverges", "may diverge"))
    for seed in SEEDS:
        found = remedied.to_torch(P, WIDTH, seed).double().solve(torch.from_numpy(X))
        assert float(found.residual.max()) < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_what_diverges_at_finite_width_alone_is_named_too(name):
    X = samples()
    limit = rd.diagnose(rd.DEQ(name, 0.1, 0.8, centered=False), X).limit
    deq = rd.DEQ(name, 0.99 * limit, 0.8, centered=False)
    foretold = rd.diagnose(deq, X)
    assert foretold.converges.all()
    assert not foretold.verdict().startswith(("diverges", "may diverge"))
    verdict = foretold.verdict(WIDTH)
    assert verdict.startswith("may diverge")
    restless = 0
    for seed in SEEDS:
        try:
            network(name, 0.99 * limit, seed).solve(torch.from_numpy(X))
        except rd.ConvergenceError:
            restless += 1
    assert restless >= 2
    remedied = rd.DEQ(name, named(verdict), 0.8, centered=False)
    for seed in SEEDS:
        remedied.to_torch(P, WIDTH, seed).double().solve(torch.from_numpy(X))


def test_no_equilibrium_at_all_is_named_with_the_limit():
    with pytest.raises(rd.IllPosedError, match="must be below 2"):
        rd.diagnose(rd.DEQ("relu", 2.5, 0.8, centered=False), samples())


@pytest.mark.parametrize("name", NAMES)
def test_the_limit_at_a_width_tends_to_the_limit(name):
    foretold = rd.diagnose(rd.DEQ(name, 0.5, 0.8, centered=False), samples())
    narrow, wide, widest = (foretold.limit_at(m) for m in (300, 30_000, 3_000_000))
    assert narrow < wide < widest < foretold.limit
    assert widest == pytest.approx(foretold.limit, rel=0.01)
    with pytest.raises(rd.InvalidInputError, match="width"):
        foretold.limit_at(0)
    with pytest.raises(rd.InvalidInputError, match="width"):
        foretold.verdict(-1)


def test_a_bad_condition_is_named_and_mended():
    X = samples()
    limit = rd.diagnose(rd.DEQ("tanh", 0.1, 0.8, centered=False), X).limit
    deq = rd.DEQ("tanh", 0.72 * limit, 0.8, centered=False)
    foretold = rd.diagnose(deq, X)
    verdict = foretold.verdict()
    assert verdict.startswith("badly conditioned")
    growth = float(re.search(r"by up to ([0-9.]+)", verdict)[1])
    assert growth == pytest.approx(1 / foretold.smallest_singular_value.min(), rel=1e-2)
    assert rd.diagnose(rd.DEQ("tanh", 0.3 * limit, 0.8, centered=False), X).verdict() == "well-behaved"
    x = torch.from_numpy(X)
    # Of the two remedies for the weights the first is the stronger.
    smallest = {}
    for share, recurrent in ((0.72, "gaussian"), (0.72, "orthogonal"), (0.36, "gaussian")):
        other = rd.DEQ("tanh", share * limit, 0.8, centered=False)
        found = [rd.diagnose(other.to_torch(P, WIDTH, seed, recurrent=recurrent).double(), X) for seed in SEEDS]
        smallest[share, recurrent] = np.mean([each.smallest_singular_value for each in found])
    assert smallest[0.72, "orthogonal"] > 1.05 * smallest[0.72, "gaussian"]
    assert smallest[0.36, "gaussian"] > 2.5 * smallest[0.72, "gaussian"]
    gradients = []
    for adjoint in ("iteration", "gmres"):
        module = deq.to_torch(P, WIDTH, 0, solver=Solver(adjoint=adjoint, max_iterations=3000)).double()
        module(x).sum().backward()
        gradients.append(module.A.grad)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("recurrent", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(("name", "share"), [("relu", 0.5), ("tanh", 0.5), ("swish", 0.7)])
def test_rates_of_single_networks_scatter_as_foretold(name, share, recurrent):
    X, width, draws = samples()[1:2], 150, 150
    limit = rd.diagnose(rd.DEQ(name, 0.1, 0.8, centered=False), X).limit
    deq = rd.DEQ(name, share * limit, 0.8, centered=False)
    foretold = rd.diagnose(deq, X, recurrent=recurrent)
    radii = []
    for seed in range(draws):
        module = deq.to_torch(P, width, seed, recurrent=recurrent).double()
        with torch.no_grad():
            injected = module.injected(torch.from_numpy(X))
            z = module.initial(*injected)
            for _ in range(80):
                z = module.step(z, *injected)
            u = injected[0] + module.sigma_a * z @ module.A.T
        radii.append(np.sqrt(np.mean(deq.layers[0].activation.slope(u.numpy()) ** 2)))
    scatter = float(np.std(radii) / np.mean(radii))
    # The standard deviation of 150 draws is known to 6 %, and the law is of first order in 1/√150.
    assert scatter == pytest.approx(foretold.laws[0].scatter / np.sqrt(width), rel=0.25)


@pytest.mark.parametrize("m", [50, 100])
def test_the_outermost_eigenvalue_of_a_gaussian_matrix(m):
    rng = np.random.default_rng(0)
    matrices = rng.standard_normal((200, m, m)) / np.sqrt(m)
    radii = abs(np.linalg.eigvals(matrices)).max(axis=1)
    mean, scatter = outermost(m)
    assert np.mean(radii) - 1 == pytest.approx(mean, abs=0.1 / np.sqrt(m))
    assert np.std(radii) == pytest.approx(scatter, rel=0.2)


def test_the_outermost_eigenvalue_tends_to_the_edge():
    means, scatters = np.transpose([outermost(m) for m in (10, 100, 1000, 10_000, 100_000)])
    assert (np.diff(means) < 0).all()
    assert (np.diff(scatters) < 0).all()
    # √(γ/4m) with γ ≈ log m at most, and Gumbel's scatter, π/√6 in units of 1/√(4mγ).
    assert means[-1] < np.sqrt(np.log(100_000) / 400_000)
    assert scatters[-1] < means[-1]


def test_scatter_of_steps_is_that_of_rates():
    foretold = rd.diagnose(rd.DEQ("relu", 1.0, 0.8, centered=False), [0.5, 1.0])
    # E φ'² = E φ'⁴ = 1/2, whatever the variance: δq/2q has the variance 1/(4m).
    expected = np.hypot(0.5 / 20, outermost(200)[1])
    np.testing.assert_allclose(foretold.rate_scatter_at(400), expected, rtol=1e-6)
    # Of many steps k, whose changes fall by log(1/r) each, k δr/(r log(1/r)): all of it, or what q alone makes of it.
    slow = rd.diagnose(rd.DEQ("relu", 1.8, 0.8, centered=False), 1.0)
    width = 10**5
    factor = slow.iterations(1e-12)[0] / np.log(1 / slow.rate[0])
    least, most = 0.5 / np.sqrt(width), slow.rate_scatter_at(width)[0]
    assert least * factor < slow.iterations_scatter_at(1e-12, width)[0] < most * factor
    linear = rd.diagnose(rd.DEQ("polynomial(0, 1)", 0.5, 0.8, centered=False), [1.0])
    assert linear.laws[0].scatter == pytest.approx(0.0, abs=1e-6)


def test_a_solver_has_the_steps_that_a_network_needs():
    X = samples()
    limit = rd.diagnose(rd.DEQ("tanh", 0.1, 0.8, centered=False), X).limit
    limits = {}
    for share in (0.1, 0.5, 0.8, 0.9):
        deq = rd.DEQ("tanh", share * limit, 0.8, centered=False)
        limits[share] = deq.to_torch(P, 2000, 0).solver.max_iterations
        assert limits[share] >= rd.diagnose(deq, X).iterations(1e-11).max()
        assert deq.to_regression(P, 2000, 0).solver.max_iterations == limits[share]
    assert limits[0.1] == 500 <= limits[0.5] < limits[0.8] <= limits[0.9] <= 5000
    own = Solver(max_iterations=7)
    assert deq.to_torch(P, 20, 0, solver=own).solver is own
    stack = rd.Network([rd.Layer("relu"), rd.Layer("tanh", 0.85 * limit, 0.8)])
    assert stack.to_torch(P, (40, 2000), 0)[1].solver.max_iterations > 500


def test_an_error_names_the_steps_that_are_enough():
    X = torch.from_numpy(samples())
    deq = rd.DEQ("relu", 1.5, 0.8, centered=False)
    with pytest.raises(rd.ConvergenceError, match="steps in all") as error:
        deq.to_torch(P, WIDTH, 0, solver=Solver(max_iterations=60)).double().solve(X)
    needed = int(re.search(r"max_iterations=(\d+)", str(error.value))[1])
    found = deq.to_torch(P, WIDTH, 0, solver=Solver(max_iterations=needed)).double().solve(X)
    assert 60 < int(found.iterations.max()) <= needed
