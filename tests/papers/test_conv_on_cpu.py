"""The script that trains the convolutional positive concave DEQ on a CPU."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from rmtdeq.models.pcdeq import PcDEQConv2d

SCRIPT = str(Path(__file__).parents[2] / "scripts" / "pcdeq_conv_on_cpu.py")


@pytest.mark.slow
def test_the_convolutional_classifier_is_trained_in_half_precision_and_goes_on(monkeypatch, capsys, data_dir, tmp_path):
    monkeypatch.setenv("RMTDEQ_DATA", str(data_dir))
    for folder, epochs in (("whole", ("2",)), ("parts", ("1", "2"))):
        for count in epochs:
            options = ["--n", "64", "--epochs", count, "--decay", "0", "--checkpoint", str(tmp_path / folder)]
            monkeypatch.setattr("sys.argv", ["train", *options, "--out", str(tmp_path / f"{folder}.pt")])
            with pytest.raises(SystemExit) as done:
                runpy.run_path(SCRIPT, run_name="__main__")
            assert done.value.code == 0
    assert "in single precision" in capsys.readouterr().out
    whole, parts = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_its_few_steps_are_the_layers_equilibrium_and_gradient_when_there_are_many():
    few = runpy.run_path(SCRIPT, run_name="script")["FewSteps"]
    layer = PcDEQConv2d(6, "relu6", seed=0, map_input=False)
    layer.set_weight(torch.rand(6, 6, 3, 3, generator=torch.Generator().manual_seed(0)) / 60)
    x = torch.rand(3, 6, 9, 9, generator=torch.Generator().manual_seed(1)) + 0.1
    towards = torch.randn(3, 6, 9, 9, generator=torch.Generator().manual_seed(2))
    results = []
    for half in (False, True):
        mine = x.clone().requires_grad_()
        weight = layer.weight().detach().requires_grad_()
        if half:
            z = few.apply(mine.to(torch.bfloat16), weight, torch.zeros(6), 40).float()
        else:
            layer.zero_grad()
            z = layer(mine)
        (z * towards).sum().backward()
        results.append((z.detach(), mine.grad, weight.grad if half else _of_weight(layer, x, towards)))
    for exact, rounded in zip(*results, strict=True):
        # Entries are rounded to eight binary digits.
        assert float((exact - rounded).norm() / exact.norm()) < 0.02


def _of_weight(layer, x, towards):
    """The gradient in the weight itself, which the layer's factors hide: the adjoint equation, iterated at length."""
    weight = layer.weight().detach()
    z = layer(x).detach()
    slope = ((z > 0) & (z < 6)).float()
    g = towards * slope
    for _ in range(200):
        g = slope * (towards + torch.nn.functional.conv_transpose2d(g, weight, padding=1))
    return torch.nn.grad.conv2d_weight(z, weight.shape, g, padding=1)
