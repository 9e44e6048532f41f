"""The mixture equations' solution: that it solves them, its derivative, and sampled resolvents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmtdeq.theory.rmt import resolvent_diagonal
from rmtdeq.theory.rmt.resolvent import LineResolvent, resolvent_derivative

P = 6


@pytest.fixture(params=["one law", "class-wise", "surplus samples"])
def model(request, gram_model):
    """Return three kinds of mixture: one direction, several, and a class with more samples than features."""
    covariances = [np.array(1.0), np.linspace(0.2, 3.0, P), np.repeat([0.0, 4.0], P // 2)]
    if request.param == "one law":
        return gram_model(covariances, [0.3, 0.1, 0.8], means=np.zeros((3, P)))
    ratios = [0.3, 0.1, 0.8] if request.param == "class-wise" else [0.3, 0.1, 3.0]
    gram = [[2.0, 1.0, -0.4], [1.0, 1.5, 0.3], [-0.4, 0.3, 1.0]]
    return gram_model(covariances, ratios, means=np.zeros((3, P)), gram=gram, shifts=[0.1, 0.7, -0.3])


def mixture_equations(model, z, q):
    """Return q_a (λ_a - z + tr[(s_a s_aᵀ ⊗ C_a) R̄]/p) - 1 with R̄ inverted as one matrix."""
    s, weight = model.factors, model.covariances.multiplicities / model.covariances.dimension
    result = np.empty_like(q)
    for i in range(z.size):
        for a in range(q.shape[1]):
            trace = 0
            for d, share in zip(model.covariances.eigenvalues, weight, strict=True):
                block = np.eye(s.shape[1]) + np.einsum("b,bi,bj->ij", model.ratios * q[i] * d, s, s)
                trace += share * d[a] * (s[a] @ np.linalg.solve(block, s[a]))
            result[i, a] = q[i, a] * (model.shifts[a] - z[i] + trace) - 1
    return result


@pytest.mark.parametrize("height", [1e-8, 1e-3, 1.0, 100.0])
def test_the_solution_solves_the_mixture_equations(model, height):
    z = np.linspace(-2.0, 15.0, 23) + 1j * height
    q = resolvent_diagonal(model, z)
    assert abs(mixture_equations(model, z, q)).max() < 1e-8
    assert (q.imag > 0).all()


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_at_the_shift_of_a_class_with_surplus_samples_the_equations_are_solved(gram_model, seed):
    # There q_a grows without bound as z nears the real line: mass_a/(λ_a - z).
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((3, 3))
    shifts = rng.uniform(-1, 1, 3)
    covariances = rng.uniform(0.1, 5.0, (3, P))
    model = gram_model(covariances, [0.3, 0.5, 3.0], gram=factors @ factors.T, shifts=shifts)
    z = shifts[2] + 1j * np.geomspace(1e-14, 1.0, 8)
    q = resolvent_diagonal(model, z)
    surplus = 1 - 1 / 3.0
    assert q[0, 2] == pytest.approx(surplus / (shifts[2] - z[0]), rel=1e-4)


def test_points_on_a_line_have_the_solutions_of_points_alone(model):
    line = LineResolvent(model)
    for x in (np.linspace(-2, 12, 40), np.linspace(-1, 11, 57), np.array([0.1, 0.7, -0.3])):
        z = x + 1e-7j
        np.testing.assert_allclose(line(z), resolvent_diagonal(model, z), rtol=1e-7, atol=1e-9)


def test_the_derivative_is_that_of_the_solution(model):
    z, step = np.array([-1.5 + 0.01j, 0.5 + 0.3j, 2 + 0.2j, 30 + 1e-3j]), 1e-5
    change = (resolvent_diagonal(model, z + step) - resolvent_diagonal(model, z - step)) / (2 * step)
    derivative = resolvent_derivative(model, z, resolvent_diagonal(model, z))
    np.testing.assert_allclose(derivative, change, rtol=1e-5, atol=1e-8)


def test_the_traces_jacobian_is_that_of_the_traces(model):
    q = np.array([[0.3 + 0.2j, -0.1 + 0.5j, 0.2 + 0.1j]])
    _, jacobian = model.traces(q)
    for b in range(3):
        step = np.zeros(3)
        step[b] = 1e-6
        change = (model.traces(q + step)[0] - model.traces(q - step)[0]) / 2e-6
        np.testing.assert_allclose(jacobian[0, :, b], change[0], rtol=1e-6, atol=1e-9)


def test_sampled_resolvents_have_the_predicted_diagonals(sampler):
    p, sizes = 300, np.array([90, 150])
    gram, shifts = np.array([[2.0, 0.8], [0.8, 1.0]]), np.array([0.0, 0.5])
    drawn = sampler([np.linspace(0.2, 2, p), np.ones(p)], sizes / p, gram=gram, shifts=shifts)
    z = np.array([1 + 1j, 3 + 1j, -1 + 0.5j, 6 + 2j])
    seeds = 4
    measured = np.zeros((z.size, 2), dtype=complex)
    for seed in range(seeds):
        values, vectors = np.linalg.eigh(drawn.draw(seed))
        split = np.split(vectors**2, np.cumsum(sizes)[:1])
        measured += np.array([[(part.mean(axis=0) / (values - at)).sum() for part in split] for at in z]) / seeds
    # A Lipschitz function of Gaussians: ∂/∂W of tr_a Q/n_a has Frobenius norm ≤ 2‖S‖^½ max|λ^½/(λ - z)²|/√n_a, at
    # most 2√2.5·√8·4/√90 times the entries' deviation √2/√p: below 0.16; eight deviations of a mean over four
    # seeds are out of reach (probability < 1e-12).  As that bound is crude, the test asks for a twentieth of it:
    # deviations seen are 2e-3, and the bias is O(1/n).
    np.testing.assert_allclose(measured, resolvent_diagonal(drawn.model, z), atol=0.012)


def test_a_sampled_stieltjes_transform_is_the_predicted_one(sampler):
    n = p = 250
    drawn = sampler([np.ones(p)], [1.0])
    z = 0.5 + 1j
    seeds = 4
    measured = np.mean([np.mean(1 / (np.linalg.eigvalsh(drawn.draw(seed)) - z)) for seed in range(seeds)])
    # ‖∂m/∂W‖ ≤ 2 max √λ/|λ - z|²/√n < 2·1.1/√n and entries of variance 1/p: by Gaussian concentration the real and
    # the imaginary part are each within t of their means but for a probability 2 exp(-seeds·n·p·t²/(2·2.2²)), which
    # is below 1e-8 at t = 6·2.2/(n√seeds).  The bias is O(1/n), here less than 1/n.
    bound = 6 * 2.2 / (n * np.sqrt(seeds)) + 1 / n
    predicted = resolvent_diagonal(drawn.model, np.array([z]))[0, 0]
    assert abs((measured - predicted).real) < bound
    assert abs((measured - predicted).imag) < bound
