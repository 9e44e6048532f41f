"""Names for the array types that cross module borders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
ComplexArray: TypeAlias = NDArray[np.complexfloating[Any, Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.integer[Any]]
Function: TypeAlias = Callable[[Any], Any]
"""A vectorised function of one real variable: an array in, an array of the same shape out."""

Seed: TypeAlias = int | np.random.Generator | None
Kind: TypeAlias = Literal["ck", "ntk", "ntk-full"]

KINDS: tuple[Kind, ...] = ("ck", "ntk", "ntk-full")
"""The kernels: conjugate; neural tangent with the input weights fixed; the same with all weights trained."""

Recurrent: TypeAlias = Literal["gaussian", "orthogonal"]

RECURRENT: tuple[Recurrent, ...] = ("gaussian", "orthogonal")
"""Recurrent weights: independent N(0, 1) entries; √m times an orthogonal matrix of Haar measure."""

CLASSWISE = "classwise"
"""The level of equivalents that is taken unless another is asked for."""

LEVELS: tuple[str, ...] = (CLASSWISE, "paper")
"""Of the equivalents: second order around each pair of classes; first order around one point for all."""

SAMPLED = "polynomial"
"""The level of predictions from samples that are not measured."""

AUTO = "auto"
"""What leaves the choice of the level to the package."""
