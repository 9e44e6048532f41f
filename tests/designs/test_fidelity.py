"""Comparison of a design's kernel with the DEQ's."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 30)) / np.sqrt(30)
    deq = rd.DEQ("relu", 0.2, 0.8)
    return X, deq, rd.design(deq, 1.0, "both")


@pytest.mark.parametrize("kind", [None, "ck", "ntk", "ntk-full"])
def test_distances_are_those_of_the_kernels(case, kind):
    X, deq, net = case
    found = rd.compare_kernels(X, deq, net, kind, progress=False)
    name = kind or "ck"
    assert found.kind == name
    kernels = {
        "deq": rd.kernel(X, deq, kind=name, tau0_squared=1.0),
        "network": net.kernel(X, name),
        "plain": rd.kernel(X, rd.DEQ("relu", 0.0, 1.0), kind=name, tau0_squared=1.0),
    }
    for each, matrix in kernels.items():
        np.testing.assert_allclose(getattr(found, each), np.linalg.eigvalsh(matrix), atol=1e-12)
    size = np.linalg.norm(kernels["deq"], 2)
    assert found.distance == pytest.approx(np.linalg.norm(kernels["network"] - kernels["deq"], 2) / size)
    assert found.distance_plain == pytest.approx(np.linalg.norm(kernels["plain"] - kernels["deq"], 2) / size)
    assert f"{found.distance:.3g}" in found.summary()


def test_figures_show_what_they_compare(case):
    from rmtdeq.output.figures import design_figure

    X, deq, net = case
    comparisons = [rd.compare_kernels(X, deq, net, kind, progress=False) for kind in ("ck", "ntk")]
    figure = design_figure(comparisons, deq, net, "title")
    assert len(figure.axes) == 6
    line = figure.axes[1].lines[0]
    np.testing.assert_allclose(line.get_ydata(), comparisons[0].deq[::-1])
    assert not figure.axes[5].axison
    labels = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert labels == ["DEQ", *(f"layer {i + 1}: {layer.name}" for i, layer in enumerate(net.layers))]
    with pytest.raises(rd.InvalidInputError, match="at least one"):
        design_figure([], deq, net)


def test_another_deq_is_no_network(case):
    X, deq, _ = case
    with pytest.raises(rd.InvalidInputError, match="ExplicitNetwork"):
        rd.compare_kernels(X, deq, deq)
