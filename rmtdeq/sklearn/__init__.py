"""The kernels in scikit-learn: a transformer that is a kernel of its estimators, and estimators of their own."""

from rmtdeq._lib.optional import require

require("sklearn")

from rmtdeq.sklearn.estimators import DEQClassifier, DEQRegressor  # noqa: E402
from rmtdeq.sklearn.kernel import DEQKernel  # noqa: E402
from rmtdeq.sklearn.saving import load_estimator, save_estimator  # noqa: E402

__all__ = ["DEQClassifier", "DEQKernel", "DEQRegressor", "load_estimator", "save_estimator"]
