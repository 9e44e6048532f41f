"""The leaf through which every argument passes: what no computation could use is refused in words."""

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq._lib import check
from rmtdeq.cli import example_mixture

NO_MATRIX = ([[1, 2], [3]], [1.0, 2.0], 3.0, [["a", "b"]], [[1j]], [[np.nan]], np.empty((0, 3)), None)


@pytest.mark.parametrize("X", NO_MATRIX)
def test_what_is_no_data_matrix_is_refused(X):
    with pytest.raises(rd.InvalidInputError, match="X"):
        check.samples(X)


@pytest.mark.parametrize("kind", [None, 3, (), "cnk", ("ck", "ck"), ("ck", 1), np.eye(30)])
def test_what_names_no_kernel_is_refused_briefly(kind):
    with pytest.raises(rd.InvalidInputError, match="kind") as caught:
        check.kinds(kind)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, bool, np.float16])
def test_other_numbers_become_float64(dtype):
    assert check.real_array(np.ones(3, dtype), "x").dtype == np.float64
    assert check.real_array(np.ones(3, np.float32), "x").dtype == np.float32


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
    arguments = ["compare", "--dataset", "digits", "--n", "120", "--kind", "ck", "--covariance", "scalar"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert out.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("value", "meant"), [("digit", "digits"), ("Digits", "digits"), ("fashon", "fashion"), ("xyz", None), (3, None)]
)
def test_the_nearest_choice_is_suggested(value, meant):
    with pytest.raises(rd.InvalidInputError, match="name must be one of") as caught:
        check.choice(value, "name", ("digits", "fashion"))
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
    assert check.RELABEL in str(caught.value)
    gmm = rd.GaussianMixture.from_data(X, np.unique(y, return_inverse=True)[1])
    assert gmm.classes == len(set(y))
    spectrum = rd.empirical_spectrum(X, rd.DEQ("tanh", 0.2, 0.8))
    if max(y) in (3, "c"):
        with pytest.raises(rd.InvalidInputError, match="return_inverse"):
            spectrum.alignments(y, 3)


def forms_of(X):
    """The same samples as the tensors, arrays, tables and lists that people have them in, by name."""
    import pandas as pd
    import torch

    T = torch.from_numpy(X)

    class Container:
        def __array__(self, dtype=None, copy=None):
            return X

    return {
        "gradient": T.clone().requires_grad_(),
        "conjugate's imaginary part": torch.complex(T, -T).conj().imag,
        "negative": torch._neg_view(-T),
        "float16": T.half(),
        "bfloat16": T.bfloat16(),
        "float8_e4m3fn": T.to(torch.float8_e4m3fn),
        "float8_e5m2": T.to(torch.float8_e5m2),
        "tensor rows": list(T.bfloat16()),
        "numpy float16": X.astype(np.float16),
        "long double": X.astype(np.longdouble),
        "big-endian": X.astype(">f8"),
        "big-endian float32": X.astype(">f4"),
        "masked, nothing masked": np.ma.masked_array(X, np.zeros(X.shape, bool)),
        "container": Container(),
        "Float64": pd.DataFrame(X).astype("Float64"),
        "Float32": pd.DataFrame(X).astype("Float32"),
        "Int64": pd.DataFrame(X).astype("Int64"),
        "one nullable column": pd.DataFrame(X).astype({0: "Int64"}),
        "boolean": pd.DataFrame(X > 0).astype("boolean"),
    }


def test_samples_of_any_type_are_the_same_samples():
    X = np.random.default_rng(0).choice([-1.0, 0.0, 1.0, 2.0], (6, 4))
    for name, form in forms_of(X).items():
        expected = (X > 0).astype(float) if name == "boolean" else X
        found = check.samples(form)
        np.testing.assert_array_equal(found, expected, err_msg=name)
        assert found.dtype == (np.float32 if name in ("Float32", "big-endian float32") else np.float64), name
        assert found.dtype.isnative
        assert type(found) is np.ndarray


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_kernels_take_samples_of_any_type(backend):
    X, deq = np.random.default_rng(0).choice([-1.0, 1.0, 2.0], (6, 3)), rd.DEQ("relu", 0.2, 0.8)
    exact = rd.kernel(X, deq)
    forms = forms_of(X)
    for name in set(forms) - {"boolean"}:
        found = np.asarray(rd.kernel(forms[name], deq, backend=backend))
        np.testing.assert_allclose(found, exact, rtol=2e-6, err_msg=name)
    rd.DEQKernel("relu").fit(forms["bfloat16"])


def test_missing_numbers_are_told_as_such():
    import pandas as pd
    import torch

    X = np.random.default_rng(0).standard_normal((5, 3))
    table = pd.DataFrame(X).astype("Float64")
    table.iloc[1, 2] = pd.NA
    mask = np.arange(15).reshape(5, 3) == 4
    for bad in (
        table,
        pd.DataFrame([[1, None], [2, 3]]).astype("Int64"),
        np.ma.masked_array(X, mask),
        list(np.ma.masked_array(X, mask)),
        np.longdouble("1e4000") * mask,
        torch.where(torch.from_numpy(mask), np.nan, 1.0).bfloat16(),
    ):
        with pytest.raises(rd.InvalidInputError, match=r"X holds 1 .*NaN or infinite value"):
            check.samples(bad)
    with pytest.raises(rd.InvalidInputError, match="real numbers, not object"):
        check.samples(pd.DataFrame({"a": ["1", "2"], "b": pd.array([1, 2], dtype="Int64")}))
    with pytest.raises(rd.InvalidInputError, match="complex"):
        check.samples(torch.complex(torch.ones(2, 2), torch.ones(2, 2)).conj())


def test_labels_may_be_tensors_and_nullable():
    import pandas as pd
    import torch

    for y in (torch.tensor([0, 1, 1]), torch.tensor([0.0, 1, 1]).bfloat16(), pd.Series([0, 1, 1], dtype="Int64")):
        np.testing.assert_array_equal(check.labels(y, 3), [0, 1, 1])
    with pytest.raises(rd.InvalidInputError, match="not whole"):
        check.labels(pd.Series([0, pd.NA, 1], dtype="Int64"), 3)


def test_indicators_are_met_with_their_argmax():
    with pytest.raises(rd.InvalidInputError, match=r"y\.argmax\(axis=1\)"):
        check.labels(np.eye(3)[[0, 2, 1, 1]], 4)
    with pytest.raises(rd.InvalidInputError, match=r"not shape \(4, 3\)\.$"):
        check.labels(np.ones((4, 3)), 4)
