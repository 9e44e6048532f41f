r"""
Train, and know the curve before
================================

A wide network hardly changes its tangent kernel while it trains, and then the loss curve is written in the spectrum.
This lesson asks a convergence theorem what it guarantees, predicts the curve in two ways, trains, and looks where the
three part. It ends with a layer that needs no such care: its equilibrium exists whatever training does.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
import torch

import rmtdeq as rd
from rmtdeq.models import OverparameterizedDEQ, pcdeq

# %%
# What a theorem guarantees
# -------------------------
#
# For the over-parameterised DEQ, :math:`f(x) = a^\top z,\ z = \mathrm{ReLU}(Wz + Ux)`, gradient descent on
# :math:`\tfrac12\|f(X) - y\|^2` converges linearly if the smallest eigenvalue of the features' Gram matrix is large
# enough at the start. :func:`rmtdeq.check_initial_condition` checks that on your data, inequality by inequality.

torch.manual_seed(0)
rng = np.random.default_rng(0)
S = rd.on_sphere(rng.standard_normal((40, 40)), norm=np.sqrt(40))
targets = rng.standard_normal(40)
network = OverparameterizedDEQ(40, 400, sigma_w2=0.08, seed=0).double()
print(rd.check_initial_condition(network, S, targets).summary())

# %%
# The assumptions hold, the inequalities do not, and by far: the theorem is a statement about widths that nobody
# trains. That it guarantees nothing does not mean that nothing happens. Train, and draw beside it what the network's
# own tangent kernel, taken before the first step, says about every later one.

kernel = network.tangent_kernel(torch.from_numpy(S)).detach().numpy()
start = network(torch.from_numpy(S)).detach().numpy()
step = 1 / np.linalg.eigvalsh(kernel)[-1]
curve = rd.predict_training(kernel, targets, step, initial=start)
run = rd.gradient_descent(network, S, targets, step=step, epochs=100)
print(run.summary())

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
run.plot(left)
curve.plot(left, run.at, ls="--", color="black", label="foretold by the kernel at the start")
left.legend(frameon=False)
run.plot(right, "recurrent_norm")
right.set_ylim(0, 1)

# %%
# The curve comes down much as foretold, and the norm of W, which must stay below one for the equilibrium to be
# unique, hardly moves. Wider networks lie closer to their curves. The shape is worth a look: steep first, along the
# few large eigenvalues, and then ever flatter, along the small ones. No other step size changes that, only another
# spectrum.
#
# A curve without a network
# -------------------------
#
# For a Gaussian mixture the spectrum is known before sample and network are, and so is the curve. Targets are given
# by class; here -1 and 1.

gmm = rd.GaussianMixture(np.eye(2, 200) * 8, [1.0, 1.5])
deq = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
pred = rd.predict_spectrum(deq, gmm, n=160, kind="ntk", level="classwise")
step = 0.2 / pred.outliers[-1]
foretold = rd.predict_training(pred, [-1.0, 1.0], step)
print("epochs until a tenth of the loss is left:", foretold.epochs_to(0.1))

X, y = gmm.sample(160, seed=0)
labels = 2.0 * y - 1
epochs = np.arange(41)
fig, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
foretold.plot(ax, epochs, label="from the predicted spectrum")
exact = rd.predict_training(rd.kernel(X, deq, kind="ntk"), labels, step)
exact.plot(ax, epochs, ls="--", color="black", label="from the exact kernel of the sample")
for width in (100, 800):
    trained = deq.to_regression(200, width, seed=0, kind="ntk")
    course = rd.gradient_descent(trained, X, labels, step=step, epochs=40, subtract_initial=True)
    course.plot(ax, ls="none", marker="o" if width == 800 else "x", ms=3.5, markevery=2)
    print(f"width {width}: loss after 20 epochs {course.loss[20]:.2f}, foretold {float(foretold.loss(20)):.2f}")
ax.legend(frameon=False)

# %%
# Read it from the inside out. The exact kernel is what a network of infinite width trains with: width is the
# difference between the points and the broken line. The predicted spectrum knows the mixture but not this sample:
# chance is the difference between the two lines. Both shrink, with more width and with more samples.
#
# The classes' outlier decides the first epochs, the bulk all others. So if you care about the time to classify, look
# at the outliers; if you care about the time to fit every target, at the lower edge.
#
# A layer whose equilibrium always exists
# ---------------------------------------
#
# In a positive concave DEQ the recurrent weights are nonnegative and the activation is concave where it is used. Then
# the equilibrium exists, is unique, and is reached, at every step of training, with a bound on the number of
# iterations.

X, y, test = rd.load_classification("digits", seed=0)
classifier = pcdeq.linear_network(64, 40, seed=0, activation="sigmoid")
run = rd.train_classifier(classifier, X, y, test=test, epochs=8, step=5e-3, milestones=[6])
print(run.summary())

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
run.plot(left, "test_accuracy")
run.plot(right, "iterations")
right.set_ylim(0, 1.2 * run.iterations.max())

# %%
# The accuracy rises within a few epochs, and the number of iterations stays a handful, which is what the certificate
# says. It is computed from the weights at hand and needs no solve:

layer = next(module for module in classifier.modules() if isinstance(module, pcdeq.PcDEQ))
inputs = torch.randn(100, layer.features)
certificate = layer.certificate(inputs)
print(layer)
print(f"on these inputs one step shrinks distances to {certificate.worst:.3f} of themselves or less")
print(f"steps that are sure to suffice for a relative change of 1e-4: {int(certificate.iterations(1e-4).max())}")
print(f"steps taken: {int(layer.solve(inputs).iterations.max())}")
