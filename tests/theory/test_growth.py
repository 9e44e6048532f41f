"""Spectra carried from some samples to more."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

import rmtdeq as rd
from rmtdeq.theory.freedom import DegreesOfFreedom, Shortfall, grown_by_freedom
from rmtdeq.theory.growth import BlockSpectra, grown_by_rank, rank_grid, rank_widths
from rmtdeq.theory.reliability import Extrapolation, expected_error
from rmtdeq.theory.rmt import between_spectra
from rmtdeq.theory.smoothest import OperatorLaw, smoothest_spectrum


def low_dimensional(p=120):
    """Three Gaussian classes of effective dimension 15, which the expansion around classes does not bear."""
    rng = np.random.default_rng(7)
    variances = 1 / np.arange(1, p + 1) ** 0.9
    variances *= p / variances.sum()
    means = 2 * np.sqrt(variances) * rng.standard_normal((3, p)) / np.sqrt(2)
    return rd.GaussianMixture(means, [0.7 * variances] * 3)


def spectrum(X, deq, kind="ck"):
    return np.linalg.eigvalsh(rd.kernel(X, deq, kind, tau0_squared=1.0))[::-1]


@pytest.mark.parametrize("kind", ["ck", "ntk", "ntk-full"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_predictions_from_as_many_samples_are_measured_on_others(activation, kind):
    ks, upper, top, expected = errors(activation, kind, kept=1200, n=600)
    # Means over three seeds, of which the noise is a half at most.
    assert ks < 0.02
    assert upper < 0.02
    assert top < 0.05
    assert expected.ks / 3 < ks < 3 * expected.ks


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_predictions_of_twice_as_many_know_their_error(activation):
    ks, upper, top, expected = errors(activation, "ck", kept=600, n=1200)
    assert ks < 3 * expected.ks
    assert upper < 3 * expected.upper
    assert top < 0.06
    assert expected.ks < 0.15


def errors(activation, kind, kept, n):
    """KS distance and median errors, of the upper half and of the largest fifty, mean over three seeds."""
    deq, gmm = rd.DEQ(activation, 0.2, 0.8, centered=False), low_dimensional()
    moments = rd.DataMoments.from_mixture(gmm, kept=kept, seed=1)
    pred = rd.predict_spectrum(deq, moments, n, kind, tau0_squared=1.0)
    assert pred.level == "polynomial"
    scores = []
    for seed in (11, 12, 13):
        measured = spectrum(gmm.sample(n, seed)[0], deq, kind)
        wanted = pred.all_values[::-1]
        points = np.concatenate([wanted, measured])
        below = [np.searchsorted(each[::-1], points, side="right") / n for each in (wanted, measured)]
        upper = abs(np.log(wanted / measured))[: n // 2]
        scores.append((abs(below[0] - below[1]).max(), np.median(upper), np.median(upper[:50])))
    return *np.mean(scores, axis=0), pred.expected_error


def test_a_prediction_is_a_law_of_any_size():
    moments = rd.DataMoments.from_mixture(low_dimensional(), kept=256, seed=0)
    deq = rd.DEQ("relu", 0.2, 0.8, centered=False)
    for n in (40, 256, 1000, 10**7):
        pred = rd.predict_spectrum(deq, moments, n, tau0_squared=1.0)
        levels = np.linspace(0.01, 0.99, 30)
        np.testing.assert_allclose(pred.cdf(pred.ppf(levels)), levels, atol=2e-3)
        assert (np.diff(pred.outliers) >= 0).all()
        assert pred.alignments.shape == (pred.outliers.size, 3)
        assert ((pred.alignments >= 0) & (pred.alignments <= 1 + 1e-12)).all()
        assert pred.stieltjes(1j).imag > 0
        if n <= 1000:
            x = np.geomspace(*pred.edges[0], 200_001)
            assert trapezoid(pred.pdf(x), x) == pytest.approx(1, abs=5e-3)
            assert pred.all_values.size == n
    assert pred.expected_error.ks > 0.05  # four decades beyond what was kept
    assert "level 'polynomial'" in pred.summary()
    assert pred.summary().count("alignment with the classes") == 12
    assert f"{pred.outliers.size - 12} smaller outliers" in pred.summary()


@pytest.mark.parametrize(("rule", "few"), [(grown_by_rank, 0), (grown_by_freedom, 16)])
def test_a_kernel_that_is_the_identity_stays_it(rule, few):
    blocks = BlockSpectra(np.ones((2, 64)), np.ones((4, 32)), np.ones((8, 16)))
    ranks = rank_grid(500)
    # Degrees of freedom do not tell the few at both ends apart.
    found = np.exp(rule(blocks, 500, ranks))[few : 500 - few]
    np.testing.assert_allclose(found, 1.0, rtol=5e-2)


def test_degrees_of_freedom_are_traces():
    values = np.random.default_rng(0).gamma(0.5, 2.0, 30)
    found = DegreesOfFreedom.of_blocks(values.reshape(2, 15))
    shares = np.linspace(0.05, 0.95, 7)
    for share, kappa in zip(shares, np.exp(found.effective(shares)), strict=True):
        ridge = 15 * (1 - share) * kappa
        assert (values / (values + ridge)).sum() / 2 == pytest.approx(15 * share, rel=1e-2)
        assert (1 / (values + ridge)).sum() / 2 == pytest.approx(1 / kappa, rel=1e-2)


def power_degrees(kappa, exponent):
    """Σ λ/(λ + κ) of eigenvalues of which k^(1/exponent) are above 1/k, as an integral over their logarithms."""
    return kappa ** (-1 / exponent) * (np.pi / exponent) / np.sin(np.pi / exponent)


@pytest.mark.parametrize("exponent", [1.3, 1.5, 1.8])
def test_an_operator_of_a_power_law_is_known_beyond_what_is_measured(exponent):
    kappa = np.linspace(-6.0, 0.0, 60)
    degrees = power_degrees(np.exp(kappa), exponent)
    law = OperatorLaw.fitted(kappa, degrees, 100 * degrees.max())
    np.testing.assert_allclose(law.effective(degrees), kappa, atol=5e-3)
    beyond = degrees.max() * np.array([2.0, 10.0])
    further = np.log(power_degrees(1.0, exponent) / beyond) * exponent
    np.testing.assert_allclose(law.effective(beyond), further, atol=0.1)


@pytest.mark.parametrize(("low", "high"), [(-7.0, 0.0), (-3.0, 2.0)])
def test_the_smoothest_spectrum_is_the_one_that_made_the_degrees_of_freedom(low, high):
    n = 3000
    ranks = np.arange(n) + 0.5
    wanted = (low + high) / 2 - (high - low) / 20 * np.log(ranks / (n - ranks)) + 0.3 * np.tanh(4 * (0.3 - ranks / n))
    ridges = np.linspace(high + 3, low - 3, 120)
    shares = np.array([np.mean(1 / (1 + np.exp(ridge - wanted))) for ridge in ridges])
    found = smoothest_spectrum(shares, ridges, np.full(120, 1e-3), n, ranks)
    # But for the few at both ends, which degrees of freedom do not tell apart.
    np.testing.assert_allclose(found[30:-30], wanted[30:-30], atol=0.05)
    assert np.median(abs(found - wanted)) < 0.02


def test_samples_that_are_alike_lack_nothing_and_the_parts_of_a_shortfall_add_up():
    kappa = np.linspace(-9.0, 3.0, 500)
    degrees = power_degrees(np.exp(kappa), 1.5)
    alike = []
    for n in (400, 200, 100):
        below = degrees < n
        shares = degrees[below] / n
        alike.append(DegreesOfFreedom(n, kappa[below], np.log(shares / (1 - shares))))
    shares = np.linspace(0.02, 0.9, 9)
    np.testing.assert_allclose(Shortfall.between(*alike).at(shares, 1.0), 0.0, atol=2e-2)
    # Of h(s) = s/5 a doubling takes a half away, at every size.
    odds = np.linspace(-7, 7, 300)
    halving = Shortfall(odds, 0.1 / (1 + np.exp(-odds)), 0.0)
    np.testing.assert_allclose(halving.at(shares, 0.0), shares / 5, rtol=1e-3)
    np.testing.assert_allclose(halving.at(shares, 3.0), shares / 5, rtol=1e-3)


def power_law(n, seed, features=2500, exponent=1.5):
    """Descending eigenvalues of ΦΛΦᵀ, Φ of n Gaussian samples, the features' variances a power of their number."""
    rng = np.random.default_rng(seed)
    scaled = rng.standard_normal((n, features)) * np.arange(1, features + 1) ** (-exponent / 2)
    return np.linalg.eigvalsh(scaled @ scaled.T)[::-1] + features ** (1 - exponent) / (exponent - 1)


