"""Which network, kernel and ridge to learn with, in order of the error that leaving samples out foretells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.stats import norm

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.tables import Table, Tabular
from rmtdeq._lib.threads import alone, share_out, threads
from rmtdeq._lib.types import KINDS, FloatArray, IntArray, Kind, Seed
from rmtdeq.data import Scaling
from rmtdeq.kernels import kernel
from rmtdeq.kernels.blocks import scratch_bytes
from rmtdeq.learning.ridge import RidgeFit, ridge_path
from rmtdeq.learning.targets import learning_targets
from rmtdeq.network import DEQ, Network, require_network

_FEWEST = 8
_MOST = 4000
_SCREENED = 400
"""Samples on which all are compared first, where there are twice as many or more."""

_KEPT = 3
"""One in so many goes on to twice the samples, and as many at least."""

_SIGNIFICANT = 0.05
_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network's kernel and the best ridge with it.

    Attributes
    ----------
    network : Network
    kind : str
    ridge : float
        Of the least leave-one-out error, among those of `rmtdeq.DEQRegressor`.
    mse : float
        Mean squared error by leave-one-out on all samples that were used; for a candidate that fell behind on fewer,
        the best one's times their ratio there.
    error_rate : float or None
        Share of these samples told wrong by the others; None for targets that are no classes, and for candidates that
        fell behind.
    samples : int
        That it was compared on.
    p_value : float
        Probability of as large a lead of the best over it on these samples if both were equally good, by a paired,
        one-sided test; 1 for the best itself.
    """

    network: Network
    kind: Kind
    ridge: float
    mse: float
    error_rate: float | None
    samples: int
    p_value: float

    @property
    def as_good(self) -> bool:
        """Whether it was not found to be worse than the best, at a level of five in a hundred."""
        return self.p_value >= _SIGNIFICANT

    @property
    def name(self) -> str:
        """The network and the kind of kernel."""
        return f"{self.network!r}, {self.kind}"


