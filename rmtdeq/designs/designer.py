"""A shallow explicit network for any given DEQ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, least_squares

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.designs.families import AUTO, FAMILIES, Basis, Family
from rmtdeq.designs.fidelity import compare_kernels
from rmtdeq.designs.kernel_fit import fit_kernel
from rmtdeq.designs.matching import Vectors, one_layer, two_layers
from rmtdeq.designs.network import DesignStatus, Distance, ExplicitNetwork, NormMatch, relative_errors
from rmtdeq.designs.recursion import moments_of_layer, moments_of_member, propagate
from rmtdeq.designs.sphere import hermite_twin
from rmtdeq.kernels import kernel
from rmtdeq.network import Network, ordinary, require_network, require_varying
from rmtdeq.theory import KernelCoefficients, solve
from rmtdeq.theory.coefficients import largest_mean
from rmtdeq.theory.jets import diagonal_jet, entry_jet

_HERMITE = "hermite"
_EXACT = 1e-10
_VANISHES = 1e-12
_CENTRED = 1e-10
_THRESHOLDS = 65
_STARTS = 12
_SAME = 1e-4
_AGAIN = 3
_ROOT = 1e-24
_PROBED = 32
_PROBE = (0.9, 1.0, 1.1)  # squared norms in units of τ0²
_MEAN = 0.05  # the part of them that a class has in common
_SAMPLES = 200
_TOGETHER = 1000  # entries of a block add up, those of the diagonal do not
_ALIKE = 1e-3
_TIE = 1.02
_DEARER, _NEAR = 2.0, 1e-3
_SLACK = 0.1

Targets = Mapping[Kind, KernelCoefficients]


def design(
    deq: Network,
    tau0_squared: float | None = None,
    kind: str = "ck",
    family: str = "auto",
    *,
    norms: ArrayLike | None = None,
) -> ExplicitNetwork:
    """Design an explicit network of one or two hidden layers with the kernels of a DEQ.

    Parameters
    ----------
    deq : DEQ or Network
        Centred, or with odd activations, and without bias; of the family "hermite" it may be any.
    tau0_squared : float, optional
        τ0² > 0, the mean squared norm of the inputs; by default the mean of `norms`, which classes of unequal weights
        do not have (`GaussianMixture.mean_squared_norm`).
    kind : str
        ``"ck"``; ``"ntk"``, matched with the first layer's weights fixed, as the DEQ's input weights are;
        ``"ntk-full"``, all weights trained in both; ``"both"``, the CK and "ntk" at once.
    family : str
        ``"hard_tanh"``, ``"leaky_relu"``, ``"piecewise_linear"``, ``"polynomial"``, ``"ternary"``, ``"quantised"``; or
        ``"auto"``, the cheapest to run of the first four that matches exactly.  Or ``"hermite"``: one layer with the
        kernel to all orders, for samples whose squared norms are all τ0².
    norms : array_like (K,), optional
        Squared norms of the classes, where these differ (`GaussianMixture.squared_norms`): the kernel is then fitted
        at and around all of them instead of matched at their mean, by piecewise linear layers.

    Returns
    -------
    ExplicitNetwork
        With status EXACT where the coefficients at τ0² agree to 1e-10; otherwise the nearest found, CLASSWISE if
        `norms` were given, or SPHERE for the family "hermite".  Where coefficients are not matched,
        `ExplicitNetwork.consequence` says whether it matters.

    Raises
    ------
    InvalidInputError
        Neither τ0² nor `norms`; unknown names; τ0² or a norm not positive; an activation with a mean; a tangent kernel
        of a family that jumps; `norms` with kind "both" or another family than piecewise linear; kind "both" of one
        layer for one norm.
    IllPosedError
        The DEQ has no equilibrium, is no contraction, or its NTK is infinite.

    Notes
    -----
    A DEQ with an odd activation (α2 = α3 = 0) needs one layer, any other two (arXiv 2402.02697).  Of the scale that
    can be moved from one layer to the next, the first is given so much that E σ_1² = τ0².

    Exact roots are many.  Piecewise linear layers are first fitted to the kernel's entries around τ0² to second order
    in the inner product, and then moved to the root that changes the fit least; of other families' roots, found one by
    one, that is taken whose kernel is nearest to the DEQ's on a few samples.  With `norms` the same fit goes over all
    pairs of norms; it comes nearer by a factor of ten and more where norms vary by a fifth or more.

    On samples of one norm a single layer is enough (Simon, Anand and DeWeese, ICML 2022): its Hermite coefficients are
    the roots of the Taylor coefficients of the DEQ's kernel in the cosine.  It is a cubic spline up to six standard
    deviations and a line beyond; `ExplicitNetwork.on_sphere` says what is left.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> net = rd.design(rd.DEQ("tanh", 0.2, 0.8), tau0_squared=1.0, kind="ck")
    >>> net.depth, net.layers[0].name, net.status.name
    (1, 'hard_tanh', 'EXACT')
    >>> twin = rd.design(rd.DEQ("tanh", 0.2, 0.8), tau0_squared=1.0, kind="ck", family="hermite")
    >>> twin.depth, twin.on_sphere.residual < 1e-6
    (1, True)
    """
    require_network(deq)
    require_varying(deq)
    squares = None if norms is None else _squared_norms(norms)
    if tau0_squared is None:
        if squares is None:
            raise InvalidInputError(
                "Give tau0_squared, the mean squared norm of the inputs, or norms, the squared norms of their classes."
            )
        tau0_squared = float(squares.mean())
    tau0_squared = check.squared_norm(tau0_squared, "tau0_squared")
    wanted = check.choice(kind, "kind", ("ck", "ntk", "ntk-full", "both"))
    name = check.choice(family, "family", ("auto", *FAMILIES, _HERMITE))
    kinds: tuple[Kind, ...] = ("ck", "ntk") if wanted == "both" else check.kinds(wanted)
    if name == _HERMITE:
        return _on_sphere(deq, tau0_squared, kinds, squares)
    if kinds != ("ck",) and name != "auto" and not FAMILIES[name].differentiable:
        raise InvalidInputError(f"The {name} family jumps and has no tangent kernel; it serves kind 'ck'.")
    coefficients = solve(deq, tau0_squared, kind=kinds if "ck" in kinds else ("ck", *kinds))
    mean = largest_mean(deq, tau0_squared)
    if mean > _CENTRED:
        raise InvalidInputError(
            f"A design needs activations without mean, and E φ(τ*ξ) is {mean:.4g} of √E φ² for {deq}: use DEQ(..., "
            "centered=True), on the command line without --uncentered."
        )
    targets = {each: _without_rounding(coefficients.of(each), tau0_squared) for each in kinds}
    if squares is not None:
        return _at_norms(deq, targets, tau0_squared, name, np.unique(squares))
    families = [FAMILIES[each] for each in AUTO] if name == "auto" else [FAMILIES[name]]
    if len(targets) == 1:
        for each in families:
            if each.fitted:
                fitted = _fitted_to_kernel(deq, targets, tau0_squared, np.array([tau0_squared]))
                if fitted.status is DesignStatus.EXACT:
                    return fitted
                continue
            networks = [net for net in _exact(each, targets, tau0_squared) if net.residual <= _EXACT]
            if networks:
                return _most_alike(networks, deq)
    nearest = [_nearest(each, targets, tau0_squared) for each in families]
    limit = _TIE * min(net.residual for net in nearest)
    net = next(net for net in nearest if net.residual <= limit)
    return net if net.status is DesignStatus.EXACT else replace(net, distances=_distances(net, deq))


def _on_sphere(
    deq: Network, tau0_squared: float, kinds: tuple[Kind, ...], squares: FloatArray | None
) -> ExplicitNetwork:
    """One layer with the kernel of samples of one norm."""
    if squares is not None:
        raise InvalidInputError(
            "The hermite family is for samples of one norm; give tau0_squared alone, or scale them."
        )
    if len(kinds) > 1:
        raise InvalidInputError(
            "One hidden layer has one kernel, its first weights fixed; ask for kind 'ck' or 'ntk' instead of 'both'."
        )
    (kind,) = kinds
    phi, match = hermite_twin(deq, tau0_squared, kind)
    pinned = deq.pinned(tau0_squared)
    entry = entry_jet(pinned, tau0_squared, tau0_squared, 0.0, kind)
    target = KernelCoefficients(
        linear=float(entry.gradient[2]),
        norm=float(entry.hessian[0, 1]),
        pair=float(entry.hessian[2, 2] / 2),
        diagonal=float(diagonal_jet(pinned, np.array([tau0_squared]), kind).value[0]),
    )
    targets = {kind: _without_rounding(target, tau0_squared)}
    net = ExplicitNetwork(ordinary([phi]), tau0_squared, targets, _HERMITE, DesignStatus.SPHERE, on_sphere=match)
    return replace(net, distances=_distances(net, deq))


def _distances(net: ExplicitNetwork, deq: Network) -> dict[Kind, Distance]:
    """The distances of kernels on as many Gaussian samples as dimensions, of two classes whose means are short."""
    noise = np.random.default_rng(0).standard_normal((_SAMPLES, _SAMPLES)) / np.sqrt(_SAMPLES)
    means = np.sqrt(_MEAN) * np.repeat(np.eye(2, _SAMPLES), _SAMPLES // 2, axis=0)
    X = np.sqrt(net.tau0_squared) * (np.sqrt(1 - _MEAN) * noise + means)
    # Without compilation, which would take longer than the rest.
    found = {kind: compare_kernels(X, deq, net, kind, backend="numpy", progress=False) for kind in net.targets}
    return {kind: Distance(each.distance, each.distance_plain) for kind, each in found.items()}


def _fitted_to_kernel(deq: Network, targets: Targets, tau0_squared: float, norms: FloatArray) -> ExplicitNetwork:
    """A piecewise linear network fitted around squared norms, with exact coefficients where the fit does not pay."""
    ((kind, target),) = targets.items()
    squares = tuple(map(float, norms))
    root, free = fit_kernel(deq.pinned(tau0_squared), target, tau0_squared, kind, norms)
    net = ExplicitNetwork(
        ordinary(root.layers),
        tau0_squared,
        targets,
        "piecewise_linear",
        DesignStatus.EXACT,
        NormMatch(squares, root.residual),
    )
    if net.residual <= _EXACT and root.residual <= max(_DEARER * free.residual, _NEAR):
        return net
    match = NormMatch(squares, free.residual)
    return replace(net, layers=ordinary(free.layers), status=DesignStatus.CLASSWISE, at_norms=match)


def _squared_norms(norms: ArrayLike) -> FloatArray:
    squares = check.real_array(norms, "norms", ndim=1)
    if not squares.size or squares.min() <= 0:
        raise InvalidInputError(f"norms must be positive squared norms, not {squares}.")
    return squares


def _at_norms(deq: Network, targets: Targets, tau0_squared: float, family: str, squares: FloatArray) -> ExplicitNetwork:
    if len(targets) > 1:
        raise InvalidInputError("A class-wise design fits one kernel; ask for kind 'ck' or 'ntk' instead of 'both'.")
    if family != "auto" and not FAMILIES[family].fitted:
        raise InvalidInputError(
            f"A class-wise design is made of piecewise linear layers; leave the family out instead of {family!r}."
        )
    if not squares[0] * (1 - _SLACK) <= tau0_squared <= squares[-1] * (1 + _SLACK):
        raise InvalidInputError(
            f"tau0_squared is the mean of the classes' squared norms, and {tau0_squared:g} does not lie between "
            f"{squares[0]:g} and {squares[-1]:g}."
        )
    return _fitted_to_kernel(deq, targets, tau0_squared, squares)


def _most_alike(networks: Sequence[ExplicitNetwork], deq: Network) -> ExplicitNetwork:
    """The shallowest, and among those the one whose exact kernel is nearest to the DEQ's on a probe.

    Where several are as good as equal to it, the one whose last layer is nearest to linear.
    """
    depth = min(net.depth for net in networks)
    shallow = [net for net in networks if net.depth == depth]
    chosen = shallow[:: -(-len(shallow) // _PROBED)]
    if len(chosen) == 1:
        return chosen[0]
    tau0_squared, kind = chosen[0].tau0_squared, next(iter(chosen[0].targets))
    # Two small classes with means, three norms each.
    norms = np.tile(_PROBE, 4)
    X = np.hstack([np.diag(np.sqrt(norms - _MEAN)), np.sqrt(_MEAN) * np.repeat(np.eye(2), norms.size // 2, axis=0)])
    X *= np.sqrt(tau0_squared)
    # Without compilation, which would take longer than the probe does.
    wanted = kernel(X, deq, kind=kind, tau0_squared=tau0_squared, backend="numpy", progress=False)

    def distance(net: ExplicitNetwork) -> float:
        error = abs(net.kernel(X, backend="numpy", progress=False) - wanted) / wanted.max()
        own = np.diag(error).copy()
        np.fill_diagonal(error, 0.0)
        return float(own.max() + _TOGETHER * error.max())

    def bend(net: ExplicitNetwork) -> float:
        tau = np.sqrt(tau0_squared)  # the first layer keeps the scale
        last = moments_of_layer(net.activations[-1], tau)
        return 1 - last.first**2 * tau0_squared / last.square

    distances = [distance(net) for net in chosen]
    limit = min(distances) + _ALIKE
    return min((net for net, own in zip(chosen, distances, strict=True) if own <= limit), key=bend)


def _without_rounding(target: KernelCoefficients, tau0_squared: float) -> KernelCoefficients:
    """Coefficients that vanish for an odd activation are zero."""
    least = _VANISHES * target.diagonal / tau0_squared**2
    norm, pair = (0.0 if abs(value) < least else value for value in (target.norm, target.pair))
    return KernelCoefficients(target.linear, norm, pair, target.diagonal)


def _exact(family: Family, targets: Targets, tau0_squared: float) -> Iterator[ExplicitNetwork]:
    """Candidates for an exact match."""
    ((kind, target),) = targets.items()
    if not family.differentiable and kind != "ck":
        return
    for basis in _shapes(family, target, tau0_squared, kind):
        roots = one_layer(basis, target, tau0_squared, kind)
        yield from (_network(family, (basis,), root, targets, tau0_squared) for root in roots)
    if family.thresholds is None and target.norm > 0:
        basis = family.basis(0.0)
        roots = two_layers(basis, basis, target, tau0_squared, kind)
        yield from (_network(family, (basis, basis), root, targets, tau0_squared) for root in roots)


def _shapes(family: Family, target: KernelCoefficients, tau0_squared: float, kind: Kind) -> list[Basis]:
    """The family's functions; those with a threshold at the ones where one layer has the target's diagonal."""
    if family.thresholds is None:
        return [family.basis(0.0)]

    def excess(log_threshold: float) -> float:
        basis = family.basis(float(np.exp(log_threshold)))
        roots = one_layer(basis, target, tau0_squared, kind)
        if not roots:
            return np.nan
        c = roots[0][0]
        form = np.eye(3) + (basis.slopes if kind == "ntk-full" else 0.0)
        return float(c @ form @ c / target.diagonal - 1)

    low, high = np.log(family.thresholds)
    grid = np.linspace(low, high, _THRESHOLDS)
    values = np.array([excess(at) for at in grid])
    brackets = [
        (a, b) for (a, b), (left, right) in zip(pairwise(grid), pairwise(values), strict=True) if left * right <= 0
    ]
    return [family.basis(float(np.exp(brentq(excess, a, b, xtol=1e-15, rtol=1e-15)))) for a, b in brackets]


def _network(
    family: Family,
    bases: tuple[Basis, ...],
    vectors: Vectors,
    targets: Targets,
    tau0_squared: float,
    status: DesignStatus = DesignStatus.EXACT,
) -> ExplicitNetwork:
    layers, scale = [], tau0_squared
    for basis, c in zip(bases, vectors, strict=True):
        layers.append(basis.member(c, float(np.sqrt(scale))))
        scale = float(c @ c)
    return ExplicitNetwork(ordinary(layers), tau0_squared, targets, family.name, status)


def _nearest(family: Family, targets: Targets, tau0_squared: float) -> ExplicitNetwork:
    """Least squares of the relative errors from several starts, one and two layers."""
    best = _fitted(family, 1, targets, tau0_squared)
    if best.residual > _EXACT:
        best = min(best, _fitted(family, 2, targets, tau0_squared), key=lambda net: net.residual)
    return best


def _fitted(family: Family, depth: int, targets: Targets, tau0_squared: float) -> ExplicitNetwork:
    # Unknown: the direction of the first layer's c, whose length is fixed; the second's c; the thresholds.
    sample = family.basis(1.0)
    used = np.flatnonzero([True, sample.even, sample.free])
    count, moving = used.size, family.thresholds is not None

    def unpack(parameters: FloatArray) -> tuple[tuple[Basis, ...], Vectors]:
        vectors, bases = [], []
        for layer in range(depth):
            c = np.zeros(3)
            c[used] = parameters[layer * count : (layer + 1) * count]
            # A layer and its mirror images in both axes do the same to kernels.
            c = np.array([abs(c[0]), abs(c[1]), c[2] if c[0] >= 0 else -c[2]])
            if depth == 2 and layer == 0:
                c *= np.sqrt(tau0_squared) / max(float(np.linalg.norm(c)), 1e-300)
            vectors.append(c)
            bases.append(family.basis(float(np.exp(parameters[depth * count + layer])) if moving else 1.0))
        return tuple(bases), tuple(vectors)

    def errors(parameters: FloatArray) -> FloatArray:
        bases, vectors = unpack(parameters)
        squares = [tau0_squared, *(float(c @ c) for c in vectors)]
        scales = [float(np.sqrt(square)) for square in squares[:depth]]
        layers = [moments_of_member(b, c, t) for b, c, t in zip(bases, vectors, scales, strict=True)]
        return np.concatenate(
            [
                relative_errors(propagate(layers, tau0_squared, kind), target, tau0_squared)
                for kind, target in targets.items()
            ]
        )

    size = np.sqrt(max(target.diagonal for target in targets.values()))
    rng = np.random.default_rng(0)
    best, cost, met = np.empty(0), np.inf, 0
    low = np.full(depth * (count + moving), -np.inf)
    high = -low
    if moving and family.thresholds is not None:
        low[depth * count :], high[depth * count :] = np.log(family.thresholds)
    for _ in range(_STARTS):
        # Layers are nearly linear, with a bend.
        shape = rng.standard_normal((depth, count)) * np.array([0.3, 0.3, 0.1])[:count] + np.eye(count)[0]
        start = np.concatenate([shape.ravel() * size, rng.uniform(-1, 0.3, depth * moving)])
        found = least_squares(errors, start, bounds=(low, high), xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=300)
        met = met + 1 if abs(found.cost - cost) <= _SAME * cost else met * (found.cost > cost)
        if found.cost < cost:
            best, cost = found.x, found.cost
        # An exact root, or the same minimum met again and again.
        if cost < _ROOT or met == _AGAIN:
            break
    status = DesignStatus.TRADE_OFF if len(targets) > 1 else DesignStatus.INFEASIBLE
    net = _network(family, *unpack(best), targets, tau0_squared, status)
    return replace(net, status=DesignStatus.EXACT) if net.residual <= _EXACT else net
