"""Distributions by stochastic Lanczos quadrature: mass one, and the truth within the bars, whatever is repeated."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmtdeq as rd
from rmtdeq.spectra.christoffel import christoffel
from rmtdeq.spectra.krylov import krylov_plan, krylov_spectrum, random_block
from rmtdeq.spectra.quadrature import SpectralQuadrature

mpl.use("Agg")

DEQ = rd.DEQ("erf", 0.2, 0.8)


def measured(values, top=2, steps=64, block=8, seed=0, single=False):
    """The spectrum of a matrix with given eigenvalues, and those of what is multiplied with."""
    n = len(values)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    A = (basis * values) @ basis.T
    if single:
        A = A.astype(np.float32).astype(float)
        A = (A + A.T) / 2
    size = min(block, n)
    plan = krylov_plan(min(top, n), min(steps, n), size)
    found = krylov_spectrum(lambda V: A @ V, random_block(n, size, seed + 10**6), plan)
    emp = rd.EmpiricalSpectrum(found.eigenvalues, found.vectors, n, "ck", "slq", found.rest)
    return emp, np.maximum(np.linalg.eigvalsh(A), 0.0) if single else np.sort(values)


def random_spectrum(rng):
    """Few values often repeated, multiples of the identity and a low rank, clusters, singular ones, pairs."""
    n = int(rng.choice([1, 2, 3, 5, 8, 12, 20, 50, 100, 200, 300]))
    some = rng.integers(0, n + 1)
    kind = rng.integers(6)
    if kind == 0:
        distinct = rng.gamma(1.0, size=int(rng.integers(1, min(n, 6) + 1)))
        return distinct[rng.integers(0, distinct.size, n)]
    if kind == 1:
        low = min(some, 12)
        return rng.choice([0.0, 1.0, 3.7]) + np.append(10 * rng.gamma(1.0, size=low), np.zeros(n - low))
    if kind == 2:
        values = np.exp(2 * rng.standard_normal(n))
        values[:some] = values[-1]
        return values
    if kind == 3:
        distinct = rng.gamma(2.0, size=int(rng.integers(1, min(n, 5) + 1)))
        spread = 10.0 ** rng.integers(-14, -1)
        return abs(distinct[rng.integers(0, distinct.size, n)] * (1 + 0.3 * spread * rng.standard_normal(n)))
    if kind == 4:
        values = rng.gamma(0.5, size=n)
        values[:some] = 0.0
        return values
    return np.repeat(rng.uniform(0, 5, n), 2)[:n]


def worst(seed):
    """How many of its bars the distribution function is off, at the worst place between eigenvalues."""
    rng = np.random.default_rng(seed)
    values = random_spectrum(rng)
    top, steps, block = int(rng.integers(1, 8)), int(rng.choice([4, 8, 16, 64])), int(rng.choice([1, 2, 4, 8, 16]))
    emp, true = measured(values, top, steps, block, seed, single=rng.random() < 0.25)
    scale = true[-1]
    largest = np.maximum(emp.eigenvalues[-min(top, true.size) :], 0.0)
    np.testing.assert_allclose(largest, true[-top:], rtol=1e-6, atol=1e-9 * scale)
    mass, error = emp.masses([0.0, np.inf])
    assert mass.item() == 1
    assert error.item() == 0
    assert emp.all_values.shape == true.shape
    if emp.rest is not None:
        assert emp.rest.weights.sum() == pytest.approx(1.0, abs=1e-12)
        assert emp.rest.weights.min() >= 0
    x = np.concatenate([rng.uniform(0, 1.1 * scale + 0.1, 40), true * (1 + 1e-3), true * (1 - 1e-3)])
    x = x[abs(x[:, None] - true).min(axis=1) > 1e-5 * scale]
    assert emp.masses(np.unique(np.append(x, [0.0, scale])))[0].sum() == pytest.approx(1.0, abs=1e-12)
    off = abs(emp.cdf(x) - np.searchsorted(true, x, side="right") / true.size)
    return float((off / np.maximum(emp.cdf_error(x), 1e-13)).max(initial=0.0))


@pytest.mark.parametrize("runs", [200, pytest.param(3000, marks=pytest.mark.slow)])
def test_the_truth_is_within_four_bars_everywhere(runs):
    """In 99 of 100 runs, at every place that is tried."""
    assert np.mean([worst(seed) > 4 for seed in range(runs)]) <= 0.01


CASES = {
    "identity": (np.eye(100), {}),
    "every row twice": (np.repeat(np.eye(50), 2, axis=0), {}),
    "all rows equal, one probe": (np.ones((40, 5)) / 3, {"block": 1, "top": 3}),
    "one sample": (np.ones((1, 5)) / 3, {"top": 1}),
    "fewer samples than probes": (np.eye(3), {"top": 3}),
    "three rows": (np.repeat(np.random.default_rng(0).standard_normal((3, 50)) / 7, 40, axis=0), {}),
}


@pytest.mark.filterwarnings("ignore:The samples:UserWarning")
@pytest.mark.parametrize("kind", ["ck", "ntk"])
@pytest.mark.parametrize("name", CASES)
def test_repeated_rows_are_counted(name, kind):
    X, options = CASES[name]
    emp, exact = rd.empirical_spectrum(X, DEQ, kind, method="slq", **options), rd.empirical_spectrum(X, DEQ, kind)
    high = exact.eigenvalues[-1]
    edges = [0.0, 0.5 * high, 2 * high]
    mass, error = emp.masses(edges)
    # All of these end early, with every eigenvalue counted.
    np.testing.assert_array_equal(error, 0.0)
    np.testing.assert_allclose(mass, exact.masses(edges)[0], atol=1e-15)
    np.testing.assert_allclose(emp.all_values, exact.all_values, atol=1e-9 * high)
    assert exact.masses(edges)[0].sum() == 1
    for each in (emp, exact):
        assert np.isfinite(each.density(np.linspace(0, 2 * high, 7))).all()
        assert np.isfinite(each.density([0.0, high], bandwidth=1e-290)).all()
        assert each.plot().get_ylabel().startswith("density")
        np.testing.assert_array_equal(each.cdf([-1.0, 2 * high]), [0, 1])
        np.testing.assert_array_equal(each.cdf_error([-1.0, high]), 0)


def test_the_identity_s_mass_is_where_its_eigenvalue_is():
    emp = rd.empirical_spectrum(np.eye(100), DEQ, method="slq")
    np.testing.assert_array_equal(emp.masses([0, 0.06, 1.0]), [[0, 1], [0, 0]])
    assert emp.complete
    twice = rd.empirical_spectrum(np.repeat(np.eye(50), 2, axis=0), DEQ, method="slq")
    np.testing.assert_array_equal(twice.masses([0, 0.06, 1.0]), [[0.5, 0.5], [0, 0]])


@pytest.mark.parametrize("value", [0.0, 1e-12, 3.0, 1e20])
@pytest.mark.parametrize("n", [1, 7, 100])
def test_multiples_of_the_identity_are_known_exactly(n, value):
    emp, _ = measured(np.full(n, value))
    assert emp.complete
    np.testing.assert_allclose(emp.eigenvalues, value, rtol=1e-12)
    assert np.isfinite(emp.density(np.linspace(0, 2 * value, 5))).all()
    assert emp.density([value]) > 0
    emp.plot()


def test_what_is_not_counted_has_a_bar():
    """Two eigenvalues, each repeated far more often than there are products: a share from probes, with an error."""
    emp, true = measured(np.repeat([1.0, 2.0], [300, 700]), steps=4)
    assert not emp.complete
    mass, error = emp.masses([0.0, 1.5, 3.0])
    assert mass.sum() == 1
    # Of a share f of N eigenvalues, from b probes.
    assert error[0] == pytest.approx(np.sqrt(2 * 0.3 * 0.7 / (8 * 1000)), rel=0.05)
    assert abs(mass[0] - 0.3) < 4 * error[0]
    assert set(np.unique(emp.all_values.round(9))) == {1.0, 2.0}
    assert emp.rest.count == true.size


@pytest.mark.parametrize("method", ["slq", "lanczos"])
@pytest.mark.parametrize("block", [1, 3])
def test_all_copies_of_the_largest_are_found_before_what_is_below(method, block):
    values = np.concatenate([np.linspace(0, 1, 150), [2.0] * 9, [3.0] * 5])
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((164, 164)))[0]
    A = (basis * values) @ basis.T
    plan = krylov_plan(15, 20 if method == "slq" else 0, block)
    found = krylov_spectrum(lambda V: A @ V, random_block(164, block, 0), plan)
    np.testing.assert_allclose(found.eigenvalues[-15:], values[-15:], atol=1e-8)


@pytest.mark.parametrize("copies", [2, 5, 40])
def test_copies_beyond_the_largest_that_were_asked_for_stay_in_the_rest(copies):
    values = np.append(np.linspace(0, 1, 300), np.full(copies, 2.0))
    emp, _ = measured(values, top=3, steps=20)
    mass, error = emp.masses([0.0, 1.5, np.inf])
    assert abs(mass[1] - copies / values.size) <= 4 * error[1]
    np.testing.assert_allclose(emp.eigenvalues, values[-3:], atol=1e-8)


def test_an_eigenspace_on_few_coordinates_is_counted():
    """Probes with entries ±1 see two coordinates alike, or opposite, half of the time."""
    values = np.concatenate([[5.0, 5.0], np.linspace(0, 1, 200)])
    for seed in range(20):
        found = krylov_spectrum(lambda V: values[:, None] * V, random_block(202, 3, seed), krylov_plan(3, 16, 3))
        np.testing.assert_allclose(found.eigenvalues, [1.0, 5.0, 5.0], atol=1e-9)
        assert found.rest.count >= 199


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), degree=st.integers(1, 12))
def test_measures_with_the_same_moments_differ_by_the_christoffel_function_at_most(seed, count, degree):
    """Gauss quadrature against its measure."""
    rng = np.random.default_rng(seed)
    nodes, weights = np.sort(rng.gamma(1.0, size=count)), rng.dirichlet(np.ones(count))
    bound = christoffel(nodes, weights, degree)
    jacobi = np.diag(bound.diagonal) + np.diag(bound.beside, 1) + np.diag(bound.beside, -1)
    gauss, vectors = np.linalg.eigh(jacobi)
    mass = vectors[0] ** 2
    np.testing.assert_allclose(bound(gauss), mass, rtol=1e-5, atol=1e-12)
    x = np.linspace(-0.5, nodes[-1] + 0.5, 200)
    x = x[abs(x[:, None] - np.append(nodes, gauss)).min(axis=1) > 1e-6]
    mine = (weights * (nodes <= x[:, None])).sum(axis=1)
    theirs = (mass * (gauss <= x[:, None])).sum(axis=1)
    assert (abs(mine - theirs) <= bound(x) + 1e-9).all()


def quadrature(rng, resolved):
    """One without gaps: its moments leave everything open."""
    nodes, weights = np.sort(rng.gamma(1.0, size=30)), rng.dirichlet(np.ones(30))
    anything = christoffel(nodes, weights, 1)
    return SpectralQuadrature(nodes, weights, resolved, 100, 4, anything, float(nodes[-1]), 1e-12)


def test_quantiles_invert_the_distribution_function():
    law = quadrature(np.random.default_rng(0), np.zeros(30, dtype=bool))
    levels = np.linspace(0.001, 0.999, 97)
    np.testing.assert_allclose(law.cdf(law.quantiles(levels)), levels, atol=1e-12)
    assert law.cdf(law.nodes[:1] - 1e-9) == 0
    assert law.cdf(law.nodes[-1:]) == 1
    # Within the mass of a group of nodes, on either side of them.
    below = np.cumsum(law.weights) - law.weights
    group = max(law.weights[k : k + 4].sum() for k in range(27))
    assert (abs(law.cdf(law.nodes) - below) <= group + 1e-12).all()


def test_the_distribution_function_jumps_where_nodes_are_eigenvalues():
    rng = np.random.default_rng(0)
    law = quadrature(rng, rng.random(30) < 0.5)
    k = np.flatnonzero(law.resolved[:-1])
    jump = law.cdf(law.nodes[k]) - law.cdf(law.nodes[k] * (1 - 1e-9))
    np.testing.assert_allclose(jump, law.weights[k], atol=1e-6)
    np.testing.assert_allclose(law.cdf(law.nodes[k]), np.cumsum(law.weights)[k], atol=1e-12)
    assert (np.diff(law.cdf(np.linspace(0, law.highest, 1000))) >= 0).all()
    levels = np.linspace(0, 1, 500)
    at = law.quantiles(levels)
    assert (np.diff(at) >= 0).all()
    assert (law.cdf(at * (1 + 1e-12)) >= levels - 1e-9).all()


@pytest.mark.parametrize(
    ("storage", "backend"),
    [
        *((each, "numpy") for each in ("dense", "float32", "matrix-free", "memory-mapped")),
        *((each, "dask") for each in ("dense", "matrix-free")),
    ],
)
def test_operators_of_all_kinds_count_alike(storage, backend, tmp_path):
    X = np.repeat(np.eye(60), 2, axis=0)
    options = {"storage": "auto" if backend == "dask" else storage, "backend": backend}
    emp = rd.empirical_spectrum(X, DEQ, "ntk", method="slq", steps=8, checkpoint=tmp_path / "job", **options)
    again = rd.empirical_spectrum(X, DEQ, "ntk", method="slq", steps=8, checkpoint=tmp_path / "job", **options)
    np.testing.assert_array_equal(again.all_values, emp.all_values)
    middle = emp.eigenvalues[-1] / 2
    mass, error = emp.masses([0.0, middle, np.inf])
    assert mass.sum() == 1
    assert abs(mass[0] - 0.5) <= 4 * error[0]
    assert error[0] > 0 or mass[0] == 0.5