@dataclass(frozen=True, eq=False)
class Suggestion(Tabular):
    """Networks and kernels in order of their error on samples not learnt from.

    Attributes
    ----------
    candidates : tuple of Candidate
        The best first.
    n : int
        Samples used: all that were given, or as many as were asked to be used at most.
    scaled : bool
        Whether samples were centred and scaled, as the estimators do by default.
    whole : bool
        Whether all samples given were used.
    """

    candidates: tuple[Candidate, ...]
    n: int
    scaled: bool
    whole: bool

    def __repr__(self) -> str:
        first = self.candidates[0]
        return (
            f"Suggestion({first.name}, ridge={first.ridge:.3g}: mse {first.mse:.4g} from n={self.n}; "
            f"{self._ties} of {len(self.candidates) - 1} others not significantly worse)"
        )

    @property
    def best(self) -> Network:
        """The network of the least error."""
        return self.candidates[0].network

    @property
    def kind(self) -> Kind:
        """Its kind of kernel."""
        return self.candidates[0].kind

    @property
    def ridge(self) -> float:
        """Its ridge."""
        return self.candidates[0].ridge

    @property
    def _ties(self) -> int:
        return sum(each.as_good for each in self.candidates[1:])

    def parameters(self, rank: int = 0) -> dict[str, Any]:
        """Return what `DEQRegressor` or `DEQClassifier` is made from: ``rd.DEQClassifier(**found.parameters())``.

        Parameters
        ----------
        rank : int
            Of the candidate, 0 for the best.

        Returns
        -------
        dict
            ``deq``, ``kind``, ``scale`` and ``ridge``: the number, or ``"loo"``, which finds it anew, where it was
            found on some of the samples only.

        Raises
        ------
        InvalidInputError
            No candidate of this rank.
        """
        rank = check.integer(rank, "rank", low=0)
        if rank >= len(self.candidates):
            raise InvalidInputError(f"There are {len(self.candidates)} candidates; rank goes from 0, not to {rank}.")
        chosen = self.candidates[rank]
        final = self.whole and chosen.samples == self.n
        return {
            "deq": chosen.network,
            "kind": chosen.kind,
            "ridge": chosen.ridge if final else "loo",
            "scale": self.scaled,
        }

    def table(self) -> Table:
        """Return the candidates in order, one a row."""
        every = self.candidates
        columns: dict[str, Any] = {
            "network": [repr(each.network) for each in every],
            "kind": [each.kind for each in every],
            "ridge": np.array([each.ridge for each in every]),
            "mse": np.array([each.mse for each in every]),
        }
        if every[0].error_rate is not None:
            columns["error rate"] = np.array(
                [math.nan if each.error_rate is None else each.error_rate for each in every]
            )
        columns |= {
            "samples": np.array([each.samples for each in every]),
            "p value": np.array([each.p_value for each in every]),
            "as good": [each.as_good for each in every],
        }
        notes = (
            "as good: not significantly worse than the best, by a paired test over left-out samples at 5 %",
            "samples: that it was compared on; behind on fewer than all, it was left at that",
        )
        return Table(columns, np.arange(1, len(every) + 1), "rank", f"foretold from {self.n} samples", notes)

    def summary(self) -> str:
        """Return the best candidates and which of them are not told apart, as text."""
        best = self.candidates[0]
        rate = "" if best.error_rate is None else f", {100 * best.error_rate:.2f} % told wrong"
        lines = [
            f"{best.name}, ridge {best.ridge:.3g}: mean squared error {best.mse:.4g}{rate}, by leaving out of {self.n}"
        ]
        for each in self.candidates[1:_SHOWN]:
            verdict = "not significantly worse" if each.as_good else f"p = {each.p_value:.1g}"
            lines.append(f"  +{100 * (each.mse / best.mse - 1):.1f} %  {each.name}, ridge {each.ridge:.3g} ({verdict})")
        lines.append(f"{self._ties} of {len(self.candidates) - 1} others are not significantly worse than the best")
        return "\n".join(lines)

    def plot(self, ax: Any = None, **look: Any) -> Any:
        """Draw the foretold errors in order; filled where they are not significantly larger than the least.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        **look
            Of the points, as for `matplotlib.axes.Axes.plot`.

        Returns
        -------
        matplotlib.axes.Axes
        """
        ax = style.axes(ax)
        for good, face, text in ((True, style.THEORY, "as good as the best"), (False, "none", "significantly worse")):
            ranks = [i for i, each in enumerate(self.candidates, start=1) if each.as_good == good]
            errors = [self.candidates[rank - 1].mse for rank in ranks]
            ax.plot(
                ranks, errors, **{"color": style.THEORY, **style.POINTS, "markerfacecolor": face, "label": text, **look}
            )
        ax.set_yscale("log")
        ax.set_xlabel("rank")
        ax.set_ylabel("mean squared error, left out")
        ax.legend(frameon=False)
        return ax


