"""A shallow explicit network for any given DEQ."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.designs.families import AUTO, FAMILIES
from rmtdeq.designs.fidelity import most_alike, with_distances
from rmtdeq.designs.kernel_fit import fitted_network
from rmtdeq.designs.matching import exact_networks, nearest_network
from rmtdeq.designs.network import EXACT, DesignStatus, ExplicitNetwork, without_rounding
from rmtdeq.designs.sphere import HERMITE, network_on_sphere
from rmtdeq.network import Network, require_network, require_varying
from rmtdeq.theory import solve
from rmtdeq.theory.coefficients import largest_mean

_CENTRED = 1e-10
_TIE = 1.02
_SLACK = 0.1


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
    name = check.choice(family, "family", ("auto", *FAMILIES, HERMITE))
    kinds: tuple[Kind, ...] = ("ck", "ntk") if wanted == "both" else check.kinds(wanted)
    if name == HERMITE:
        _require_one_sphere(kinds, squares)
    elif kinds != ("ck",) and name != "auto" and not FAMILIES[name].differentiable:
        raise InvalidInputError(f"The {name} family jumps and has no tangent kernel; it serves kind 'ck'.")
    elif squares is not None:
        squares = np.unique(squares)
        _require_one_fit(kinds, name, tau0_squared, squares)
    candidates = _candidates(deq, tau0_squared, kinds, name, squares)
    net = most_alike(candidates, deq)
    # How near a fit at given norms is, `at_norms` says.
    return net if net.status in (DesignStatus.EXACT, DesignStatus.CLASSWISE) else with_distances(net, deq)


def _squared_norms(norms: ArrayLike) -> FloatArray:
    squares = check.real_array(norms, "norms", ndim=1)
    if not squares.size or squares.min() <= 0:
        raise InvalidInputError(f"norms must be positive squared norms, not {squares}.")
    return squares


def _require_one_sphere(kinds: tuple[Kind, ...], squares: FloatArray | None) -> None:
    """Raise unless one kernel is wanted on samples of one norm."""
    if squares is not None:
        raise InvalidInputError(
            "The hermite family is for samples of one norm; give tau0_squared alone, or scale them."
        )
    if len(kinds) > 1:
        raise InvalidInputError(
            "One hidden layer has one kernel, its first weights fixed; ask for kind 'ck' or 'ntk' instead of 'both'."
        )


def _require_one_fit(kinds: tuple[Kind, ...], family: str, tau0_squared: float, squares: FloatArray) -> None:
    """Raise unless one kernel can be fitted at some squared norms, ascending, whose mean is given."""
    if len(kinds) > 1:
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


def _candidates(
    deq: Network, tau0_squared: float, kinds: tuple[Kind, ...], family: str, squares: FloatArray | None
) -> list[ExplicitNetwork]:
    """Return networks with the DEQ's kernels, all exact but where there is only one."""
    pinned = deq.pinned(tau0_squared)
    if family == HERMITE:
        return [network_on_sphere(pinned, tau0_squared, kinds[0])]
    coefficients = solve(deq, tau0_squared, kind=kinds if "ck" in kinds else ("ck", *kinds))
    mean = largest_mean(deq, tau0_squared)
    if mean > _CENTRED:
        raise InvalidInputError(
            f"A design needs activations without mean, and E φ(τ*ξ) is {mean:.4g} of √E φ² for {deq}: use DEQ(..., "
            "centered=True), on the command line without --uncentered."
        )
    targets = {each: without_rounding(coefficients.of(each), tau0_squared) for each in kinds}
    if squares is not None:
        return [fitted_network(pinned, targets, tau0_squared, squares)]
    families = [FAMILIES[each] for each in (AUTO if family == "auto" else (family,))]
    for each in families if len(kinds) == 1 else ():
        found: Iterable[ExplicitNetwork]
        if each.fitted:
            found = [fitted_network(pinned, targets, tau0_squared, np.array([tau0_squared]))]
        else:
            found = exact_networks(each, targets, tau0_squared)
        exact = [net for net in found if net.status is DesignStatus.EXACT and net.residual <= EXACT]
        if exact:
            return exact
    nearest = [nearest_network(each, targets, tau0_squared) for each in families]
    limit = _TIE * min(net.residual for net in nearest)
    return [next(net for net in nearest if net.residual <= limit)]
