"""Training and test images as a classifier takes them."""

import numpy as np
import pytest

import rmtdeq as rd


def test_channels_are_standardised_over_the_training_images():
    X, y, (X_test, y_test) = rd.load_classification("digits", seed=3)
    assert X.shape == (1438, 1, 8, 8)
    assert X_test.shape == (359, 1, 8, 8)
    assert X.dtype == X_test.dtype == np.float32
    assert abs(X.mean(dtype=float)) < 1e-5
    assert abs(X.std(dtype=float) - 1) < 1e-5
    assert 0 < abs(X_test.mean(dtype=float)) < 0.1
    pixels, labels = rd.load_dataset("digits", raw=True)
    # Undone, the two parts together are the data set, every image with its label.
    low = pixels.min()
    back = np.concatenate([X, X_test]).reshape(-1, 64)
    scale = (pixels.max() - low) / (back.max() - back.min())
    back = np.round((back - back.min()) * scale + low).astype(int)
    found = sorted(map(tuple, np.column_stack([back, np.concatenate([y, y_test])]).tolist()))
    assert found == sorted(map(tuple, np.column_stack([pixels, labels]).tolist()))


def test_a_draw_is_determined_by_its_seed():
    first, again, other = (rd.load_classification("digits", n=50, test=20, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[1], other[1])
    assert len(first[2][1]) == 20


def test_classes_are_numbered_in_the_order_given():
    _, y, (X_test, y_test) = rd.load_classification("digits", classes=(7, 2), test=0)
    assert set(y) == {0, 1}
    assert X_test.shape == (0, 1, 8, 8)
    assert len(y_test) == 0


def test_a_test_part_keeps_the_transform_of_the_training_part(tmp_path):
    rng = np.random.default_rng(0)
    shape = (32, 32, 3)
    x_train = (rng.integers(0, 100, (40, *shape)) + np.array([0, 50, 100])).astype(np.uint8)
    x_train[..., 2] = 9
    x_test = rng.integers(0, 255, (20, *shape)).astype(np.uint8)
    y_train, y_test = np.arange(40) % 10, np.arange(20) % 10
    np.savez(tmp_path / "cifar10.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    X, _, (X_test, labels) = rd.load_classification("cifar10", data_dir=tmp_path)
    assert X.shape == (40, 3, 32, 32)
    np.testing.assert_allclose(X.mean(axis=(0, 2, 3), dtype=float), 0, atol=1e-5)
    np.testing.assert_allclose(X.std(axis=(0, 2, 3), dtype=float), [1, 1, 0], atol=1e-5)
    mean, spread = x_train.mean(axis=(0, 1, 2)), x_train.std(axis=(0, 1, 2))
    spread[2] = 1
    expected = ((x_test - mean) / spread).transpose(0, 3, 1, 2)
    key = lambda images, labels: sorted(zip(labels.tolist(), images.reshape(len(images), -1).sum(axis=1), strict=True))
    np.testing.assert_allclose(key(X_test, labels), key(expected, y_test), rtol=1e-4)
    assert len(rd.load_classification("cifar10", data_dir=tmp_path, n=20, test=10)[2][1]) == 10


@pytest.mark.parametrize(
    "given",
    [
        {"name": "nothing"},
        {"test": -1},
        {"test": 1797},
        {"n": 1700},
        {"n": 0},
        {"seed": -1},
        {"classes": (11,)},
        {"classes": 3},
        {"classes": "12"},
    ],
)
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(rd.InvalidInputError):
        rd.load_classification(**{"name": "digits", **given})


def test_names_of_classes_come_with_their_labels():
    with pytest.raises(rd.InvalidInputError, match=r"no class 'trouser'; its classes are 5 \(sandal\)"):
        rd.load_classification("fashion-sample", classes=("trouser", "dress"))
