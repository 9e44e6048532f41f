"""Training classifiers: it learns, records what it does, and goes on after an interruption to the same bits."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from torch import nn

import rmtdeq as rd
from rmtdeq.models import Solver
from rmtdeq.models.pcdeq import PcDEQLinear, conv_network, linear_network, three_block_network
from rmtdeq.training import course
from rmtdeq.training.augmentation import shifted_and_mirrored

matplotlib.use("Agg")


def digits(n=None):
    """The UCI digits, standardised: training and test samples."""
    pixels, y = rd.load_dataset("digits", raw=True)
    X = (pixels.astype(np.float32) - 4.9) / 6.0
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[300:][:n], order[:300]
    return X[train], y[train], (X[test], y[test])


def network(seed=0, **layer):
    """A small network with an equilibrium and a dropout layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(64, 20),
            nn.BatchNorm1d(20),
            PcDEQLinear(20, seed=seed, **layer),
            nn.Dropout(0.2),
            nn.Linear(20, 10),
        )


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("activation", ["tanh", "softsign", "relu6", "sigmoid"])
@pytest.mark.parametrize("positivity", ["absolute", "clamp"])
def test_digits_are_learnt(activation, positivity):
    X, y, test = digits()
    model = linear_network(64, 30, seed=0, activation=activation, positivity=positivity)
    run = rd.train_classifier(model, X, y, test=test, epochs=12, step=5e-3, milestones=[9])
    # Of 300 test samples at least 283; the networks get 290 and more right.
    assert run.test_accuracy[-1] > 0.94
    assert run.accuracy[-1] > 0.97
    assert (np.diff(run.loss[[0, 3, 11]]) < 0).all()
    model.eval()
    with torch.no_grad():
        right = (model(torch.from_numpy(test[0])).argmax(dim=1).numpy() == test[1]).mean()
    assert run.test_accuracy[-1] == pytest.approx(right, abs=1e-12)
    assert run.layers == ("3",)
    assert run.iterations.shape == run.adjoint_iterations.shape == (12, 1)
    assert (run.iterations > 1).all()
    assert (run.iterations < 40).all()


def test_a_step_is_adamw_on_the_cross_entropy():
    X, y, _ = digits(40)
    ours, theirs = network(), network()
    theirs[3].p = ours[3].p = 0.0
    run = rd.train_classifier(ours, X, y, epochs=3, batch=15, step=0.01, weight_decay=0.1, milestones=[2], seed=5)
    rule = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    losses = []
    for epoch in range(3):
        rule.param_groups[0]["lr"] = 0.01 if epoch < 2 else 0.001
        order = np.random.default_rng([5, epoch]).permutation(40)
        total = 0.0
        for rows in np.split(order, [15, 30]):
            rule.zero_grad()
            loss = nn.functional.cross_entropy(theirs(torch.from_numpy(X[rows])), torch.from_numpy(y[rows]))
            loss.backward()
            rule.step()
            total += float(loss.detach()) * len(rows)
        losses.append(total / 40)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert run.loss == pytest.approx(losses, rel=1e-5)
    assert run.test_accuracy is None


