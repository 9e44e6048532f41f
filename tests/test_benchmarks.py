"""Benchmarks run at sizes that tests can bear: on a GPU's stand-in, Triton's interpreter, and of narrow networks."""

from __future__ import annotations

import json

import gpu
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


def test_stability_is_measured_once_and_compared(tmp_path, capsys, monkeypatch):
    X = np.random.default_rng(0).standard_normal((2, 2, 20)) / np.sqrt(20)
    monkeypatch.setattr(stability, "P", 20)
    monkeypatch.setattr(stability, "samples", lambda draws: X[:draws])
    options = [str(tmp_path / "rows.jsonl"), "--width", "200", "--draws", "2", "--names", "relu", "--shares", "0.1"]
    stability.main(options)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["case"][2:] for row in rows] == [[w, 200, draw] for draw in (0, 1) for w in stability.WEIGHTS]
    assert {row["data"] for row in rows} == set(stability.DATA)
    for row in rows:
        # σ_a √E φ'² = √(0.1 · 2/2), and a state's change falls by that in a step.
        assert abs(row["rate"][0] - 0.1**0.5) < 0.05
        assert np.ptp(np.diff(row["steps"][0])) <= 2
    said = capsys.readouterr().out
    assert said.count("| relu | 0.1 |") == 2
    monkeypatch.setattr(stability, "measure", None)
    stability.main([*options, "--weights", "gaussian"])
    assert capsys.readouterr().out.count("| relu | 0.1 |") == 1
