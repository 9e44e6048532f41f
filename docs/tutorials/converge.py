r"""
When the forward solve does not converge
========================================

A DEQ is an equation, :math:`z = \varphi(\sigma_a A z + \sigma_b B x)/\sqrt m`, and its solver iterates. This page takes
a network that diverges, one that diverges in some draws of its weights, and one whose backward solve is hard; names
each before a step is taken, and shows that the remedy works. All numbers are of this run.
"""

# sphinx_gallery_thumbnail_number = 1
import matplotlib.pyplot as plt
import numpy as np
import torch

import rmtdeq as rd
from rmtdeq.models import Solver, Trace

X, y = rd.load_dataset("fashion-sample", n=200, seed=0)
x, width = torch.from_numpy(X), 400

# %%
# Ask first
# ---------
#
# ``rd.diagnose`` follows the iteration of an infinitely wide network on the norms of your data. It needs no weights.

deq = rd.DEQ("tanh", sigma_a2=0.8, sigma_b2=0.8)
foretold = rd.diagnose(deq, X)
print(foretold.summary())

# %%
# Then run the network. Left, what was foretold (changes, and dotted the distance from the equilibrium) of the
# smallest, the median and the largest norm; right, one network of width 400.

measured = rd.diagnose(deq.to_torch(X.shape[1], width, seed=0).double(), X)
left, right = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True, layout="constrained")[1]
foretold.plot(left).set_title("foretold")
measured.plot(right).set_title("measured")
for tolerance in (1e-2, 1e-4, 1e-8):
    infinite, mean = foretold.iterations(tolerance).max(), foretold.iterations_at(tolerance, width).max()
    scatter = foretold.iterations_scatter_at(tolerance, width).max()
    print(f"steps to {tolerance:.0e}: {infinite} at infinite width, {mean:.1f} ± {scatter:.1f} at this one; ", end="")
    print(f"{measured.iterations(tolerance).max()} measured")

# %%
# One that diverges
# -----------------

wild = rd.DEQ("tanh", sigma_a2=6.0, sigma_b2=0.8)
print(rd.diagnose(wild, X).verdict(width))

# %%
# So it does. The package will not make such a network unasked:

try:
    wild.to_torch(X.shape[1], width)
except rd.IllPosedError as error:
    print(error)

# %%
# The remedy is in the verdict: a :math:`\sigma_a^2` that networks of this width bear.

limit = rd.diagnose(wild, X).limit_at(width)
tame = rd.DEQ("tanh", sigma_a2=round(0.9 * limit, 2), sigma_b2=0.8)
print(f"limit at infinite width {rd.diagnose(wild, X).limit:.3f}, at width {width} {limit:.3f}: take {tame.sigma_a2}")
for seed in range(3):
    print(tame.to_torch(X.shape[1], width, seed=seed).double().solve(x))

# %%
# One that may
# ------------
#
# Somewhat below the limit of infinite width some networks come to rest and others do not. Their rates scatter like
# :math:`m^{-1/2}`, since each has a mean :math:`\varphi'^2` of its own:

edge = rd.DEQ("tanh", sigma_a2=round(0.88 * foretold.limit, 3), sigma_b2=0.8)
law = rd.diagnose(edge, X)
print(law.verdict(width))
print(f"rate {law.rate.max():.4f}, scatter of single networks {law.rate_scatter_at(width).max():.1%}; ", end="")
print(f"{law.resting_at(width).min():.0%} of them come to rest")
for seed in range(4):
    network = edge.to_torch(X.shape[1], width, seed=seed, solver=Solver(max_iterations=1000)).double()
    try:
        print(f"seed {seed}: at rest after {int(network.solve(x[:20]).iterations.max())} steps")
    except rd.ConvergenceError as error:
        print(f"seed {seed}: {error}")

# %%
# The remedies: less :math:`\sigma_a^2`, as above, or a wider network, whose limit is higher:

widths = np.array([100, 300, 1000, 3000, 10_000, 100_000])
print({int(m): round(law.limit_at(m), 3) for m in widths}, "of", round(law.limit, 3))

# %%
# One that is badly conditioned
# -----------------------------
#
# The backward solve inverts :math:`1 - J`, J the Jacobian at the equilibrium. Where its smallest singular value is
# small, gradients are large and take many steps. That comes before divergence does, if a little less so in networks of
# finite width, whose equilibria are rare where :math:`1 - J` is nearly singular:

stiff = rd.DEQ("tanh", sigma_a2=round(0.75 * foretold.limit, 3), sigma_b2=0.8)
print(rd.diagnose(stiff, X).verdict())


def backward_steps(deq, recurrent, adjoint):
    """The steps of the backward solve, the most of 20 samples and the mean of two networks."""
    counts = []
    for seed in range(2):
        solver = Solver(adjoint=adjoint, max_iterations=3000)
        net = deq.to_torch(X.shape[1], width, seed=seed, recurrent=recurrent, solver=solver).double()
        trace = Trace(warm=False)
        net(x[:20], trace).sum().backward()
        counts.append(int(trace.backward.iterations.max()))
    return np.mean(counts)


gentle = rd.DEQ("tanh", sigma_a2=round(0.3 * foretold.limit, 3), sigma_b2=0.8)
for name, each, recurrent in (
    ("as it is", stiff, "gaussian"),
    ("orthogonal A", stiff, "orthogonal"),
    ("less sigma_a2", gentle, "gaussian"),
):
    law = rd.diagnose(each, X, recurrent=recurrent)
    smallest, condition = law.smallest_singular_value_at(width).min(), law.condition_number.max()
    steps = [backward_steps(each, recurrent, adjoint) for adjoint in ("iteration", "gmres")]
    print(f"{name:<14} smallest singular value {smallest:.3f}, condition number {condition:6.1f}; ", end="")
    print(f"steps back: {steps[0]:.0f} by iteration, {steps[1]:.0f} by GMRES")

# %%
# While it trains
# ---------------
#
# Training changes the weights, and what was foretold is of random ones. ``watch="stability"`` measures along the way.

unit = rd.on_sphere(X[:40])
net = deq.to_regression(unit.shape[1], width, seed=0).double()
run = rd.gradient_descent(net, unit, 2.0 * y[:40] - 1, epochs=40, measure_every=10, watch="stability", progress=False)
print(run.summary())
left, right = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")[1]
run.plot(left, "spectral_radius")
run.plot(right, "smallest_singular_value")

# %%
# A radius that creeps towards 1 is a training that will end in a ``ConvergenceError``: take a smaller step, or weight
# decay on A, before it does. Of any module, ``rd.diagnose(net, X)`` says where it stands.
