"""rmtdeq: what a deep equilibrium model does to data, before and during training.

At infinite width a deep equilibrium model is two kernels, the conjugate kernel and the neural tangent kernel.
The package computes them exactly and predicts their spectra on high-dimensional Gaussian mixtures from four
nonlinear equations.

Public names are imported when first used, so that ``import rmtdeq`` costs no more than numpy.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rmtdeq._version import __version__

_HOME = {
    "Activation": "rmtdeq.activations",
    "activation": "rmtdeq.activations",
    "activation_names": "rmtdeq.activations",
    "DEQ": "rmtdeq.network",
    "Layer": "rmtdeq.network",
    "Network": "rmtdeq.network",
    "DEQKernel": "rmtdeq.sklearn",
    "DesignStatus": "rmtdeq.designs",
    "ExplicitNetwork": "rmtdeq.designs",
    "KernelComparison": "rmtdeq.designs",
    "compare_kernels": "rmtdeq.designs",
    "design": "rmtdeq.designs",
    "Coefficients": "rmtdeq.theory",
    "SpectrumPrediction": "rmtdeq.theory",
    "equivalent": "rmtdeq.theory",
    "equivalent_operator": "rmtdeq.theory",
    "predict_spectrum": "rmtdeq.theory",
    "solve": "rmtdeq.theory",
    "GaussianMixture": "rmtdeq.data",
    "center_and_scale": "rmtdeq.data",
    "dataset_names": "rmtdeq.data",
    "load_classification": "rmtdeq.data",
    "load_dataset": "rmtdeq.data",
    "on_sphere": "rmtdeq.data",
    "finite_width_kernel": "rmtdeq.kernels",
    "kernel": "rmtdeq.kernels",
    "kernel_operator": "rmtdeq.kernels",
    "sample_features": "rmtdeq.kernels",
    "EmpiricalSpectrum": "rmtdeq.spectra",
    "SpectrumComparison": "rmtdeq.spectra",
    "compare": "rmtdeq.spectra",
    "empirical_spectrum": "rmtdeq.spectra",
    "ClassificationRun": "rmtdeq.curves",
    "InitialCondition": "rmtdeq.training",
    "LossCurve": "rmtdeq.curves",
    "TrainingRun": "rmtdeq.curves",
    "check_initial_condition": "rmtdeq.training",
    "gradient_descent": "rmtdeq.training",
    "gradient_flow": "rmtdeq.training",
    "predict_training": "rmtdeq.curves",
    "train_classifier": "rmtdeq.training",
    "Section": "rmtdeq.output.report",
    "write_report": "rmtdeq.output.report",
    "ClusterError": "rmtdeq._lib.errors",
    "ConvergenceError": "rmtdeq._lib.errors",
    "DataNotFoundError": "rmtdeq._lib.errors",
    "IllPosedError": "rmtdeq._lib.errors",
    "InvalidInputError": "rmtdeq._lib.errors",
    "MemoryLimitError": "rmtdeq._lib.errors",
    "MissingDependencyError": "rmtdeq._lib.errors",
    "RmtdeqError": "rmtdeq._lib.errors",
}

_NEEDS = {"DEQKernel": "sklearn"}
"""Names that an optional library must be there for; they are not in `__all__`, and `import *` does without them."""

__all__ = [
    "DEQ",
    "Activation",
    "ClassificationRun",
    "ClusterError",
    "Coefficients",
    "ConvergenceError",
    "DataNotFoundError",
    "DesignStatus",
    "EmpiricalSpectrum",
    "ExplicitNetwork",
    "GaussianMixture",
    "IllPosedError",
    "InitialCondition",
    "InvalidInputError",
    "KernelComparison",
    "Layer",
    "LossCurve",
    "MemoryLimitError",
    "MissingDependencyError",
    "Network",
    "RmtdeqError",
    "Section",
    "SpectrumComparison",
    "SpectrumPrediction",
    "TrainingRun",
    "__version__",
    "activation",
    "activation_names",
    "center_and_scale",
    "check_initial_condition",
    "compare",
    "compare_kernels",
    "dataset_names",
    "design",
    "empirical_spectrum",
    "equivalent",
    "equivalent_operator",
    "finite_width_kernel",
    "gradient_descent",
    "gradient_flow",
    "kernel",
    "kernel_operator",
    "load_classification",
    "load_dataset",
    "on_sphere",
    "predict_spectrum",
    "predict_training",
    "sample_features",
    "solve",
    "train_classifier",
    "write_report",
]

if TYPE_CHECKING:
    from rmtdeq._lib.errors import (
        ClusterError,
        ConvergenceError,
        DataNotFoundError,
        IllPosedError,
        InvalidInputError,
        MemoryLimitError,
        MissingDependencyError,
        RmtdeqError,
    )
    from rmtdeq.activations import Activation, activation, activation_names
    from rmtdeq.curves import ClassificationRun, LossCurve, TrainingRun, predict_training
    from rmtdeq.data import (
        GaussianMixture,
        center_and_scale,
        dataset_names,
        load_classification,
        load_dataset,
        on_sphere,
    )
    from rmtdeq.designs import DesignStatus, ExplicitNetwork, KernelComparison, compare_kernels, design
    from rmtdeq.kernels import finite_width_kernel, kernel, kernel_operator, sample_features
    from rmtdeq.network import DEQ, Layer, Network
    from rmtdeq.output.report import Section, write_report
    from rmtdeq.sklearn import DEQKernel  # noqa: F401
    from rmtdeq.spectra import EmpiricalSpectrum, SpectrumComparison, compare, empirical_spectrum
    from rmtdeq.theory import (
        Coefficients,
        SpectrumPrediction,
        equivalent,
        equivalent_operator,
        predict_spectrum,
        solve,
    )
    from rmtdeq.training import (
        InitialCondition,
        check_initial_condition,
        gradient_descent,
        gradient_flow,
        train_classifier,
    )


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rmtdeq' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    missing = {name for name, library in _NEEDS.items() if find_spec(library) is None}
    return sorted({*_HOME, "__version__"} - missing)
