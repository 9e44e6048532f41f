"""The predicted spectrum: no sample and no kernel matrix."""

import numpy as np

import rmtdeq as rd


def test_two_classes_isotropic(benchmark, deq):
    def predict():
        means = np.zeros((2, 2000))
        means[0, 0] = means[1, 8] = 8
        # A new mixture each time: what is remembered of an old one must not help.
        mixture = rd.GaussianMixture(means, [1.0, 1 + 8 / np.sqrt(2000)])
        return rd.predict_spectrum(deq, mixture, n=1600, level="classwise")

    benchmark.pedantic(predict, rounds=5, warmup_rounds=1)
    print(f"\nprediction {benchmark.stats.stats.median:.3f} s")


def test_images_common_eigenvectors(benchmark, deq):
    X, y = rd.load_dataset("fashion-sample")

    def predict():
        mixture = rd.GaussianMixture.from_data(X, y, covariance="common")
        return rd.predict_spectrum(deq, mixture, n=627, level="classwise")

    benchmark.pedantic(predict, rounds=3, warmup_rounds=1)
    print(f"\nestimate and prediction {benchmark.stats.stats.median:.3f} s")
