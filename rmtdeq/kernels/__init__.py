"""Exact infinite-width kernels on data, dense and as linear operators."""

from rmtdeq.kernels.gram import kernel
from rmtdeq.kernels.layered import layered_kernel
from rmtdeq.kernels.operator import KernelOperator, kernel_operator

__all__ = ["KernelOperator", "kernel", "kernel_operator", "layered_kernel"]
