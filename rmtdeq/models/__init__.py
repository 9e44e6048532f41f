"""Networks of finite width as torch modules."""

from rmtdeq._optional import require

require("torch")

from rmtdeq.models.activations import TorchActivation  # noqa: E402
from rmtdeq.models.deq import DEQModule  # noqa: E402
from rmtdeq.models.explicit import ExplicitModule  # noqa: E402
from rmtdeq.models.implicit import Equilibrium  # noqa: E402

__all__ = ["DEQModule", "Equilibrium", "ExplicitModule", "TorchActivation"]
