"""Both exact kernels against the matrix product X Xᵀ on the same cores, their memory at the peak, and Monte Carlo."""

import pytest
import rivals

N, P = 4000, 784


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("activation", ["tanh", "relu", rivals.bump], ids=["tanh", "relu", "callable"])
def test_both_kernels_against_the_product(benchmark, activation, dtype):
    X = rivals.samples(N, P).astype(dtype)
    kernels = rivals.kernels(X, activation)
    ratio, ours, product = rivals.paired(kernels, lambda: X @ X.T)
    benchmark.extra_info["ratio to X @ X.T"] = round(ratio, 2)
    benchmark.pedantic(kernels, rounds=3, warmup_rounds=1)
    print(f"\n{dtype}: CK and NTK {ours:.3f} s, X @ X.T {product:.3f} s, ratio {ratio:.2f}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_memory_at_the_peak(benchmark, dtype):
    peak = benchmark.pedantic(lambda: rivals.peak_memory(N, P, dtype), rounds=1)
    benchmark.extra_info["peak beyond X, in n² entries"] = round(peak, 2)
    print(f"\npeak beyond X: {peak:.2f} n² entries of {dtype}")


def test_against_monte_carlo(benchmark):
    whole = rivals.monte_carlo_seconds(500)
    kernels = rivals.kernels(rivals.samples(400, 500), "tanh")
    benchmark.pedantic(kernels, rounds=20, warmup_rounds=2)
    ratio = whole / benchmark.stats.stats.median
    benchmark.extra_info["times faster than Monte Carlo"] = round(ratio)
    print(f"\nMonte Carlo {whole:.0f} s, {ratio:.0f} times")


@pytest.mark.parametrize("storage", ["dense", "float32", "matrix-free"])
def test_product_with_eight_vectors_against_the_dense_product(benchmark, storage):
    import rmtdeq as rd

    X, V = rivals.samples(N, P), rivals.samples(N, 8)
    deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
    K, op = rd.kernel(X, deq, progress=False), rd.kernel_operator(X, deq, method=storage)
    ratio, ours, dense = rivals.paired(lambda: op @ V, lambda: K @ V)
    benchmark.extra_info["ratio to K @ V"] = round(ratio, 2)
    benchmark.pedantic(lambda: op @ V, rounds=3)
    print(f"\n{storage}: {ours:.4f} s, K @ V {dense:.4f} s")
