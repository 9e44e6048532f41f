"""The implicit-differentiation core: every solver finds the same fixed point, every adjoint the same gradient."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ, Solver, Trace, traced
from rmtdeq.models.fixed_point import METHODS as METHODS_OF
from rmtdeq.models.fixed_point import fixed_point
from rmtdeq.models.implicit import ImplicitModule, Map, attach_gradient
from rmtdeq.models.krylov import Arnoldi, gmres
from rmtdeq.models.rows import row_norms

METHODS = ["iteration", "anderson", "broyden"]
ADJOINTS = [*METHODS, "gmres"]
MODELS = {
    "over-parameterised": lambda solver: OverparameterizedDEQ(12, 40, 0.08, 1, solver=solver),
    "implicit ReLU": lambda solver: ImplicitReLU(12, 40, 0.1, 1, solver=solver),
    "tanh DEQ": lambda solver: rd.DEQ("tanh", 0.5, 0.5).to_regression(12, 40, 1, kind="ntk-full", solver=solver),
    "swish DEQ": lambda solver: rd.DEQ("swish", 0.4, 0.6).to_regression(12, 40, 1, kind="ntk-full", solver=solver),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def make(request):
    return lambda solver=None, dtype=torch.float64: request.param(solver).to(dtype)


def inputs(n=5, p=12, seed=0, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, p))).to(dtype)


class Layer(ImplicitModule):
    """z = tanh(W z + x), its weights given."""

    def __init__(self, W, solver=None):
        super().__init__(solver)
        self.W = torch.nn.Parameter(W)

    def injected(self, x):
        return (x,)

    def step(self, z, *injected):
        return torch.tanh(z @ self.W.T + injected[0])


def layer(radius, size=20, solver=None, seed=0):
    """A layer with a symmetric W of this spectral radius."""
    W = torch.from_numpy(np.random.default_rng(seed).standard_normal((size, size)))
    W = (W + W.T) / 2
    return Layer(radius * W / torch.linalg.matrix_norm(W, 2), solver)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("method", METHODS)
def test_every_solver_finds_the_fixed_point(make, method, dtype):
    model = make(Solver(method), dtype)
    x = inputs(dtype=dtype)
    found = model.solve(x)
    with torch.no_grad():
        image = model.step(found.value, *model.injected(x))
        exact = make(Solver(tolerance=1e-14)).solve(x.double()).value
    tolerance = Solver().tolerance_for(dtype)
    assert found.value.dtype == dtype
    assert (found.residual <= tolerance).all()
    assert ((image - found.value).norm(dim=1) <= 2 * tolerance * image.norm(dim=1)).all()
    torch.testing.assert_close(found.value.double(), exact, rtol=0, atol=10 * tolerance * float(exact.abs().max()) * 6)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_does_not_depend_on_its_batch(method):
    # Inputs of very different sizes come to rest at very different times, so that rows are left out on the way.
    module = layer(0.97, solver=Solver(method))
    x = inputs(n=40, p=20) * torch.logspace(-1, 2, 40, dtype=torch.float64)[:, None]
    together = module.solve(x)
    assert together.iterations.min() * 2 < together.iterations.max()
    for i in (0, 13, 27, 39):
        alone = module.solve(x[i : i + 1])
        assert int(alone.iterations[0]) == int(together.iterations[i])
        torch.testing.assert_close(alone.value[0], together.value[i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["anderson", "broyden"])
def test_acceleration_needs_fewer_steps_where_the_iteration_is_slow(method):
    x = 0.01 * inputs(n=4, p=20)
    plain = layer(0.98, solver=Solver(max_iterations=5000)).solve(x).iterations
    assert (3 * layer(0.98, solver=Solver(method)).solve(x).iterations < plain).all()


@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_gradients_agree_with_finite_differences(make, adjoint):
    model = make(Solver(adjoint=adjoint, tolerance=1e-13))
    x = inputs(n=4)
    weights = torch.from_numpy(np.random.default_rng(3).standard_normal(4))
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(model(x) @ weights, list(parameters.values()))
    rng = np.random.default_rng(4)
    for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
        direction = torch.from_numpy(rng.standard_normal(tuple(value.shape)))
        direction /= direction.norm()
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                kept = value.clone()
                value += sign * 1e-6 * direction
                ends.append(float(model(x) @ weights))
                value.copy_(kept)
        slope = (ends[0] - ends[1]) / 2e-6
        found = float((gradient * direction).sum())
        # The outputs, of order one, are known to 1e-13: the difference quotient to 1e-7.
        assert found == pytest.approx(slope, rel=1e-6, abs=3e-7), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_the_adjoint_is_exact_to_its_tolerance(adjoint, dtype):
    # Against the dense solution of (1 - Jᵀ) g = b.
    module = layer(0.9, solver=Solver(adjoint=adjoint)).to(dtype)
    x, b = inputs(n=3, p=20, dtype=dtype), inputs(n=3, p=20, seed=1, dtype=dtype)
    x.requires_grad_()
    (found,) = torch.autograd.grad((module(x) * b).sum(), x)
    with torch.no_grad():
        exact = layer(0.9, solver=Solver(tolerance=1e-14)).solve(x.double()).value
        slope = 1 - exact**2
        W = module.W.double()
        g = torch.stack(
            [torch.linalg.solve(torch.eye(20).double() - W.T * d, v) for d, v in zip(slope, b.double(), strict=True)]
        )
    # The iteration stops at a change of `tolerance`; what is left then is up to 1/(1 - 0.9) times that.
    limit = 20 * Solver().tolerance_for(dtype)
    torch.testing.assert_close(found.double(), slope * g, rtol=0, atol=limit * float(g.norm(dim=1).max()))


def test_gmres_differentiates_where_the_iteration_diverges():
    # Broyden's method finds an unstable equilibrium; the gradient there exists, though no iteration leads to it.
    W = torch.diag(torch.tensor([-1.6, 0.3, 0.5], dtype=torch.float64))
    x = torch.tensor([[0.1, 0.2, -0.3]], dtype=torch.float64, requires_grad=True)
    module = Layer(W, Solver("broyden", "gmres"))
    z = module(x)
    assert float(module.spectral_radius(x)) > 1
    (found,) = torch.autograd.grad(z.sum(), x)
    slope = 1 - z.detach() ** 2
    torch.testing.assert_close(found, slope / (1 - slope * torch.diag(W)), rtol=1e-9, atol=0)
    with pytest.raises(rd.ConvergenceError, match="no contraction"):
        Layer(W)(x)
    with pytest.raises(rd.ConvergenceError, match="spectral radius"):
        torch.autograd.grad(Layer(W, Solver("broyden"))(x).sum(), x)


def test_a_degenerate_equilibrium_is_an_error_of_gmres():
    step = lambda z, x: z + 0 * x
    z = attach_gradient(Map(step), torch.ones(1, 3), (torch.ones(1, 3, requires_grad=True),), Solver(adjoint="gmres"))
    with pytest.raises(rd.ConvergenceError, match="degenerate"):
        z.sum().backward()


@pytest.mark.parametrize("radius", [1.2, 3.0])
@pytest.mark.parametrize("method", METHODS)
def test_no_contraction_is_reported_and_not_looped_on(seconds, method, radius):
    size, asked = 60, []

    class Linear(Layer):
        def step(self, z, *injected):
            asked.append(1)
            return z @ self.W.T + injected[0]

    generator = torch.Generator().manual_seed(0)
    W = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    module = Linear(radius * W, Solver(method, max_iterations=1_000_000))
    with seconds(10.0), pytest.raises(rd.ConvergenceError, match=r"no contraction|NaN"):
        module.solve(inputs(n=2, p=size))
    assert len(asked) <= 200


def test_a_tolerance_below_rounding_is_reported(seconds):
    W = layer(0.5).W.detach()
    x, noise = inputs(n=3, p=20), torch.Generator().manual_seed(0)

    def rounded(z, x):
        return torch.tanh(z @ W.T + x) + 1e-16 * torch.randn(z.shape, generator=noise, dtype=z.dtype)

    with seconds(5.0), pytest.raises(rd.ConvergenceError, match="below what this precision reaches"):
        fixed_point(rounded, torch.zeros_like(x), (x,), "iteration", 1e-30, 10**6)


def test_slow_but_sure_iterations_are_waited_for():
    x = 1e-3 * inputs(n=2, p=20)
    found = layer(0.995, solver=Solver(max_iterations=20_000)).solve(x)
    assert int(found.iterations.max()) > 500
    with pytest.raises(rd.ConvergenceError, match=r"shrinking by a factor of 0\.99"):
        layer(0.995, solver=Solver(max_iterations=200)).solve(x)


def test_the_spectral_radius_is_that_of_the_dense_jacobian(make):
    model = make()
    x = inputs(n=2)
    z = model.solve(x).value
    with torch.no_grad():
        injected = model.injected(x)
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda z, i=i: model.step(z[None], *(each[i : i + 1] for each in injected))[0], z[i]
        )
        expected = float(torch.linalg.eigvals(jacobian).abs().max())
        assert float(model.spectral_radius(x)[i]) == pytest.approx(expected, rel=1e-6)


def test_memory_does_not_depend_on_the_number_of_iterations():
    def saved(radius):
        module = layer(radius, solver=Solver(max_iterations=20_000))
        sizes = []
        pack = lambda tensor: (sizes.append(tensor.numel()), tensor)[1]
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trace = Trace()
            module(0.01 * inputs(n=3, p=20), trace).sum().backward()
        return sum(sizes), int(trace.forward.iterations.max())

    short, few = saved(0.2)
    long, many = saved(0.98)
    assert many > 10 * few
    assert long == short


def test_a_trace_begins_where_the_last_solve_ended(make):
    model = make()
    x, trace = inputs(), Trace()
    first = model(x, trace)
    weights = list(model.parameters())
    a = torch.cat([each.ravel() for each in torch.autograd.grad(first.sum(), weights)])
    cold = (int(trace.forward.iterations.max()), int(trace.backward.iterations.max()))
    second = model(x, trace)
    b = torch.cat([each.ravel() for each in torch.autograd.grad(-3 * second.sum(), weights)])
    assert int(trace.forward.iterations.max()) <= 2 < cold[0]
    assert int(trace.backward.iterations.max()) <= 2 < cold[1]
    torch.testing.assert_close(second, first, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(b, -3 * a, rtol=1e-8, atol=1e-8)
    other = inputs(n=3, seed=9)
    torch.testing.assert_close(model(other, trace), model(other), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_rows_that_decay_to_zero_come_to_rest(method):
    module = layer(0.6, solver=Solver(method))
    x = inputs(n=3, p=20) * torch.tensor([[1.0], [0.0], [1.0]], dtype=torch.float64)
    found = module.solve(x, module.solve(inputs(n=3, p=20)))
    assert float(found.value[1].abs().max()) < 1e-15
    torch.testing.assert_close(found.value[[0, 2]], module.solve(x).value[[0, 2]], rtol=1e-9, atol=1e-9)


def test_layers_that_say_too_little_are_errors():
    class Bare(Layer):
        def injected(self, x):
            return x

    with pytest.raises(rd.InvalidInputError, match="must return a tuple"):
        Bare(torch.zeros(3, 3))(torch.ones(2, 3))
    with pytest.raises(rd.InvalidInputError, match="must be a Solver"):
        layer(0.5, solver="anderson")


def test_an_empty_batch_has_empty_equilibria():
    module = layer(0.5)
    assert module(inputs(n=5, p=20)[:0]).shape == (0, 20)


def test_states_may_have_another_shape_than_what_is_injected():
    class Wide(Layer):
        def initial(self, *injected):
            return injected[0].new_zeros(len(injected[0]), 20)

        def step(self, z, *injected):
            return torch.tanh(z @ self.W.T + injected[0].sum(dim=1, keepdim=True))

    found = Wide(layer(0.5).W.detach())(inputs(n=3, p=4))
    assert found.shape == (3, 20)


def test_gradients_of_nothing_are_zero():
    module = layer(0.9)
    x = inputs(n=4, p=20).requires_grad_()
    rows = torch.tensor([1.0, 0.0, 0.0, 2.0], dtype=torch.float64)[:, None]
    (gradient,) = torch.autograd.grad((rows * module(x)).sum(), x)
    assert torch.equal(gradient[1:3], torch.zeros(2, 20, dtype=torch.float64))
    assert (gradient[[0, 3]].abs().sum(dim=1) > 0).all()


def test_tapes_are_freed():
    module = layer(0.5)

    def run():
        x = inputs(n=2, p=20).requires_grad_()
        module(x).sum().backward()

    run()
    gc.collect()
    before = sum(type(each) is torch.Tensor for each in gc.get_objects())
    for _ in range(5):
        run()
    gc.collect()
    assert sum(type(each) is torch.Tensor for each in gc.get_objects()) == before


def test_arnoldi_is_a_basis_in_which_the_map_is_small():
    rng = np.random.default_rng(0)
    A = torch.from_numpy(rng.standard_normal((2, 15, 15)))
    space = Arnoldi(lambda x: torch.einsum("nij,nj->ni", A, x), torch.from_numpy(rng.standard_normal((2, 15))))
    space.extend(4)
    space.extend(3)
    basis, reduced = space.basis, space.reduced
    torch.testing.assert_close(basis @ basis.mT, torch.eye(8).double().expand(2, 8, 8), rtol=0, atol=1e-13)
    torch.testing.assert_close(basis[:, :-1] @ A.mT, reduced.mT @ basis, rtol=0, atol=1e-12)


def test_gmres_ends_in_an_invariant_subspace():
    # Two eigenvectors in the right side: two steps are enough, and a third would divide by zero.
    d = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    found = gmres(lambda x: d * x, b, torch.zeros_like(b), 1e-12, 100)
    torch.testing.assert_close(found.value, b / d, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_rests_as_a_whole(make, method):
    x = inputs()
    rows, batch = make(Solver(method)).solve(x), make(Solver(method, stop="batch")).solve(x)
    assert len(set(batch.iterations.tolist())) == 1
    assert int(batch.iterations[0]) <= int(rows.iterations.max())
    torch.testing.assert_close(batch.value, rows.value, rtol=0, atol=1e-9 * float(rows.value.abs().max()))
    a, b = (
        torch.autograd.grad(model(x).sum(), list(model.parameters()))
        for model in (make(Solver(method, method)), make(Solver(method, method, stop="batch")))
    )
    for ours, theirs in zip(a, b, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8 * float(ours.abs().max()))


class Network(Layer):
    """z = φ(W z + x)."""

    def __init__(self, W, activation, solver):
        super().__init__(W, solver)
        self.activation = activation

    def step(self, z, *injected):
        return self.activation(z @ self.W.T + injected[0])


ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "leaky": torch.nn.LeakyReLU(0.1)}
ROWS = {
    "usual": lambda x, b, rng, tiny: None,
    "rows at rest": lambda x, b, rng, tiny: x.__setitem__(rng.random(len(x)) < 0.4, 0),
    "masked gradients": lambda x, b, rng, tiny: b.__setitem__(rng.random(len(b)) < 0.4, 0),
    "both at once": lambda x, b, rng, tiny: (x.__setitem__(0, 0), b.__setitem__(-1, 0)),
    "all at rest": lambda x, b, rng, tiny: (x.fill(0), b.fill(0)),
    "many scales": lambda x, b, rng, tiny: [each.__imul__(10 ** rng.uniform(-12, 1, (len(x), 1))) for each in (x, b)],
    "next to nothing": lambda x, b, rng, tiny: (x[:1].__imul__(tiny), b[-1:].__imul__(tiny)),
}


def norms(x):
    largest = x.abs().amax(dim=1)
    return largest * (x / largest.clamp_min(1e-300)[:, None]).norm(dim=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("stop", ["row", "batch"])
@pytest.mark.parametrize("method", ADJOINTS)
@pytest.mark.parametrize("rows", ROWS)
def test_random_networks_come_to_rest_row_by_row(rows, method, stop, dtype):
    solver = Solver("iteration" if method == "gmres" else method, method, stop=stop)
    for seed, phi in ((seed, phi) for seed in range(4) for phi in ACTIVATIONS.values()):
        rng = np.random.default_rng([seed, 7])
        n, m = (int(rng.integers(*limits)) for limits in ((1, 9), (1, 30)))
        W, x, b = (rng.standard_normal(shape) for shape in ((m, m), (n, m), (n, m)))
        if seed == 0:
            W = np.outer(W[0], W[0])  # changes of one direction alone
        W *= rng.uniform(0.2, 0.95) / np.linalg.norm(W, 2)
        ROWS[rows](x, b, rng, 1e-200 if dtype == torch.float64 else 1e-30)
        W, x, b = (torch.from_numpy(each).to(dtype) for each in (W, x, b))
        network = Network(W, phi, solver)
        z = network(x.requires_grad_())
        (gradient,) = torch.autograd.grad(z, x, b)
        # In double precision: the plain iteration, and the dense solution of (1 - W' D) g = b.
        W, exact, b, at = W.double(), torch.zeros(n, m).double(), b.double(), x.detach().double()
        for _ in range(600):
            exact = phi(exact @ W.T + at)
        u = (exact @ W.T + at).requires_grad_()
        slopes = torch.autograd.grad(phi(u).sum(), u)[0]
        dense = torch.stack(
            [d * torch.linalg.solve(torch.eye(m).double() - W.T * d, v) for d, v in zip(slopes, b, strict=True)]
        )
        # A change of `tolerance` in a step leaves 1/(1 - 0.95) times that.
        limit = 40 * solver.tolerance_for(dtype)
        for found, true in ((z.detach(), exact), (gradient, dense)):
            assert (norms(found.double() - true) <= limit * norms(true)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stop", ["row", "batch"])
@pytest.mark.parametrize("method", ADJOINTS)
def test_half_precision_comes_to_rest(method, stop, dtype):
    solver = Solver("iteration" if method == "gmres" else method, method, stop=stop)
    module, x = layer(0.5, solver=solver).to(dtype), inputs(n=5, p=20, dtype=dtype)
    x[1] = 0
    z = module(x.requires_grad_())
    (gradient,) = torch.autograd.grad(z[1:].sum(), x)
    exact = layer(0.5).to(dtype).double()
    wide = x.detach().double().requires_grad_()
    true = exact(wide)
    (slope,) = torch.autograd.grad(true[1:].sum(), wide)
    assert z.dtype == gradient.dtype == dtype
    limit = 2 * solver.tolerance_for(dtype)
    for found, expected in ((z.detach(), true.detach()), (gradient, slope)):
        assert (norms(found.double() - expected) <= limit * norms(expected)).all()
    assert float(module.spectral_radius(x.detach())[1]) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("method", ["anderson", "broyden"])
def test_accelerated_steps_do_not_depend_on_the_scale_of_a_row(method):
    # Powers of two: linear layers do the same at every scale, to the last bit.
    Linear = type("Linear", (Layer,), {"step": lambda self, z, *injected: z @ self.W.T + injected[0]})
    module = Linear(layer(0.9).W.detach(), Solver(method, stop="batch"))
    x = inputs(n=1, p=20)
    scales = torch.tensor([2.0**-900, 2.0**-60, 1.0, 2.0**900], dtype=torch.float64)[:, None]
    z = module.solve(x * scales).value
    torch.testing.assert_close(z / scales, z[2:3].expand(4, -1), rtol=1e-10, atol=1e-13)
    still = METHODS_OF[method]()
    at = torch.zeros(2, 3, dtype=torch.float64)
    for _ in range(4):  # twice the same state and change, and a row that does not move
        image = torch.tensor([[0.0, 0, 0], [1, 2, 3]], dtype=torch.float64)
        at = still.next(torch.zeros_like(at), image, image)
        torch.testing.assert_close(at, image)


def test_norms_of_rows_neither_underflow_nor_overflow():
    for dtype, least, most in ((torch.float32, 1e-38, 1e38), (torch.float64, 1e-300, 1e300)):
        x = torch.tensor([3.0, 4.0], dtype=dtype) / 5
        scales = torch.tensor([0, least, 1e-10, 1, most], dtype=dtype)
        torch.testing.assert_close(row_norms(scales[:, None] * x), scales, rtol=1e-6, atol=0)
    wild = torch.tensor([[torch.inf, 1], [torch.nan, 1], [1, 0]])
    torch.testing.assert_close(row_norms(wild), torch.tensor([torch.inf, torch.nan, 1]), equal_nan=True)
    assert row_norms(torch.zeros(0, 3)).shape == (0,)


def test_a_batch_that_does_not_rest_is_an_error():
    x = 1e-3 * inputs(n=2, p=20)
    slow, none = layer(0.995, solver=Solver(stop="batch", max_iterations=200)), layer(1.5, solver=Solver(stop="batch"))
    with pytest.raises(rd.ConvergenceError, match=r"shrinking by a factor of 0\.99"):
        slow.solve(x)
    Linear = type("Linear", (Layer,), {"step": lambda self, z, *injected: z @ self.W.T + injected[0]})
    with pytest.raises(rd.ConvergenceError, match="no contraction"):
        Linear(none.W.detach(), none.solver).solve(x)
    with pytest.raises(rd.ConvergenceError, match="NaN"):
        layer(0.5, solver=Solver(stop="batch")).solve(x * float("nan"))
    assert layer(0.5, solver=Solver(stop="batch"))(x[:0]).shape == (0, 20)
    still = layer(0.5, solver=Solver(stop="batch")).solve(0 * x)
    assert float(still.value.abs().max()) == 0


def test_traces_of_a_model_tell_and_do_not_warm():
    first, second = layer(0.5), layer(0.8, seed=1)
    model = torch.nn.Sequential(first, torch.nn.Identity(), second)
    x = inputs(p=20)
    with traced(model) as traces:
        model(x).sum().backward()
        once = {name: int(trace.forward.iterations.max()) for name, trace in traces.items()}
        model(x).sum().backward()
    assert set(once) == {"0", "2"}
    for name, trace in traces.items():
        assert int(trace.forward.iterations.max()) == once[name] > 2
        assert int(trace.backward.iterations.max()) > 2
    model(x + 1)
    assert int(traces["0"].forward.iterations.max()) == once["0"]


@pytest.mark.parametrize("stop", ["row", "batch"])
@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_infinite_gradients_from_above_are_passed_on(adjoint, stop):
    module = layer(0.5, solver=Solver(adjoint=adjoint, stop=stop))
    x = inputs(n=3, p=20).requires_grad_()
    weights = torch.tensor([[1.0], [torch.inf], [1.0]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * module(x)).sum(), x)
    assert gradient.isnan().all()