def suggest(
    X: ArrayLike,
    y: ArrayLike,
    *,
    activations: Iterable[Any] = ("relu", "tanh", "sin"),
    sigma_a2: Iterable[float] = (0.0, 0.3),
    sigma_b2: Iterable[float] = (0.8, 3.0),
    sigma_c2: Iterable[float] = (0.0, 0.3),
    networks: Iterable[Network] | None = None,
    kinds: str | Sequence[str] = KINDS,
    scale: bool = True,
    most: int = _MOST,
    seed: Seed = 0,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    device: Any = None,
    memory_limit: float | None = None,
    progress: bool = True,
) -> Suggestion:
    """Find the network, the kernel and the ridge whose regression errs least on samples left out.

    Parameters
    ----------
    X : array_like (n, p)
        Samples, at least 8, in any order.
    y : array_like (n,) or (n, k)
        Labels of classes, integers or texts; or targets, floating-point numbers, one column each.
    activations : iterable of str, Activation or callable
    sigma_a2, sigma_b2, sigma_c2 : iterable of float
        Variances of the recurrent weights, the input weights and the bias: all combinations are tried.
    networks : iterable of Network, optional
        Networks to compare instead of those.
    kinds : str or sequence of str
        ``"ck"``, ``"ntk"``, ``"ntk-full"``.  The first two are the same for a network of one layer without recurrence.
    scale : bool
        Centre and scale samples as `rmtdeq.DEQRegressor` does.
    most : int
        Samples that are used at most, drawn at random: each comparison costs the cube of their number.
    seed : int or Generator
        Of the order of the samples.
    backend, dtype, device
        Of the kernel, as for `rmtdeq.kernel`.
    memory_limit : float, optional
        Bytes that n x n matrices may take; nine tenths of the free memory by default.
    progress : bool
        Tell how far it is if standard error is a terminal.

    Returns
    -------
    Suggestion

    Raises
    ------
    InvalidInputError
        Too few samples, targets that are none, nothing to choose from.
    IllPosedError
        A network without an equilibrium on these data.
    MemoryLimitError
        No room for the kernels of one network, which is told before any is computed.

    Notes
    -----
    Every kernel is decomposed once for all its ridges, and the error is that of predicting each sample from all others,
    exactly.  The kinds of a network are computed in one pass, and samples of more features than there are samples are
    turned into their own span first, which leaves inner products as they are.

    From twice 400 samples on, all candidates are compared on a part of them first, and the best third goes on to twice
    as many (successive halving: Jamieson and Talwalkar, AISTATS 2016).  The paired test takes errors of left-out
    samples for independent, and of many candidates the best looks better than it is: a small p value says that a
    candidate is worse, a large one that these samples do not tell.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> X, y = rd.load_dataset("digits", n=300, seed=0)
    >>> found = rd.suggest(X, y, activations=["relu"], sigma_c2=[0.0], progress=False)
    >>> found.best.activation
    relu
    >>> model = rd.DEQClassifier(**found.parameters()).fit(X, y)
    """
    X = check.samples(X)
    given = len(X)
    targets, classes = learning_targets(y, given)
    if given < _FEWEST:
        raise InvalidInputError(f"Networks are compared on {_FEWEST} samples at least, not on {given}.")
    found_kinds = check.kinds(kinds)
    every = _grid(activations, sigma_a2, sigma_b2, sigma_c2) if networks is None else list(dict.fromkeys(networks))
    if not every:
        raise InvalidInputError("There are no networks to choose from; name one at least.")
    for network in every:
        require_network(network)
    n = min(given, check.integer(most, "most", low=_FEWEST))
    itemsize = check.precision(dtype, X).itemsize
    workers = threads(len(every))
    matrices = workers * (len(found_kinds) + 1)
    check.memory(
        matrices * n * n * itemsize + workers * scratch_bytes(itemsize),
        memory_limit,
        f"Comparing kernels of {n} samples, {matrices} matrices of {n} x {n} entries,",
        "compare on fewer samples, as most=2000, or pass dtype='float32'",
    )
    rng = check.generator(seed)
    chosen = rng.permutation(given)[:n]
    samples = X[chosen]
    if check.flag(scale, "scale"):
        samples = Scaling.of(samples).apply(samples.astype(float, copy=False))
    comparison = _Comparison(
        _in_own_span(samples),
        targets[chosen],
        None if classes is None else classes[chosen],
        workers,
        progress,
        {"backend": backend, "dtype": dtype, "device": device, "memory_limit": memory_limit, "progress": False},
    )
    left = [(network, kind) for network in every for kind in _different(network, found_kinds)]
    behind: list[Candidate] = []
    for size in _sizes(n):
        ranked = comparison.ranked(left, size)
        kept = ranked if size == n else ranked[: max(_KEPT, math.ceil(len(ranked) / _KEPT))]
        # In units of the best's error, until the best's is known on all samples.
        behind += [replace(each, mse=each.mse / ranked[0].mse, error_rate=None) for each in ranked[len(kept) :]]
        left = [(each.network, each.kind) for each in kept]
    least = kept[0].mse
    ordered = sorted([*kept, *(replace(each, mse=each.mse * least) for each in behind)], key=lambda each: each.mse)
    return Suggestion(tuple(ordered), n, bool(scale), n == given)


