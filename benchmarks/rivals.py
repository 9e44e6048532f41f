"""What the kernels are timed against: the product X Xᵀ, Monte Carlo, and neural-tangents in its own environment."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import rmtdeq as rd


def samples(n, p, seed=0):
    """Gaussian samples of squared norm about one."""
    return np.random.default_rng(seed).standard_normal((n, p)) / np.sqrt(p)


def bump(u):
    """An activation without closed form and without a derivative given."""
    return np.sin(u) + 0.3 * u * np.exp(-u * u)


def paired(first, second, rounds=7, clock=time.perf_counter):
    """Time two calls in turn; return the median of the ratios, and the medians of both.

    `time.process_time` as the clock is for machines that others use, too.

    The threads of a BLAS go on spinning for some hundredths of a second after a product; neither call is charged for
    what the other left behind.
    """
    first(), second()
    times = []
    for _ in range(rounds):
        pair = []
        for call in (first, second):
            time.sleep(0.1)
            start = clock()
            call()
            pair.append(clock() - start)
        times.append(pair)
    a, b = np.array(times).T
    return float(np.median(a / b)), float(np.median(a)), float(np.median(b))


def seconds(call, rounds):
    """Time a call again and again; return the median."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def monte_carlo_seconds(p, timed=8):
    """Time of the estimate in use today: p²/m equilibria of width m = 1000 on n = 0.8 p samples, from a few of them."""
    n, m = int(0.8 * p), 1000
    rng = np.random.default_rng(0)
    X = samples(n, p)

    def equilibrium():
        A, B = rng.standard_normal((m, m)), rng.standard_normal((m, p))
        source, z = np.sqrt(0.8) * (X @ B.T), np.zeros((n, m))
        for _ in range(40):
            new = np.tanh(np.sqrt(0.2) * (z @ A.T) + source) / np.sqrt(m)
            if abs(new - z).max() < 1e-8 / np.sqrt(m):
                break
            z = new
        return z @ z.T

    return seconds(equilibrium, timed) * p**2 / m


PEAK = """
import gc, sys, numpy as np, rmtdeq as rd

def memory(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

n, p, dtype = int(sys.argv[1]), int(sys.argv[2]), np.dtype(sys.argv[3])
X = (np.random.default_rng(0).standard_normal((n, p)) / p ** 0.5).astype(dtype)
deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
rd.kernel(X[:200], deq, kind=("ck", "ntk"))
X @ X[:200].T
gc.collect()
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")  # the high-water mark starts again from what is resident now
before = memory("VmRSS")
kernels = rd.kernel(X, deq, kind=("ck", "ntk"))
print((memory("VmHWM") - before) / (n**2 * dtype.itemsize))
"""


def resident(field):
    """Memory of this process, of "VmRSS" now or of "VmHWM" at its peak, in bytes (Linux)."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak_memory(n, p, dtype):
    """Memory at the peak of both kernels beyond X, in units of one n x n matrix of the dtype (Linux)."""
    call = [sys.executable, "-c", PEAK, str(n), str(p), dtype]
    return float(subprocess.run(call, capture_output=True, text=True, check=True).stdout)


FIRST = """
import time, sys, numpy as np, rmtdeq as rd
X = np.random.default_rng(0).standard_normal((100, 50)) / 50**0.5
deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
import numba
start = time.perf_counter()
rd.kernel(X, deq, kind=("ck", "ntk"))
print(time.perf_counter() - start)
"""


def first_call_seconds():
    """Time of the first call in a new process, without compiled code on the disk and with it."""
    import os

    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        runs = [
            subprocess.run([sys.executable, "-c", FIRST], env=environment, capture_output=True, text=True, check=True)
            for _ in range(2)
        ]
    return tuple(float(run.stdout) for run in runs)


NEURAL_TANGENTS = """
import json, resource, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np, jax
from neural_tangents import stax

path, layers, activation, compiled, rounds = sys.argv[1:]
X = np.load(path)
jax.config.update("jax_enable_x64", X.dtype == np.float64)

def nonlinearity():
    if activation == "relu":
        return stax.Relu()
    return stax.ElementwiseNumerical(fn=lambda u: jax.numpy.sin(u) + 0.3 * u * jax.numpy.exp(-u * u), deg=25)

hidden = [layer for _ in range(int(layers)) for layer in (stax.Dense(512, W_std=0.2**0.5, b_std=0.1), nonlinearity())]
kernel = stax.serial(*hidden, stax.Dense(1))[2]
if compiled == "True":
    kernel = jax.jit(kernel, static_argnames="get")
times = []
for _ in range(int(rounds) + 1):
    start = time.perf_counter()
    found = kernel(X, None, get="ntk").block_until_ready()
    times.append(time.perf_counter() - start)
corner = np.asarray(found[:8, :8], dtype=float).tolist()
print(json.dumps({"times": times, "corner": corner, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def neural_tangents(python, X, layers, activation, compiled, rounds=2):
    """Time neural-tangents' NTK of an explicit network, in the precision of X, after a first call that is not counted.

    Parameters
    ----------
    python : str
        Of the environment that has it.
    X : ndarray
    layers : int
    activation : {"relu", "bump"}
        The second by quadrature of degree 25.
    compiled : bool
        Whether the kernel function is given to `jax.jit`; its documentation calls it as it is.
    rounds : int

    Returns
    -------
    seconds : float
        Median.
    peak : int
        Bytes.
    corner : ndarray (8, 8)
        The kernel of the first samples.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        np.save(path, X)
        call = [python, "-c", NEURAL_TANGENTS, str(path), str(layers), activation, str(compiled), str(rounds)]
        run = subprocess.run(call, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout.strip().splitlines()[-1])
    return float(np.median(found["times"][1:])), found["peak"], np.array(found["corner"])


SAME_LAYERS = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
import rivals
X = np.load(sys.argv[2])
rivals.kernels_of(X, rivals.same_layers(int(sys.argv[3]), sys.argv[4]))()
print(rivals.resident("VmHWM"))
"""


def same_layers_peak(X, layers, activation):
    """Memory at the peak of a process that computes both kernels of what `neural_tangents` times, in bytes (Linux)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        np.save(path, X)
        call = [sys.executable, "-c", SAME_LAYERS, str(Path(__file__).parent), str(path), str(layers), activation]
        return int(subprocess.run(call, capture_output=True, text=True, check=True).stdout)


def kernels(X, activation, dtype=None):
    """Return a call that computes both kernels."""
    return kernels_of(X, rd.DEQ(activation, sigma_a2=0.2, sigma_b2=0.8), dtype)


def kernels_of(X, network, dtype=None):
    """Return a call that computes both kernels of a network."""
    return lambda: rd.kernel(X, network, kind=("ck", "ntk"), dtype=dtype, progress=False)


def same_layers(layers, activation):
    """Return the network that `neural_tangents` times."""
    return rd.Network([rd.Layer(bump if activation == "bump" else activation, sigma_b2=0.2, sigma_c2=0.01)] * layers)


def kernels_by(X, deq, engine):
    """Return a call that computes both kernels by some engine, where X is."""
    return lambda: rd.kernel(X, deq, kind=("ck", "ntk"), backend=engine, tau0_squared=1.0, progress=False)
