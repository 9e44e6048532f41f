"""The leaf through which every argument passes: what no computation could use is refused in words."""

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq import _check
from rmtdeq.cli import example_mixture

NO_MATRIX = ([[1, 2], [3]], [1.0, 2.0], 3.0, [["a", "b"]], [[1j]], [[np.nan]], np.empty((0, 3)), None)


@pytest.mark.parametrize("X", NO_MATRIX)
def test_what_is_no_data_matrix_is_refused(X):
    with pytest.raises(rd.InvalidInputError, match="X"):
        _check.samples(X)


@pytest.mark.parametrize("kind", [None, 3, (), "cnk", ("ck", "ck"), ("ck", 1), np.eye(30)])
def test_what_names_no_kernel_is_refused_briefly(kind):
    with pytest.raises(rd.InvalidInputError, match="kind") as caught:
        _check.kinds(kind)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, bool, np.float16])
def test_other_numbers_become_float64(dtype):
    assert _check.real_array(np.ones(3, dtype), "x").dtype == np.float64
    assert _check.real_array(np.ones(3, np.float32), "x").dtype == np.float32


@pytest.mark.parametrize("activation", ["abs", "polynomial(0, 0, 0.3)"])
def test_even_activations_have_a_bulk_of_one_point(activation):
    # φ' is odd, so that α1 = 0: to first order the kernel sees no inner products, only norms.
    deq, distances = rd.DEQ(activation, 0.1, 0.8), []
    for p in (200, 800):
        mixture = example_mixture(p, 2)
        pred = rd.predict_spectrum(deq, mixture, 4 * p // 5, level="paper")
        gamma2 = rd.solve(deq, mixture.tau0_squared).gamma2
        assert pred.edges == [(pytest.approx(gamma2), pytest.approx(gamma2))]
        assert [mass for _, mass in pred.atoms] == [1.0]
        X, y = mixture.sample(pred.n, seed=0)
        cmp = rd.compare(rd.empirical_spectrum(X, deq), pred, y)
        distances.append(cmp.wasserstein)
        assert cmp.plot() is not None
    # The measured bulk shrinks to that point like p^-1/2 or faster; 0.7 leaves room for one draw of each size.
    assert distances[1] < 0.7 * distances[0]


def test_ten_classes_fit_into_a_figure(tmp_path):
    from rmtdeq.cli import main

    out = tmp_path / "digits.png"
    assert main(["compare", "--dataset", "digits", "--n", "120", "--kind", "ck", "--out", str(out)]) == 0
    assert out.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("value", "meant"), [("digit", "digits"), ("Digits", "digits"), ("fashon", "fashion"), ("xyz", None), (3, None)]
)
def test_the_nearest_choice_is_suggested(value, meant):
    with pytest.raises(rd.InvalidInputError, match="name must be one of") as caught:
        _check.choice(value, "name", ("digits", "fashion"))
    assert (f"did you mean {meant!r}?" in str(caught.value)) == (meant is not None)
    assert ("did you mean" in str(caught.value)) == (meant is not None)


@pytest.mark.parametrize("text", ["0.1", "1", b"1", "nan", ""])
def test_a_text_is_no_number(text):
    with pytest.raises(rd.InvalidInputError, match="sigma_a2 must be a number, not the text"):
        rd.DEQ("tanh", sigma_a2=text, sigma_b2=0.8)


@pytest.mark.parametrize(
    "y", [[1, 1, 2, 2, 3, 3], list("aabbcc"), [0, 0, 2, 2, 3, 3], [0.5, 0.5, 1, 1, 2, 2], [-1, -1, 1, 1, 1, 1]]
)
def test_labels_that_are_not_those_of_classes_come_with_what_makes_them(y):
    X = np.random.default_rng(0).standard_normal((6, 4))
    with pytest.raises(rd.InvalidInputError) as caught:
        rd.GaussianMixture.from_data(X, y)
    assert _check.RELABEL in str(caught.value)
    gmm = rd.GaussianMixture.from_data(X, np.unique(y, return_inverse=True)[1])
    assert gmm.classes == len(set(y))
    spectrum = rd.empirical_spectrum(X, rd.DEQ("tanh", 0.2, 0.8))
    if max(y) in (3, "c"):
        with pytest.raises(rd.InvalidInputError, match="return_inverse"):
            spectrum.alignments(y, 3)
