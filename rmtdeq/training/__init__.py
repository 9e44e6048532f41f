"""Training implicit networks, and when theory says that it converges."""

from rmtdeq._lib.optional import require

require("torch")

from rmtdeq.training.classifier import train_classifier  # noqa: E402
from rmtdeq.training.condition import InitialCondition  # noqa: E402
from rmtdeq.training.descent import gradient_descent, stable_step  # noqa: E402
from rmtdeq.training.flow import gradient_flow  # noqa: E402
from rmtdeq.training.limits import population_gram, population_tangent_kernel  # noqa: E402
from rmtdeq.training.theorems import check_initial_condition  # noqa: E402

__all__ = [
    "InitialCondition",
    "check_initial_condition",
    "gradient_descent",
    "gradient_flow",
    "population_gram",
    "population_tangent_kernel",
    "stable_step",
    "train_classifier",
]
