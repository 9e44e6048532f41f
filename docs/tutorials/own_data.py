r"""
Your own data
=============

A table in a file, and the question what a network's kernel makes of it. This lesson reads a table, measures one half,
foretells its spectrum from the other, asks the prediction how far to trust it, and goes on to more samples than there
are. Put the name of a file of yours in place of the one that it writes.
"""

# sphinx_gallery_thumbnail_number = 1
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import rmtdeq as rd
from rmtdeq.output.figures import draw_ranks

# %%
# A table
# -------
#
# The example is the breast cancer table of Wisconsin, as it comes: a number of the patient, the diagnosis, and thirty
# measurements with units of their own.

raw = load_breast_cancer(as_frame=True)
frame = raw.data.assign(diagnosis=np.array(raw.target_names)[raw.target], id=np.arange(len(raw.target)))
file = Path(tempfile.mkdtemp()) / "wdbc.csv"
frame.to_csv(file, index=False)

# %%
# :func:`rmtdeq.load_table` reads it. Labels may be texts; columns that say nothing of the samples are dropped by name,
# and what is missing or constant is told. (A file of numpy, a parquet file or a frame of pandas does as well.)

table = rd.load_table(file, label_column="diagnosis", drop=["id"])
print(table)
print("classes:", ", ".join(table.class_names))

# %%
# A kernel sees distances, and of raw columns those with the largest unit make all of them.
# :func:`rmtdeq.standardize` gives every column the same variance; pixels, which have one unit, are better served by
# :func:`rmtdeq.center_and_scale`. Of the samples one half is measured, and the prediction sees the other:

measured, others = table.split(len(table.X) // 2, seed=0)
X, rest = (rd.standardize(part.X, reference=table.X) for part in (measured, others))
stats = rd.DataMoments.from_data(rest, others.y)
print(stats.summary())

# %%
# The **effective dimension** says which theory can help. Thirty columns hang together so much that they have the
# variance of a few: the theory of mixtures in many dimensions has nothing to say here. ``DataMoments`` keep samples,
# and the prediction comes from the exact kernels of these.
#
# The spectrum, foretold and measured
# -----------------------------------

network = rd.DEQ("relu", sigma_a2=0.2, sigma_b2=0.8, centered=False)
pred = rd.predict_spectrum(network, stats, n=len(X), kind="ntk")
emp = rd.empirical_spectrum(X, network, kind="ntk", tau0_squared=stats.mean_squared_norm)
found = rd.compare(emp, pred, measured.y)
print(found.summary(class_names=table.class_names))

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained", width_ratios=[1.3, 1])
found.plot(left)
draw_ranks(found, right)

# %%
# How far to trust it
# -------------------
#
# The prediction has an opinion of itself: how far a measurement will be from it. That is the scatter of what it was
# made from, and, where it goes beyond that, how well half of the samples would have foretold all.

expected = pred.expected_error
print(f"KS distance: expected {expected.ks:.3f}, is {found.ks:.3f}")
print(f"median error of the logarithms: expected {expected.whole:.2f}, is {found.rank_errors.whole:.2f}")

# %%
# With three hundred samples the scatter is what counts, and more samples are the only help. The largest eigenvalues
# vary most: a single patient far from the others makes one of them.
#
# What learning depends on is not single eigenvalues but the degrees of freedom, :math:`\operatorname{tr} K(K +
# \delta)^{-1}`: how many directions ridge regression with ridge :math:`\delta` may use.

ridges = np.geomspace(1e-3, 10, 5)
for ridge in ridges:
    degrees = [float((values / (values + ridge)).sum()) for values in (pred.all_values, emp.eigenvalues)]
    print(f"ridge {ridge:7.3f}: degrees of freedom foretold {degrees[0]:6.1f}, measured {degrees[1]:6.1f}")

# %%
# More samples
# ------------
#
# Nothing in the prediction needs as many samples as it is for. Here is the spectrum of ten thousand patients, and what
# the prediction says of its own error:

for n in (600, 2000, 10_000):
    law = rd.predict_spectrum(network, stats, n=n, kind="ntk")
    print(f"n = {n:6}: largest {law.outliers[-1]:8.1f}, KS distance expected {law.expected_error.ks:.2f}")

# %%
# The further, the less it is sure, and it says so. Twice or four times as many samples as it has seen are a question
# that it can answer; for thirty times as many take its largest eigenvalues, and of the others the order of magnitude.
#
# All samples, to keep
# --------------------
#
# For samples that are yet to come every sample at hand may speak. Moments are small, whatever the size of the data:
# they are made in one pass over an array, a memory map or a Dask array, and kept in a file.

everything = rd.DataMoments.from_data(rd.standardize(table.X), table.y)
kept = everything.save(file.with_name("moments.npz"))
print(rd.DataMoments.load(kept))

# %%
# The same on the command line, where half of a table is measured unless ``--n`` says otherwise:
#
# .. code-block:: bash
#
#     rmtdeq compare --data wdbc.csv --label-column diagnosis --drop id --standardize --activation relu --out own
