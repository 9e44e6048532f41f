"""Both exact kernels against the matrix product X Xᵀ on the same cores, and their memory at the peak."""

import subprocess
import sys
import time

import numpy as np
import pytest

import rmtdeq as rd

N, P = 4000, 784


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_both_kernels_against_the_product(benchmark, paired, activation):
    X = np.random.default_rng(0).standard_normal((N, P)) / np.sqrt(P)
    deq = rd.DEQ(activation, sigma_a2=0.2, sigma_b2=0.8)

    def kernels():
        return rd.kernel(X, deq, kind=("ck", "ntk"), progress=False)

    ratio, ours, product = paired(kernels, lambda: X @ X.T)
    benchmark.extra_info["ratio to X @ X.T"] = round(ratio, 2)
    benchmark.pedantic(kernels, rounds=3, warmup_rounds=1)
    print(f"\n{activation}: CK and NTK {ours:.3f} s, X @ X.T {product:.3f} s, ratio {ratio:.2f}")


PEAK = """
import gc, numpy as np, rmtdeq as rd

def memory(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

X = np.random.default_rng(0).standard_normal(({n}, {p})) / {p} ** 0.5
deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
rd.kernel(X[:200], deq, kind=("ck", "ntk"))
X @ X[:200].T
gc.collect()
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")  # the high-water mark starts again from what is resident now
before = memory("VmRSS")
kernels = rd.kernel(X, deq, kind=("ck", "ntk"))
print((memory("VmHWM") - before) / ({n} ** 2 * 8))
"""


def test_memory_at_the_peak(benchmark):
    def measure():
        code = PEAK.format(n=N, p=P)
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    peak = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["peak beyond X, in n²·8 bytes"] = round(peak, 2)
    print(f"\npeak beyond X: {peak:.2f} · n² · 8 bytes")


def test_against_monte_carlo(benchmark):
    """The estimate in use today: p²/m equilibria of width m = 1000, p = 500, n = 400, timed on a few of them."""
    n, p, m, timed = 400, 500, 1000, 8
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) / np.sqrt(p)
    deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)

    def equilibrium():
        A, B = rng.standard_normal((m, m)), rng.standard_normal((m, p))
        source, z = np.sqrt(0.8) * (X @ B.T), np.zeros((n, m))
        for _ in range(40):
            new = np.tanh(np.sqrt(0.2) * (z @ A.T) + source) / np.sqrt(m)
            if abs(new - z).max() < 1e-8 / np.sqrt(m):
                break
            z = new
        return z @ z.T

    def kernels():
        return rd.kernel(X, deq, kind=("ck", "ntk"), progress=False)

    start = time.perf_counter()
    for _ in range(timed):
        equilibrium()
    whole = (time.perf_counter() - start) / timed * p**2 / m
    kernels()
    benchmark.pedantic(kernels, rounds=20, warmup_rounds=2)
    ratio = whole / benchmark.stats.stats.median
    benchmark.extra_info["times faster than Monte Carlo"] = round(ratio)
    print(f"\nMonte Carlo {whole:.0f} s (from {timed} of {p**2 // m} equilibria), {ratio:.0f} times")
