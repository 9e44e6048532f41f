"""What experiments find is what laws, and other ways to the same numbers, say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models.pcdeq import conv_network, three_block_network
from rmtdeq.papers import Setting, find, published
from rmtdeq.papers.errors import _distance, _what_centring_takes_off
from rmtdeq.papers.read_out import accuracy_of, plain_layers


def found(name: str, **parameters) -> dict[str, float]:
    experiment = find(name)
    outcome = experiment.function(replace(experiment.small, **parameters), Setting())
    return {row.quantity: row for row in outcome.rows}


def test_the_solved_examples_are_met_to_the_digits_given():
    rows = found("solved-examples", p=100)
    printed = [row for row in rows.values() if row.source.startswith("solved example")]
    assert len(printed) == 11
    assert all(abs(row.difference) <= 0.5e-4 for row in printed)
    assert rows["relu: largest relative error of two leaky ReLU layers found here"].found < 1e-10


def test_layer_after_layer_comes_to_the_population_gram_matrix():
    rows = found("population-gram", n=20, p=20, widths=(50, 100), draws=1)
    assert rows["population Gram: an entry's error against layer after layer"].found < 1e-13
    assert rows["infinite width: decay a layer"].found == pytest.approx(0.08, rel=0.1)
    assert all(row.difference == 0 for name, row in rows.items() if name.startswith("width"))


def test_everything_certified_holds():
    rows = found("certificates", n=15, p=15, width=150, epochs=30, classifier_epochs=3)
    asked = {name: row for name, row in rows.items() if "condition" in name}
    certified = {name: row for name, row in rows.items() if name not in asked}
    assert len(asked) == 2
    assert len(certified) == 2 * 4 * 2 + 3 + 2 * 4 * 2
    for name, row in certified.items():
        assert row.difference == 0, name
    # A ReLU lets half of the weights through: radius √(σ_w²), ‖J‖ between that and the norm of W, about 2√(2σ_w²).
    radius = rows["over-parameterised DEQ, before: spectral radius of J"]
    assert radius.found == pytest.approx(0.08**0.5, rel=0.25)
    assert radius.expected == pytest.approx(2 * 0.16**0.5, rel=0.1)


def test_uncentred_covariances_are_the_right_ones():
    gmm = rd.GaussianMixture(np.zeros((1, 500)), [1.0])
    X, y = gmm.sample(400, seed=0)
    deq = rd.DEQ("relu", 0.2, 0.8)
    kernel, equivalent = rd.kernel(X, deq, tau0_squared=1.0), rd.equivalent(X, y, deq, gmm, level="paper")
    other = equivalent - _what_centring_takes_off(deq, gmm, y)
    assert _distance(equivalent, kernel) < 0.5 * _distance(other, kernel)
    exact = np.linalg.norm(other - kernel, 2) / np.linalg.norm(kernel, 2)
    assert _distance(other, kernel) == pytest.approx(exact, rel=1e-5)


def test_the_read_out_is_that_of_torchs_optimiser():
    rng = np.random.default_rng(0)
    Z, Z_test = (torch.from_numpy(rng.standard_normal((size, 6))) for size in (300, 200))
    y, y_test = ((each[:, :3] + 0.5 * each[:, 3:]).argmax(dim=1) for each in (Z, Z_test))
    layer = torch.nn.Linear(6, 3, dtype=torch.float64)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    generator = torch.Generator().manual_seed(4)
    for _ in range(3):
        for rows in torch.randperm(300, generator=generator).split(128):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(Z[rows]), y[rows]).backward()
            optimizer.step()
    wanted = float((layer(Z_test).argmax(dim=1) == y_test).double().mean())
    assert accuracy_of((Z, y), (Z_test, y_test), 4, epochs=3, rate=0.5) == wanted > 0.8


def test_plain_layers_have_no_mean_where_they_stand():
    square = 1.0
    for layer in plain_layers(rd.DEQ("swish", 0.2, 0.8), 3):
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        values = layer(square**0.5 * nodes)
        assert weights @ values == pytest.approx(0, abs=1e-10)
        square = float(weights @ values**2 / weights.sum())


@pytest.mark.parametrize(
    ("dataset", "image"), [("mnist", (1, 28, 28)), ("svhn", (3, 32, 32)), ("cifar10", (3, 32, 32))]
)
def test_networks_have_the_published_sizes(dataset, image):
    for name, make in (("conv", conv_network), ("three-blocks", three_block_network)):
        count = sum(each.numel() for each in make(image).parameters() if each.requires_grad)
        assert count == published.PCDEQ_PARAMETERS[dataset, name]


def test_published_accuracies_have_a_width_each():
    for key, values in published.ACCURACY.items():
        assert len(values) == len(published.ACCURACY_WIDTHS), key
        assert published.accuracy(*key, 4096) == values[-1]
    assert published.accuracy("mnist", "tanh", "DEQ", 33) is None
    assert published.accuracy("mnist", "swish", "DEQ", 32) is None
