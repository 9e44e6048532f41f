"""Data to try the theory on: Gaussian mixtures and image data sets."""

from __future__ import annotations

from rmtdeq.data.datasets import dataset_names, load_dataset
from rmtdeq.data.mixture import GaussianMixture

__all__ = ["GaussianMixture", "dataset_names", "load_dataset"]
