"""Families of activations: their constants against quadrature of the activations that they build."""

from __future__ import annotations

import numpy as np
import pytest

from rmtdeq.activations import moments
from rmtdeq.designs.families import FAMILIES
from rmtdeq.designs.recursion import moments_of_layer, moments_of_member


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("threshold", [0.3, 1.1])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_moments_in_closed_form_are_those_of_the_activation(family, threshold, tau):
    basis = family.basis(threshold)
    c = np.array([0.8, 0.5 * basis.even, -0.3 * basis.free])
    layer = basis.member(c, tau)
    closed, measured = moments_of_member(basis, c, tau), moments_of_layer(layer, tau)
    for name, value in vars(closed).items():
        assert value == pytest.approx(getattr(measured, name), rel=1e-11, abs=1e-13), name


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_members_have_no_mean(family):
    basis = family.basis(0.7)
    c = np.array([0.8, 0.5 * basis.even, -0.3 * basis.free])
    assert moments(basis.member(c, 1.3), 1.3).mean == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_only_families_that_jump_have_no_tangent_kernel(family):
    assert np.isfinite(family.basis(0.7).slopes).all() == family.differentiable
