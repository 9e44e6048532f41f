"""Time training and kernels on an idle machine and beside a program that takes all cores, in turn.

    python benchmarks/busy.py

Run it where nothing else runs.  Prints, for each piece of work, both times and their ratio, which is to be at most 2.5:
beside as many programs as there are cores each has half of the machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np

KERNELS = """
import numpy as np, rmtdeq as rd, time
X = np.random.default_rng(0).standard_normal(({n}, 784)) / 28
deq = rd.DEQ("tanh", 0.2, 0.8)
rd.kernel(X[:50], deq, progress=False)
start = time.perf_counter()
{call}
print(time.perf_counter() - start)
"""

WORK = {
    "CK and NTK, n = 4000": KERNELS.format(
        n=4000, call="for _ in range(8): rd.kernel(X, deq, ('ck', 'ntk'), progress=False)"
    ),
    "all eigenvalues, n = 2000": KERNELS.format(n=2000, call="rd.empirical_spectrum(X, deq, progress=False)"),
    "Lanczos, n = 4000": KERNELS.format(
        n=4000, call="rd.empirical_spectrum(X, deq, method='lanczos', top=10, progress=False)"
    ),
    "rmtdeq train": "train regression --n 100 --p 100 --widths 500 --epochs 60",
}


def seconds(work):
    """Time a piece of work in a process of its own, its start left out where it says how long it took."""
    command = [sys.executable, "-c", work] if "import" in work else [sys.executable, "-m", "rmtdeq", *work.split()]
    start = time.perf_counter()
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(printed) if "import" in work else time.perf_counter() - start


@contextmanager
def beside(programs):
    """Keep as many programs busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main(arguments=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    for name, work in WORK.items():
        seconds(work)
        pairs = []
        for _ in range(options.rounds):
            idle = seconds(work)
            with beside(os.cpu_count()):
                pairs.append((idle, seconds(work)))
        idle, busy = np.median(pairs, axis=0)
        print(f"{name:28s} idle {idle:7.2f} s, busy {busy:7.2f} s, ratio {busy / idle:.2f}", flush=True)


if __name__ == "__main__":
    main()
