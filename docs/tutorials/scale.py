r"""
More samples
============

A kernel of n samples has n² entries, and its eigenvalues cost n³ operations. This lesson keeps the matrix out of
sight: products instead of entries, a density with error bars instead of eigenvalues, a folder that survives an
interruption, and workers that each hold a part. Sizes are small here so that the page builds in seconds; the calls
are those for a hundred thousand samples.
"""

# sphinx_gallery_thumbnail_number = 1
import logging
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster

import rmtdeq as rd

logging.getLogger("distributed").setLevel("ERROR")

# %%
# The matrix as an operator
# -------------------------
#
# :func:`rmtdeq.kernel_operator` is a scipy ``LinearOperator``. It keeps at most half of the symmetric matrix; where,
# is its ``method``. All of them give the same products:

n, p = 1500, 2000
means = np.zeros((3, p))
means[range(3), range(3)] = 8
gmm = rd.GaussianMixture(means, [1.0, 1.2, 1.4])
X, y = gmm.sample(n, seed=0)
deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
v = np.random.default_rng(0).standard_normal(n)

scratch = Path(tempfile.mkdtemp())
whole = rd.kernel(X, deq, kind="ntk")
for method in ("dense", "float32", "memory-mapped", "matrix-free"):
    folder = scratch / "entries" if method == "memory-mapped" else None
    op = rd.kernel_operator(X, deq, kind="ntk", method=method, folder=folder)
    error = np.abs(op @ v - whole @ v).max() / np.abs(whole @ v).max()
    op.close()
    print(f"{method:<14} relative difference from the whole matrix {error:.0e}")

# %%
# What would each need? The first that fits into ``memory_limit`` is taken where none is named:

for samples in (10_000, 60_000, 1_000_000):
    whole_size = samples**2 * 8 / 2**30
    half, single = whole_size / 2, whole_size / 4
    print(f"n = {samples:>9,}: whole {whole_size:>8,.1f} GiB, half {half:>8,.1f} GiB, in float32 {single:>8,.1f} GiB")

# %%
# A density instead of eigenvalues
# --------------------------------
#
# ``method="slq"`` finds the largest eigenvalues one by one, by block Lanczos iterations, and the distribution of the
# others by stochastic Lanczos quadrature: the eigenvalues of a small projected matrix, with weights. It says how well
# it knows them.

exact = rd.empirical_spectrum(X, deq, kind="ntk")
slq = rd.empirical_spectrum(X, deq, kind="ntk", method="slq", top=5, steps=48, checkpoint=scratch / "job")
edges = np.quantile(exact.eigenvalues, [0.05, 0.25, 0.5, 0.75, 0.95])
share, error = slq.masses(edges)
true, _ = exact.masses(edges)
print("largest eigenvalues", slq.eigenvalues[-3:].round(6), "exact", exact.eigenvalues[-3:].round(6))
for i in range(len(share)):
    between = f"{edges[i]:.3f} and {edges[i + 1]:.3f}"
    print(f"between {between}: {share[i]:.4f} ± {error[i]:.4f} of all, exactly {true[i]:.4f}")

pred = rd.predict_spectrum(deq, gmm, n=n, kind="ntk")
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained", sharex=True)
for ax, emp, title in zip(axes, (exact, slq), ("every eigenvalue", "48 products with 8 vectors"), strict=True):
    comparison = rd.compare(emp, pred, y)
    comparison.plot(ax).set_title(f"{title}: KS {comparison.ks:.3f} ± {comparison.ks_error:.3f}")

# %%
# The largest eigenvalues agree to every digit shown, and the shares to within one or two of their standard errors.
# The number of products does not grow with n, so that the cost is that of the kernel's entries.
#
# Interrupted
# -----------
#
# The folder given as ``checkpoint`` now holds the matrix and every Lanczos step:

print(sorted(str(path.relative_to(scratch)) for path in (scratch / "job").iterdir()))

# %%
# The same call goes on from what is there, whatever ended the process, and one that asks for more does only what is
# missing. Nothing is computed twice, and the numbers are those of an undisturbed run, bit for bit:

more = rd.empirical_spectrum(X, deq, kind="ntk", method="slq", top=5, steps=64, checkpoint=scratch / "job")
at_once = rd.empirical_spectrum(X, deq, kind="ntk", method="slq", top=5, steps=64, checkpoint=scratch / "other")
print("continued and at once, the same bits:", bool((more.all_values == at_once.all_values).all()))

# %%
# A folder is good for one computation. Other samples or another model are refused with the reason:

try:
    rd.empirical_spectrum(X, rd.DEQ("relu", 0.2, 0.8), kind="ntk", method="slq", checkpoint=scratch / "job")
except rd.InvalidInputError as error:
    print(str(error).replace(str(scratch), "scratch"))

# %%
# On the command line it is ``--checkpoint job``, and after an interruption ``rmtdeq resume job``.
#
# On many machines
# ----------------
#
# With ``backend="dask"`` the matrix is cut into tiles, which workers compute and keep. Any client of Dask will do: a
# cluster of a university, or, as here, two threads of this process. The kernel comes as a dask array; nothing is
# computed before it is asked for.

cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None)
with cluster, Client(cluster):
    K = rd.kernel(X, deq, kind="ntk", backend="dask")
    print(type(K).__name__, K.shape, "in tiles of", K.chunksize)
    corner = K[:5, :5].compute()
    on_workers = rd.empirical_spectrum(X, deq, kind="ntk", method="lanczos", top=3, backend="dask")
print("largest difference from the whole matrix", f"{np.abs(corner - whole[:5, :5]).max():.0e}")
print("largest eigenvalues", on_workers.eigenvalues.round(6))

# %%
# Samples may be a dask array as well, which the workers read by themselves.
#
# On a GPU
# --------
#
# ``device="cuda"`` in :func:`rmtdeq.kernel`, :func:`rmtdeq.kernel_operator` and :func:`rmtdeq.empirical_spectrum` is
# all there is to say: samples go to the card, the matrix stays there if it fits, and products and eigenvalues are
# computed where it is. What does not fit is kept on the host and computed in parts, and a warning in the log says so.
# With Triton installed a tile of the product becomes all kernels asked for in one pass. ``products="tf32"`` trades
# digits for tensor cores, openly: the samples are rounded, and the kernel is exact for the rounded ones. Several
# cards share a matrix by rows, each driven by one process of ``torchrun`` that passes its ``group``.
#
# :doc:`From a laptop to a cluster </scaling>` has the sizes, the costs, and how to plan a large job.
