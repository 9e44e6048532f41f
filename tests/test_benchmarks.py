"""Benchmarks run at sizes that a CPU, and Triton's interpreter, can bear."""

from __future__ import annotations

import json

import foretold
import gpu
import learning_curves
import numpy as np
import stability


def test_gpu_benchmark_makes_its_table_and_figure(tmp_path, capsys, monkeypatch):
    # Few kernels, of samples whose correlations short series serve: the interpreter takes a second for a longer one.
    monkeypatch.setattr(gpu, "KINDS", {"both": gpu.KINDS["both"]})
    gpu.main(["--device", "cpu", "--n", "16", "--p", "400", "--rounds", "1", "--out", str(tmp_path / "gpu")])
    said = capsys.readouterr().out
    assert "times faster than numba" in said
    record = json.loads((tmp_path / "gpu.json").read_text())
    rows = record["results"]["against the product"]
    assert len(rows) == 2 * 4
    for name, row in rows.items():
        assert f"| {name} |" in said
        assert row["seconds"] > 0 < row["product"]
        bound = 1e-12 if "float64" in name else 1e-6
        assert row["error"] < {"tf32": 1e-3, "bfloat16": 1e-2}.get(name.rpartition(", ")[2], bound)
    assert (tmp_path / "gpu.png").stat().st_size > 10_000


def test_expected_errors_are_measured_once(tmp_path, capsys, monkeypatch):
    drawn = foretold.mixture(40, 60, 0.7, 0.5)
    monkeypatch.setattr(foretold, "cases", lambda: [("a small mixture", "tanh", drawn)])
    arguments = ["--out", str(tmp_path / "rows.jsonl"), "--seeds", "1"]
    foretold.main(arguments)
    first = capsys.readouterr().out
    assert "| a small mixture; tanh, ntk |" in first
    assert first.count("of 2 cases") == 3
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["seed"]) for row in rows] == [("ck", 0), ("ntk", 0), ("ck", 1), ("ntk", 1)]
    assert all(row["degrees"] < 0.5 and min(row["expected"]) > 0 for row in rows)
    monkeypatch.setattr(foretold, "measure", None)
    foretold.main(arguments)
    assert capsys.readouterr().out == first


def test_stability_is_measured_once_and_compared(tmp_path, capsys, monkeypatch):
    X = np.random.default_rng(0).standard_normal((2, 2, 20)) / np.sqrt(20)
    monkeypatch.setattr(stability, "P", 20)
    monkeypatch.setattr(stability, "samples", lambda draws: X[:draws])
    options = [str(tmp_path / "rows.jsonl"), "--width", "200", "--draws", "2", "--names", "relu", "--shares", "0.1"]
    stability.main(options)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["case"][2:] for row in rows] == [[w, 200, draw] for draw in (0, 1) for w in stability.WEIGHTS]
    assert all(len(row["smallest_singular_value"]) == len(stability.DATA) for row in rows)
    for row in rows:
        # σ_a √E φ'² = √(0.1 · 2/2), and a state's change falls by that in a step.
        assert abs(row["rate"][0] - 0.1**0.5) < 0.05
        assert np.ptp(np.diff(row["steps"][0])) <= 2
    said = capsys.readouterr().out
    assert said.count("| relu | 0.1 |") == 2
    assert said.count("1 networks: steps") == 2
    monkeypatch.setattr(stability, "measure", None)
    stability.main([*options, "--weights", "gaussian"])
    assert capsys.readouterr().out.count("| relu | 0.1 |") == 1


def test_learning_curves_are_measured_once_and_compared(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    X = (1.2 * np.eye(3, 20)[labels] + rng.standard_normal((500, 20))) / np.sqrt(20)
    for name, value in {"KNOWN": 80, "SIZES": (160, 300), "MODES": 60, "IMAGES": ("own",), "KINDS": ("ck",)}.items():
        monkeypatch.setattr(learning_curves, name, value)
    monkeypatch.setattr(learning_curves, "images", lambda _: (X, np.eye(3)[labels]))
    arguments = ["--out", str(tmp_path / "rows.jsonl"), "--draws", "1"]
    learning_curves.main(arguments)
    first = capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    true = {tuple(row["truth"][1:]): row["errors"] for row in rows if "truth" in row}
    assert len(true) == 2 * 5 * 3
    for row in rows:
        if "case" in row:
            _, activation, kind, ridge, _ = row["case"]
            # With a small ridge and classes that overlap 80 samples tell little.
            for place, size in enumerate((160, 300)):
                assert ridge < 1 or abs(row["mse"][place] / true[activation, kind, ridge, size][0] - 1) < 0.2
        if "ansatz" in row:
            _, activation, kind, ridge = row["ansatz"]
            # Gaussian samples, next to: what the ansatz takes for granted.
            assert ridge < 0.1 or abs(row["mse"][0] / true[activation, kind, ridge, 160][0] - 1) < 0.2
    assert "| all | MSE, Hermite ansatz |" in first
    monkeypatch.setattr(learning_curves, "forecasts", None)
    learning_curves.main(arguments)
    assert capsys.readouterr().out == first
