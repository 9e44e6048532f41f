"""What is known of networks of several widths before they are trained with one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq.curves import LossCurve, predict_training
from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ
from rmtdeq.training.condition import InitialCondition
from rmtdeq.training.descent import largest
from rmtdeq.training.inputs import samples_and_targets
from rmtdeq.training.norm import eigenvalues
from rmtdeq.training.theorems import check_initial_condition


@dataclass(frozen=True, eq=False)
class Beginning:
    """A network before training.

    Attributes
    ----------
    model : OverparameterizedDEQ or ImplicitReLU
    step : float
        The same for all widths.
    condition : InitialCondition
    prediction : LossCurve or None
        What its tangent kernel foretells.
    why_not : str
        Why there is no prediction.
    """

    model: OverparameterizedDEQ | ImplicitReLU
    step: float
    condition: InitialCondition
    prediction: LossCurve | None
    why_not: str


def beginnings(
    models: Sequence[OverparameterizedDEQ | ImplicitReLU], X: ArrayLike, y: ArrayLike, step: float | None = None
) -> Iterator[Beginning]:
    """Yield what is known of each network before training.

    Parameters
    ----------
    models : sequence of OverparameterizedDEQ or ImplicitReLU
    X : array_like (n, p)
    y : array_like (n,)
    step : float, optional
        By default the inverse of the largest eigenvalue of all their tangent kernels.
    """
    x, _ = samples_and_targets(models[0], X, y)
    with Stage("tangent kernels at the start"):
        kernels = [model.tangent_kernel(x) for model in models]
        rate = min(1 / largest(eigenvalues(kernel)) for kernel in kernels) if step is None else step
    for model, tangent in zip(models, kernels, strict=True):
        condition = check_initial_condition(model, X, y, step=rate)
        kernel, initial = (of.detach().double().cpu().numpy() for of in (tangent, model(x)))
        prediction, why_not = None, ""
        try:
            prediction = predict_training(kernel, y, rate, initial=initial)
        except InvalidInputError as error:
            why_not = str(error)
        yield Beginning(model, rate, condition, prediction, why_not)
