r"""
Predict a spectrum
==================

A deep equilibrium model (DEQ) turns data into a kernel matrix. What its eigenvalues will be can be said before a
network is drawn, and before a sample is seen. This lesson solves the equations, predicts a spectrum, reads it, and
asks how far apart two classes must be for the kernel to notice them.
"""

# sphinx_gallery_thumbnail_number = 3
import matplotlib.pyplot as plt
import numpy as np

import rmtdeq as rd
from rmtdeq.output.figures import draw_alignments

# %%
# Four equations
# --------------
#
# At infinite width a DEQ is known by few numbers: the scale :math:`\tau_*` of its pre-activations, the slopes
# :math:`\alpha_1, \alpha_2, \alpha_3` of its conjugate kernel (CK), and the value :math:`\gamma^2` on that kernel's
# diagonal. The neural tangent kernel (NTK) has its own, :math:`\beta_1, \beta_2, \beta_3` and :math:`\kappa^2`. The
# page on :doc:`conventions </conventions>` writes the equations down; :func:`rmtdeq.solve` solves them for inputs of
# mean squared norm ``tau0_squared``.

deq = rd.DEQ("relu", sigma_a2=0.2, sigma_b2=0.8)
coef = rd.solve(deq, tau0_squared=1.0)
print("tau   ", round(coef.tau, 5))
print("alpha ", coef.alpha[:3].round(5), "gamma2", round(coef.gamma2, 5))
print("beta  ", coef.beta.round(5), "kappa2", round(coef.kappa2, 5))

# %%
# The first slope, :math:`\alpha_1`, says how much of the inner products of the data is left in the kernel; the other
# two come from the curvature of the activation and say how much it sees of norms and of covariances. An odd
# activation such as tanh has :math:`\alpha_2 = \alpha_3 = 0`: its kernel is blind to classes that differ by nothing
# but their covariance.
#
# What does the recurrence do? Raise the variance :math:`\sigma_a^2` of its weights:

variances = np.linspace(0, 0.9, 46)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for name in ("tanh", "relu"):
    found = [rd.solve(rd.DEQ(name, sigma_a2=a2, sigma_b2=1 - a2), tau0_squared=1.0) for a2 in variances]
    left.plot(variances, [c.alpha[0] / c.gamma2 for c in found], label=name)
    right.plot(variances, [c.kappa2 / c.gamma2 for c in found], label=name)
left.set(xlabel=r"$\sigma_a^2$", ylabel=r"$\alpha_1/\gamma^2$", title="slope of the CK over its diagonal")
right.set(xlabel=r"$\sigma_a^2$", ylabel=r"$\kappa^2/\gamma^2$", title="diagonal of the NTK over that of the CK")
for ax in (left, right):
    ax.legend(frameon=False)

# %%
# Here :math:`\sigma_b^2 = 1 - \sigma_a^2`. With more recurrence ReLU remembers less of the inner products and more of
# each sample by itself. Not so tanh: its inputs shrink, and small inputs it treats nearly as a linear function would.
# The tangent kernels of both grow: each turn of the equilibrium adds a gradient, a geometric series in
# :math:`\sigma_a^2 E\,\varphi'(\tau_*\xi)^2`. Where that reaches one the series has no sum, and the package says so:

try:
    rd.solve(rd.DEQ("relu", sigma_a2=2.5, sigma_b2=0.8), tau0_squared=1.0)
except rd.IllPosedError as error:
    print(error)

# %%
# A spectrum without a sample
# ---------------------------
#
# Take two Gaussian classes in p = 500 dimensions, with means :math:`\mu_a/\sqrt p` and covariances :math:`C_a/p`, so
# that squared norms are near one. The prediction needs the mixture, the model and the number of samples, and nothing
# else.

p, n = 500, 400
means = np.zeros((2, p))
means[0, 0], means[1, 1] = 6, 12
gmm = rd.GaussianMixture(means, covariances=[1.0, 1.4])

pred = rd.predict_spectrum(deq, gmm, n=n, kind="ck")
print(pred.summary())

# %%
# How to read it:
#
# - The **bulk** is where nearly all eigenvalues lie. It is noise: as many directions as there are samples, and none
#   of them tells a class. Its edges are exact in the limit of large n and p.
# - **Outliers** stand apart from it. There are as many as the classes make the kernel move.
# - **Alignments** say what an outlier's eigenvector is: its squared inner product with the unit indicator of each
#   class. A row that adds up to nearly one is an eigenvector that lies in the span of the classes; spectral
#   clustering would find them there.
#
# Now draw samples, build the exact kernel, and look. ``level="paper"`` is the first-order theory, one expansion for
# all classes; ``"classwise"``, which the default chooses here, expands to second order around every pair of classes.

X, y = gmm.sample(n, seed=0)
emp = rd.empirical_spectrum(X, deq, kind="ck")
paper = rd.predict_spectrum(deq, gmm, n=n, kind="ck", level="paper")
found = {level.level: rd.compare(emp, level, y) for level in (pred, paper)}
print(found["classwise"].summary())

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=[1.6, 1])
found["classwise"].plot(left, others=[paper])
draw_alignments(found["classwise"], right)

# %%
# The distance between the measured distribution function and the predicted one (Kolmogorov and Smirnov's, KS), and
# the error of the outliers, at both levels:

for level, comparison in found.items():
    print(f"{level:<10} KS {comparison.ks:.4f}   outliers {comparison.outlier_errors.round(3)}")

# %%
# The covariances of these classes differ, and so do their norms: that is where one expansion for all classes falls
# short. An outlier of one sample this small is itself off by some per cent, at either level: judge predictions on
# averages over seeds. (And where two outliers lie close together their eigenvectors mix; then the sum of their
# alignments is predicted better than either.)
#
# How far apart must classes be?
# ------------------------------
#
# Outliers do not leave the bulk at once. Move the means and watch the eigenvector (classes of equal covariance; tanh,
# whose kernel sees the means alone):

tanh = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
strengths = np.linspace(0.4, 4, 25)
predicted, measured, drawn = [], [], strengths[::4]
for strength in strengths:
    opposite = np.zeros((2, p))
    opposite[0, 0], opposite[1, 0] = strength, -strength
    two = rd.GaussianMixture(opposite, [1.0, 1.0])
    law = rd.predict_spectrum(tanh, two, n=n, level="classwise")
    predicted.append(law.alignments[-1].sum() if law.outliers.size else 0.0)
    if strength in drawn:
        seen = []
        for seed in range(4):
            samples, labels = two.sample(n, seed=seed)
            seen.append(rd.empirical_spectrum(samples, tanh, top=1).alignments(labels)[-1].sum())
        measured.append(np.mean(seen))

fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.plot(strengths, predicted, label="predicted")
ax.plot(drawn, measured, "o", label="measured, mean of four samples")
ax.axvline((p / n) ** 0.25, color="0.6", ls=":", label=r"$(p/n)^{1/4}$")
ax.set(xlabel=r"distance of each mean from the origin, $\|\mu\|$", ylabel="alignment with the classes")
ax.legend(frameon=False)

# %%
# Below a threshold the first eigenvector holds nothing of the classes, however good the algorithm that looks at it;
# above it the alignment rises quickly to one. For classes of equal covariance the threshold is that of principal
# components, :math:`\|\mu\|^4 = p/n` (dotted): a kernel linear to first order sees means as the data's own Gram
# matrix does. More samples move it to the left.
#
# To conclude: the equations cost microseconds and the spectrum some hundredths of a second, so that questions such as
# "how many samples", "which activation", "is this difference visible at all" can be answered before an experiment is
# made. The next lesson asks the same of images.
