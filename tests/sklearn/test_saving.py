"""Estimators in files: the same again, and no others."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd

X, LABELS = rd.load_dataset("digits", n=120, seed=0)
WAVES = np.stack([np.sin(3 * X[:, 20]), np.cos(3 * X[:, 30])], axis=1)


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (rd.DEQClassifier("tanh"), LABELS),
        (rd.DEQClassifier(rd.DEQ("relu", sigma_c2=0.2), "ck", scale=False), LABELS < 5),
        (rd.DEQClassifier("leaky_relu(0.2)", dtype="float32"), np.array(list("abcdefghij"))[LABELS]),
        (rd.DEQClassifier(centres=50), np.array(list("abcdefghij"), dtype=object)[LABELS]),
        (rd.DEQRegressor(rd.Network([rd.Layer("erf", 0.1, 0.5, 0.1), "relu"]), "ntk-full", fit_intercept=False), WAVES),
        (
            rd.DEQRegressor(
                rd.Network(["relu", rd.Residual(rd.Layer("tanh", normalized=True, dropout=0.1, after=rd.RMSNorm(0.1)))])
            ),
            WAVES,
        ),
        (rd.DEQRegressor("swish", ridge=0.1), WAVES[:, 0]),
    ],
    ids=["classes", "two classes", "letters", "some of them", "tangents", "branches", "one target"],
)
def test_an_estimator_is_the_same_again(estimator, y, tmp_path):
    model = estimator.fit(X, y)
    found = rd.load_estimator(rd.save_estimator(model, tmp_path / "model"))
    assert type(found) is type(model)
    np.testing.assert_array_equal(found.predict(X), model.predict(X))
    for name, value in vars(model).items():
        if name.endswith("_") and name not in ("network_", "scaling_"):
            np.testing.assert_array_equal(getattr(found, name), value)
    if hasattr(model, "classes_"):
        assert found.predict(X).dtype == model.predict(X).dtype
        np.testing.assert_array_equal(found.predict_proba(X), model.predict_proba(X))
    # It can be learnt with again, and saved again.
    assert rd.load_estimator(rd.save_estimator(found.fit(X, y), tmp_path / "again.npz")).score(X, y) > 0.5


def test_what_cannot_be_saved_or_read_is_told(tmp_path):
    fitted = rd.DEQRegressor(rd.DEQ(lambda u: np.tanh(u) + 0.1 * np.sin(u)), ridge=1.0).fit(X, WAVES)
    mixed = rd.DEQClassifier(ridge=1.0).fit(X, LABELS)
    mixed.classes_ = np.array([None, *range(9)], dtype=object)
    for model, says in (
        (rd.DEQRegressor(), "call fit before"),
        (fitted, "pickle the estimator"),
        (mixed, "pickle the estimator"),
    ):
        with pytest.raises(rd.InvalidInputError, match=says):
            rd.save_estimator(model, tmp_path / "model.npz")
    with pytest.raises(rd.InvalidInputError, match=r"model\.npz, not model\.pkl"):
        rd.save_estimator(rd.DEQRegressor(ridge=1.0).fit(X, WAVES), tmp_path / "model.pkl")
    with pytest.raises(rd.DataNotFoundError, match="There is no estimator"):
        rd.load_estimator(tmp_path / "model.npz")
    np.savez(tmp_path / "other.npz", record=np.array('{"kind": "a table"}'))
    (tmp_path / "damaged.npz").write_bytes(b"PK" + bytes(100))
    for name, says in (("other", "holds a table"), ("damaged", "can be read")):
        with pytest.raises(rd.InvalidInputError, match=says):
            rd.load_estimator(tmp_path / f"{name}.npz")
