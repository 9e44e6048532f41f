"""rmtdeq: what a deep equilibrium model does to data, before and during training.

At infinite width a deep equilibrium model is two kernels, the conjugate kernel and the neural tangent kernel.
The package computes them exactly and predicts their spectra on high-dimensional Gaussian mixtures from four
nonlinear equations.

Public names, which ``__init__.pyi`` lists, are imported when first used, so that ``import rmtdeq`` costs no more than
numpy.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import lazy_loader

_NEEDS = dict.fromkeys(
    ("DEQClassifier", "DEQKernel", "DEQRegressor", "load_estimator", "save_estimator"),
    "sklearn",
)
"""Names that an optional library must be there for; they are not in `__all__`, and `import *` does without them."""

_load, _, _names = lazy_loader.attach_stub(__name__, __file__)

__all__ = [name for name in _names if name not in _NEEDS]


def __getattr__(name: str) -> Any:
    if name not in _names:
        raise AttributeError(f"module 'rmtdeq' has no attribute {name!r}")
    return _load(name)


def __dir__() -> list[str]:
    return sorted(name for name in _names if name not in _NEEDS or find_spec(_NEEDS[name]) is not None)
