"""Data to try the theory on: image data sets."""

from __future__ import annotations

from rmtdeq.data.datasets import dataset_names, load_dataset

__all__ = ["dataset_names", "load_dataset"]