@pytest.fixture(scope="module")
def of_a_power_law():
    return [np.array([power_law(n, seed) for seed in range(4096 // n // 8)]) for n in (256, 128, 64, 32)]


def test_degrees_of_freedom_of_gaussian_features_are_carried(of_a_power_law):
    n = 768
    ranks = rank_grid(n)
    measured = power_law(n, 100)
    found = np.exp(grown_by_freedom(BlockSpectra(*of_a_power_law[:3]), n, ranks))
    ks, upper, whole = between_spectra(found, measured)
    assert ks < 0.03
    assert max(upper, whole) < 0.06
    for ridge in (1e-3, 1e-2, 1e-1):
        assert (found / (found + ridge)).sum() == pytest.approx((measured / (measured + ridge)).sum(), rel=0.01)


@pytest.mark.parametrize("n", [1000, 10**5, 10**7])
def test_the_mean_of_the_eigenvalues_does_not_depend_on_the_number_of_samples(of_a_power_law, n):
    ranks = rank_grid(n)
    found = np.exp(grown_by_freedom(BlockSpectra(*of_a_power_law[:3]), n, ranks))
    # The largest eigenvalue is 40 % of it, and varies by some percent from block to block.
    assert found @ rank_widths(ranks, n) / n == pytest.approx(of_a_power_law[0].mean(), rel=4e-2)


def test_the_way_to_more_samples_counts_both_rules_as_they_foretell(of_a_power_law):
    way = Extrapolation.tried(of_a_power_law)
    ranks, whole = np.arange(256) + 0.5, np.exp(np.log(of_a_power_law[0]).mean(axis=0))
    parts = BlockSpectra(*of_a_power_law[1:])
    of_rank, of_freedom = (
        sum(between_spectra(np.exp(rule(parts, 256, ranks)), whole)) for rule in (grown_by_rank, grown_by_freedom)
    )
    assert way.freedom / (1 - way.freedom) == pytest.approx((of_rank / of_freedom) ** 4)
    np.testing.assert_allclose(way.error, between_spectra(np.exp(way.grown(parts, 256, ranks)), whole))


def test_the_expected_error_is_the_distance_of_measurements(of_a_power_law):
    spectra = of_a_power_law[1:]
    expected = expected_error(spectra, 128)
    mean = np.exp(np.log(spectra[0]).mean(axis=0))
    errors = np.mean([between_spectra(mean, power_law(128, seed)) for seed in range(50, 60)], axis=0)
    for found, true in zip((expected.ks, expected.upper, expected.whole), errors, strict=True):
        assert true / 2 < found < 2 * true
    # What an extrapolation is off adds to it, more with every doubling.
    further = [expected_error(spectra, n, np.full(3, 0.1)).ks for n in (128, 256, 512)]
    assert further[0] == pytest.approx(expected.ks)
    assert 0.1 < further[1] < further[2]


def test_several_kinds_are_those_alone_and_levels_of_mixtures_are_refused():
    moments = rd.DataMoments.from_mixture(low_dimensional(), kept=128, seed=0)
    deq = rd.DEQ("tanh", 0.2, 0.8)
    both = rd.predict_spectrum(deq, moments, 300, ("ck", "ntk"))
    for kind, pred in zip(("ck", "ntk"), both, strict=True):
        np.testing.assert_allclose(pred.outliers, rd.predict_spectrum(deq, moments, 300, kind).outliers, rtol=1e-10)
    with pytest.raises(rd.InvalidInputError, match="GaussianMixture"):
        rd.predict_spectrum(deq, moments, 300, level="paper")
    with pytest.raises(rd.InvalidInputError, match="classwise"):
        rd.predict_training(both[1], np.array([1.0, -1.0, 0.0]), 0.01)


def test_a_mixture_is_predicted_without_expansion_where_asked():
    deq, gmm = rd.DEQ("relu", 0.2, 0.8, centered=False), low_dimensional()
    X, y = gmm.sample(900, 5)
    pred = rd.predict_spectrum(deq, gmm, 900, level="polynomial")
    emp = rd.empirical_spectrum(X, deq, tau0_squared=gmm.mean_squared_norm)
    assert rd.compare(emp, pred, y).ks < 0.04


def test_the_fewest_samples_are_predicted_and_fewer_refused():
    moments = rd.DataMoments.from_mixture(low_dimensional(), kept=64, seed=0)
    deq = rd.DEQ("relu", 0.2, 0.8, centered=False)
    for n in range(4, 12):
        pred = rd.predict_spectrum(deq, moments, n)
        assert pred.all_values.size == n
        assert np.isfinite(pred.all_values).all()
        assert np.isfinite(pred.expected_error.ks)
    for n in (1, 2, 3):
        with pytest.raises(rd.InvalidInputError, match="4 samples at least"):
            rd.predict_spectrum(deq, moments, n)
    assert rd.predict_spectrum(deq, rd.GaussianMixture(np.zeros((1, 40)), [1.0]), 2).level == "classwise"
    with pytest.raises(rd.InvalidInputError, match="DataMoments"):
        rd.predict_spectrum(deq, np.zeros((5, 3)), 5)
