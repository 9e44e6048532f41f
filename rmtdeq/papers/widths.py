"""How fast networks of finite width, and of finite depth, come to their limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq._lib.optional import require
from rmtdeq._lib.types import KINDS, FloatArray
from rmtdeq.papers.outcome import Curve, Outcome, Row, slope
from rmtdeq.papers.setting import Parts, Setting

_MARKS = {"ck": "o", "ntk": "s", "ntk-full": "^", "ZᵀZ/m": "d"}
_GRAM = "over-parameterised DEQ"


@dataclass(frozen=True)
class FiniteWidth:
    """Parameters: samples on the sphere, widths, and how often narrow networks are drawn at most."""

    n: int = 40
    p: int = 40
    widths: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096, 8192)
    activations: tuple[str, ...] = ("tanh", "relu", "swish")
    sigma_a2: float = 0.3
    sigma_w2: float = 0.08
    draws: int = 16


@dataclass(frozen=True)
class PopulationGram:
    """Parameters of arXiv 2205.13814: samples on the sphere, depths of the truncation, widths of networks."""

    n: int = 200
    p: int = 200
    sigma_w2: float = 0.08
    depths: int = 8
    widths: tuple[int, ...] = (500, 1000, 2000, 4000)
    draws: int = 3


def of_finite_width(parameters: FiniteWidth, setting: Setting) -> Outcome:
    """Measure distances of random networks' kernels from those of infinite width."""
    X = rd.on_sphere(np.random.default_rng(setting.seed).standard_normal((parameters.n, parameters.p)))
    parts = Parts(setting.folder("finite-width"), {**asdict(parameters), "seed": setting.seed})
    curves: dict[str, FloatArray] = {}
    for activation in parameters.activations:
        deq = rd.DEQ(activation, parameters.sigma_a2, 1 - parameters.sigma_a2)
        limits = rd.kernel(X, deq, KINDS)

        def draw(width: int, seed: int, deq: rd.DEQ = deq) -> Any:
            return rd.finite_width_kernel(X, deq, width, KINDS, seed=seed, device=setting.device, progress=False)

        found = _distances(draw, limits, parameters, setting, parts, activation)
        curves |= {f"{activation}, {kind}": column for kind, column in zip(KINDS, found.T, strict=True)}
    curves[f"{_GRAM}, ZᵀZ/m"] = _of_gram(X, parameters, setting, parts)[:, 0]
    slopes = {name: slope(parameters.widths, values) for name, values in curves.items()}
    return Outcome(
        tuple(Row(f"{name}: slope in the width", found, -0.5, "law: central limit") for name, found in slopes.items()),
        tuple(Curve(name, parameters.widths, values) for name, values in curves.items()),
        lambda figure: _draw_widths(figure, curves, slopes, parameters.widths),
        (7.2, 3.8),
    )


def _of_gram(X: FloatArray, parameters: FiniteWidth, setting: Setting, parts: Parts) -> FloatArray:
    torch = require("torch")
    from rmtdeq.models import OverparameterizedDEQ
    from rmtdeq.training import population_gram

    p = X.shape[1]
    S = rd.on_sphere(X, np.sqrt(p))
    limit = population_gram(OverparameterizedDEQ(p, 1, parameters.sigma_w2), S)

    def draw(width: int, seed: int) -> Any:
        model = OverparameterizedDEQ(p, width, parameters.sigma_w2, seed).double().to(setting.device)
        return (model.gram(torch.from_numpy(S).to(setting.device)).cpu().numpy() / width,)

    return _distances(draw, (limit,), parameters, setting, parts, "gram")


def _distances(
    draw: Any, limits: Any, parameters: FiniteWidth, setting: Setting, parts: Parts, name: str
) -> FloatArray:
    """Root mean squared Frobenius distance from the limits, relative; more draws of narrow networks."""

    def at(width: int) -> dict[str, Any]:
        times = max(3, min(parameters.draws, 4 * parameters.widths[-1] // width))
        squares = [
            [np.sum((a - b) ** 2) for a, b in zip(draw(width, setting.seed + s), limits, strict=True)]
            for s in range(times)
        ]
        return {"distance": np.sqrt(np.mean(squares, axis=0)) / [np.linalg.norm(limit) for limit in limits]}

    rows = [
        parts.once(f"{name}-{width}", partial(at, width))["distance"]
        for width in setting.each(parameters.widths, f"{name}, widths")
    ]
    return np.array(rows)


def _draw_widths(figure: Any, curves: dict[str, FloatArray], slopes: dict[str, float], widths: tuple[int, ...]) -> None:
    ax = figure.subplots()
    groups = list(dict.fromkeys(name.split(",")[0] for name in curves))
    for name, values in curves.items():
        group, kind = name.split(", ")
        colour = style.CLASSES[groups.index(group) % len(style.CLASSES)]
        label = f"{name} ({slopes[name]:.2f})"
        ax.loglog(widths, values, color=colour, marker=_MARKS[kind], markersize=5, lw=1, label=label)
    guide = 0.7 * min(values[0] for values in curves.values())
    ax.loglog(widths, guide * (np.array(widths) / widths[0]) ** -0.5, "k--", lw=0.9, label="slope -1/2")
    style.plain_ticks(ax, widths)
    ticker = require("matplotlib.ticker")
    ax.yaxis.set_major_formatter(ticker.ScalarFormatter())
    ax.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5])
    ax.yaxis.set_minor_formatter(ticker.NullFormatter())
    ax.set_xlabel("width m")
    ax.set_ylabel("distance from infinite width, relative")
    ax.legend(frameon=False, fontsize=8, title="kernel (fitted slope)", loc="center left", bbox_to_anchor=(1.0, 0.5))
    style.open_frame(ax)


