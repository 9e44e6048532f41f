"""Functions with two derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from rmtdeq._lib.jets import variable

FUNCTIONS = {
    "sums and differences": lambda x, y: 2.0 - x * y + 3.0 * x - y + 1.0,
    "quotients": lambda x, y: x / (x + 0.3) + 2.0 / y - y / 4.0,
    "powers": lambda x, y: x**-0.5 * y**1.5,
    "a function of one": lambda x, y: (x * y) / (x * y),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_differences(name):
    f, h = FUNCTIONS[name], 1e-3
    at = np.array([[0.7, 1.3, 2.0], [1.1, 0.4, 0.9]])
    jet = f(*(variable(at[i], i, 2) for i in range(2)))
    np.testing.assert_allclose(jet.value, f(*at), rtol=1e-15)
    steps = h * np.eye(2)[:, :, None]
    for i, e in enumerate(steps):
        np.testing.assert_allclose(jet.gradient[:, i], (f(*(at + e)) - f(*(at - e))) / (2 * h), rtol=1e-5, atol=1e-5)
        for j, d in enumerate(steps):
            bend = f(*(at + e + d)) - f(*(at + e - d)) - f(*(at - e + d)) + f(*(at - e - d))
            np.testing.assert_allclose(jet.hessian[:, i, j], bend / (4 * h * h), rtol=1e-4, atol=1e-4)


def test_equal_functions_have_the_quotient_one_exactly():
    x = variable(np.linspace(0.1, 7, 50))
    quotient = x / x
    assert (quotient.value == 1).all()
    assert not quotient.gradient.any()
    assert not quotient.hessian.any()
