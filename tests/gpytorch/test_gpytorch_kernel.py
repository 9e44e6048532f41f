"""The kernel in GPyTorch: values, gradients, shapes, and models that are made of it."""

from __future__ import annotations

import gpytorch
import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

import rmtdeq as rd
from rmtdeq.gpytorch import DEQKernel

KINDS = ("ck", "ntk", "ntk-full")
NETWORKS = {
    "relu": rd.DEQ("relu", 0.3, 0.8, centered=False),
    "tanh": rd.DEQ("tanh", 0.4, 0.9, sigma_c2=0.1),
    "layers": rd.Network(
        [rd.Layer("erf", sigma_b2=1.5, sigma_c2=0.1), rd.DEQ("abs", 0.3, 0.8, centered=False), rd.Layer("relu")]
    ),
    "centred": rd.Network([rd.DEQ("swish", 0.3, 0.8)]),
}
networks = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


@pytest.fixture(autouse=True)
def _doubles():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def samples(n, p=3, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, p)) / np.sqrt(p))


def called(kernel, x1, x2, raw):
    """Return the kernel at other raw parameters, given in their order."""
    names = [name for name, _ in kernel.named_parameters()]
    return torch.func.functional_call(kernel, dict(zip(names, raw, strict=True)), (x1, x2)).to_dense()


@networks
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_kernel(network, kind):
    X, Y = samples(6), samples(4, seed=1)
    kernel = DEQKernel(network, kind)
    pinned = network.pinned(1.0)
    own, mixed = (rd.kernel(X.numpy(), pinned, kind, Y=other, backend="numpy") for other in (None, Y.numpy()))
    np.testing.assert_allclose(kernel(X).to_dense().detach(), own, rtol=0, atol=1e-12)
    np.testing.assert_allclose(kernel(X, Y).to_dense().detach(), mixed, rtol=0, atol=1e-12)
    np.testing.assert_allclose(kernel(X, diag=True).detach(), np.diag(own), rtol=0, atol=1e-12)
    np.testing.assert_allclose(kernel(X[:4], Y, diag=True).detach(), np.diag(mixed), rtol=0, atol=1e-12)


@networks
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_samples_and_variances_are_differences(network, kind):
    """Within 1e-6."""
    X, Y = samples(3), samples(2, seed=1)
    kernel = DEQKernel(network, kind)
    raw = [each.detach().clone().requires_grad_() for each in kernel.parameters()]
    inputs = (X.requires_grad_(), *raw)
    for other in (Y, None):
        assert torch.autograd.gradcheck(
            lambda x, *r, other=other: called(kernel, x, x if other is None else other, r), inputs, eps=1e-5, atol=1e-6
        )


@networks
@pytest.mark.parametrize("kind", KINDS)
def test_values_without_gradients_are_the_same(network, kind):
    X, Y = samples(6), samples(4, seed=1)
    X[1], X[2] = X[0], 0.0
    kernel = DEQKernel(network, kind)
    for other in (X, Y):
        with_gradients = kernel(X, other).to_dense()
        with torch.no_grad():
            plain = kernel(X, other).to_dense()
        # Tangent kernels of nearly equal samples depend on their angle's root.
        np.testing.assert_allclose(plain, with_gradients.detach(), rtol=0, atol=1e-12 if kind == "ck" else 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_samples_have_finite_gradients(kind):
    X = samples(4)
    X[1], X[2], X[3] = X[0], 0.0, -X[0]
    X.requires_grad_()
    kernel = DEQKernel(NETWORKS["relu"], kind)
    value = kernel(X).to_dense()
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(X.grad).all()
    assert all(torch.isfinite(each.grad).all() for each in kernel.parameters())


def test_batches_have_variances_of_their_own():
    kernel = DEQKernel(NETWORKS["layers"], "ntk", batch_shape=torch.Size([2]))
    assert kernel.sigma_b2.shape == (2, 3)
    kernel.sigma_b2 = torch.tensor([[1.5, 0.8, 1.0], [2.0, 0.5, 0.7]])
    X = samples(5)
    both = kernel(X).to_dense()
    assert both.shape == (2, 5, 5)
    for index, (first, second, third) in enumerate(((1.5, 0.8, 1.0), (2.0, 0.5, 0.7))):
        network = rd.Network(
            [
                rd.Layer("erf", sigma_b2=first, sigma_c2=0.1),
                rd.DEQ("abs", 0.3, second, centered=False),
                rd.Layer("relu", sigma_b2=third),
            ]
        )
        expected = rd.kernel(X.numpy(), network, "ntk", backend="numpy")
        np.testing.assert_allclose(both[index].detach(), expected, rtol=0, atol=1e-12)
    assert kernel(X, diag=True).shape == (2, 5)
    several = DEQKernel("relu")(torch.stack([X, 2 * X]), X).to_dense()
    assert several.shape == (2, 5, 5)
    np.testing.assert_allclose(several[0].detach(), DEQKernel("relu")(X, X + 0.0).to_dense().detach(), atol=1e-12)


def test_active_dimensions_and_precision_are_those_asked_for():
    X = samples(5, 4)
    some = DEQKernel("relu", active_dims=(0, 2))(X).to_dense()
    np.testing.assert_allclose(some.detach(), DEQKernel("relu")(X[:, [0, 2]]).to_dense().detach(), atol=1e-14)
    single = DEQKernel("relu").float()(X.float()).to_dense()
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.detach(), DEQKernel("relu")(X).to_dense().detach(), atol=1e-6)


