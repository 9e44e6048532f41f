r"""
When the theory fails
=====================

Exact kernels are exact for any data. Predictions are not: they hold for Gaussian mixtures in many dimensions, with n
and p large and comparable. This page breaks one assumption after the other, shows what a broken one looks like, and
says what to do instead. All numbers are of this run.

In each panel bars are measured eigenvalues, the line is the prediction, and KS is the largest distance between the
two distribution functions: about 0.01 at this size where all is well. Read the KS distance first; outliers and
alignments are often good where the bulk is not.
"""

# sphinx_gallery_thumbnail_number = 4
import matplotlib.pyplot as plt
import numpy as np

import rmtdeq as rd
from rmtdeq.cli import main

relu = rd.DEQ("relu", sigma_a2=0.2, sigma_b2=0.8)
tanh = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
p, n = 400, 320


def panel(ax, title, X, y, deq, gmm=None, level="classwise"):
    """Draw measured and predicted spectrum of one set of samples, and return their comparison."""
    gmm = rd.GaussianMixture.from_data(X, y, covariance="scalar") if gmm is None else gmm
    pred = rd.predict_spectrum(deq, gmm, n=len(X), level=level)
    found = rd.compare(rd.empirical_spectrum(X, deq), pred, y)
    found.plot(ax).set_title(f"{title}: KS {found.ks:.3f}")
    print(f"{title:<32} KS {found.ks:.3f}")
    return found


def two_panels():
    """Return the axes of two panels side by side."""
    return plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")[1]


def unit_energy(X):
    """Scale to a mean squared norm of one."""
    return X / np.sqrt((X**2).sum(axis=1).mean())


# %%
# Where it holds
# --------------
#
# For comparison, the case it was made for: two Gaussian classes, means of norm 8 (so that :math:`\|\mu\|/\sqrt p` is
# small), covariances that differ a little.

means = np.zeros((2, p))
means[0, 0] = means[1, 1] = 8
gmm = rd.GaussianMixture(means, [1.0, 1.2])
X, y = gmm.sample(n, seed=0)
left, right = two_panels()
panel(left, "ReLU", X, y, relu, gmm)
panel(right, "tanh", X, y, tanh, gmm)

# %%
# Strong means
# ------------
#
# Let the means grow until they are as long as the noise, :math:`\|\mu\| \approx \sqrt p`. Here is the relative
# distance of the equivalent kernel from the exact one, in operator norm, for the first-order theory and for the
# class-wise one:

lengths = np.array([2, 5, 10, 20, 40])
errors = {level: [] for level in ("paper", "classwise")}
for length in lengths:
    strong = rd.GaussianMixture(means * length / 8, [1.0, 1.2])
    X, y = strong.sample(n, seed=0)
    exact = rd.kernel(X, tanh)
    for level, values in errors.items():
        near = rd.equivalent(X, y, tanh, strong, level=level)
        values.append(np.linalg.norm(near - exact, 2) / np.linalg.norm(exact, 2))
for level, values in errors.items():
    print(f"{level:<10}", " ".join(f"{length}: {value:.4f}" for length, value in zip(lengths, values, strict=True)))

left, right = two_panels()
for level, values in errors.items():
    left.loglog(lengths / np.sqrt(p), values, "o-", label=level)
left.set(xlabel=r"$\|\mu\|/\sqrt{p}$", ylabel="distance from the exact kernel")
left.legend(frameon=False)
panel(right, "tanh, longest means, paper", X, y, tanh, strong, level="paper")

# %%
# *What one sees.* The first-order prediction puts bulk and outliers in the wrong places; it may foresee more energy
# than the activation can give. *Why.* It takes samples of different classes for nearly orthogonal and expands the
# kernel there; strong means are not nearly orthogonal, and a tanh bends. *What the package does.* The default,
# ``level="classwise"``, expands around the inner product of every pair of means, and its error does not grow. *What
# to do.* Leave the default; use ``level="paper"`` to reproduce, not to predict.
#
# Few dimensions
# --------------
#
# The theory is a limit, and what it leaves out shrinks with the dimension. In ten dimensions that is not small. Each
# point is the mean of eight samples with n = p:

