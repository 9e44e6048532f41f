"""Estimators in files that hold arrays and a text: nothing in them is run when they are read."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmtdeq._lib.errors import DataNotFoundError, InvalidInputError
from rmtdeq._lib.files import of_kind, write_whole
from rmtdeq._version import __version__
from rmtdeq.activations import activation, activation_names
from rmtdeq.data import Scaling
from rmtdeq.network import PROBES, Layer, Network
from rmtdeq.sklearn.estimators import DEQClassifier, DEQRegressor

_KIND = "an estimator of rmtdeq"
_KINDS: dict[str, type[DEQRegressor] | type[DEQClassifier]] = {
    each.__name__: each for each in (DEQRegressor, DEQClassifier)
}
_ARRAYS = ("X_fit_", "dual_coef_", "ridges_", "loo_error_", "gcv_error_")
_OF_CLASSES = ("classes_", "loo_error_rate_")
_SCALING = ("exponent", "centre", "spread")


def save_estimator(model: DEQRegressor | DEQClassifier, path: str | PathLike[str]) -> Path:
    """Write a fitted estimator into a file, of which `load_estimator` makes it again.

    Parameters
    ----------
    model : DEQRegressor or DEQClassifier
    path : path
        Of the file, .npz.  It holds the samples learnt from, as the estimator itself.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    InvalidInputError
        An estimator that is not fitted, or of a callable, or with labels that are no numbers or texts: pickle those.
    """
    name = next((name for name, kind in _KINDS.items() if type(model) is kind), None)
    if name is None or not hasattr(model, "X_fit_"):
        raise InvalidInputError(f"Only a fitted {' or '.join(_KINDS)} is saved, not {model!r}; call fit before.")
    arrays = {key: getattr(model, key) for key in _ARRAYS}
    arrays["intercept_"] = np.asarray(model.intercept_)
    if model.scaling_ is not None:
        arrays |= {key: np.asarray(getattr(model.scaling_, key)) for key in _SCALING}
    record = {
        "kind": _KIND,
        "rmtdeq": __version__,
        "estimator": name,
        "kernel": model.kind,
        "fit_intercept": bool(model.fit_intercept),
        "ridge": model.ridge_,
        "layers": [_written(layer) for layer in model.network_.layers],
        "sources": model.network_.sources,
        "features": [str(each) for each in getattr(model, "feature_names_in_", ())],
    }
    if isinstance(model, DEQClassifier):
        arrays |= {key: getattr(model, key) for key in _OF_CLASSES}
        record["inverse_temperature"] = model.inverse_temperature_
        record["texts"] = arrays["classes_"].dtype.kind == "O"
        if record["texts"]:
            if not all(isinstance(label, str) for label in model.classes_):
                raise InvalidInputError(
                    "Labels that are neither numbers nor texts are not saved; pickle the estimator."
                )
            arrays["classes_"] = arrays["classes_"].astype(str)
    file = of_kind(Path(path), (".npz",), "An estimator is saved as an .npz file")
    text = np.array(json.dumps(record))
    return write_whole(file, lambda beside: np.savez(beside, allow_pickle=False, record=text, **arrays))


def load_estimator(path: str | PathLike[str]) -> DEQRegressor | DEQClassifier:
    """Return the estimator that `save_estimator` has written, fitted.

    Parameters
    ----------
    path : path

    Returns
    -------
    DEQRegressor or DEQClassifier
        With the network pinned, and the ridge found, as its parameters.

    Raises
    ------
    DataNotFoundError
        There is no such file.
    InvalidInputError
        The file is damaged, or of another kind.
    """
    file = Path(path)
    if not file.is_file():
        raise DataNotFoundError(f"There is no estimator {file}; name a file that save_estimator has written.")
    try:
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as found:
            arrays = {key: found[key] for key in found.files}
        record = json.loads(str(arrays["record"]))
        if record["kind"] != _KIND:
            raise ValueError(f"it holds {record['kind']}")
        return _made(record, arrays)
    except Exception as error:  # zip, zlib, numpy's and json's readers raise almost every kind there is
        raise InvalidInputError(
            f"{file} is no estimator that can be read: {error}; name a file that save_estimator has written."
        ) from error


def _made(record: dict[str, Any], arrays: dict[str, Any]) -> DEQRegressor | DEQClassifier:
    sources = tuple(tuple((i, weight) for i, weight in each) for each in record["sources"])
    network = Network.wired(map(_layer, record["layers"]), sources)
    scaled = "centre" in arrays
    model = _KINDS[record["estimator"]](
        network, record["kernel"], ridge=record["ridge"], scale=scaled, fit_intercept=record["fit_intercept"]
    )
    for key in _ARRAYS:
        setattr(model, key, arrays[key])
    model.network_, model.ridge_ = network, record["ridge"]
    intercept = arrays["intercept_"]
    model.intercept_ = intercept if intercept.ndim else float(intercept)
    model.scaling_ = Scaling(*(arrays[key] for key in _SCALING)) if scaled else None
    model.n_features_in_ = model.X_fit_.shape[1]
    if record["features"]:
        model.feature_names_in_ = np.array(record["features"], dtype=object)
    if isinstance(model, DEQClassifier):
        for key in _OF_CLASSES:
            setattr(model, key, arrays[key])
        model.inverse_temperature_ = record["inverse_temperature"]
        if record["texts"]:
            model.classes_ = model.classes_.astype(object)
    return model


def _written(layer: Layer) -> dict[str, Any]:
    """Return a layer as numbers and texts."""
    phi = layer.activation
    found = {
        "activation": phi.name,
        "parameters": list(phi.parameters),
        "shift": phi.shift,
        "layer": layer.record(),
    }
    if phi.name not in activation_names() or not np.array_equal(_layer(found)(PROBES), layer(PROBES)):
        raise InvalidInputError(
            f"The activation {phi!r} has no name by which it is found again; pickle the estimator instead."
        )
    return found


def _layer(record: dict[str, Any]) -> Layer:
    phi = activation(record["activation"], *record["parameters"]).minus(record["shift"])
    return Layer.recorded(phi, record["layer"])
