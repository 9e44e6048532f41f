"""All that a prediction needs to know of data: how many there are, their norms, and some of the samples."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import DataNotFoundError, InvalidInputError
from rmtdeq._lib.files import file_path, of_kind, write_whole
from rmtdeq._lib.types import FloatArray, IntArray, Seed
from rmtdeq.data.mixture import GaussianMixture, require_mixture

KEPT = 4096
_BLOCK = 1 << 24
_QUANTILES = 101
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class DataMoments:
    """What is remembered of data: sums over all samples, and a random choice of them.

    Made by `from_data` in one pass over any number of samples, or by `from_mixture`.  Its size does not depend on how
    many samples were seen.

    Attributes
    ----------
    count : int
        Samples seen.
    class_sizes : ndarray (K,)
        Of each class; one class where there were no labels.
    mean : ndarray (p,)
    norms : ndarray (101,)
        Quantiles 0, 0.01, … 1 of the squared norms, estimated from the samples kept.
    mean_squared_norm : float
        Of all samples.
    samples : ndarray (m, p) of float32
        Samples drawn without replacement, in random order.
    labels : ndarray (m,)
        Their classes.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> X, y = rd.load_dataset("digits")
    >>> rd.DataMoments.from_data(X, y)
    DataMoments(1797 samples, p=64, 10 classes, 1797 kept)
    """

    count: int
    class_sizes: IntArray
    mean: FloatArray
    norms: FloatArray
    mean_squared_norm: float
    samples: np.ndarray[Any, np.dtype[np.float32]]
    labels: IntArray

    @classmethod
    def from_data(cls, X: ArrayLike, y: ArrayLike | None = None, *, kept: int = KEPT, seed: Seed = 0) -> DataMoments:
        """Read data once, in blocks.

        Parameters
        ----------
        X : array_like (n, p)
            Samples with squared norms of order one, as `center_and_scale` makes them.  An array, a memory map, a Dask
            or zarr array: whatever has a shape and gives rows when sliced.
        y : array_like (n,), optional
            Labels 0 … K-1.
        kept : int
            How many samples to keep, at most; predictions of spectra are best up to about as many samples, and use up
            to 8192 in one piece for more, of which they take eigenvalues.
        seed : int or Generator
            Of the choice of the samples that are kept.

        Raises
        ------
        InvalidInputError
            Fewer than four samples, entries that are missing, labels that do not fit.
        """
        kept = check.integer(kept, "kept", low=4)
        rng = check.generator(seed)
        rows = X if hasattr(X, "shape") and hasattr(X, "__getitem__") else check.samples(X)
        shape = tuple(rows.shape)
        if len(shape) != 2 or shape[0] < 4:
            raise InvalidInputError(f"X must have one row a sample and four samples or more, not shape {shape}.")
        n, p = (int(each) for each in shape)
        labels = np.zeros(n, dtype=np.int64) if y is None else check.labels(y, n, p=p)
        # The samples with the smallest of random keys: the choice does not depend on how the rows come in blocks.
        keys = rng.random(n)
        chosen = np.argsort(keys, kind="stable")[: min(kept, n)]
        order = np.sort(chosen)
        total, energy = np.zeros(p), 0.0
        found = np.empty((order.size, p), dtype=np.float32)
        for start, block in _blocks(rows, n, p):
            total += block.sum(axis=0, dtype=float)
            energy += check.mean_squared_norm(block) * len(block) if block.any() else 0.0
            mine = slice(*np.searchsorted(order, (start, start + len(block))))
            found[mine] = block[order[mine] - start]
        place = np.searchsorted(order, chosen)
        sizes = np.bincount(labels)
        mean_squared_norm = energy / n
        check.warn_of_scale(mean_squared_norm)
        return cls(n, sizes, total / n, _norms(found), mean_squared_norm, found[place], labels[chosen])

    @classmethod
    def from_mixture(cls, gmm: GaussianMixture, *, kept: int = KEPT, seed: Seed = 0) -> DataMoments:
        """Draw the samples to be kept from a mixture; mean and norms are the mixture's own.

        Raises
        ------
        InvalidInputError
            No mixture, or too few samples for its classes.
        """
        require_mixture(gmm)
        kept = check.integer(kept, "kept", low=4)
        rng = check.generator(seed)
        X, y = gmm.sample(kept, rng)
        order = rng.permutation(kept)
        X = X[order].astype(np.float32)
        mean = gmm.weights @ gmm.means / np.sqrt(gmm.dimension)
        return cls(kept, gmm.class_sizes(kept), mean, _norms(X), gmm.mean_squared_norm, X, y[order])

    def __repr__(self) -> str:
        classes = f", {self.classes} classes" if self.classes > 1 else ""
        return f"DataMoments({self.count} samples, p={self.dimension}{classes}, {len(self.samples)} kept)"

    @property
    def classes(self) -> int:
        """Number of classes, K."""
        return int(self.class_sizes.size)

    @property
    def dimension(self) -> int:
        """Number of features, p."""
        return int(self.samples.shape[1])

    @cached_property
    def norm_spread(self) -> float:
        """Standard deviation of the squared norm over its mean, of the samples kept."""
        norms = np.einsum("ij,ij->i", self.samples, self.samples, dtype=float)
        return float(norms.std() / norms.mean())

    @cached_property
    def effective_dimension(self) -> float:
        """``(tr C)²/tr C²`` of the covariance C, without the bias that few samples would bring."""
        centred = self.samples[:2048].astype(float) - self.mean
        gram = centred @ centred.T
        m = len(gram)
        diagonal = np.einsum("ii->i", gram)
        squares = (float((gram * gram).sum()) - float(diagonal @ diagonal)) / (m * (m - 1))
        return float(diagonal.mean() ** 2 / max(squares, 1e-300))

    def summary(self) -> str:
        """Return the numbers as text."""
        quantiles = ", ".join(f"{self.norms[at]:.3g}" for at in (5, 50, 95))
        return "\n".join(
            [
                f"{self.count} samples of {self.dimension} features, {len(self.samples)} kept",
                f"classes               {' '.join(map(str, self.class_sizes))}",
                f"mean squared norm     {self.mean_squared_norm:.4g} (5, 50, 95 %: {quantiles}; "
                f"spread {self.norm_spread:.2g})",
                f"effective dimension   {self.effective_dimension:.1f}   ((tr C)²/tr C²)",
            ]
        )

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write everything to a .npz file, and return its path."""
        place = of_kind(file_path(path, "path"), (".npz",), "Moments are written as .npz")
        arrays = {each.name: getattr(self, each.name) for each in fields(self)}

        def write(beside: Any) -> None:
            with beside.open("wb") as file:
                np.savez(file, format=_FORMAT, **arrays)

        return str(write_whole(place, write))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DataMoments:
        """Read what `save` wrote; nothing in the file is run.

        Raises
        ------
        DataNotFoundError
            No such file.
        InvalidInputError
            It holds something else.
        """
        place = file_path(path, "path")
        if not place.is_file():
            raise DataNotFoundError(f"There is no file {place}.")
        try:
            with np.load(place, allow_pickle=False) as file:
                found = {each.name: file[each.name] for each in fields(cls)}
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise InvalidInputError(f"{place} holds no moments that DataMoments.save wrote: {error}.") from error
        found |= {"count": int(found["count"]), "mean_squared_norm": float(found["mean_squared_norm"])}
        return cls(**found)


def _norms(samples: np.ndarray[Any, Any]) -> FloatArray:
    squares = np.einsum("ij,ij->i", samples, samples, dtype=float)
    return np.asarray(np.quantile(squares, np.linspace(0, 1, _QUANTILES)))


def _blocks(rows: Any, n: int, p: int) -> Iterator[tuple[int, FloatArray]]:
    """Rows in blocks of some megabytes, each after the number of its first."""
    step = max(1, _BLOCK // (8 * p))
    for start in range(0, n, step):
        yield start, check.samples(rows[start : start + step])
