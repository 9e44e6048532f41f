"""Data to try the theory on: Gaussian mixtures, image data sets, samples on a sphere."""

from __future__ import annotations

from rmtdeq.data.classification import load_classification
from rmtdeq.data.datasets import class_names, dataset_names, load_dataset
from rmtdeq.data.mixture import GaussianMixture
from rmtdeq.data.moments import DataMoments
from rmtdeq.data.own import DataTable, load_table
from rmtdeq.data.scaling import ScaledRows, Scaling, center_and_scale, standardize
from rmtdeq.data.sphere import on_sphere

__all__ = [
    "DataMoments",
    "DataTable",
    "GaussianMixture",
    "ScaledRows",
    "Scaling",
    "center_and_scale",
    "class_names",
    "dataset_names",
    "load_classification",
    "load_dataset",
    "load_table",
    "on_sphere",
    "standardize",
]