sizes = [10, 30, 100, 300]
distances = {level: [] for level in ("paper", "classwise")}
for size in sizes:
    centres = np.zeros((2, size))
    centres[0, 0] = centres[1, 1] = 2
    few = rd.GaussianMixture(centres, [1.0, 1.2])
    laws = {level: rd.predict_spectrum(relu, few, n=size, level=level) for level in distances}
    draws = [rd.empirical_spectrum(few.sample(size, seed=seed)[0], relu) for seed in range(8)]
    for level, law in laws.items():
        distances[level].append(np.mean([rd.compare(draw, law).ks for draw in draws]))
for level, values in distances.items():
    print(f"{level:<10}", " ".join(f"p = {size}: {value:.3f}" for size, value in zip(sizes, values, strict=True)))

left, right = two_panels()
for level, values in distances.items():
    left.loglog(sizes, values, "o-", label=level)
left.set(xlabel="n = p", ylabel="mean KS distance")
left.legend(frameon=False)
flat = rd.GaussianMixture(np.zeros((1, 20)), [1.0])
X, y = flat.sample(n, seed=0)
few = panel(right, "n = 320 in p = 20 dimensions", X, y, relu, flat)

# %%
# Right, another way to have few dimensions: many samples in few of them. *What one sees.* The prediction has p
# eigenvalues of the data and puts all others on one point, an atom, as if the kernel had rank p and a constant on its
# diagonal; the measured ones are spread below and around it. *Why.* Higher powers of inner products, which the theory
# counts as a constant diagonal, have p²/2, p³/6, … directions of their own, and with n well above p they show. *What
# the package says.* ``pred.atoms``:

print("atoms of the prediction (place, mass):", [(round(at, 4), round(mass, 3)) for at, mass in few.prediction.atoms])

# %%
# *What to do.* With fewer than a hundred dimensions, or many more samples than dimensions, leave the expansion. Level
# ``"polynomial"`` predicts from kernels on samples drawn from the mixture, or on data that are not measured. The
# default, ``"auto"``, turns to it where the expansion does not bear:

law = rd.predict_spectrum(relu, flat, n=n)
print(f"level {law.level}: KS {rd.compare(rd.empirical_spectrum(X, relu), law).ks:.3f}")

# %%
# Real images are such data, of ten or thirty directions that count. The two classes that come with the package, at both
# levels; of the first the mixture is estimated from all images, and the second sees those that are not measured:

images, classes = rd.load_dataset("fashion-sample", shuffle=True)
shown, others = slice(0, n), slice(n, None)
left, right = two_panels()
shoes = rd.GaussianMixture.from_data(images, classes, covariance="common")
panel(left, "images, classwise", images[shown], classes[shown], relu, shoes)
stats = rd.DataMoments.from_data(images[others], classes[others])
found = rd.compare(rd.empirical_spectrum(images[shown], relu), rd.predict_spectrum(relu, stats, n=n), classes[shown])
found.plot(right).set_title(f"images, from other images: KS {found.ks:.3f}")

# %%
# *What is lost.* Such a prediction is empirical: it says what the spectrum will be and not why, it has no edges, and no
# training curve follows from it.
#
# Near-duplicates
# ---------------
#
# Frames of a film, augmented images, a data set with copies in it: every sample has a twin at a distance of a tenth
# of its norm.

