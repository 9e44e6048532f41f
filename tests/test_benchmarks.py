"""The benchmark for GPUs runs at sizes that a CPU and Triton's interpreter can bear."""

from __future__ import annotations

import json

import gpu


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
