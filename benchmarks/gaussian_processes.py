"""Time the kernel for GPyTorch against BoTorch's of ReLU networks in one run, and fit models with it.

    python benchmarks/gaussian_processes.py --out figures/gaussian-processes.json

This needs BoTorch, ``pip install botorch scikit-learn``; last tried was 0.18.1 with torch 2.13.0 on Python 3.11.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import gpytorch
import rivals
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.kernels import InfiniteWidthBNNKernel
from botorch.optim import optimize_acqf
from sklearn.datasets import load_diabetes

import rmtdeq as rd
from rmtdeq.gpytorch import DEQKernel
from rmtdeq.output.files import manifest

N, P, DEPTH = 4000, 6, 3
WEIGHT, BIAS = 2.0, 0.1
PEAK = "--peak-of"


def theirs():
    """BoTorch's kernel of three ReLU layers, as a function of samples."""
    kernel = InfiniteWidthBNNKernel(DEPTH)
    kernel.weight_var, kernel.bias_var = WEIGHT, BIAS
    return kernel, lambda X: kernel.k(X, X)


def ours():
    """The same kernel: their read-out has weights and a bias, their inner products are divided by the dimension."""
    first, rest = rd.Layer("relu", 0.0, WEIGHT / P, BIAS), rd.Layer("relu", 0.0, WEIGHT, BIAS)
    kernel = DEQKernel(rd.Network([first] + [rest] * (DEPTH - 1)), "ck")
    return kernel, lambda X: torch.add(torch.tensor(BIAS), kernel.forward(X, X), alpha=WEIGHT)


KERNELS = {"BoTorch": theirs, "rmtdeq": ours}


def samples():
    """Uniform samples, as they are in Bayesian optimisation."""
    return torch.rand(N, P, generator=torch.Generator().manual_seed(0))


def forward(of):
    """Return a call that computes a kernel alone."""
    X, (_, kernel) = samples(), of()

    def call():
        with torch.no_grad():
            return kernel(X)

    return call


def with_gradient(of):
    """Return a call that computes a kernel, and its sum's gradients in samples and variances."""
    X, (module, kernel) = samples().requires_grad_(), of()

    def call():
        X.grad = None
        module.zero_grad()
        kernel(X).sum().backward()
        return X.grad

    return call


def peak(name):
    """Memory of a process of its own at the peak of forward and gradient, and what it has before, in bytes (Linux)."""
    run = subprocess.run([sys.executable, __file__, PEAK, name], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.strip().splitlines()[-1])


def own_peak(name):
    """Print what `peak` returns, of this process."""
    call = with_gradient(KERNELS[name])
    before = rivals.resident("VmRSS")
    call()
    print(json.dumps({"before": before, "peak": rivals.resident("VmHWM")}))


def against_botorch(rounds):
    """Times, memory and agreement."""
    rows = {"agreement": {}}
    for what, call in (("forward", forward), ("forward and gradient", with_gradient)):
        own, other = call(ours), call(theirs)
        # BoTorch keeps angles above 4e-4, which the diagonal has not.
        apart = float((own() - other()).abs().max() / other().abs().max())
        rows["agreement"][what] = apart
        print(f"{what}: {apart:.1e} apart", flush=True)
        for of, clock in (("", time.perf_counter), (" of the processor", time.process_time)):
            ratio, rival, seconds = rivals.paired(other, own, rounds, clock)
            rows[what + of] = {"factor": ratio, "seconds": seconds, "BoTorch": rival}
            print(f"{what}: {seconds:.3f} s{of}, BoTorch {rival:.3f} s, {ratio:.1f} times", flush=True)
    rows["peak"] = {name: peak(name) for name in KERNELS}
    for name, at in rows["peak"].items():
        print(f"{name}: {(at['peak'] - at['before']) / 2**30:.2f} GiB at the peak beyond the libraries", flush=True)
    return rows


def fits():
    """Likelihoods of exact processes on the diabetes table, standardised, after BoTorch's fit."""
    table = load_diabetes()
    X = torch.tensor((table.data - table.data.mean(0)) / table.data.std(0)) / table.data.shape[1] ** 0.5
    y = torch.tensor((table.target - table.target.mean()) / table.target.std())[:, None]
    kernels = {
        "RBF": gpytorch.kernels.RBFKernel(),
        "RBF, a length for each feature": gpytorch.kernels.RBFKernel(ard_num_dims=X.shape[1]),
        "ReLU DEQ": DEQKernel(rd.DEQ("relu", 0.3, 0.8, centered=False, sigma_c2=0.1)),
        "tanh DEQ": DEQKernel(rd.DEQ("tanh", 0.3, 0.8, sigma_c2=0.1)),
    }
    rows = {}
    for name, kernel in kernels.items():
        model = SingleTaskGP(X, y, covar_module=gpytorch.kernels.ScaleKernel(kernel))
        likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
        fit_gpytorch_mll(likelihood)
        model.train()
        rows[name] = float(likelihood(model(*model.train_inputs), model.train_targets))
        print(f"log-likelihood a sample, {name}: {rows[name]:.4f}", flush=True)
    return rows


def optimisations():
    """The best value that five steps of Bayesian optimisation find of a paraboloid, whose largest is zero."""
    kernels = {
        "RBF": gpytorch.kernels.RBFKernel,
        "ReLU DEQ": lambda: DEQKernel(rd.DEQ("relu", 0.3, 2.0, centered=False, sigma_c2=0.3)),
    }
    rows = {}
    for name, make in kernels.items():
        torch.manual_seed(1)
        X = torch.rand(6, 3)
        bounds = torch.stack([torch.zeros(3), torch.ones(3)])
        for _ in range(5):
            model = SingleTaskGP(X, paraboloid(X), covar_module=gpytorch.kernels.ScaleKernel(make()))
            fit_gpytorch_mll(gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model))
            acquisition = LogExpectedImprovement(model, paraboloid(X).max())
            X = torch.cat([X, optimize_acqf(acquisition, bounds, 1, num_restarts=3, raw_samples=16)[0]])
        rows[name] = float(paraboloid(X).max())
        print(f"best value of five steps, {name}: {rows[name]:.4f}", flush=True)
    return rows


def paraboloid(X):
    """Minus the squared distance from a point, (n, 1)."""
    return -((X - 0.3) ** 2).sum(-1, keepdim=True)


def main():
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="JSON file for the numbers")
    parser.add_argument(PEAK, choices=KERNELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    if options.peak_of:
        own_peak(options.peak_of)
        return
    results = {
        "against BoTorch": against_botorch(options.rounds),
        "likelihoods": fits(),
        "optimisation": optimisations(),
        "versions": {name: version(name) for name in ("torch", "gpytorch", "botorch")},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }
    if options.out:
        record = manifest("benchmarks/gaussian_processes.py", {"rounds": options.rounds}, results)
        Path(options.out).write_text(json.dumps(record, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