@pytest.mark.parametrize("interrupted", [1, 7, 15, 16, 40])
def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path, monkeypatch, interrupted):
    X, y, test = digits(310)
    options = {"test": test, "epochs": 3, "batch": 20, "step": 0.01, "milestones": [2], "seed": 3}
    whole = network()
    expected = rd.train_classifier(whole, X, y, **options)
    monkeypatch.setattr(course, "_SAVE_EVERY", 0.0)
    real, count = course.Course._learn, [0]

    def failing(self, *given):
        if count[0] == interrupted:
            raise KeyboardInterrupt
        count[0] += 1
        return real(self, *given)

    monkeypatch.setattr(course.Course, "_learn", failing)
    with pytest.raises(KeyboardInterrupt) as caught:
        rd.train_classifier(network(), X, y, checkpoint=tmp_path, **options)
    kept = (tmp_path / "last.pt").exists()
    assert ("kept in" if kept else "too short") in caught.value.__notes__[0]
    monkeypatch.setattr(course.Course, "_learn", real)
    model = network()
    found = rd.train_classifier(model, X, y, checkpoint=tmp_path, **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    for name in ("loss", "accuracy", "test_accuracy", "iterations", "adjoint_iterations"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    again = rd.train_classifier(network(), X, y, checkpoint=tmp_path, **options)
    assert np.array_equal(again.loss, expected.loss)
    longer = rd.train_classifier(network(), X, y, checkpoint=tmp_path, **{**options, "epochs": 4})
    assert np.array_equal(longer.loss[:3], expected.loss)
    with pytest.raises(rd.InvalidInputError, match="step"):
        rd.train_classifier(network(), X, y, checkpoint=tmp_path, **{**options, "step": 0.02})
    with pytest.raises(rd.InvalidInputError, match="equilibria"):
        rd.train_classifier(network(solver=Solver(tolerance=1e-6)), X, y, checkpoint=tmp_path, **options)
    with pytest.raises(rd.InvalidInputError, match="equilibria"):
        rd.train_classifier(network(positivity="clamp"), X, y, checkpoint=tmp_path, **options)
    with pytest.raises(rd.InvalidInputError, match="4 epochs already, more than the 3"):
        rd.train_classifier(network(), X, y, checkpoint=tmp_path, **options)
    with pytest.raises(rd.InvalidInputError, match="checksum"):
        rd.train_classifier(network(1), X, y, checkpoint=tmp_path, **options)


def test_torch_random_numbers_are_left_alone():
    X, y, _ = digits(60)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        model = network()
        torch.rand(noise)
        runs.append(rd.train_classifier(model, X, y, epochs=2).loss)
    assert np.array_equal(*runs)
    torch.set_rng_state(before)
    rd.train_classifier(network(), X, y, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("network", [conv_network, three_block_network])
def test_images_are_learnt_from_with_augmentation_and_mixed_precision(network):
    X, y, _ = digits(200)
    images = X.reshape(-1, 1, 8, 8)
    losses = {}
    for precision in ("float32", "bfloat16"):
        model = network((1, 8, 8), 6 if network is conv_network else (4, 5, 6), seed=0)
        run = rd.train_classifier(model, images, y, epochs=4, step=0.02, precision=precision, augment=True)
        assert run.loss[-1] < run.loss[0]
        losses[precision] = run.loss
        assert all(value.dtype == torch.float32 for value in model.parameters())
    # Different, so that the option has an effect; alike, so that it has no other.
    assert not np.array_equal(losses["float32"], losses["bfloat16"])
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.1)


def test_images_are_shifted_and_mirrored():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((60, 2, 12, 10)) + 1)
    found = shifted_and_mirrored(x, np.random.default_rng(1))
    seen = set()
    for image, moved in zip(x, found, strict=True):
        padded = torch.nn.functional.pad(image, (4, 4, 4, 4))
        matches = [
            (down, right, mirrored)
            for down in range(9)
            for right in range(9)
            for mirrored in (False, True)
            for window in [padded[:, down : down + 12, right : right + 10]]
            if torch.equal(window.flip(2) if mirrored else window, moved)
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {each[0] for each in seen} == {each[1] for each in seen} == set(range(9))
    assert {each[2] for each in seen} == {False, True}


def test_a_run_tells_of_itself():
    X, y, test = digits(100)
    model = linear_network(64, 12, seed=0)
    run = rd.train_classifier(model, X, y, test=test, epochs=2)
    assert f"{sum(value.numel() for value in model.parameters()):,} parameters" in run.summary()
    assert "for the gradient" in run.summary()
    assert "PcDEQLinear(12, tanh), 2 epochs, test" in repr(run)
    for quantity in ("test_accuracy", "accuracy", "loss", "iterations", "adjoint_iterations"):
        ax = run.plot(quantity=quantity)
        assert len(ax.lines[0].get_xdata()) == 2
        assert ax.get_ylabel()
    with pytest.raises(rd.InvalidInputError, match="quantity"):
        run.plot(quantity="speed")
    with pytest.raises(rd.InvalidInputError, match="No test samples"):
        rd.train_classifier(model, X, y, epochs=1).plot()
    none = rd.train_classifier(model, X, y, test=test, epochs=0)
    assert none.epochs == 0
    assert "0 epochs" in none.summary() + repr(none)


def test_models_without_equilibria_are_trained_too():
    X, y, test = digits()
    run = rd.train_classifier(nn.Linear(64, 10), X, y, test=test, epochs=8, step=0.02)
    assert run.test_accuracy[-1] > 0.9
    assert run.iterations.shape == (8, 0)
    assert "Linear" in run.summary()


X, Y, _ = digits(30)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X": X[:, :63]}, r"does not take inputs of shape \(n, 63\)"),
        ({"X": X[:0]}, "one sample a row"),
        ({"X": np.full_like(X, np.nan)}, "NaN"),
        ({"y": Y[:-1]}, "one label for each"),
        ({"y": Y + 0.5}, "integer"),
        ({"y": Y + 5}, "K above every label.*return_inverse=True"),
        ({"y": -Y}, "labels"),
        ({"test": X}, "test must be a pair"),
        ({"test": (X[:, :3], Y)}, "does not take"),
        ({"test": (X, Y + 9)}, "K above"),
        ({"test": (X, Y[:3])}, "one label for each"),
        ({"model": rd.DEQ("tanh", 0.2, 0.8)}, "torch module"),
        ({"model": nn.Identity()}, "with parameters"),
        ({"model": nn.Linear(64, 10).requires_grad_(False)}, "No parameter"),
        ({"epochs": -1}, "epochs"),
        ({"batch": 1}, "batch"),
        ({"X": X[:1], "y": Y[:1]}, "one sample"),
        ({"step": 0}, "step"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"milestones": [0.5]}, "milestone"),
        ({"milestones": 7}, "milestones"),
        ({"precision": "float8"}, "precision"),
        ({"augment": True}, "images"),
        ({"seed": -1}, "seed"),
        ({"seed": None}, "seed"),
        ({"checkpoint": 3}, "checkpoint"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    arguments = {"model": network(), "X": X, "y": Y, "epochs": 1, **given}
    with pytest.raises(rd.InvalidInputError, match=message):
        rd.train_classifier(**arguments)


def test_a_diverging_training_says_so():
    with pytest.raises(rd.ConvergenceError, match=r"epoch 1: the loss is .*smaller step"):
        rd.train_classifier(nn.Linear(64, 10), 1e30 * X, Y, epochs=3, batch=5, step=1e6)
    model = network()
    with torch.no_grad():
        model[2].recurrent.parametrizations.weight.original0[0] = float("nan")
    with pytest.raises(rd.RmtdeqError, match="NaN"):
        rd.train_classifier(model, X, Y, epochs=1)


@pytest.mark.filterwarnings("ignore:.*GradScaler")
def test_half_precision_with_loss_scaling_learns(tmp_path):
    X, y, _ = digits(300)
    options = {"epochs": 12, "step": 0.01, "precision": "float16"}
    model = network()
    run = rd.train_classifier(model, X, y, checkpoint=tmp_path, **options)
    assert run.loss[-1] < 0.5 * run.loss[0]
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    assert np.array_equal(rd.train_classifier(network(), X, y, checkpoint=tmp_path, **options).loss, run.loss)


def test_the_learning_rate_by_its_old_name_is_the_same_and_said_to_go():
    X, y, _ = rd.load_classification("digits", n=40, test=0, seed=0)
    losses = []
    for keywords in ({"step": 0.01}, {"rate": 0.01}):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        if "rate" in keywords:
            with pytest.warns(DeprecationWarning, match=r"train_classifier\(step="):
                run = rd.train_classifier(model, X, y, epochs=2, **keywords)
        else:
            run = rd.train_classifier(model, X, y, epochs=2, **keywords)
        losses.append(run.loss)
    np.testing.assert_array_equal(*losses)
