"""Exact infinite-width kernels on data, dense and as linear operators."""

from rmtdeq.kernels.finite_width import finite_width_kernel, sample_features
from rmtdeq.kernels.gram import kernel, kernel_diagonal
from rmtdeq.kernels.gram import layered_kernel as layered_kernel  # of the last release
from rmtdeq.kernels.operator import kernel_operator
from rmtdeq.kernels.stores.operator import KernelOperator

__all__ = [
    "KernelOperator",
    "finite_width_kernel",
    "kernel",
    "kernel_diagonal",
    "kernel_operator",
    "sample_features",
]
