r"""
Compare with data
=================

The theory speaks of Gaussian mixtures in many dimensions. Images are neither Gaussian nor do they fill their
dimensions. This lesson computes the exact kernel of real samples, holds the prediction against it, and says which
part of the prediction can be trusted; then it does the same with a file of your own.
"""

# sphinx_gallery_thumbnail_number = 1
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import rmtdeq as rd
from rmtdeq.output.figures import draw_ranks

# %%
# Images
# ------
#
# The package carries sandals and sneakers of Fashion-MNIST. :func:`rmtdeq.load_dataset` returns them centred, and
# scaled to a mean squared norm of one, one image a row.

images, classes = rd.load_dataset("fashion-sample")
X, y = rd.load_dataset("fashion-sample", n=500, seed=0)
squared_norm = (images**2).sum(axis=1).mean()
print(f"{len(images)} images of {images.shape[1]} pixels, mean squared norm {squared_norm:.4f}; {len(X)} of them drawn")

# %%
# The theory needs two things: the mixture, estimated from all images at hand, and the number of samples. With
# ``covariance="common"`` the classes share their principal directions, which predicts in a second where full
# covariances take much longer and changes little here. ``level="classwise"`` asks for the theory by name.

gmm = rd.GaussianMixture.from_data(images, classes, covariance="common")
deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
pred = rd.predict_spectrum(deq, gmm, n=len(X), kind="ck", level="classwise")
paper = rd.predict_spectrum(deq, gmm, n=len(X), kind="ck", level="paper")
emp = rd.empirical_spectrum(X, deq, kind="ck")
comparison = rd.compare(emp, pred, y)
print(comparison.summary())

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained", width_ratios=[1.3, 1])
comparison.plot(left, others=[paper])
draw_ranks(comparison, right, [paper])

# %%
# Left, the density over a logarithmic axis; right, the same eigenvalues by rank. The class-wise prediction (solid)
# follows the measured spectrum over all of its range. The first-order theory (broken) does not: it takes all norms
# for equal, and those of images are not. The largest eigenvalues are the most interesting ones, and they come out to
# within some per cent. (An outlier that is predicted below zero is a sign: no kernel has one, and the summary says
# what it means.)

errors = comparison.outlier_errors[pred.outliers > 0]
print(f"KS distance: classwise {comparison.ks:.3f}, paper {rd.compare(emp, paper, y).ks:.3f}")
print(f"outliers above zero: {errors.size}, their errors at most {errors.max():.1%}, of the largest {errors[-1]:.1%}")

# %%
# ReLU is harder. Its kernel sees norms to first order, and those of images vary within a class, too:

relu = rd.DEQ("relu", sigma_a2=0.2, sigma_b2=0.8, centered=False)
emp_relu = rd.empirical_spectrum(X, relu, kind="ck")
comparison_relu = rd.compare(emp_relu, rd.predict_spectrum(relu, gmm, n=len(X), kind="ck", level="classwise"), y)
largest = emp_relu.eigenvalues[-1]
print(f"largest eigenvalue: predicted {comparison_relu.prediction.outliers[-1]:.1f}, measured {largest:.1f}")
print(f"KS distance {comparison_relu.ks:.3f}")
print(f"share of the eigenvalues below a hundredth of it: {(emp_relu.eigenvalues < largest / 100).mean():.0%}")

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained", width_ratios=[1.3, 1])
comparison_relu.plot(left)
draw_ranks(comparison_relu, right)

# %%
# The largest eigenvalue is still where it was foretold; of the small ones the prediction is wrong. Of a theory of
# mixtures trust outliers and leading eigenvalues on images, and look at the bulk with suspicion.
#
# From other images
# -----------------
#
# Images tell more of images than a mixture does. :class:`rmtdeq.DataMoments` keeps some of those that are not measured;
# the spectrum is predicted from the exact kernels of these, with an error that it expects of itself. That is empirical,
# and it is what ``rmtdeq compare`` does on images and tables unless a level is asked for:

drawn = {x.tobytes() for x in X}
others = np.array([x.tobytes() not in drawn for x in images])
stats = rd.DataMoments.from_data(images[others], classes[others])
foretold = rd.predict_spectrum(relu, stats, n=len(X), kind="ck")
comparison_others = rd.compare(emp_relu, foretold, y)
print(comparison_others.summary(class_names=["sandal", "sneaker"]))
print(f"KS distance {comparison_others.ks:.3f}, expected {foretold.expected_error.ks:.3f}")
print(comparison_others.rank_errors)

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained", width_ratios=[1.3, 1])
comparison_others.plot(left)
draw_ranks(comparison_others, right)

# %%
# The exact kernel itself is exact for any data.
#
# Your own data
# -------------
#
# Say there is a file with samples and one with labels, in whatever units they have:

folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(1)
colours = rng.choice(["red", "green", "blue"], size=2000, p=[0.5, 0.3, 0.2])
offsets = {name: 0.3 * rng.standard_normal(500) for name in ("red", "green", "blue")}
np.save(folder / "samples.npy", 40 + 12 * np.array([offsets[c] + rng.laplace(size=500) for c in colours]))
np.save(folder / "labels.npy", colours)

# %%
# Two lines bring them into the package's scaling: labels become 0, 1, …; the samples are centred and divided by one
# number, so that their mean squared norm becomes one. (Centring matters: a mean common to all samples makes one huge
# eigenvalue that hides the others.)

names, y = np.unique(np.load(folder / "labels.npy"), return_inverse=True)
X = rd.center_and_scale(np.load(folder / "samples.npy"))

# %%
# Then all goes as before. ``covariance`` is the one choice to make: ``"common"`` or ``"full"`` where features depend on
# one another, with ``shrinkage="auto"`` unless each class has many times as many samples as features; ``"scalar"`` or
# ``"diagonal"`` where features are independent. Estimate it from all samples you have, and compare on some of them: an
# estimated mean is longer than the true one by the noise in it, and with few samples a class the predicted outliers
# come out too large. For the NTK it is enough to say ``kind="ntk"``.

gmm = rd.GaussianMixture.from_data(X, y, covariance="common", shrinkage="auto")
drawn = np.sort(np.random.default_rng(0).choice(len(X), size=400, replace=False))
X, y = X[drawn], y[drawn]
deq = rd.DEQ("swish", sigma_a2=0.2, sigma_b2=0.8)
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
for ax, kind in zip(axes, ("ck", "ntk"), strict=True):
    emp = rd.empirical_spectrum(X, deq, kind=kind)
    comparison = rd.compare(emp, rd.predict_spectrum(deq, gmm, n=len(X), kind=kind), y)
    comparison.plot(ax).set_title(kind.upper())
    print(comparison.summary())
print("classes:", ", ".join(names))

# %%
# The noise of these samples is Laplace's, not Gauss's, and the prediction does not mind: in many dimensions only
# means and covariances count, as long as no single feature dominates a sample. What it does mind is the subject of
# :doc:`the last lesson <when_the_theory_fails>`.
#
# The same from the command line: ``rmtdeq compare --data samples.npy --labels labels.npy --activation swish --out
# own``, or for one of the named data sets ``rmtdeq compare --dataset fashion-sample --kind ck ntk``.