def _grid(activations: Any, *variances: Any) -> list[Network]:
    for name, values in zip(
        ("activations", "sigma_a2", "sigma_b2", "sigma_c2"), (activations, *variances), strict=True
    ):
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise InvalidInputError(f"{name} must hold what is to be tried, as in [{values!r}], not {values!r} alone.")
    return [
        DEQ(activation, a2, b2, sigma_c2=c2) for activation, a2, b2, c2 in product(activations, *map(tuple, variances))
    ]


def _different(network: Network, kinds: Sequence[Kind]) -> list[Kind]:
    """Return the kinds of kernel, one of those that are the same for a layer of which only the read-out is trained."""
    same = len(network.layers) == 1 and not network.layers[0].recurrent and "ck" in kinds
    return [kind for kind in kinds if not (same and kind == "ntk")]


def _sizes(n: int) -> list[int]:
    """Return the numbers of samples that are compared on, each twice the one before, up to n."""
    rounds = max(0, int(math.log2(n / _SCREENED))) if n >= 2 * _SCREENED else 0
    return [n >> step for step in range(rounds, -1, -1)]


def _in_own_span(X: FloatArray) -> FloatArray:
    """Return samples of no more features than there are samples, of the same inner products."""
    n, p = X.shape
    return X if p <= n else np.ascontiguousarray(np.asarray(np.linalg.qr(X.T, mode="r")).T)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Samples and targets on which candidates are compared, the first of them where they are to be fewer."""

    samples: FloatArray
    targets: FloatArray
    classes: IntArray | None
    workers: int
    progress: bool
    options: dict[str, Any]

    def ranked(self, candidates: Sequence[tuple[Network, Kind]], size: int) -> list[Candidate]:
        """Return candidates in order of their leave-one-out error on the first samples, and the best's lead."""
        X, targets = self.samples[:size], self.targets[:size]
        centre = check.mean_squared_norm(X)
        kinds_of: dict[Network, tuple[Kind, ...]] = {}
        for network, kind in candidates:
            kinds_of[network] = (*kinds_of.get(network, ()), kind)
        fits: dict[tuple[Network, Kind], RidgeFit] = {}

        def decompose(network: Network) -> None:
            # Small matrices leave cores idle: each network has one to itself.
            with alone():
                kernels = list(kernel(X, network, kinds_of[network], tau0_squared=centre, **self.options))
                for kind in kinds_of[network]:
                    path = ridge_path(np.array(kernels.pop(0), order="C"), targets)
                    fits[network, kind] = min(path.fits(path.grid()), key=lambda fit: fit.loo_error)

        share_out(
            list(kinds_of),
            lambda _: decompose,
            min(self.workers, len(kinds_of)),
            what=f"comparing networks on {size} samples",
            progress=self.progress,
        )
        ordered = sorted(candidates, key=lambda each: fits[each].loo_error)
        best = np.square(fits[ordered[0]].residuals).mean(axis=1)
        return [self._judged(*each, fits[each], best) for each in ordered]

    def _judged(self, network: Network, kind: Kind, fit: RidgeFit, best: FloatArray) -> Candidate:
        size = len(best)
        lead = np.square(fit.residuals).mean(axis=1) - best
        deviation = float(lead.std(ddof=1))
        rate = None
        if self.classes is not None:
            left_out = self.targets[:size] - fit.residuals
            rate = float(np.mean(left_out.argmax(axis=1) != self.classes[:size]))
        p_value = float(norm.sf(lead.mean() * math.sqrt(size) / deviation)) if deviation else 1.0
        return Candidate(network, kind, fit.ridge, fit.loo_error, rate, size, p_value)