rng = np.random.default_rng(0)
half, labels = gmm.sample(n // 2, seed=0)
twins = half + 0.1 * rng.standard_normal(half.shape) / np.sqrt(p)
X, y = np.concatenate([half, twins]), np.concatenate([labels, labels])
left, right = two_panels()
panel(left, "ReLU, with twins", X, y, relu)
panel(right, "ReLU, one of each pair", half, labels, relu)

# %%
# *What one sees.* Half of the measured eigenvalues fall far below the predicted bulk, near zero, and the other half
# is wider than foretold. *Why.* The theory takes samples for independent. The sum of two twins has twice the
# variance, their difference next to none. *What the package does.* The exact kernel is exact for twins, too: entries
# of nearly parallel samples are computed from closed forms or by quadrature, not from a series. The prediction cannot
# know. *What to do.* Look for pairs whose cosine is near one (below), keep one of each, and predict for what is left.
# If the copies must stay, trust the measured spectrum.

unit = X / np.linalg.norm(X, axis=1, keepdims=True)
cosines = np.triu(unit @ unit.T, 1)
print("pairs with a cosine above 0.95:", int((cosines > 0.95).sum()), "of", n * (n - 1) // 2)

# %%
# Heavy tails
# -----------
#
# Elliptical samples: each is Gaussian, times a random length of its own, here that of Student's t with three degrees
# of freedom.

y = np.repeat([0, 1], n // 2)
lengths = np.sqrt(3 / rng.chisquare(3, n))
X = unit_energy(means[y] / np.sqrt(p) + lengths[:, None] * rng.standard_normal((n, p)) / np.sqrt(p))
left, right = two_panels()
heavy = panel(left, "ReLU, t with 3 degrees", X, y, relu)
panel(right, "the same on the sphere", rd.on_sphere(X), y, relu)
squares = (X**2).sum(axis=1)
first = heavy.empirical.vectors[:, -1] ** 2
print(f"squared norms: mean {squares.mean():.2f}, median {np.median(squares):.2f}, largest {squares.max():.1f}")
print(f"first eigenvector: {first.max():.0%} of it is one sample, of squared norm {squares[first.argmax()]:.1f}")

# %%
# *What one sees.* A bulk with a long tail to the right, where the prediction has an edge, and outliers that no class
# explains: single samples of great length. *Why.* Gaussian classes in p dimensions have squared norms that fluctuate
# by :math:`\sqrt{2/p}`; these fluctuate by more than their mean. *What the package says.* Nothing, as any data are
# welcome. *What to do.* Compare the mean and the median of the squared norms, as printed. Put the samples on the
# sphere, ``rd.on_sphere(X)`` (right): the length of an elliptical sample says nothing about its class, and without it
# the theory holds again.
#
# Norms that vary
# ---------------
#
# Sometimes the length is information, and the sphere would destroy it. Here it is spread evenly between 0.4 and 1.6.

lengths = rng.uniform(0.4, 1.6, n)
X = unit_energy(lengths[:, None] * rng.standard_normal((n, p)) / np.sqrt(p))
one = np.zeros(n, dtype=int)
squares = (X**2).sum(axis=1)
shells = np.digitize(squares, np.quantile(squares, np.arange(1, 8) / 8))
left, right = two_panels()
panel(left, "ReLU, one class", X, one, relu)
panel(right, "ReLU, eight shells", X, shells, relu)

# %%
# *What one sees.* As before: the predicted bulk is too short on both sides. *Why.* A kernel entry depends on the
# norms of both samples, and one class has one norm. *What to do.* Let classes be what the theory needs them to be,
# groups of samples alike in norm. Right, the same samples are cut into eight shells of equal size, each a class with
# its own mean and variance; the class-wise prediction then follows. The first-order one cannot, whatever the classes:

for level in ("classwise", "paper"):
    law = rd.predict_spectrum(relu, rd.GaussianMixture.from_data(X, shells, covariance="scalar"), n=n, level=level)
    print(f"eight shells, {level:<10} KS {rd.compare(rd.empirical_spectrum(X, relu), law).ks:.3f}")

# %%
# The same holds for designs: where norms vary, ``rd.design(..., norms=gmm.squared_norms)`` fits the network at all of
# them.
#
# In one table
# ------------
#
# As ``rmtdeq assumptions`` prints it:

code = main(["assumptions"])
