"""Activations on tensors are those on arrays."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import TorchActivation

U = np.linspace(-6, 6, 241) + 1e-3


def test_every_registered_activation_is_the_same_on_tensors(registered_names):
    for spec in registered_names:
        for phi in (rd.activation(spec), rd.activation(spec).minus(0.25)):
            module = TorchActivation(phi)
            np.testing.assert_allclose(module(torch.from_numpy(U)).numpy(), phi(U), atol=1e-13, err_msg=spec)
            single = module(torch.from_numpy(U).float())
            assert single.dtype == torch.float32
            np.testing.assert_allclose(single.numpy(), phi(U), rtol=1e-5, atol=1e-4, err_msg=spec)


@pytest.mark.parametrize("slopes", [(1.2, -0.3), (-0.7, 0.2), (0.0, 1.0), (0.0, -1.0)])
def test_two_slopes_of_either_sign(slopes):
    phi = rd.activation("two_slopes", *slopes)
    np.testing.assert_allclose(TorchActivation(phi)(torch.from_numpy(U)).numpy(), phi(U), atol=1e-14)


def test_gradients_are_the_slopes(registered_spec, slope_of):
    u = torch.from_numpy(U).requires_grad_()
    (found,) = torch.autograd.grad(TorchActivation(rd.activation(registered_spec))(u).sum(), u)
    np.testing.assert_allclose(found.numpy(), slope_of(registered_spec)(U), atol=1e-12)


def test_modules_can_be_pickled_and_say_what_they_are():
    module = TorchActivation(rd.activation("hard_tanh", 0.7643, 1.1965).minus(0.5))
    assert repr(pickle.loads(pickle.dumps(module))) == repr(module)
    assert "hard_tanh(0.7643, 1.1965), shift=0.5" in repr(module)


def test_a_callable_needs_its_function_on_tensors():
    phi = rd.activation(lambda u: np.tanh(u) + 0.1 * u)
    with pytest.raises(rd.InvalidInputError, match="torch_activation=torch"):
        TorchActivation(phi)
    with pytest.raises(rd.InvalidInputError, match="another function"):
        TorchActivation(phi, torch.sin)
    with pytest.raises(rd.InvalidInputError, match="entrywise"):
        TorchActivation(phi, torch.sum)
    same = TorchActivation(phi, lambda u: torch.tanh(u) + 0.1 * u)
    np.testing.assert_allclose(same(torch.from_numpy(U)).numpy(), phi(U), atol=1e-14)
