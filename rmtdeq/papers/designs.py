"""Explicit networks with the kernels of DEQs: solved examples, and spectra on data (arXiv 2402.02697)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq.data.problems import image_problem, mixture_problem
from rmtdeq.papers.outcome import Curve, Outcome, Row
from rmtdeq.papers.setting import Setting

_SOLVED = "solved example, arXiv 2402.02697's setting"
_SIGMA_A2 = 0.2
_NUMBERS = {
    "tanh": {"τ*": 0.93487, "γ²": 0.36992, "α1": 0.34499},
    "relu": {"τ*": 0.92657, "γ²": 0.29262, "α1": 0.21053, "α2": 0.03596, "α3": 0.06919, "α4": 0.85852},
}
_HARD_TANH = {"a": 0.7643, "c": 1.1965}
_TWO_SLOPES = ((1.9575, 0.0078), (0.3475, 0.5864))


@dataclass(frozen=True)
class Examples:
    """Parameters: where the printed two-layer network's exact kernel is tried."""

    p: int = 1000


@dataclass(frozen=True)
class Designs:
    """Parameters: data, "mixture" or the name of an image data set, and what is designed."""

    dataset: str = "mixture"
    classes: tuple[int, ...] = (2,)
    p: int = 2000
    n: int = 1600
    activations: tuple[str, ...] = ("tanh", "relu", "swish")
    kinds: tuple[str, ...] = ("ck", "ntk")
    sigma_a2: float = _SIGMA_A2


def solved_examples(parameters: Examples, setting: Setting) -> Outcome:
    """Solve the examples at τ0 = 1, σ_a² = 0.2, σ_b² = 0.8."""
    deqs = {name: rd.DEQ(name, _SIGMA_A2, 1 - _SIGMA_A2) for name in _NUMBERS}
    rows = []
    for name, known in _NUMBERS.items():
        solved = rd.solve(deqs[name], 1.0)
        values = {"τ*": solved.tau, "γ²": solved.gamma2} | {f"α{i + 1}": solved.alpha[i] for i in range(4)}
        rows += [Row(f"{name}: {what}", float(values[what]), value, _SOLVED) for what, value in known.items()]
    odd = rd.design(deqs["tanh"], 1.0, "ck", "hard_tanh")
    found = dict(zip(_HARD_TANH, odd.layers[0].parameters, strict=True))
    rows += [Row(f"tanh: hard tanh's {what}", float(found[what]), value, _SOLVED) for what, value in _HARD_TANH.items()]
    layers = _centred_layers(_TWO_SLOPES)
    printed = rd.ExplicitNetwork(
        layers, 1.0, {"ck": rd.solve(deqs["relu"], 1.0).of("ck")}, "leaky_relu", rd.DesignStatus.INFEASIBLE
    )
    of_layers, wanted = vars(printed.coefficients("ck")), vars(printed.targets["ck"])
    for (what, value), label in zip(of_layers.items(), ("α1", "α2", "α3", "γ²"), strict=True):
        rows.append(Row(f"relu: {label} of two leaky ReLU layers as printed", value, wanted[what], "law: the DEQ's"))
    own = rd.design(deqs["relu"], 1.0, "ck", "leaky_relu")
    rows.append(Row("relu: largest relative error of two leaky ReLU layers found here", own.residual, 0.0, "law"))
    problem = mixture_problem(parameters.p, seed=setting.seed)
    for label, net in (("as printed", printed), ("found here", own)):
        distance = rd.compare_kernels(problem.X, deqs["relu"], net, progress=False).distance
        rows.append(
            Row(f"relu: kernel of the layers {label}, distance, p = {parameters.p}", distance, 0.0, "law: p → ∞")
        )
    networks = {"tanh": odd, "relu": own}
    u = np.linspace(-3, 3, 121)
    curves = tuple(
        Curve(f"{name}, layer {depth}", u, np.asarray(layer(u)))
        for name, net in networks.items()
        for depth, layer in enumerate(net.activations, start=1)
    )

    def draw(figure: Any) -> None:
        from rmtdeq.output.figures import draw_activations

        for ax, (name, net) in zip(figure.subplots(1, 2), networks.items(), strict=True):
            draw_activations(deqs[name], net, ax)
            ax.set_title(f"{name} DEQ and the network with its CK", loc="left", fontsize=10)
            style.open_frame(ax)

    return Outcome(tuple(rows), curves, draw, (8.4, 3.4), {"networks": [repr(net) for net in (odd, own, printed)]})


def _centred_layers(slopes: Sequence[tuple[float, float]]) -> tuple[rd.Layer, ...]:
    """Layers of two slopes, each centred at the scale of its input."""
    from rmtdeq.activations import moments

    layers, square = [], 1.0
    for above, below in slopes:
        layer = rd.activation("two_slopes", above, below)
        layers.append(layer.minus(moments(layer, square**0.5).mean))
        square = moments(layers[-1], square**0.5).square
    return tuple(rd.Layer(layer) for layer in layers)


def on_data(parameters: Designs, setting: Setting) -> Outcome:
    """Compare the exact kernels of a DEQ, of its designed networks and of a plain one."""
    if parameters.dataset == "mixture":
        problem = mixture_problem(parameters.p, parameters.classes[0], parameters.n, setting.seed)
    else:
        problem = image_problem(
            parameters.dataset, parameters.classes or None, parameters.n, seed=setting.seed, data_dir=setting.data_dir
        )
    pairs = [(activation, kind) for activation in parameters.activations for kind in parameters.kinds]
    rows, shown, nets = [], [], []
    for activation, kind in setting.each(pairs, "designs"):
        deq = rd.DEQ(activation, parameters.sigma_a2, 1 - parameters.sigma_a2)
        for label, norms in (("designed", None), ("designed class-wise", problem.mixture.squared_norms)):
            net = rd.design(deq, problem.tau0_squared, kind, norms=norms)
            found = rd.compare_kernels(problem.X, deq, net, kind, progress=False)
            if norms is None:
                shown.append(found)
                nets.append(repr(net))
                rows.append(Row(f"{activation}, {kind}: distance, plain", found.distance_plain))
            law = "law: none is left as n, p → ∞" if parameters.dataset == "mixture" else "the same kernel"
            rows.append(Row(f"{activation}, {kind}: distance, {label}", found.distance, 0.0, law))
    curves = []
    for pair, found in zip(pairs, shown, strict=True):
        rank = np.arange(found.deq.size, 0, -1)
        named = {"DEQ": found.deq, "designed": found.network, "plain": found.plain}
        curves += [Curve(f"{' '.join(pair)}, {name}", rank, values) for name, values in named.items()]
    title = f"{problem.name}, n = {len(problem.y)}, $\\sigma_a^2$ = {parameters.sigma_a2:g}: DEQ, designed, plain"
    across, down = len(parameters.kinds), len(parameters.activations)

    def draw(figure: Any) -> None:
        for ax, pair, found in zip(figure.subplots(down, across, squeeze=False).flat, pairs, shown, strict=True):
            found.plot(ax)
            distances = f"distance {found.distance:.2g}, plain {found.distance_plain:.2g}"
            ax.set_title(f"{pair[0]}, {pair[1].upper()}: {distances}", loc="left", fontsize=10)
            style.open_frame(ax)
        figure.suptitle(title, fontsize=11)

    return Outcome(tuple(rows), tuple(curves), draw, (4.4 * across, 2.8 * down + 0.4), {"networks": nets})
