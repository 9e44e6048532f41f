"""Gradient descent and flow on the two papers' models: their course, their end, and their resumption."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import DEQModule, ImplicitReLU, OverparameterizedDEQ, Solver
from rmtdeq.training import population_tangent_kernel, stable_step
from rmtdeq.training.norm import spectral_norm

matplotlib.use("Agg")

MODELS = {
    "over-parameterised": (lambda seed=1: OverparameterizedDEQ(20, 150, 0.08, seed).double(), np.sqrt(20)),
    "implicit ReLU": (lambda seed=1: ImplicitReLU(20, 150, 0.1, seed).double(), 1.0),
    "tanh DEQ": (lambda seed=1: rd.DEQ("tanh", 0.2, 0.8).to_regression(20, 150, seed).double(), 1.0),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def case(request):
    make, norm = request.param
    rng = np.random.default_rng(0)
    X = rd.on_sphere(rng.standard_normal((15, 20)), norm)
    return make, X, rng.standard_normal(15)


def weights_of(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_a_step_is_a_step_against_the_gradient(case):
    make, X, y = case
    model, step = make(), 1e-4
    before = weights_of(model)
    x, t = torch.from_numpy(X), torch.from_numpy(y)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(0.5 * ((model(x) - t) ** 2).sum(), list(trained.values()))
    run = rd.gradient_descent(model, X, y, step=step, epochs=1)
    for (name, value), gradient in zip(trained.items(), gradients, strict=True):
        torch.testing.assert_close(value.detach(), before[name] - step * gradient, rtol=1e-9, atol=1e-12)
    for name, value in model.named_parameters():
        assert (name in trained) or torch.equal(value, before[name])
    with torch.no_grad():
        assert run.loss[1] == pytest.approx(0.5 * float(((model(x) - t) ** 2).sum()), rel=1e-9)
    np.testing.assert_array_equal(run.at, [0, 1])


def test_training_reaches_zero_and_records_its_course(case):
    make, X, y = case
    run = rd.gradient_descent(make(), X, y, epochs=150, measure_every=50, test=(X[:5], y[:5]))
    assert run.loss[-1] < 1e-2 * run.loss[0]
    assert (np.diff(run.loss) < 0).all()
    assert run.rate == pytest.approx(1 - (run.loss[-1] / run.loss[0]) ** (1 / 150))
    np.testing.assert_array_equal(run.measured, [0, 50, 100, 150])
    assert run.drift < 0.05
    assert (run.smallest_eigenvalue > 0).all()
    assert (run.iterations > 0).all()
    assert run.test_loss[-1] < 0.1 * run.test_loss[0]
    assert "15 samples" in run.summary()
    for quantity in ("loss", "test_loss", "recurrent_norm", "smallest_eigenvalue", "iterations"):
        ax = run.plot(quantity=quantity)
        assert ax.get_xlabel() == "epoch"
        assert ax.get_ylabel()


def test_what_is_recorded_is_what_it_says(case):
    make, X, y = case
    model = make()
    x = torch.from_numpy(X)
    run = rd.gradient_descent(model, X, y, step=1e-5, epochs=0)
    z = model.solve(x).value
    assert run.smallest_eigenvalue[0] == pytest.approx(float(torch.linalg.eigvalsh(z @ z.T)[0]), rel=1e-6)
    assert run.recurrent_norm[0] == pytest.approx(
        float(torch.linalg.matrix_norm(model.recurrent().detach(), 2)), rel=1e-6
    )
    assert len(run.loss) == 1
    assert run.rate == 0.0


def test_outputs_can_be_made_to_begin_at_zero(case):
    make, X, y = case
    run = rd.gradient_descent(make(), X, y, epochs=3, subtract_initial=True)
    assert run.loss[0] == pytest.approx(0.5 * y @ y, rel=1e-9)


@pytest.mark.parametrize("flow", [False, True])
def test_interrupted_training_resumes_to_the_same_bits(case, tmp_path, monkeypatch, flow):
    make, X, y = case
    step = stable_step(make(), torch.from_numpy(X))

    def train(model, folder, total):
        options = {"test": (X[:3], y[:3]), "checkpoint": folder, "measure_every": 4}
        if flow:
            return rd.gradient_flow(model, X, y, step * total, tolerance=0.02, **options)
        return rd.gradient_descent(model, X, y, step=step, epochs=total, **options)

    whole = make()
    expected = train(whole, None, 24)
    monkeypatch.setattr("rmtdeq.training.session._SAVE_EVERY", -1.0)
    interrupted, calls, original = make(), [], type(make()).forward

    def forward(self, *arguments):
        calls.append(1)
        if len(calls) == 13:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(type(interrupted), "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, tmp_path / "state", 24)
    resumed = make()
    calls.extend([1] * 100)
    found = train(resumed, tmp_path / "state", 24)
    for name in (
        "at",
        "loss",
        "test_loss",
        "iterations",
        "adjoint_iterations",
        "recurrent_norm",
        "smallest_eigenvalue",
    ):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(resumed)[name]), name
    assert not list((tmp_path / "state").glob(".*"))


def test_a_checkpoint_of_another_training_is_refused(case, tmp_path):
    make, X, y = case
    rd.gradient_descent(make(), X, y, step=1e-5, epochs=1, checkpoint=tmp_path / "a")
    for model, targets, step in ((make(2), y, 1e-5), (make(), -y, 1e-5), (make(), y, 2e-5)):
        with pytest.raises(rd.InvalidInputError, match="another computation"):
            rd.gradient_descent(model, X, targets, step=step, epochs=1, checkpoint=tmp_path / "a")


def test_more_epochs_go_on_from_a_checkpoint(case, tmp_path, monkeypatch):
    make, X, y = case
    monkeypatch.setattr("rmtdeq.training.session._SAVE_EVERY", -1.0)
    rd.gradient_descent(make(), X, y, step=1e-5, epochs=6, measure_every=2, checkpoint=tmp_path / "a")
    model = make()
    longer = rd.gradient_descent(model, X, y, step=1e-5, epochs=12, measure_every=2, checkpoint=tmp_path / "a")
    straight = rd.gradient_descent(make(), X, y, step=1e-5, epochs=12, measure_every=2)
    np.testing.assert_array_equal(longer.loss, straight.loss)
    np.testing.assert_array_equal(longer.measured, straight.measured)


def test_a_finished_training_is_not_done_again(case, tmp_path, monkeypatch):
    make, X, y = case
    first, second = make(), make()
    run = rd.gradient_descent(first, X, y, step=1e-5, epochs=30, checkpoint=tmp_path / "a")
    monkeypatch.setattr("rmtdeq.training.session.Session.move", lambda *_: pytest.fail("a step was taken"))
    again = rd.gradient_descent(second, X, y, step=1e-5, epochs=30, checkpoint=tmp_path / "a")
    np.testing.assert_array_equal(again.loss, run.loss)
    np.testing.assert_array_equal(again.recurrent_norm, run.recurrent_norm)
    for name, value in weights_of(first).items():
        assert torch.equal(value, weights_of(second)[name])


@pytest.mark.parametrize("flow", [False, True])
def test_a_longer_training_is_not_taken_for_a_shorter_one(case, tmp_path, monkeypatch, flow):
    make, X, y = case

    def train(model, total):
        if flow:
            return rd.gradient_flow(model, X, y, 1e-5 * total, checkpoint=tmp_path / "state")
        return rd.gradient_descent(model, X, y, step=1e-5, epochs=total, checkpoint=tmp_path / "state")

    monkeypatch.setattr("rmtdeq.training.session._SAVE_EVERY", -1.0)
    whole = train(make(), 8)
    untouched = make()
    before = {name: value.clone() for name, value in weights_of(untouched).items()}
    with pytest.raises(rd.InvalidInputError, match="already, beyond the"):
        train(untouched, 5)
    for name, value in weights_of(untouched).items():
        assert torch.equal(value, before[name])
    np.testing.assert_array_equal(train(make(), 8).loss, whole.loss)


def test_an_interrupt_says_what_is_kept(case, tmp_path, monkeypatch):
    make, X, y = case

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rmtdeq.training.session.Session.move", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        rd.gradient_descent(make(), X, y, step=1e-5, epochs=3, checkpoint=tmp_path / "a")
    assert "too short" in caught.value.__notes__[0]


def test_tensors_serve_as_well_as_arrays(case):
    make, X, y = case
    model, x = make(), torch.from_numpy(X).requires_grad_()
    run = rd.gradient_descent(make(), x, torch.from_numpy(y), step=1e-5, epochs=2)
    np.testing.assert_array_equal(run.loss, rd.gradient_descent(make(), X, y, step=1e-5, epochs=2).loss)
    curve = rd.predict_training(model.tangent_kernel(x), y, 1e-5, initial=model(x))
    assert float(curve.loss(0)) == pytest.approx(run.loss[0], rel=1e-9)


def test_flow_is_the_limit_of_small_steps(case):
    make, X, y = case
    step = stable_step(make(), torch.from_numpy(X))
    time = 20 * step
    flow = rd.gradient_flow(make(), X, y, time, tolerance=5e-3)
    ends = [rd.gradient_descent(make(), X, y, step=time / count, epochs=count).loss[-1] for count in (30, 60)]
    # The error of descent is of first order in its step: twice the finer one less the coarser is its limit.
    assert flow.loss[-1] == pytest.approx(2 * ends[1] - ends[0], rel=1e-2)
    assert flow.at[-1] == time
    assert len(flow.at) < 50
    assert flow.step is None
    assert "gradient flow" in flow.summary()
    assert flow.rate == pytest.approx(np.log(flow.loss[0] / flow.loss[-1]) / time)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_long_flow_ends_at_the_precision_of_the_solves(case, seconds, dtype):
    make, X, y = case
    step = stable_step(make(), torch.from_numpy(X))
    with seconds(30.0):
        flow = rd.gradient_flow(make().to(dtype), X, y, 1e5 * step, tolerance=0.02)
    assert flow.loss[-1] < (1e-6 if dtype is torch.float32 else 1e-15) * flow.loss[0]
    assert len(flow.at) < 200


def test_a_step_that_is_too_large_is_an_error(case):
    make, X, y = case
    for factor in (8, 100, 1000):
        with pytest.raises(rd.ConvergenceError, match="step"):
            rd.gradient_descent(make(), X, y, step=factor * stable_step(make(), torch.from_numpy(X)), epochs=1000)


@pytest.mark.parametrize("limit", [True, False])
def test_wide_networks_follow_the_prediction(limit):
    # Of the infinite-width kernel, and of the kernel at the start.
    n = d = 25
    rng = np.random.default_rng(0)
    X, y = rd.on_sphere(rng.standard_normal((n, d)), np.sqrt(d)), rng.standard_normal(n)
    model = OverparameterizedDEQ(d, 1500, 0.08, 3)
    x = torch.from_numpy(X).float()
    kernel = population_tangent_kernel(model, X) if limit else model.tangent_kernel(x).double().numpy()
    step = 1 / np.linalg.eigvalsh(kernel)[-1]
    with torch.no_grad():
        initial = model(x).double().numpy()
    predicted = rd.predict_training(kernel, y, step, initial=initial)
    run = rd.gradient_descent(model, X, y, step=step, epochs=predicted.epochs_to(0.1))
    error = abs(predicted.loss(run.at) / run.loss - 1).max()
    assert error < (0.12 if limit else 0.04)


@pytest.mark.slow
def test_at_width_8192_the_loss_is_the_predicted_one_within_five_per_cent():
    n = d = 50
    rng = np.random.default_rng(0)
    X, y = rd.on_sphere(rng.standard_normal((n, d)), np.sqrt(d)), rng.standard_normal(n)
    model = OverparameterizedDEQ(d, 8192, 0.08, 0, solver=Solver(tolerance=1e-5))
    kernel = population_tangent_kernel(model, X)
    step = 1 / np.linalg.eigvalsh(kernel)[-1]
    with torch.no_grad():
        initial = model(torch.from_numpy(X).float()).double().numpy()
    predicted = rd.predict_training(kernel, y, step, initial=initial)
    run = rd.gradient_descent(model, X, y, step=step, epochs=predicted.epochs_to(0.09), measure_every=10**6)
    decade = run.loss >= 0.1 * run.loss[0]
    assert not decade[-1]
    assert abs(predicted.loss(run.at) / run.loss - 1)[decade].max() < 0.05


def test_a_deq_trained_from_zero_follows_the_spectrum_alone():
    # No kernel is computed, neither of finite nor of infinite width.  The curve of one sample differs by O(p^{-1/2}),
    # that of one network by O(m^{-1/2}): the mean of three, in the first decade.
    from rmtdeq.cli import example_mixture

    deq, gmm, n = rd.DEQ("tanh", 0.2, 0.8), example_mixture(100, 2), 80
    prediction = rd.predict_spectrum(deq, gmm, n, "ntk")
    step = 0.25 / prediction.outliers[-1]
    curve = rd.predict_training(prediction, [-1.0, 1.0], step)
    epochs = curve.epochs_to(0.1)
    losses = []
    for seed in range(3):
        X, labels = gmm.sample(n, seed=seed)
        model = deq.to_regression(100, 1000, seed, tau0_squared=gmm.mean_squared_norm, solver=Solver(tolerance=1e-5))
        run = rd.gradient_descent(model, X, 2.0 * labels - 1, step=step, epochs=epochs, subtract_initial=True)
        losses.append(run.loss)
    np.testing.assert_allclose(curve.loss(np.arange(epochs + 1)), np.mean(losses, axis=0), rtol=0.15)
    assert epochs > 3


@pytest.mark.parametrize("size", [40, 400])
def test_the_spectral_norm_is_that_of_all_singular_values(size):
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((size, size)))
    exact = float(torch.linalg.svdvals(matrix)[0])
    norm, direction = spectral_norm(matrix)
    assert norm == pytest.approx(exact, rel=1e-5)
    assert float((matrix @ torch.from_numpy(direction)).norm()) == pytest.approx(norm, rel=1e-4)
    again, _ = spectral_norm(matrix, direction)
    assert again == pytest.approx(exact, rel=1e-5)
    single, _ = spectral_norm(matrix.float())
    assert single == pytest.approx(exact, rel=1e-4)


def small():
    return OverparameterizedDEQ(3, 5, seed=0).double()


def frozen():
    return small().requires_grad_(False)


X3, Y3 = np.eye(3) * np.sqrt(3), np.ones(3)
BAD = {
    "no implicit network": (lambda: rd.gradient_descent(torch.nn.Linear(3, 1), X3, Y3), "OverparameterizedDEQ"),
    "features only": (lambda: rd.gradient_descent(rd.DEQ("tanh", 0.2, 0.8).to_torch(3, 5), X3, Y3), "DEQModule"),
    "all fixed": (lambda: rd.gradient_descent(frozen(), X3, Y3), "requires_grad"),
    "features": (lambda: rd.gradient_descent(small(), np.ones((3, 4)), Y3), "4 features"),
    "targets": (lambda: rd.gradient_descent(small(), X3, np.ones(2)), "2 targets"),
    "matrix of targets": (lambda: rd.gradient_descent(small(), X3, np.ones((3, 1))), r"y\.ravel"),
    "zero samples": (lambda: rd.gradient_descent(small(), 0 * X3, Y3), "zero"),
    "zero samples, flow": (lambda: rd.gradient_flow(small(), 0 * X3, Y3, 1.0), "zero"),
    "NaN": (lambda: rd.gradient_descent(small(), X3 * np.nan, Y3), "NaN"),
    "epochs": (lambda: rd.gradient_descent(small(), X3, Y3, epochs=-1), "epochs"),
    "step": (lambda: rd.gradient_descent(small(), X3, Y3, step=-1.0), "step"),
    "test": (lambda: rd.gradient_descent(small(), X3, Y3, test=X3), "pair"),
    "test's features": (lambda: rd.gradient_descent(small(), X3, Y3, test=(np.ones((2, 2)), np.ones(2))), "test X"),
    "time": (lambda: rd.gradient_flow(small(), X3, Y3, 0.0), "time"),
    "quantity": (lambda: rd.gradient_descent(small(), X3, Y3, epochs=1).plot(quantity="accuracy"), "quantity"),
    "no test": (lambda: rd.gradient_descent(small(), X3, Y3, epochs=1).plot(quantity="test_loss"), "test="),
}


@pytest.mark.parametrize(("make", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(make, match):
    with pytest.raises(rd.InvalidInputError, match=match):
        make()


def test_models_of_features_are_not_taken_for_networks_with_an_output():
    assert not issubclass(DEQModule, type(small()))
