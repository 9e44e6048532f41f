"""Time the kernels on a GPU against the product X Xᵀ, writing the results, the CPU, and JAX: a table and a figure.

    python benchmarks/gpu.py --out figures/benchmark-gpu
    python benchmarks/gpu.py --mnist --neural-tangents OTHER_ENVIRONMENT/bin/python --out figures/benchmark-gpu

`--mnist` adds density and top 20 eigenvalues of the NTK on all 60,000 images.  The other environment is that of
`report.py`, with a JAX that finds the GPU.  On a CPU, `--device cpu --n 64 --p 16`, Triton runs in its interpreter if
TRITON_INTERPRET=1, and is left out otherwise; those times say nothing.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import rivals
import torch
from matplotlib.figure import Figure

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq.output.files import manifest, save_figure

KINDS = {"CK": ("ck",), "NTK": ("ntk",), "both": ("ck", "ntk")}
PRECISIONS = (("float32", "full"), ("float32", "tf32"), ("float32", "bfloat16"), ("float64", "full"))
LARGEST_ON_CPU = 16384
CHECKED = 64


def engines(device):
    """Return the engines that run on a device."""
    import triton

    return ["triton", "torch"] if device.type == "cuda" or triton.knobs.runtime.interpret else ["torch"]


def name_of(device):
    """Return what the device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def median(call, device, rounds):
    """Time a call until the device has done all of it."""

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    call()
    wait()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def product_of(X, products):
    """Return a call that makes X Xᵀ on the device in some precision, as the library does it best."""

    def multiply():
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if products == "tf32" else "highest")
        try:
            return X @ X.T
        finally:
            torch.set_float32_matmul_precision(before)

    if products == "bfloat16":
        X = X.bfloat16()
    return multiply


def error_of(found, X, deq, kinds):
    """Largest error of some rows, relative to the largest entry, against the CPU's engine in double precision."""
    rows = X[:CHECKED].double().cpu().numpy()
    exact = rd.kernel(rows, deq, kinds, tau0_squared=1.0, backend="numba", progress=False)
    return max(
        float(abs(one[:CHECKED, :CHECKED].double().cpu().numpy() - other).max() / abs(other).max())
        for one, other in zip(found, exact, strict=True)
    )


def against_product_and_writing(options, device, deq):
    """Every engine, kernel and precision, in the same run as the product and a write and a copy of the results."""
    rows = {}
    for dtype, products in PRECISIONS:
        X = torch.from_numpy(rivals.samples(options.n, options.p).astype(dtype)).to(device)
        product = median(product_of(X, products), device, options.rounds)
        for what, kinds in KINDS.items():
            outputs = [torch.empty((options.n, options.n), dtype=X.dtype, device=device) for _ in kinds]
            others = [torch.empty_like(out) for out in outputs]
            write = median(lambda outputs=outputs: [out.fill_(1.0) for out in outputs], device, options.rounds)
            copy = median(
                lambda outputs=outputs, others=others: [a.copy_(b) for a, b in zip(others, outputs, strict=True)],
                device,
                options.rounds,
            )
            del outputs, others
            if device.type == "cuda":
                torch.cuda.empty_cache()
            for engine in engines(device):

                def kernels(engine=engine, X=X, kinds=kinds, products=products):
                    return rd.kernel(X, deq, kinds, backend=engine, products=products, tau0_squared=1.0, progress=False)

                ours = median(kernels, device, options.rounds)
                row = {
                    "seconds": ours, "product": product, "write": write, "copy": copy,
                    "ratio to product and write": ours / (product + write),
                    # The least that anything can take: half the product, and every entry written once.
                    "roofline fraction": max(product / 2, write) / ours,
                    "within twice the product and a write": bool(ours <= 2 * product + write),
                    "error": error_of(kernels(), X, deq, kinds),
                }  # fmt: skip
                rows[f"{engine}, {what}, {dtype}" + ("" if products == "full" else f", {products}")] = row
    return rows


