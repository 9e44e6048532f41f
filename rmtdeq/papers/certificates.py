"""How far what the papers' models certify of themselves is from what is measured, before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq._lib.optional import require
from rmtdeq._lib.types import FloatArray
from rmtdeq.data.problems import random_targets
from rmtdeq.papers.outcome import Curve, Outcome, Row
from rmtdeq.papers.setting import Setting

if TYPE_CHECKING:
    from torch import Tensor

    from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ
    from rmtdeq.models.pcdeq import PcDEQ
    from rmtdeq.stability import MeasuredDiagnosis

_TOLERANCE = 1e-6
_MEASUREMENTS = 10
_CERTIFIED_STEPS = 4
_SEEN = 1e-8
_SAMPLES = _STEPS = 100
_NAMES = {"OverparameterizedDEQ": "over-parameterised DEQ", "ImplicitReLU": "ReLU implicit network"}


@dataclass(frozen=True)
class Certificates:
    """Parameters: n targets on the sphere in p dimensions for regressions, a data set for positive concave layers."""

    n: int = 60
    p: int = 60
    width: int = 500
    epochs: int = 200
    sigma_w2: float = 0.08
    gamma: float = 0.12
    dataset: str = "digits"
    activations: tuple[str, ...] = ("tanh", "sigmoid")
    classifier_epochs: int = 20


def of_the_papers(parameters: Certificates, setting: Setting) -> Outcome:
    """Measure the stability of each model, and compare it with its conditions and certificates."""
    require("torch")
    from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ

    p, m = parameters.p, parameters.width
    regressions: tuple[OverparameterizedDEQ | ImplicitReLU, ...] = (
        OverparameterizedDEQ(p, m, parameters.sigma_w2, setting.seed),
        ImplicitReLU(p, m, parameters.gamma, setting.seed),
    )
    rows: list[Row] = []
    runs: dict[str, rd.TrainingRun] = {}
    for model, norm in zip(regressions, (float(np.sqrt(p)), 1.0), strict=True):
        name = _NAMES[type(model).__name__]
        found, runs[name] = _of_regression(name, model.to(setting.device).double(), norm, parameters, setting)
        rows += found
    for activation in parameters.activations:
        rows += _of_positive_concave(activation, parameters, setting)
    return Outcome(
        tuple(rows),
        tuple(curve for name, run in runs.items() for curve in _curves(name, run)),
        lambda figure: _draw(figure, runs, rows),
        (11.0, 3.8),
    )


def _of_regression(
    name: str,
    model: OverparameterizedDEQ | ImplicitReLU,
    norm: float,
    parameters: Certificates,
    setting: Setting,
) -> tuple[list[Row], rd.TrainingRun]:
    data = random_targets(parameters.n, parameters.p, norm, 0, setting.seed)
    condition = rd.check_initial_condition(model, data.X, data.y)
    before = rd.diagnose(model, data.X)
    run = rd.gradient_descent(
        model,
        data.X,
        data.y,
        epochs=parameters.epochs,
        measure_every=max(1, parameters.epochs // _MEASUREMENTS),
        watch="stability",
        checkpoint=setting.folder(type(model).__name__),
    )
    rows = []
    for when, found, at in (("before", before, 0), ("after", rd.diagnose(model, data.X), -1)):
        rows += _by_the_norm(f"{name}, {when}", found, float(run.recurrent_norm[at]))
    worst = min((*condition.assumptions, *condition.inequalities), key=lambda each: each.ratio)
    caveat = "" if worst.holds else "asked of other networks"
    rows += [
        _bounded(
            f"{name}: condition {worst.name}",
            worst.left,
            worst.right,
            "the theorem",
            ">=",
            caveat,
        ),
        _bounded(
            f"{name}: loss's rate a step",
            run.rate,
            condition.guaranteed_eigenvalue * float(run.step or 0.0),
            "ηλ/2 of the theorem",
            ">=",
        ),
    ]
    if condition.gram == "ZᵀZ":
        least = float(run.smallest_eigenvalue.min() / run.smallest_eigenvalue[0])
        rows.append(_bounded(f"{name}: λ_min of ZᵀZ, least by first", least, 0.5, "the theorem's half", ">="))
    return rows, run


def _by_the_norm(name: str, found: MeasuredDiagnosis, norm: float) -> list[Row]:
    """Return what the norm of the recurrent weights promises, with a ReLU, beside what was measured."""
    changes = found.residuals / found.residuals[0]
    steps = 1 + int((changes <= _TOLERANCE).argmax(axis=0).max())
    sure = 1 + int(np.ceil(np.log(_TOLERANCE) / np.log(norm)))
    return [
        _bounded(f"{name}: spectral radius of J", float(found.spectral_radius.max()), norm, "norm of the weights"),
        _bounded(f"{name}: ‖J‖₂", float(found.contraction.max()), norm, "norm of the weights"),
        _bounded(
            f"{name}: smallest singular value of 1 - J",
            float(found.smallest_singular_value.min()),
            1 - norm,
            "1 - norm",
            ">=",
        ),
        _bounded(f"{name}: steps to {_TOLERANCE:.0e} of the first change", steps, sure, "norm of the weights"),
    ]


def _of_positive_concave(activation: str, parameters: Certificates, setting: Setting) -> list[Row]:
    from rmtdeq.models import pcdeq

    X, y, _ = rd.load_classification(parameters.dataset, data_dir=setting.data_dir)
    net = pcdeq.linear_network(
        int(np.prod(X.shape[1:])), classes=int(y.max()) + 1, seed=setting.seed, activation=activation
    ).to(setting.device)
    net.double()
    rows = _by_thompson(f"pcDEQ {activation}, before", *_layer_and_inputs(net, X))
    rd.train_classifier(
        net,
        X,
        y,
        epochs=parameters.classifier_epochs,
        step=5e-3,
        seed=setting.seed,
        checkpoint=setting.folder(f"pcdeq-{activation}"),
    )
    return rows + _by_thompson(f"pcDEQ {activation}, after", *_layer_and_inputs(net, X))


def _layer_and_inputs(net: Any, X: FloatArray) -> tuple[PcDEQ, Tensor]:
    """Return the equilibrium layer, and what it is given of some samples, normalised by them."""
    import torch
    from torch.nn import functional as F

    flatten, linear, norm, layer = net[:4]
    with torch.no_grad():
        h = linear(flatten(torch.from_numpy(X[:_SAMPLES]).to(linear.weight)))
        return layer, F.batch_norm(h, None, None, norm.weight, norm.bias, training=True)


def _by_thompson(name: str, layer: PcDEQ, x: Tensor) -> list[Row]:
    """Return what the certificate promises of each step, and of the steps to rest, beside what was measured."""
    found = rd.diagnose(layer, x.cpu().numpy())
    examined = np.isin(found.squared_norms, found.jacobian_norms)
    one, some = (layer.certificate(x, steps) for steps in (1, _CERTIFIED_STEPS))
    contraction = one.contraction.cpu().numpy()
    sure = np.minimum(*(each.iterations(_TOLERANCE).cpu().numpy() for each in (one, some)))
    distances = _distances(layer, x)
    seen = distances > _SEEN
    return [
        *(
            _bounded(
                f"{name}: Thompson's contraction in {told}",
                float((distances[steps:][seen[:-steps]] / distances[:-steps][seen[:-steps]]).max()),
                each.worst,
                "certificate",
            )
            for told, steps, each in (("a step", 1, one), (f"{_CERTIFIED_STEPS} steps", _CERTIFIED_STEPS, some))
        ),
        _bounded(
            f"{name}: spectral radius of J",
            float(found.spectral_radius.max()),
            float(contraction[examined].max()),
            "certificate",
        ),
        _bounded(
            f"{name}: steps to a change of {_TOLERANCE:.0e}",
            float(np.max(found.iterations(_TOLERANCE))),
            float(sure.max()),
            f"certificate of {_CERTIFIED_STEPS} steps",
        ),
    ]


def _distances(layer: PcDEQ, x: Tensor) -> FloatArray:
    """Return Thompson's distances from the equilibria by step, (steps, N)."""
    import torch

    from rmtdeq.models.pcdeq import thompson_metric

    with torch.no_grad():
        injected = layer.injected(x)
        states = [layer.initial(*injected)]
        for _ in range(_STEPS):
            states.append(layer.step(states[-1], *injected))
        return torch.stack([thompson_metric(each, states[-1]) for each in states]).cpu().numpy()


