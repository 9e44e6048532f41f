"""The kernels in GPyTorch, and so in BoTorch; imported when asked for."""

from rmtdeq._lib.optional import require

require("gpytorch")

from rmtdeq.gpytorch.kernel import DEQKernel  # noqa: E402

__all__ = ["DEQKernel"]