def growth(options, device, deq):
    """Both kernels in single precision as n grows, on the device and, while it is patient, on the CPU."""
    sizes = [n for n in (options.n // 16, options.n // 8, options.n // 4, options.n // 2, options.n) if n >= 8]
    found = {"sizes": sizes, "product": [], "copy": [], "numba": []} | {name: [] for name in engines(device)}
    for n in sizes:
        X = torch.from_numpy(rivals.samples(n, options.p).astype(np.float32)).to(device)
        found["product"].append(median(product_of(X, "full"), device, options.rounds))
        pair = [torch.empty((2, n, n), dtype=X.dtype, device=device) for _ in range(2)]
        found["copy"].append(median(lambda pair=pair: pair[0].copy_(pair[1]), device, options.rounds))
        del pair
        for engine in engines(device):
            call = rivals.kernels_by(X, deq, engine)
            found[engine].append(median(call, device, options.rounds))
        if n <= LARGEST_ON_CPU:
            call = rivals.kernels_by(X.cpu().numpy(), deq, "numba")
            found["numba"].append(median(call, torch.device("cpu"), min(3, options.rounds)))
    return found


def spectrum_of_images(device):
    """Density and top 20 eigenvalues of the NTK on all of MNIST, from arrays on the host."""
    X, _ = rd.load_dataset("mnist", n=60000)
    deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
    start = time.perf_counter()
    found = rd.empirical_spectrum(X, deq, "ntk", method="slq", top=20, device=str(device), progress=False)
    seconds = time.perf_counter() - start
    error = float(found.rest.cdf_error(found.all_values).max())
    return {"seconds": seconds, "top": found.eigenvalues, "error of the density": error}


def against_neural_tangents(options, device, deq):
    """Its NTK of twenty ReLU layers through `jax.jit`, where its environment computes, against the NTK here."""
    n = min(options.n, LARGEST_ON_CPU)
    X = rivals.samples(n, options.p).astype(np.float32)
    seconds, *_ = rivals.neural_tangents(options.neural_tangents, X, 20, "relu", True)
    relu = rd.DEQ("relu", deq.sigma_a2, deq.sigma_b2)
    there = torch.from_numpy(X).to(device)
    ours = median(rivals.kernels_by(there, relu, engines(device)[0]), device, options.rounds)
    return {"n": n, "seconds": seconds, "ours": ours, "factor": seconds / ours}


def figure_of(rows, sizes, options, title):
    """Draw times against what bounds them, and growth with n."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    names = list(rows)
    at = np.arange(len(names))
    bound = np.array([2 * row["product"] + row["write"] for row in rows.values()])
    left.barh(at, [row["seconds"] for row in rows.values()] / bound, color=style.DATA, edgecolor=style.DATA_EDGE)
    least = [max(row["product"] / 2, row["write"]) for row in rows.values()] / bound
    left.plot(least, at, "|", color=style.THEORY, ms=9, mew=2, label="half the product, or one write: the least")
    left.axvline(1, color=style.THEORY, ls="--", label="twice the product and one write")
    left.set_yticks(at, names, fontsize=7)
    left.invert_yaxis()
    left.set_xscale("log")
    shortest, longest = left.get_xlim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if shortest <= tick <= longest]
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_xticks([], minor=True)
    left.set_xlabel(f"time / (2 X Xᵀ + a write of the results), n = {options.n}, p = {options.p}")
    left.legend(frameon=False, fontsize=7, loc="lower right", bbox_to_anchor=(1, 1.0), ncols=2)
    n = sizes["sizes"]
    styles = {
        "triton": {"color": style.THEORY, "marker": "o"},
        "torch": {"color": style.OTHER, "marker": "s"},
        "numba": {"color": style.DATA_EDGE, "marker": "^"},
        "product": {"color": style.THEORY, "ls": "--", "label": "X Xᵀ"},
        "copy": {"color": style.THEORY, "ls": ":", "label": "copy of the results"},
    }
    for name, look in styles.items():
        if sizes.get(name):
            label = {"label": name + (" (CPU)" if name == "numba" else "")} | look
            right.loglog(n[: len(sizes[name])], sizes[name], ms=4, **label)
    right.set_xticks(n, [str(each) for each in n])
    right.set_xticks([], minor=True)
    right.set_xlabel(f"n, at p = {options.p}")
    right.set_ylabel("seconds, CK and NTK in float32")
    right.legend(frameon=False, fontsize=8)
    for ax in (left, right):
        style.open_frame(ax)
    figure.suptitle(title, fontsize=10)
    return figure


def main(arguments=None):
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--n", type=int, default=32768)
    parser.add_argument("--p", type=int, default=784)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mnist", action="store_true", help="the NTK's spectrum on all 60,000 images as well")
    parser.add_argument("--neural-tangents", help="python of an environment with neural-tangents (left out by default)")
    parser.add_argument("--out", default="figures/benchmark-gpu")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
    rows = against_product_and_writing(options, device, deq)
    print(f"{name_of(device)}, n = {options.n}, p = {options.p}; times in milliseconds")
    print("| engine, kernels, precision | time | X Xᵀ | write | copy | ≤ 2 X Xᵀ + write | roofline | error |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        times = " | ".join(f"{1e3 * row[key]:.2f}" for key in ("seconds", "product", "write", "copy"))
        held = "yes" if row["within twice the product and a write"] else "no"
        print(f"| {name} | {times} | {held} | {row['roofline fraction']:.0%} | {row['error']:.0e} |", flush=True)
    sizes = growth(options, device, deq)
    if sizes["numba"]:
        last = len(sizes["numba"]) - 1
        best = min(sizes[name][last] for name in engines(device))
        print(f"n = {sizes['sizes'][last]}: {sizes['numba'][last] / best:.0f} times faster than numba on the CPU")
    results = {"device": name_of(device), "against the product": rows, "growth with n": sizes}
    if options.neural_tangents:
        results["neural-tangents"] = found = against_neural_tangents(options, device, deq)
        print(f"neural-tangents, n = {found['n']}: {found['seconds']:.3f} s, {found['factor']:.0f} times ours")
    if options.mnist:
        results["mnist"] = found = spectrum_of_images(device)
        print(f"MNIST, 60,000 images, NTK, density and top 20 eigenvalues: {found['seconds']:.1f} s")
    given = {name: value for name, value in vars(options).items() if name != "neural_tangents"}
    record = manifest("benchmarks/gpu.py", given, results)
    title = f"{name_of(device)}: kernels of a tanh DEQ"
    for path in save_figure(figure_of(rows, sizes, options, title), options.out, record):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
