"""Outliers and the eigenvalues that stand for them: laws of their pairs, and verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.spectra.overview import aligned
from rmtdeq.spectra.pairing import UNPAIRED, paired
from rmtdeq.spectra.verdict import Trust, judged, of_data

DEQ = rd.DEQ("relu", 0.2, 0.8)
P = N = 400


@pytest.fixture(scope="module")
def mixture():
    means = np.zeros((2, P))
    means[0, 0], means[1, 1] = 8, 11
    return rd.GaussianMixture(means, [1.0, 1.2])


@pytest.fixture(scope="module")
def pair(mixture):
    X, y = mixture.sample(N, 0)
    return rd.empirical_spectrum(X, DEQ), rd.predict_spectrum(DEQ, mixture, N), y


def moved(pred, positions, alignments):
    """The prediction with other outliers."""
    isolated = replace(pred.isolated, positions=np.array(positions), alignments=np.array(alignments))
    return replace(pred, isolated=isolated)


def test_a_pair_has_position_and_direction(pair):
    emp, pred, y = pair
    found = rd.compare(emp, pred, y)
    np.testing.assert_array_equal(found.places, [N - 2, N - 1])
    np.testing.assert_array_equal(found.matched, emp.eigenvalues[-2:])
    np.testing.assert_allclose(found.alignments, emp.alignments(y)[-2:])
    np.testing.assert_allclose(found.leading, emp.alignments(y)[: -10 - 1 : -1])


def test_directions_tell_which_of_two_near_eigenvalues_is_meant(pair):
    emp, pred, y = pair
    near = emp.eigenvalues[-2:] * [1.02, 1.01]
    seen = emp.alignments(y)[-2:]
    crossed = moved(pred, np.sort([near.mean(), near.mean() * 1.001]), seen[::-1])
    np.testing.assert_array_equal(rd.compare(emp, crossed, y).places, [N - 1, N - 2])
    # Without labels ranks decide.
    np.testing.assert_array_equal(rd.compare(emp, crossed).places, [N - 2, N - 1])


def test_an_outlier_whose_direction_nothing_has_is_unmatched(pair):
    emp, pred, y = pair
    low = 0.5 * emp.eigenvalues[0]
    stranger = moved(pred, [low, *pred.outliers], [[0.22, 0.0], *pred.alignments])
    found = rd.compare(emp, stranger, y)
    assert found.places[0] == UNPAIRED
    assert np.isnan(found.matched[0])
    assert np.isnan(found.outlier_errors[0])
    assert found.fate(0) == "unmatched"
    assert found.details().count("unmatched") == 1
    np.testing.assert_array_equal(found.places[1:], [N - 2, N - 1])
    assert found.bulk.size == N - 2
    # One that is nowhere in the classes says nothing of its direction, and is known by its place.
    silent = moved(pred, [low, *pred.outliers], [[0.0, 0.0], *pred.alignments])
    assert rd.compare(emp, silent, y).places[0] == 0


def test_no_eigenvalue_stands_for_two_outliers(pair):
    emp, pred, y = pair
    rng = np.random.default_rng(0)
    seen = emp.alignments(y)
    for _ in range(30):
        positions = np.sort(rng.choice(emp.eigenvalues, 6) * rng.uniform(0.8, 1.2, 6))
        places = paired(emp.eigenvalues, moved(pred, positions, rng.uniform(0, 0.5, (6, 2))), 0, seen)
        known = places[places != UNPAIRED]
        assert np.unique(known).size == known.size
        assert (known >= 0).all()


def test_a_verdict_says_what_can_be_relied_on():
    values = np.linspace(1.0, 2.0, 50)
    low = values.copy()
    low[-1] *= 0.5
    gap = values.copy()
    gap[-5] *= 0.6
    for ks, predicted, trust in (
        (0.01, values, Trust.ALL),
        (0.07, values, Trust.ROUGHLY),
        (0.3, values, Trust.LARGEST),
        (None, values, Trust.LARGEST),
        (0.01, gap, Trust.FIRST),
        (0.01, low, Trust.BULK),
        (0.3, low, Trust.NONE),
    ):
        verdict = judged("classwise", ks, predicted, values)
        assert verdict.trust is trust
        assert verdict.text.startswith(str(trust))
        assert len(verdict.errors) == 10
    assert judged("any", 0.01, low, values).errors[0] == pytest.approx(0.5)
    assert judged("any", 0.01, values, values).text == "rely on all of it (KS distance 0.010, 10 largest within 0.0%)"


def test_the_effective_dimension_is_that_of_the_spread_of_norms(mixture, pair):
    X, _ = mixture.sample(4000, 1)
    one = rd.GaussianMixture(np.zeros((1, P)), [np.r_[np.full(40, 10.0), np.zeros(P - 40)]])
    X, _ = one.sample(20_000, 1)
    squares = (X**2).sum(axis=1)
    spread = squares.std() / squares.mean()
    text = of_data(rd.predict_spectrum(rd.DEQ("tanh", 0.2, 0.8), one, N))
    assert text == "effective dimension 40 of 400, squared norms ± 22%"
    assert spread == pytest.approx(0.22, abs=0.01)
    assert of_data(pair[1]).startswith(f"effective dimension {P} of")


def test_classes_are_named_where_there_is_more_than_chance():
    names = ("cat", "dog", "fox")
    assert aligned(np.array([0.1, 0.5, 0.2]), names, 1000) == "dog 0.50, fox 0.20"
    assert aligned(np.array([0.01, 0.04, 0.0]), names, 1000) == "none"
    assert aligned(np.array([0.1, 0.0, 0.3]), names, 40) == "fox 0.30"


def test_a_summary_is_the_overview_of_one_comparison(pair):
    emp, pred, y = pair
    lines = rd.compare(emp, pred, y).summary(["cat", "dog"]).splitlines()
    assert len(lines) == 13
    assert "2 classes (cat, dog)" in lines[0]
    assert "dog 0." in lines[3]
