"""Features and kernels of networks of finite width, which tend to the infinite-width kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray, Seed
from rmtdeq.activations import jumps
from rmtdeq.network import DEQ, Network, require_network, samples_alone
from rmtdeq.network.patience import patient_solver
from rmtdeq.network.wellposed import infinite_tangent_of_jump

if TYPE_CHECKING:
    import torch

    from rmtdeq.models import NetworkRegression, Solver

_LARGEST = 1e8


def sample_features(
    X: ArrayLike,
    deq: Network,
    width: int | Sequence[int],
    seed: Seed = 0,
    *,
    tau0_squared: float | None = None,
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    batch: int = 1024,
    solver: Solver | None = None,
    torch_activation: Callable[[Any], Any] | None = None,
    progress: bool = True,
) -> FloatArray:
    """Compute the features of a random network of finite width.

    Parameters
    ----------
    X : array_like (n, p)
        One sample a row, squared norms of order one.
    deq : DEQ or Network
    width : int or sequence of int
        m; of all layers, or of each.
    seed : int, Generator or None
        Of the weights; those of ``deq.to_torch(p, width, seed)``.
    tau0_squared : float, optional
        Where a centred activation is centred; the mean squared norm of X by default.
    dtype : dtype, optional
        float64 or float32; that of X by default.
    device : str
        Of torch.
    batch : int
        Samples solved for at a time.
    solver : rmtdeq.models.Solver, optional
    torch_activation : callable, optional
        The activation on tensors, where it was made from a callable on arrays.
    progress : bool
        Tell how far it is if standard error is a terminal.

    Returns
    -------
    ndarray (n, m)
        Features of the last layer, equilibria z = φ(σ_a A z + σ_b B x)/√m where it is recurrent, whose inner products
        tend to the conjugate kernel as m grows.

    Raises
    ------
    InvalidInputError, IllPosedError, MemoryLimitError, MissingDependencyError
        As for `DEQ.to_torch`.
    ConvergenceError
        The iteration of this network does not come to rest.
    """
    X, network = _network(X, deq, width, seed, tau0_squared, dtype, device, solver, torch_activation, False)
    found = _features(X, network, batch, progress)
    return np.concatenate([each.cpu().numpy() for each in found])


def finite_width_kernel(
    X: ArrayLike,
    deq: Network,
    width: int | Sequence[int],
    kind: str | Sequence[str] = "ck",
    seed: Seed = 0,
    *,
    tau0_squared: float | None = None,
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    batch: int = 1024,
    solver: Solver | None = None,
    torch_activation: Callable[[Any], Any] | None = None,
    progress: bool = True,
) -> Any:
    """Compute the kernels of one random network of finite width, exactly.

    Parameters
    ----------
    X, deq, width, seed, tau0_squared, dtype, device, batch, solver, torch_activation, progress
        As for `sample_features`.
    kind : str or tuple of str
        ``"ck"``: inner products of the equilibria.  ``"ntk"``: inner products of the gradients of vᵀz, v of independent
        N(0, 1) entries, in all weights but input weights and bias of the first layer.  ``"ntk-full"``: in all.

    Returns
    -------
    ndarray (n, n), or a tuple of them
        One for each kind, all of the same network.  They tend to those of `kernel` like m^{-1/2}.

    Raises
    ------
    InvalidInputError, IllPosedError, MemoryLimitError, MissingDependencyError
        As for `DEQ.to_torch`.
    ConvergenceError
        The iteration of this network, or that of its gradient, does not come to rest.

    Notes
    -----
    The gradient in A of sample i is σ_a b_i z_iᵀ, that in B σ_b b_i x_iᵀ, where b_i, the gradient of vᵀz in the
    pre-activation, solves one adjoint equation: no Jacobian is formed.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> X = np.random.default_rng(0).standard_normal((10, 50)) / np.sqrt(50)
    >>> deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
    >>> error = rd.finite_width_kernel(X, deq, width=2000, kind="ntk") - rd.kernel(X, deq, kind="ntk")
    >>> bool(abs(error).max() < 0.1)
    True
    """
    from rmtdeq.models.regression import Factor

    kinds = check.kinds(kind)
    tangent = kinds != ("ck",)
    X, network = _network(X, deq, width, seed, tau0_squared, dtype, device, solver, torch_activation, tangent)
    if not tangent:
        parts = [{"v": Factor(z.new_ones(len(z), 1), z)} for z in _features(X, network, batch, progress)]
    else:
        parts = [network.gradients(rows) for rows in _batches(X, network, batch, progress)]
    torch = require("torch")
    grams = {}
    for name in parts[0]:
        left, right = (torch.cat([part[name][side] for part in parts]) for side in (0, 1))
        grams[name] = Factor(left, right).gram().detach().cpu().numpy()
    # Input weights and bias of what is given the samples alone are fixed for "ntk", all but the read-out for "ck".
    first = [number for number, sources in enumerate(deq.sources[:-1]) if samples_alone(sources)]
    at_input = {f"features.{number}.{name}" for number in first for name in "Bc"}
    fixed = {"ck": set(grams) - {"v"}, "ntk": at_input, "ntk-full": set()}
    results = (np.sum([gram for name, gram in grams.items() if name not in fixed[each]], axis=0) for each in kinds)
    return check.as_asked(kind, results)


def _network(
    X: ArrayLike,
    deq: Network,
    width: int | Sequence[int],
    seed: Seed,
    tau0_squared: float | None,
    dtype: DTypeLike | None,
    device: str,
    solver: Solver | None,
    torch_activation: Callable[[Any], Any] | None,
    tangent: bool,
) -> tuple[FloatArray, NetworkRegression]:
    """Checked samples in the precision asked for, and the network in the same, with room for it all."""
    require_network(deq)
    X = check.samples(X)
    precision = check.precision(dtype, X)
    X = X.astype(precision, copy=False)
    widths = [check.integer(m, "width") for m in (width if isinstance(width, Sequence) else [width] * deq.depth)]
    if len(widths) != deq.depth:
        raise InvalidInputError(
            f"width must be a number, or one for each layer of a network of depth {deq.depth}, not {width!r}."
        )
    if any(layer.kept < 1 for layer in deq.layers):
        raise InvalidInputError(
            "Dropout draws features anew for every sample: a kernel of finite width is that of a network without. "
            "Leave it out, or take the module of to_torch."
        )
    n, p = X.shape
    if float(abs(X).max()) > _LARGEST:
        raise InvalidInputError(
            f"X has entries beyond {_LARGEST:g}: scale the data so that squared norms are of order one."
        )
    sizes = [*widths, p]
    given = [sum(sizes[source] for source, _ in sources) for sources in deq.sources]
    weights = sum(m * (m + below) for m, below in zip(widths, given, strict=False))
    needed = (weights + (2 if tangent else 1) * n * sum(widths) + 2 * n * n) * precision.itemsize
    check.memory(
        needed, None, f"A network of width {max(widths)} on {n} samples", "take a smaller width, or fewer samples"
    )
    centre = float(np.mean(np.sum(X.astype(np.float64) ** 2, axis=1))) if tau0_squared is None else tau0_squared
    layers = deq.resting(centre)
    if tangent and (jumping := [layer for layer in layers if jumps(layer.activation)]):
        raise infinite_tangent_of_jump(jumping[0].title)
    require("torch")
    from rmtdeq.models import NetworkRegression

    network = NetworkRegression(
        p,
        widths,
        layers,
        seed,
        wiring=deq.wiring,
        solver=solver or patient_solver(deq.slowest_rate(centre), widths),
        torch_activation=torch_activation,
        equilibria=isinstance(deq, DEQ),
    )
    from rmtdeq.models.weights import on_device

    return X, on_device(network, device, precision.name)


def _features(X: FloatArray, network: NetworkRegression, batch: int, progress: bool) -> list[torch.Tensor]:
    with require("torch").no_grad():
        return [network.features(rows) for rows in _batches(X, network, batch, progress)]


def _batches(X: FloatArray, network: NetworkRegression, batch: int, progress: bool) -> Iterator[torch.Tensor]:
    torch = require("torch")
    size = check.integer(batch, "batch")
    with Stage("equilibria", len(X), unit="sample", show=progress) as stage:
        for start in range(0, len(X), size):
            rows = X[start : start + size]
            yield torch.from_numpy(np.require(rows, requirements=["C", "W"])).to(network.v.device)
            stage.update(len(rows))
