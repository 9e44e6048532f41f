"""Networks of finite width as torch modules."""

from rmtdeq._lib.optional import require

require("torch")

from rmtdeq.models.activations import TorchActivation  # noqa: E402
from rmtdeq.models.deq import DEQModule, DEQRegression  # noqa: E402
from rmtdeq.models.explicit import ExplicitModule  # noqa: E402
from rmtdeq.models.fixed_point import Equilibrium, Solver  # noqa: E402
from rmtdeq.models.implicit import ImplicitModule, Trace, traced  # noqa: E402
from rmtdeq.models.implicit_relu import ImplicitReLU  # noqa: E402
from rmtdeq.models.network import DenseModule, NetworkModule, NetworkRegression  # noqa: E402
from rmtdeq.models.overparameterized import OverparameterizedDEQ  # noqa: E402
from rmtdeq.models.regression import ImplicitRegression  # noqa: E402

__all__ = [
    "DEQModule",
    "DEQRegression",
    "DenseModule",
    "Equilibrium",
    "ExplicitModule",
    "ImplicitModule",
    "ImplicitReLU",
    "ImplicitRegression",
    "NetworkModule",
    "NetworkRegression",
    "OverparameterizedDEQ",
    "Solver",
    "TorchActivation",
    "Trace",
    "traced",
]
