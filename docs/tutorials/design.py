r"""
Design a shallow network
========================

To first order the kernel of a DEQ is four numbers, and a network of one or two ordinary layers can be given the same
four. This lesson finds it, checks its kernel against the DEQ's, and trains a linear read-out on the features of both.
"""

# sphinx_gallery_thumbnail_number = 1
import time

import matplotlib.pyplot as plt
import numpy as np
import torch

import rmtdeq as rd
from rmtdeq.output.figures import draw_activations

# %%
# The network
# -----------
#
# :func:`rmtdeq.design` solves for the activations. A DEQ with an odd activation has :math:`\alpha_2 = \alpha_3 = 0`,
# and one layer is enough; any other needs two.

deqs = {name: rd.DEQ(name, sigma_a2=0.4, sigma_b2=0.6) for name in ("tanh", "relu")}
networks = {name: rd.design(deq, tau0_squared=1.0, kind="ck") for name, deq in deqs.items()}
for name, net in networks.items():
    print(f"{name}: {net.depth} layer(s), status {net.status.name}")
    print("   ", net)

# %%
# ``EXACT`` means that the coefficients agree to ten digits. Here are both sets of them: linear, norm, pair and
# diagonal are :math:`\alpha_1, \alpha_2, \alpha_3, \gamma^2`.

for name, deq in deqs.items():
    for what, found in (("DEQ", rd.solve(deq, 1.0).of("ck")), ("network", networks[name].coefficients())):
        numbers = (found.linear, found.norm, found.pair, found.diagonal)
        print(f"{name} {what:<8}", " ".join(f"{value:.8f}" for value in numbers))

fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
for ax, (name, deq) in zip(axes, deqs.items(), strict=True):
    draw_activations(deq, networks[name], ax)
    ax.set_title(name)

# %%
# A hard tanh, a ramp with two stops, replaces the equilibrium of tanh networks. For ReLU the two layers are piecewise
# linear as well. Nothing in them is recurrent: where the DEQ iterates, these networks are evaluated once.
#
# Do the kernels agree?
# ---------------------
#
# Equal coefficients make kernels equal to first order on any mixture. :func:`rmtdeq.compare_kernels` builds the exact
# kernels on samples, and with them that of a plain network: one layer with the DEQ's own activation.

means = np.zeros((2, 400))
means[0, 0] = means[1, 1] = 8
X, y = rd.GaussianMixture(means, [1.0, 1.4]).sample(400, seed=0)
X /= np.sqrt((X**2).sum(axis=1).mean())
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
for ax, (name, deq) in zip(axes, deqs.items(), strict=True):
    found = rd.compare_kernels(X, deq, networks[name])
    print(name, found.summary())
    found.plot(ax)
    ax.set_title(name)

# %%
# The designed network lies on the DEQ's eigenvalues, the plain one beside them. The norms of these classes differ,
# which four numbers at one norm cannot follow; pass the norms of the classes, and the design is fitted at all of
# them:

norms = rd.GaussianMixture.from_data(X, y, covariance="scalar").squared_norms
for name, deq in deqs.items():
    fitted = rd.design(deq, tau0_squared=1.0, norms=norms)
    print(name, fitted.status.name, f"distance {rd.compare_kernels(X, deq, fitted).distance:.2g}")

# %%
# As features
# -----------
#
# Kernels are networks at infinite width. At finite width both models are torch modules from inputs to features. Take
# images of digits, draw both networks at random, and train nothing but a linear read-out:

images, labels = rd.load_dataset("digits", seed=0)
order = np.random.default_rng(0).permutation(len(labels))
inputs, targets = torch.from_numpy(images[order]).float(), torch.from_numpy(labels[order])
width, train, test = 1024, slice(0, 1400), slice(1400, None)


def read_out_accuracy(module):
    """Return the accuracy of a linear read-out of the module's features, and the seconds that the features took."""
    start = time.perf_counter()
    with torch.no_grad():
        features = module(inputs)
    seconds = time.perf_counter() - start
    torch.manual_seed(0)
    classifier = torch.nn.Linear(features.shape[1], 10)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(classifier(features[train]), targets[train]).backward()
        optimizer.step()
    hits = classifier(features[test]).argmax(dim=1) == targets[test]
    return hits.float().mean().item(), seconds


modules = {}
for name, deq in deqs.items():
    modules[f"{name} DEQ"] = deq.to_torch(inputs.shape[1], width, seed=0)
    modules[f"designed for {name}"] = networks[name].to_torch(inputs.shape[1], width, seed=0)
for name, module in modules.items():
    accuracy, seconds = read_out_accuracy(module)
    print(f"{name:<18} test accuracy {accuracy:.3f}, features of all images in {seconds:.3f} s")

# %%
# The designed network has the accuracy of the equilibrium it replaces, up to what the draw of the weights changes,
# and needs one or two products where the DEQ needs a product for every iteration. If you only wanted the kernel of a
# DEQ, this is the cheaper way to it. To train more than the read-out, ask for ``kind="ntk"``, whose network has the
# tangent kernel of the DEQ, and train the layers that :meth:`rmtdeq.ExplicitNetwork.to_torch` names.
