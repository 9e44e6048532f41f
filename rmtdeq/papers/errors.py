"""How far the kernels are from their deterministic equivalents as dimensions grow (arXiv 2402.02697)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq._lib.types import FloatArray
from rmtdeq.data.problems import example_mixture
from rmtdeq.papers.outcome import Curve, Outcome, Row, slope
from rmtdeq.papers.setting import Setting

_SHARE = 0.8
_LEVELS = ("paper", "classwise")
_CENTRED, _UNCENTRED = "centred covariances", "uncentred covariances"
_INDEPENDENT = "an independent computation of the same"
_AT_2000 = {("tanh", "ck"): 0.062, ("tanh", "ntk"): 0.066, ("relu", "ck"): 0.036, ("relu", "ntk"): 0.037}
_AT_2000 |= {("swish", "ck"): 0.030, ("swish", "ntk"): 0.031}
_STALL = {_CENTRED: 0.067, _UNCENTRED: 0.011}


@dataclass(frozen=True)
class Errors:
    """Parameters: dimensions p, with 0.8 p samples each."""

    ps: tuple[int, ...] = (250, 500, 1000, 2000)
    activations: tuple[str, ...] = ("tanh", "relu", "swish")
    kinds: tuple[str, ...] = ("ck", "ntk")
    sigma_a2: float = 0.2
    draws: int = 1


def of_equivalents(parameters: Errors, setting: Setting) -> Outcome:
    """Measure the error of both levels, and that of a T of centred covariances on one class without mean."""
    errors: dict[str, list[float]] = {}
    jobs = [(p, draw) for p in parameters.ps for draw in range(parameters.draws)]
    found = [_errors_at(p, [setting.seed, draw], parameters) for p, draw in setting.each(jobs, "dimensions")]
    for i in range(len(parameters.ps)):
        several = found[i * parameters.draws : (i + 1) * parameters.draws]
        for name in several[0]:
            errors.setdefault(name, []).append(float(np.mean([one[name] for one in several])))
    return Outcome(
        tuple(_rows(errors, parameters)),
        tuple(Curve(name, parameters.ps, values) for name, values in errors.items()),
        lambda figure: _draw(figure, errors, parameters),
        (11.0, 3.8),
    )


def _errors_at(p: int, seed: list[int], parameters: Errors) -> dict[str, float]:
    n, found = int(_SHARE * p), {}
    gmm = example_mixture(p, 2)
    X, y = gmm.sample(n, np.random.default_rng(seed))
    for activation in parameters.activations:
        deq = rd.DEQ(activation, parameters.sigma_a2, 1 - parameters.sigma_a2)
        # Centred where the first-order theory has its τ0², for which its errors are known.
        centre = gmm.tau0_squared
        for kind, K in zip(
            parameters.kinds, rd.kernel(X, deq, parameters.kinds, tau0_squared=centre, progress=False), strict=True
        ):
            for level in _LEVELS:
                # The paper's level has terms of its own for its default, which is this centre.
                at = None if level == "paper" else centre
                equivalent = rd.equivalent(X, y, deq, gmm, kind, level, tau0_squared=at)
                found[f"{activation}, {kind}, {level}"] = _distance(equivalent, K)
    still = rd.GaussianMixture(np.zeros((1, p)), [1.0])
    X, y = still.sample(n, np.random.default_rng(seed))
    deq = rd.DEQ("relu", parameters.sigma_a2, 1 - parameters.sigma_a2)
    equivalent, K = (
        rd.equivalent(X, y, deq, still, "ck", "paper"),
        rd.kernel(X, deq, "ck", tau0_squared=still.tau0_squared),
    )
    found[f"relu, no mean, {_UNCENTRED}"] = _distance(equivalent, K)
    found[f"relu, no mean, {_CENTRED}"] = _distance(equivalent - _what_centring_takes_off(deq, still, y), K)
    return found


def _what_centring_takes_off(deq: rd.DEQ, gmm: rd.GaussianMixture, y: Any) -> FloatArray:
    """α3 (T - T°)/p, T° of the covariances minus their mean."""
    variances = np.array([float(c) for c in gmm.covariances])
    centred = variances - gmm.weights @ variances
    change = np.outer(variances, variances) - np.outer(centred, centred)
    alpha3 = rd.solve(deq, gmm.tau0_squared).alpha[2]
    return np.asarray(alpha3 * change[np.ix_(y, y)] / gmm.dimension)


def _distance(found: FloatArray, wanted: FloatArray) -> float:
    """Operator norm of the difference, relative."""
    return _norm(found - wanted) / _norm(wanted)


def _norm(matrix: FloatArray) -> float:
    from scipy.sparse.linalg import eigsh

    start = np.random.default_rng(0).standard_normal(len(matrix))
    return float(abs(eigsh(matrix, k=1, which="LM", v0=start, tol=1e-6, return_eigenvectors=False)[0]))


def _rows(errors: dict[str, list[float]], parameters: Errors) -> list[Row]:
    rows, ps = [], np.array(parameters.ps)
    last = int(ps[-1])
    caveat = "" if last == 2000 else f"p = {last} here, 2000 there"
    for activation in parameters.activations:
        for kind in parameters.kinds:
            paper, classwise = (errors[f"{activation}, {kind}, {level}"] for level in _LEVELS)
            name = f"{activation}, {kind}"
            rows.append(Row(f"{name}, paper's level: slope in p", slope(ps, paper), -0.5, "law: p^-1/2"))
            bound = "law: p^-1/2 or faster"
            rows.append(Row(f"{name}, class-wise: slope in p", slope(ps, classwise), -0.5, bound, "<="))
            known = _AT_2000.get((activation, kind))
            rows.append(Row(f"{name}, paper's level: error, p = {last}", paper[-1], known, _INDEPENDENT, caveat=caveat))
            rows.append(Row(f"{name}, class-wise: error, p = {last}", classwise[-1]))
    for name, known in _STALL.items():
        at = errors[f"relu, no mean, {name}"]
        rows.append(Row(f"relu, ck, no mean, T of {name}: error, p = {last}", at[-1], known, _INDEPENDENT, "=", caveat))
    return rows


def _draw(figure: Any, errors: dict[str, list[float]], parameters: Errors) -> None:
    grid = figure.subplots(1, 3)
    look = {"ck": "-", "ntk": "--", "ntk-full": ":"}
    for ax, level, title in zip(
        grid, _LEVELS, ("paper's level, first order", "class-wise, second order"), strict=False
    ):
        for i, activation in enumerate(parameters.activations):
            for kind in parameters.kinds:
                ax.loglog(
                    parameters.ps,
                    errors[f"{activation}, {kind}, {level}"],
                    marker="osd^"[i % 4],
                    ls=look[kind],
                    color=style.CLASSES[i % len(style.CLASSES)],
                    markersize=5,
                    label=f"{activation}, {kind.upper()}",
                )
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_ylabel("error, operator norm, relative")
    for i, name in enumerate(_STALL):
        values = errors[f"relu, no mean, {name}"]
        colour = (style.THEORY, style.CLASSES[0])[i]
        grid[2].loglog(parameters.ps, values, "os"[i] + "-", color=colour, markersize=5, label=f"T of {name}")
    grid[2].set_title("ReLU, CK, one class, no mean", loc="left", fontsize=10)
    for ax in grid:
        ps = np.array(parameters.ps)
        guide = 0.7 * min(line.get_ydata()[0] for line in ax.get_lines())
        ax.loglog(ps, guide * (ps / ps[0]) ** -0.5, "k:", lw=1, label="slope -1/2")
        ax.set_xlabel("dimension p")
        style.plain_ticks(ax, parameters.ps)
        style.open_frame(ax)
        ax.legend(frameon=False, fontsize=7.5)
