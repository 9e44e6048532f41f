"""Gram models of small mixtures, and matrices sampled from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from rmtdeq.theory.rmt import GramModel, covariance_family


@dataclass(frozen=True)
class Sampler:
    """One Gram model, and how to draw the random matrix that it describes."""

    model: GramModel
    covariances: list[np.ndarray]
    means: np.ndarray

    def draw(self, seed: int) -> np.ndarray:
        """Return H = W̃ᵀW̃ + diag(λ) + U L Uᵀ, written from its definition."""
        rng = np.random.default_rng(seed)
        p = self.means.shape[1]
        sizes = np.round(self.model.ratios * p).astype(int)
        y = np.repeat(np.arange(sizes.size), sizes)
        roots = [
            np.linalg.cholesky(c).T if c.ndim == 2 else np.diag(np.broadcast_to(np.sqrt(c), (p,)))
            for c in self.covariances
        ]
        W = np.concatenate([rng.standard_normal((n, p)) @ root for n, root in zip(sizes, roots, strict=True)])
        W /= np.sqrt(p)
        indicator = np.eye(sizes.size)[y]
        norms = ((W + self.means[y] / np.sqrt(p)) ** 2).sum(axis=1)
        expected = np.array(
            [
                (np.trace(c) if c.ndim == 2 else np.broadcast_to(c, (p,)).sum()) / p + mu @ mu / p
                for c, mu in zip(self.covariances, self.means, strict=True)
            ]
        )
        psi = norms - expected[y]
        along = self.model.gram[y] * (W @ self.means.T)
        U = np.hstack([indicator / np.sqrt(p), psi[:, None] * indicator, along])
        H = self.model.gram[np.ix_(y, y)] * (W @ W.T) + U @ self.model.coupling @ U.T
        H[np.diag_indices(y.size)] += self.model.shifts[y]
        return H


def _sampler(covariances, ratios, means=None, gram=None, shifts=None, coupling=None, truncation=0.0) -> Sampler:
    ratios = np.asarray(ratios, dtype=float)
    k = ratios.size
    covariances = [np.asarray(c, dtype=float) for c in covariances]
    p = next((c.shape[0] for c in covariances if c.ndim), 1) if means is None else np.shape(means)[1]
    means = np.zeros((k, p)) if means is None else np.asarray(means, dtype=float)
    full = [c if c.ndim == 2 else np.diag(np.broadcast_to(c, (p,))) for c in covariances]
    norm_variances = [2 * np.sum(c * c) / p + 4 * mu @ c @ mu / p for c, mu in zip(full, means, strict=True)]
    model = GramModel(
        gram=np.ones((k, k)) if gram is None else np.asarray(gram, dtype=float),
        shifts=np.zeros(k) if shifts is None else np.asarray(shifts, dtype=float),
        ratios=ratios,
        covariances=covariance_family(covariances, means, ratios / ratios.sum(), truncation),
        norm_variances=np.array(norm_variances),
        coupling=np.zeros((3 * k, 3 * k)) if coupling is None else np.asarray(coupling, dtype=float),
    )
    return Sampler(model, covariances, means)


@pytest.fixture(name="sampler", scope="session")
def _sampler_fixture():
    """Return the function from covariances and ratios n_a/p to a sampler."""
    return _sampler


@pytest.fixture(name="gram_model", scope="session")
def _gram_model():
    """Return the function from covariances and ratios n_a/p to a Gram model."""
    return lambda *args, **options: _sampler(*args, **options).model


def _moments_of(law):
    """Return mass, mean and second moment of a law, by Gauss's rule on every panel."""
    total = np.zeros(3)
    for at, mass in law.atoms:
        total += mass * np.array([1.0, at, at**2])
    nodes, weights = np.polynomial.legendre.leggauss(24)
    for part in law.intervals:
        left, right = part.breaks[:-1, None], part.breaks[1:, None]
        x, _ = part.position((left + right) / 2 + (right - left) / 2 * nodes)
        # The density times dx/dθ: near an end, x alone would lose the digits of θ.
        series = np.polynomial.legendre.legval(nodes, part.coefficients.T)
        weight = series * (right - left) / 2 * weights
        total += [weight.sum(), (weight * x).sum(), (weight * x**2).sum()]
    return total


def _expected_moments(model):
    """Return mean and second moment of the eigenvalues of W̃ᵀW̃ + diag(λ), from the entries' second moments."""
    family, share = model.covariances, model.probabilities
    weight = family.multiplicities / family.dimension
    diagonal = model.shifts + np.diag(model.gram) * (weight @ family.eigenvalues)
    products = np.einsum("m,ma,mb->ab", weight, family.eigenvalues, family.eigenvalues)
    if family.head is not None:
        off = family.head * (1 - np.eye(family.head.shape[1]))
        products = products + np.einsum("aij,bij->ab", off, off) / family.dimension
    return share @ diagonal, share @ diagonal**2 + share @ (model.gram**2 * products) @ model.ratios


@pytest.fixture(name="moments_of", scope="session")
def _moments_of_fixture():
    """Return the function from a law to its mass, mean and second moment."""
    return _moments_of


@pytest.fixture(name="expected_moments", scope="session")
def _expected_moments_fixture():
    """Return the function from a Gram model without truncation to the exact mean and second moment of its law."""
    return _expected_moments
