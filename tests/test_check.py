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
