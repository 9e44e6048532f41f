"""What a prediction or comparison of spectra comes to, as arrays and as a record: each level under its own name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmtdeq._lib import style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.files import file_path, of_kind, write_whole
from rmtdeq._lib.types import FloatArray
from rmtdeq.spectra import EmpiricalSpectrum, SpectrumComparison
from rmtdeq.spectra.overview import named
from rmtdeq.theory import SpectrumPrediction

_BINS = 200
_QUANTILES = np.linspace(0.0, 1.0, 101)
_DIGITS = 8


def arrays_path(out: str | Path | None) -> Path | None:
    """Return where arrays go: `out`, with .npz if it has no suffix; None for None.

    Raises
    ------
    InvalidInputError
        The suffix is that of another kind of file.
    """
    return None if out is None else of_kind(Path(out), (".npz",), "Arrays go to a file of the kind .npz")


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Save arrays by name in a file of numpy.savez, which numpy.load opens without pickle, and return its path."""
    return write_whole(path, lambda beside: np.savez_compressed(beside, allow_pickle=False, **arrays))


def save_comparisons(
    path: str | Path,
    comparisons: SpectrumComparison | Sequence[SpectrumComparison],
    class_names: Sequence[str] | None = None,
) -> str:
    """Write all numbers of comparisons of spectra as arrays, as ``rmtdeq compare --save`` does, and return the path.

    Parameters
    ----------
    path : path
        A file .npz, which `numpy.load` opens without pickle.
    comparisons : SpectrumComparison, or a sequence of them
        Of the same samples.
    class_names : sequence of str, optional
        "class 0", "class 1", … by default.

    Raises
    ------
    InvalidInputError
        No comparison, or the name of another kind of file.
    """
    several = [comparisons] if isinstance(comparisons, SpectrumComparison) else list(comparisons)
    if not several:
        raise InvalidInputError("save_comparisons needs at least one comparison.")
    place = of_kind(file_path(path, "path"), (".npz",), "Arrays go to a file of the kind .npz")
    names = named(class_names, several[0].prediction.classes)
    return str(save_arrays(place, comparison_arrays(several, names)))


def prediction_arrays(predictions: Sequence[SpectrumPrediction], class_names: Sequence[str]) -> dict[str, Any]:
    """Return the arrays of predictions: ``classes``, and ``KIND/LEVEL/…`` of each."""
    arrays: dict[str, Any] = {"classes": np.array(class_names, dtype=str)}
    for prediction in predictions:
        edges = _bin_edges(prediction.all_values)
        arrays |= _under(f"{prediction.kind}/{prediction.level}", _of_prediction(prediction, edges))
    return arrays


def comparison_arrays(comparisons: Sequence[SpectrumComparison], class_names: Sequence[str]) -> dict[str, Any]:
    """Return the arrays of comparisons: ``classes``, ``KIND/…`` as measured, and ``KIND/LEVEL/…`` as predicted."""
    arrays: dict[str, Any] = {"classes": np.array(class_names, dtype=str)}
    for comparison in comparisons:
        prediction, kind = comparison.prediction, comparison.prediction.kind
        if f"{kind}/eigenvalues" not in arrays:
            edges = _bin_edges(comparison.empirical.known_values)
            arrays |= _under(kind, _measured(comparison.empirical, comparison.leading, edges))
        own = _of_prediction(prediction, arrays[f"{kind}/bin_edges"]) | _of_comparison(comparison)
        arrays |= _under(f"{kind}/{prediction.level}", own)
    return arrays


def prediction_record(predictions: Sequence[SpectrumPrediction], class_names: Sequence[str]) -> dict[str, Any]:
    """Return what a manifest keeps of predictions: by "kind, level"."""
    arrays = prediction_arrays(predictions, class_names)
    return {"classes": list(class_names)} | {
        f"{each.kind}, {each.level}": _plain(arrays, f"{each.kind}/{each.level}") | {"warnings": each.doubts()}
        for each in predictions
    }


def comparison_record(comparisons: Sequence[SpectrumComparison], class_names: Sequence[str]) -> dict[str, Any]:
    """Return what a manifest keeps of comparisons: by "kind, measured", and by "kind, level"."""
    arrays = comparison_arrays(comparisons, class_names)
    record: dict[str, Any] = {"classes": list(class_names)}
    for comparison in comparisons:
        prediction, verdict = comparison.prediction, comparison.verdict
        record[f"{prediction.kind}, measured"] = _plain(arrays, prediction.kind)
        record[f"{prediction.kind}, {prediction.level}"] = {
            "verdict": verdict.text,
            "ks": comparison.ks,
            "ks_error": comparison.ks_error,
            "wasserstein": comparison.wasserstein,
            **_rank_errors(comparison),
            "largest_errors": verdict.errors,
            "warnings": comparison.warnings,
            **_plain(arrays, f"{prediction.kind}/{prediction.level}"),
        }
    return record


def _under(name: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}/{key}": value for key, value in arrays.items()}


def _plain(arrays: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the arrays right under a name as JSON has them: fewer digits, and null for what is not known."""
    own = {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")}
    return {key: _rounded(np.asarray(value).tolist()) for key, value in own.items() if "/" not in key}


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
    return value


def _bin_edges(values: FloatArray) -> FloatArray:
    """Return equal bins, on a logarithmic scale where the values are wide."""
    low, high = float(values.min()), float(values.max())
    positive = values[values > 1e-12 * high]
    if positive.size and high > style.WIDE * positive.min():
        return np.geomspace(positive.min(), high, _BINS + 1)
    margin = 1e-9 * max(abs(low), abs(high), 1e-300)
    return np.linspace(low - margin, high + margin, _BINS + 1)


def _of_prediction(prediction: SpectrumPrediction, edges: FloatArray) -> dict[str, Any]:
    return {
        "eigenvalues": prediction.all_values,
        "edges": np.array(prediction.edges),
        "outliers": prediction.outliers,
        "alignments": prediction.alignments,
        "bin_edges": edges,
        "density": np.diff(prediction.cdf(edges)) / np.diff(edges),
        "quantile_levels": _QUANTILES,
        "quantiles": prediction.quantiles(_QUANTILES),
        "negative_mass": prediction.negative_mass,
    }


def _measured(emp: EmpiricalSpectrum, leading: FloatArray | None, edges: FloatArray) -> dict[str, Any]:
    found: dict[str, Any] = {"eigenvalues": emp.known_values, "bin_edges": edges}
    if emp.has_density:
        found["density"] = emp.masses(edges)[0] / np.diff(edges)
        found |= {"quantile_levels": _QUANTILES, "quantiles": np.quantile(emp.all_values, _QUANTILES)}
    if leading is not None:
        found["alignments"] = leading
    return found


def _rank_errors(comparison: SpectrumComparison) -> dict[str, Any]:
    found = comparison.rank_errors
    if found is None:
        return {}
    return {
        "log_error_upper_half": found.upper,
        "log_error": found.whole,
        "ridges": found.ridges.tolist(),
        "degrees_of_freedom": _rounded(found.freedom.tolist()),
        "degrees_of_freedom_errors": _rounded(found.freedom_errors.tolist()),
    }


def _of_comparison(comparison: SpectrumComparison) -> dict[str, Any]:
    found: dict[str, Any] = {"matched": comparison.matched}
    if comparison.alignments is not None:
        found["matched_alignments"] = comparison.alignments
    if comparison.ks is not None:
        found |= {"ks": comparison.ks, "wasserstein": comparison.wasserstein}
    return found