def _bounded(quantity: str, found: float, bound: float, source: str, relation: str = "<=", caveat: str = "") -> Row:
    """Return a number beside a bound on it, and by what factor the bound is off."""
    room = bound / found if relation == "<=" else found / bound
    told = f"off by a factor of {room:.3g}" if room >= 1 else f"short by a factor of {1 / room:.3g}"
    return Row(quantity, float(found), float(bound), f"{source}, {told}", relation, caveat)


def _curves(name: str, run: rd.TrainingRun) -> list[Curve]:
    at = run.at[run.measured]
    named = {"norm of the recurrent weights": run.recurrent_norm, **run.stability}
    return [Curve(f"{name}, {what}", at, values) for what, values in named.items()]


def _draw(figure: Any, runs: dict[str, rd.TrainingRun], rows: Sequence[Row]) -> None:
    *upper, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.3])
    for ax, (name, run) in zip(upper, runs.items(), strict=True):
        for quantity, line, label in (
            ("recurrent_norm", "--", "norm of the weights (certified)"),
            ("contraction", "-", "‖J‖₂"),
            ("spectral_radius", ":", "spectral radius of J"),
        ):
            run.plot(ax, quantity, color=style.CLASSES[0], ls=line, label=label)
        ax.set_ylim(0, 1)
        ax.set_title(name, fontsize=9)
        ax.set_ylabel("factor a step")
        ax.legend(frameon=False, fontsize=8)
        style.open_frame(ax)
    steps = [row for row in rows if ": steps to" in row.quantity]
    place = np.arange(len(steps))[::-1]
    right.scatter([row.found for row in steps], place, color=style.CLASSES[0], label="measured")
    certified = [row.expected or np.inf for row in steps]
    right.scatter(certified, place, color=style.THEORY, marker="|", label="certified")
    right.set_yticks(place, [row.quantity.partition(":")[0] for row in steps], fontsize=8)
    right.set_xlabel(f"steps to {_TOLERANCE:.0e}")
    right.legend(frameon=False, fontsize=8)
    style.open_frame(right)