def test_constraints_hold_the_variances_and_priors_are_registered():
    prior = gpytorch.priors.GammaPrior(2.0, 1.0)
    kernel = DEQKernel("relu", sigma_b2_prior=prior)
    assert [name for name, *_ in kernel.named_priors()] == ["sigma_b2_prior"]
    assert {name for name, _ in kernel.named_parameters()} == {"raw_sigma_a2", "raw_sigma_b2"}
    with torch.no_grad():
        kernel.raw_sigma_a2.fill_(1e3)
    assert kernel.sigma_a2.item() <= 0.95
    kernel.sigma_a2 = 0.5
    assert kernel.sigma_a2.item() == pytest.approx(0.5)
    with pytest.raises(AttributeError, match="sigma_c2"):
        _ = kernel.sigma_c2


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (lambda: DEQKernel("relu", "gram"), "'ck', 'ntk', 'ntk-full'"),
        (lambda: DEQKernel(rd.DEQ("relu", 2.0, 0.8)), "not within its constraint"),
        (lambda: DEQKernel("foo"), "Unknown activation"),
        (lambda: DEQKernel("relu").forward(samples(2), samples(2), last_dim_is_batch=True), "last_dim_is_batch"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(call, remedy):
    with pytest.raises(rd.InvalidInputError, match=remedy):
        call()


class Exact(gpytorch.models.ExactGP):
    def __init__(self, X, y, likelihood, kernel):
        super().__init__(X, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(kernel)

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


class Sparse(gpytorch.models.ApproximateGP):
    def __init__(self, points, kernel):
        strategy = gpytorch.variational.VariationalStrategy(
            self, points, gpytorch.variational.CholeskyVariationalDistribution(len(points)), True
        )
        super().__init__(strategy)
        self.mean_module, self.covar_module = gpytorch.means.ConstantMean(), kernel

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def ascend(model, likelihood, objective, X, y, steps):
    """Return the objective before every step."""
    model.train(), likelihood.train()
    free = dict.fromkeys([*model.parameters(), *likelihood.parameters()])
    optimiser = torch.optim.Adam(free, lr=0.05)
    found = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = -objective(model(X), y)
        loss.backward()
        optimiser.step()
        found.append(-loss.item())
    return found


def test_an_exact_process_learns_and_predicts_what_its_kernel_does():
    X, X_test = samples(30), samples(7, seed=1)
    y = torch.sin(3 * X[:, 0]) + 0.1 * X[:, 1]
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    model = Exact(X, y, likelihood, DEQKernel("relu", "ntk"))
    course = ascend(model, likelihood, gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model), X, y, 15)
    assert course[-1] > course[0] + 0.05
    model.eval(), likelihood.eval()
    with torch.no_grad():
        found = model(X_test).mean.numpy()
        scale, centre, noise = (
            float(e) for e in (model.covar_module.outputscale, model.mean_module.constant, likelihood.noise)
        )
        learnt = model.covar_module.base_kernel
        network = rd.DEQ("relu", float(learnt.sigma_a2), float(learnt.sigma_b2), centered=False)
    K, across = (scale * rd.kernel(at.numpy(), network, "ntk", Y=X.numpy()) for at in (X, X_test))
    expected = centre + across @ np.linalg.solve(K + noise * np.eye(30), y.numpy() - centre)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_table_is_as_likely_as_with_rbf():
    """Diabetes, standardised; both after as many steps."""
    table = load_diabetes()
    X = torch.from_numpy((table.data - table.data.mean(0)) / table.data.std(0))[:80] / table.data.shape[1] ** 0.5
    y = torch.from_numpy((table.target - table.target.mean()) / table.target.std())[:80]
    reached = []
    for kernel in (DEQKernel(rd.DEQ("relu", 0.3, 0.8, sigma_c2=0.1, centered=False)), gpytorch.kernels.RBFKernel()):
        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        model = Exact(X, y, likelihood, kernel)
        objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
        reached.append(ascend(model, likelihood, objective, X, y, 25)[-1])
    ours, rbf = reached
    assert ours > rbf - 1e-3


def test_a_sparse_process_learns_and_moves_its_inducing_points():
    X = samples(30)
    y = torch.sin(3 * X[:, 0]) + 0.1 * X[:, 1]
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    model = Sparse(X[:8].clone(), DEQKernel("tanh"))
    course = ascend(model, likelihood, gpytorch.mlls.VariationalELBO(likelihood, model, 30), X, y, 15)
    assert course[-1] > course[0] + 0.05
    gradient = model.variational_strategy.inducing_points.grad
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
