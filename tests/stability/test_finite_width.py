"""Networks of finite width: steps, rates and singular values, in the mean of many and in their scatter."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.stability.growth import growth, growth_scatter
from rmtdeq.stability.scatter import outermost

WIDTH, DRAWS = 150, 60
TOLERANCES = (1e-2, 1e-4, 1e-8)


@cache
def half_way(name, share, recurrent="gaussian"):
    """A DEQ at a share of the largest σ_a² at squared norm 1, what is foretold, and networks of it."""
    limit = rd.diagnose(rd.DEQ(name, 0.1, 0.8, centered=False), 1.0).limit
    deq = rd.DEQ(name, share * limit, 0.8, centered=False)
    return rd.diagnose(deq, 1.0, recurrent=recurrent), [run(deq, seed, recurrent) for seed in range(DRAWS)]


def run(deq, seed, recurrent):
    """Steps to the tolerances, the rate and the smallest singular value of one network."""
    layer = deq.layers[0]
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((WIDTH, WIDTH))
    if recurrent == "orthogonal":
        Q, R = np.linalg.qr(A)
        A = np.sqrt(WIDTH) * Q * np.sign(np.diag(R))
    J = np.sqrt(layer.sigma_a2 / WIDTH) * A
    b = np.sqrt(layer.sigma_b2 / WIDTH) * rng.standard_normal(WIDTH)
    z, changes, root = np.zeros(WIDTH), [], np.sqrt(WIDTH)
    while not changes or changes[-1] > 1e-10:
        u = J @ z + b
        image = layer.activation(root * u) / root
        changes.append(np.linalg.norm(image - z) / np.linalg.norm(image))
        z = image
    changes = np.array(changes)
    last = len(changes) - 1
    slopes = layer.activation.slope(root * u)
    return [
        *(1 + int((changes <= at).argmax()) for at in TOLERANCES),
        (changes[last] / changes[last // 2]) ** (1 / (last - last // 2)),
        np.linalg.svd(np.eye(WIDTH) - slopes[:, None] * J, compute_uv=False)[-1],
    ]


CASES = [("tanh", 0.3, "gaussian"), ("relu", 0.5, "gaussian"), ("swish", 0.5, "orthogonal")]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_means_and_scatter_of_networks_are_foretold(case):
    law, networks = half_way(*case)
    means, scatter = np.mean(networks, axis=0), np.std(networks, axis=0)
    error = scatter / np.sqrt(DRAWS)
    told = [*(law.iterations_at(at, WIDTH)[0] for at in TOLERANCES), law.rate_at(WIDTH)[0]]
    told = np.array([*told, law.smallest_singular_value_at(WIDTH)[0]])
    # The first order in the width, and the means' own error.
    assert (abs(told - means) < 0.025 * means + 2 * error).all()
    assert law.iterations_scatter_at(1e-8, WIDTH)[0] == pytest.approx(scatter[2], rel=0.3)
    assert law.rate_scatter_at(WIDTH)[0] * means[3] == pytest.approx(scatter[3], rel=0.3)
    assert law.smallest_singular_value_scatter_at(WIDTH)[0] * means[4] == pytest.approx(scatter[4], rel=0.3)
    # What infinite width says of them is off by more, and by more than chance.
    infinite = np.array([*(law.iterations(at)[0] for at in TOLERANCES), law.rate[0], law.smallest_singular_value[0]])
    assert (abs(infinite - means)[2:] > np.maximum(1.5 * abs(told - means), 2 * error)[2:]).all()


def test_powers_of_matrices_grow_so():
    m, draws = 100, 150
    rng = np.random.default_rng(0)
    found = np.zeros((60, draws))
    for draw in range(draws):
        A, v = rng.standard_normal((m, m)) / np.sqrt(m), rng.standard_normal((m, 4))
        for k in range(60):
            first, v = np.linalg.norm(v, axis=0), A @ v
            found[k, draw] = np.log(np.linalg.norm(v, axis=0) / first).mean()
    logs = np.cumsum(found, axis=0)
    k = np.arange(1.0, 61)
    assert (abs(logs.mean(axis=1) - growth(k, m)) < 0.02 + 3 * logs.std(axis=1) / np.sqrt(draws)).all()
    np.testing.assert_allclose(logs.std(axis=1)[19:], growth_scatter(k, m)[19:], rtol=0.25)


def test_growth_begins_with_the_second_moment_and_ends_with_the_outermost_eigenvalue():
    m = 1e8
    x = np.array([0.05, 0.1, 0.2])
    np.testing.assert_allclose(growth(x * 1e4, m) + x / 2e4, x**4 / 48, rtol=2e-3)
    late = growth(np.array([5e7, 6e7]), m)
    assert np.diff(late)[0] / 1e7 == pytest.approx(np.log1p(outermost(m)[0]), rel=1e-3)


def test_infinite_width_is_the_limit_of_finite_width():
    law = rd.diagnose(rd.DEQ("tanh", 1.0, 0.8), [0.5, 1.0, 2.0])
    wide = 10**14
    for tolerance in TOLERANCES:
        np.testing.assert_array_equal(law.iterations_at(tolerance, wide), law.iterations(tolerance))
        np.testing.assert_array_equal(law.iterations_scatter_at(tolerance, wide), 0)
    np.testing.assert_allclose(law.rate_at(wide), law.rate, rtol=1e-3)  # of a finite number of steps
    np.testing.assert_allclose(law.smallest_singular_value_at(wide), law.smallest_singular_value, rtol=1e-6)
    assert (law.resting_at(wide) == 1).all()


def test_near_the_limit_some_networks_rest_and_others_do_not():
    law = rd.diagnose(rd.DEQ("relu", 1.9, 0.8, centered=False), 1.0)
    shares = [float(law.resting_at(m)[0]) for m in (100, 1000, 10_000, 100_000)]
    assert shares == sorted(shares)
    assert shares[0] < 0.5 < 0.99 < shares[-1]
    assert np.isfinite(law.iterations_at(1e-6, 100)).all()
    assert law.iterations_scatter_at(1e-6, 100)[0] > law.iterations_scatter_at(1e-6, 10_000)[0]
    assert rd.diagnose(rd.DEQ("tanh", 4.0, 0.8), 1.0).resting_at(10**6)[0] == 0


def test_what_comes_to_rest_nowhere_is_said():
    wild = rd.diagnose(rd.DEQ("tanh", 4.0, 0.8), 1.0)
    for count in (wild.iterations_at, wild.iterations_scatter_at):
        with pytest.raises(rd.IllPosedError, match="does not come to rest"):
            count(1e-3, 1000)
    assert wild.rate_at(1000)[0] > 1
    tame = rd.diagnose(rd.DEQ("tanh", 0.5, 0.8), 1.0)
    with pytest.raises(rd.InvalidInputError, match="width"):
        tame.rate_at(0)
    with pytest.raises(rd.InvalidInputError, match="tolerance"):
        tame.iterations_at(0, 100)