def of_population_gram(parameters: PopulationGram, setting: Setting) -> Outcome:
    """Truncate the population Gram matrix at growing depth, and hold random networks of that depth against it."""
    torch = require("torch")
    from rmtdeq.models import OverparameterizedDEQ
    from rmtdeq.training import population_gram

    p, s, depths = parameters.p, parameters.sigma_w2, parameters.depths
    X = rd.on_sphere(np.random.default_rng(setting.seed).standard_normal((parameters.n, p)), np.sqrt(p))
    limit = population_gram(OverparameterizedDEQ(p, 1, s), X)
    layers = _truncated(X, s, depths)
    fixed = _truncated(X, s, 60)[-1]
    at = np.arange(1, depths + 1)
    curves = {"infinite width": np.array([np.linalg.norm(layer - limit) for layer in layers])}
    own: dict[str, FloatArray] = {}
    for width in setting.each(parameters.widths, "widths"):
        draws = []
        for draw in range(parameters.draws):
            model = OverparameterizedDEQ(p, width, s, setting.seed + draw).double().to(setting.device)
            draws.append(_of_layers(model, torch.from_numpy(X).to(setting.device), limit, depths))
        curves[f"width {width}"], own[f"width {width}"] = np.sqrt(np.mean(np.square(draws), axis=0))
    ends = [curves[name][-1] for name in own]
    bound = float(2 * np.sqrt(2 * s))
    whole = curves["infinite width"]
    rows = [
        Row("population Gram: an entry's error against layer after layer", float(abs(fixed - limit).max()), 0.0, "law"),
        Row("smallest eigenvalue λ*", float(np.linalg.eigvalsh(limit)[0]), 0.0, "law: positive", ">="),
        Row("infinite width: decay a layer", float((whole[-1] / whole[1]) ** (1 / (depths - 2))), s, "law: σ_w²"),
    ]
    for name, values in own.items():
        decay = float((values[-1] / values[0]) ** (1 / (depths - 1)))
        rows.append(Row(f"{name}: decay a layer, from its equilibrium", decay, bound, "law: at most 2√2 σ_w", "<="))
    rows.append(Row("last layer: slope in the width", slope(parameters.widths, ends), -0.5, "law: central limit"))

    def draw_on(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for ax, shown in ((left, curves), (right, {"infinite width": whole, **own})):
            for i, (name, values) in enumerate(shown.items()):
                colour = "black" if i == 0 else style.CLASSES[(i - 1) % len(style.CLASSES)]
                ax.semilogy(at, values, "o-", color=colour, markersize=4, lw=1.3, label=name)
            law = whole[0] * bound ** (at - 1.0)
            ax.semilogy(at, law, color=style.THEORY, ls="--", lw=1, label="bound, $(2\\sqrt{2}\\sigma_w)^l$")
            ax.set_xlabel("layers l")
            style.open_frame(ax)
        left.set_ylabel("$\\|G^{(l)}/m - K\\|_F$, from infinite width")
        right.set_ylabel("$\\|G^{(l)} - G\\|_F/m$, from the equilibrium")
        left.legend(frameon=False, fontsize=8, loc="lower left")
        figure.suptitle(f"Gram matrix after l layers, n = p = {parameters.n}, $\\sigma_w^2$ = {s:g}", fontsize=11)

    series = [Curve(f"{name}, from infinite width", at, values) for name, values in curves.items()]
    series += [Curve(f"{name}, from its equilibrium", at, values) for name, values in own.items()]
    return Outcome(tuple(rows), tuple(series), draw_on, (9.0, 3.6))


def _truncated(X: FloatArray, s: float, depths: int) -> list[FloatArray]:
    """Gram matrices of 1 … depths layers at infinite width: pre-activations have the covariance 2 s G + 2 x·x/p."""
    inner = X @ X.T / X.shape[1]
    layers, G = [], np.zeros_like(inner)
    for _ in range(depths):
        covariance = 2 * (s * G + inner)
        size = np.sqrt(np.diag(covariance))
        cosine = np.clip(covariance / np.outer(size, size), -1.0, 1.0)
        G = np.outer(size, size) / 2 * (np.sqrt(1 - cosine**2) + (np.pi - np.arccos(cosine)) * cosine) / np.pi
        layers.append(G)
    return layers


def _of_layers(model: Any, x: Any, limit: FloatArray, depths: int) -> FloatArray:
    """Distances of the Gram matrices of 1 … depths iterations from a limit, and from the network's own, (2, depths)."""
    torch = require("torch")
    found = []
    with torch.no_grad():
        own = model.gram(x).cpu().numpy() / model.width
        (injected,) = model.injected(x)
        z = torch.zeros_like(injected)
        for _ in range(depths):
            z = model.step(z, injected)
            layer = (z @ z.T).cpu().numpy() / model.width
            found.append([np.linalg.norm(layer - limit), np.linalg.norm(layer - own)])
    return np.array(found).T
