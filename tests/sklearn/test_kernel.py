"""The kernels in scikit-learn: one function of two samples, whichever way it is used."""

import pickle
import re
import subprocess
import sys
import warnings
from itertools import product

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

import rmtdeq as rd
from rmtdeq.kernels import kernel_diagonal

PARAMETERS = {
    "activation": "swish",
    "sigma_a2": 0.3,
    "sigma_b2": 0.7,
    "centered": False,
    "kind": "ck",
    "scale": "features",
    "tau0_squared": 2.0,
    "sigma_a2_bounds": (0.1, 0.4),
    "sigma_b2_bounds": "fixed",
    "backend": "numpy",
    "dtype": "float32",
    "device": None,
}


@pytest.fixture(scope="module")
def samples():
    """Rows of dimension 20 with squared norms around one, and others."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((n, 20)) / np.sqrt(20) for n in (40, 15))


@pytest.fixture(scope="module")
def digits():
    """The bundled images of handwritten digits, 500 to learn from and 300 others."""
    X, y = rd.load_dataset("digits", n=800, seed=0)
    return X[::2], y[::2], X[1::2], y[1::2]


@pytest.mark.parametrize("kind", ["ck", "ntk", "ntk-full"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "swish"])
def test_it_is_the_kernel_of_the_model(samples, activation, kind):
    X, Z = samples
    deq = rd.DEQ(activation, 0.3, 0.6)
    mine = rd.DEQKernel(activation, 0.3, 0.6, kind=kind)
    square = rd.kernel(X, deq, kind, tau0_squared=1.0)
    assert (mine(X) == square).all()
    assert (mine(Z, X) == rd.kernel(Z, deq, kind, Y=X, tau0_squared=1.0)).all()
    assert (mine.fit_transform(X) == square).all()
    assert (mine.transform(Z) == mine(Z, X)).all()
    np.testing.assert_allclose(mine.transform(X), square, rtol=1e-11)
    assert (mine.diag(X) == square.diagonal()).all()
    assert (kernel_diagonal(X, deq, kind) == rd.kernel(X, deq, kind).diagonal()).all()


def test_what_a_sample_is_compared_with_does_not_change_its_entry(samples):
    X, Z = samples
    mine = rd.DEQKernel("relu")
    whole = mine(np.vstack([X, 3 * Z]))
    np.testing.assert_allclose(mine(3 * Z, X), whole[len(X) :, : len(X)], rtol=1e-11)
    np.testing.assert_allclose(mine(X[:3], X), whole[:3, : len(X)], rtol=1e-11)


@pytest.mark.parametrize(
    ("scale", "size", "says"),
    [
        (1.0, 100.0, "divide them by 100 "),
        (5.0, 100.0, "divide them by 20 "),
        ("features", 100.0, "divide them by 25 "),
    ],
)
def test_norms_that_are_not_of_order_one_come_with_the_scale_that_fits(scale, size, says):
    X = size * rd.on_sphere(np.random.default_rng(0).standard_normal((5, 16)))
    with pytest.warns(UserWarning, match=says):
        rd.DEQKernel("relu", scale=scale)(X)
    rd.DEQKernel("relu", scale=100.0)(X)


def test_scales_divide_the_samples(samples):
    X, Z = samples
    standardised = X * np.sqrt(20)
    plain = rd.DEQKernel("relu")
    np.testing.assert_allclose(rd.DEQKernel("relu", scale="features")(standardised), plain(X), rtol=1e-12)
    np.testing.assert_allclose(rd.DEQKernel("relu", scale=4.0)(4 * Z, 4 * X), plain(Z, X), rtol=1e-12)
    with pytest.warns(UserWarning, match="scale= of DEQKernel"):
        plain(standardised)


def test_parameters_are_kept_as_they_are_given():
    mine = rd.DEQKernel(**PARAMETERS)
    assert mine.get_params() == PARAMETERS | {"network": None}
    other = clone(mine)
    assert other is not mine
    assert other == mine
    assert other.set_params(sigma_a2=0.5).sigma_a2 == 0.5
    assert other != mine
    phi = rd.Activation(np.tanh)
    assert rd.DEQKernel(phi).activation is phi
    with pytest.raises(ValueError, match="nonsense"):
        mine.set_params(nonsense=1)


def test_tangent_kernels_classify_digits(digits):
    X, y, Z, labels = digits
    kernel = rd.DEQKernel("tanh", kind="ntk")
    pipeline = make_pipeline(kernel, SVC(kernel="precomputed", C=100)).fit(X, y)
    callable_ = SVC(kernel=rd.DEQKernel("tanh", kind="ntk"), C=100).fit(X, y)
    assert pipeline.score(Z, labels) > 0.95
    assert (pipeline.predict(Z) == callable_.predict(Z)).all()
    ridge = KernelRidge(kernel=kernel, alpha=1e-3).fit(X, np.eye(10)[y])
    precomputed = make_pipeline(kernel, KernelRidge(kernel="precomputed", alpha=1e-3)).fit(X, np.eye(10)[y])
    np.testing.assert_allclose(ridge.predict(Z), precomputed.predict(Z), atol=1e-8)
    again = pickle.loads(pickle.dumps(pipeline))
    assert (again[0].transform(Z) == pipeline[0].transform(Z)).all()
    assert (again.predict(Z) == pipeline.predict(Z)).all()


def test_parameters_are_searched_for_within_a_pipeline():
    X, y = load_digits(return_X_y=True)
    X, y = X[:500], y[:500]
    pipeline = make_pipeline(StandardScaler(), rd.DEQKernel(scale="features"), SVC(kernel="precomputed", C=30))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.9
    grid = {"deqkernel__sigma_a2": [0.1, 0.5], "deqkernel__activation": ["tanh", "relu"]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X[:300], y[:300])
    assert search.best_score_ > 0.9
    assert search.score(X[300:], y[300:]) > 0.9
    best = search.best_estimator_.named_steps["deqkernel"]
    assert best.sigma_a2 == search.best_params_["deqkernel__sigma_a2"]
    assert best.X_fit_.shape == (300, 64)
    regression = make_pipeline(
        StandardScaler(), rd.DEQKernel(scale="features"), KernelRidge(kernel="precomputed", alpha=0.1)
    )
    assert cross_val_score(regression, X, y == 3, cv=3).mean() > 0.5


@pytest.mark.parametrize("kind", ["ck", "ntk", "ntk-full"])
def test_gradients_of_a_linear_model_and_of_a_homogeneous_one_are_exact(samples, kind):
    X = samples[0]
    a, b = 0.3, 0.7
    # φ(u) = u: G = σ_b² X Xᵀ/(1 - σ_a²), divided by 1 - σ_a² once more for the NTK, and twice the first in NTK-full.
    linear = rd.DEQKernel("polynomial(0, 1)", a, b, kind=kind)
    K, gradient = linear(X, eval_gradient=True)
    powers = {"ck": 1, "ntk": 2}
    if kind in powers:
        np.testing.assert_allclose(K, b * X @ X.T / (1 - a) ** powers[kind], atol=1e-12)
        np.testing.assert_allclose(gradient[..., 0], K * powers[kind] * a / (1 - a), atol=1e-9)
    np.testing.assert_allclose(gradient[..., 1], K, atol=1e-9)
    # ReLU(t u) = t ReLU(u), and so has the kernel the degree one in σ_b².
    K, gradient = rd.DEQKernel("relu", a, b, kind=kind, centered=False)(X, eval_gradient=True)
    np.testing.assert_allclose(gradient[..., 1], K, atol=1e-8)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_gradients_are_differences_of_the_kernel_and_of_the_likelihood(samples, activation):
    X = samples[0]
    mine = rd.DEQKernel(activation, 0.3, 0.7)
    _, gradient = mine(X, eval_gradient=True)
    for k in range(2):
        step = 1e-4 * np.eye(2)[k]
        there, back = (mine.clone_with_theta(mine.theta + sign * step)(X) for sign in (1, -1))
        np.testing.assert_allclose(gradient[..., k], (there - back) / 2e-4, atol=1e-7)
    gp = GaussianProcessRegressor(mine + WhiteKernel(0.01), optimizer=None).fit(X, X[:, 0] * X[:, 1])
    theta = gp.kernel_.theta
    _, slope = gp.log_marginal_likelihood(theta, eval_gradient=True)
    for k in range(3):
        step = 1e-5 * np.eye(3)[k]
        change = gp.log_marginal_likelihood(theta + step) - gp.log_marginal_likelihood(theta - step)
        assert slope[k] == pytest.approx(change / 2e-5, rel=1e-4, abs=1e-4)


def test_hyperparameters_are_logarithms_and_can_be_fixed(samples):
    mine = rd.DEQKernel(sigma_a2=0.3, sigma_b2=0.7, sigma_a2_bounds=(0.1, 0.6))
    np.testing.assert_allclose(mine.theta, np.log([0.3, 0.7]))
    np.testing.assert_allclose(mine.bounds, np.log([[0.1, 0.6], [1e-3, 1e2]]))
    assert mine.clone_with_theta(np.log([0.2, 0.5])).sigma_b2 == pytest.approx(0.5)
    assert mine.n_dims == 2
    assert not mine.is_stationary()
    for fixed in ({"sigma_a2_bounds": "fixed"}, {"sigma_a2": 0.0}):
        one = clone(mine).set_params(**fixed)
        np.testing.assert_allclose(one.theta, np.log([0.7]))
        assert one(samples[0], eval_gradient=True)[1].shape == (40, 40, 1)
    assert not {"theta", "bounds"} - set(dir(rd.DEQKernel(sigma_a2="not a number")))


def test_gaussian_processes_find_the_model_that_made_the_targets():
    X = np.random.default_rng(1).standard_normal((150, 10)) / np.sqrt(10)
    truth = rd.DEQKernel("relu", 0.2, 2.0)
    y = np.linalg.cholesky(truth(X) + 1e-4 * np.eye(150)) @ np.random.default_rng(2).standard_normal(150)
    start = rd.DEQKernel("relu", 0.5, 0.2, sigma_a2_bounds="fixed") + WhiteKernel(1e-4, "fixed")
    gp = GaussianProcessRegressor(start).fit(X[:120], y[:120])
    before = GaussianProcessRegressor(start, optimizer=None).fit(X[:120], y[:120])
    assert gp.log_marginal_likelihood_value_ > before.log_marginal_likelihood_value_ + 10
    mean, deviation = gp.predict(X[120:], return_std=True)
    assert np.mean(abs(mean - y[120:]) < 3 * deviation) > 0.9
    labels = (y > np.median(y)).astype(int)
    gpc = GaussianProcessClassifier(rd.DEQKernel("relu"), optimizer=None).fit(X[:120], labels[:120])
    assert gpc.score(X[120:], labels[120:]) > 0.6


@pytest.mark.parametrize("size", [0.5, 1.0, pytest.param(2.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "process", [pytest.param(GaussianProcessClassifier, marks=pytest.mark.slow), GaussianProcessRegressor]
)
def test_gaussian_processes_stay_where_there_is_a_kernel(process, size):
    X = size * rd.center_and_scale(np.random.default_rng(3).standard_normal((10, 8)))
    y = X[:, 0] * X[:, 1] / size**2
    with warnings.catch_warnings():
        # An optimum at an end of a range is none of ours.
        warnings.simplefilter("ignore", ConvergenceWarning)
        targets = y > np.median(y) if process is GaussianProcessClassifier else y
        found = process(rd.DEQKernel("erf"), n_restarts_optimizer=1, random_state=0).fit(X, targets)
    assert np.isfinite(found.log_marginal_likelihood_value_)
    assert 1e-3 - 1e-12 <= found.kernel_.sigma_a2 <= 0.95 * np.pi / 4 + 1e-6


@pytest.mark.parametrize(
    ("activation", "highest"),
    [
        ("erf", 0.95 * np.pi / 4),
        ("tanh", 0.95),
        ("relu", 0.95),
        ("two_slopes(2, 0.5)", 0.95 / 4),
        ("abs", 0.95),
        ("sin", 0.95),
        (np.poly1d([0.5, 3.0]), 0.95 * 4),
    ],
)
@pytest.mark.parametrize("kind", ["ck", "ntk-full"])
def test_there_is_a_kernel_at_the_ends_of_the_ranges(activation, highest, kind):
    X = np.random.default_rng(0).standard_normal((4, 8)) / np.sqrt(8)
    mine = rd.DEQKernel(activation, kind=kind, centered=False)
    assert np.exp(mine.bounds[0, 1]) == pytest.approx(highest, rel=1e-5)
    for theta in product(*mine.bounds):
        found, slope = mine.clone_with_theta(np.array(theta))(X, eval_gradient=True)
        assert np.isfinite(found).all()
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("activation", ["polynomial(0, 0.5, 0, 0.1)", "steps((0.0,), (0.0, 1.0))", np.exp])
def test_without_a_largest_slope_nothing_is_sought(activation):
    assert rd.DEQKernel(activation).n_dims == 0
    assert rd.DEQKernel(activation, sigma_a2_bounds=(0.1, 0.3)).n_dims == 2
    assert rd.DEQKernel(activation, 0.0).n_dims == 1


def test_engines_and_precisions_agree(samples):
    X, Z = samples
    exact = rd.DEQKernel().fit(X).transform(Z)
    for options in ({"backend": "numpy"}, {"backend": "torch", "device": "cpu"}):
        np.testing.assert_allclose(rd.DEQKernel(**options).fit(X).transform(Z), exact, rtol=1e-11)
    for single in (rd.DEQKernel(dtype="float32").fit(X).transform(Z), rd.DEQKernel()(*np.float32((Z, X[:15])))):
        assert single.dtype == np.float32
    assert abs(rd.DEQKernel(dtype="float32").fit(X).transform(Z) - exact).max() < 2e-6


@pytest.mark.filterwarnings("ignore:The samples' squared norms")
@pytest.mark.parametrize("estimator", [rd.DEQKernel("relu"), rd.DEQKernel("erf", kind="ck", scale="features")], ids=str)
def test_scikit_learn_accepts_it_as_its_own(estimator):
    results = check_estimator(estimator, on_skip=None, expected_failed_checks={})
    assert len(results) > 40
    # That check wants SCIPY_ARRAY_API in the environment before anything is imported.
    done = [each for each in results if each["check_name"] != "check_array_api_input"]
    assert {each["status"] for each in done} == {"passed"}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"activation": "relux"}, "relux"),
        ({"sigma_a2": -1.0}, "sigma_a2"),
        ({"sigma_b2": 0.0}, "sigma_b2"),
        ({"centered": "yes"}, "centered"),
        ({"kind": "nngp"}, "kind"),
        ({"kind": ("ck", "ntk")}, "kind"),
        ({"scale": "feature"}, "a positive number or 'features'"),
        ({"scale": 0.0}, "scale"),
        ({"scale": None}, "scale"),
        ({"tau0_squared": -1.0}, "tau0_squared"),
        ({"backend": "cuda"}, "backend"),
        ({"dtype": "float16"}, "dtype"),
        ({"device": "nonsense", "backend": "torch"}, "device"),
    ],
)
def test_parameters_without_sense_are_refused_when_used(samples, parameters, says):
    mine = rd.DEQKernel(**{"activation": "relu", **parameters})
    for call in (mine, mine.fit):
        with pytest.raises(rd.InvalidInputError, match=says):
            call(samples[0])


def test_samples_without_sense_are_refused(samples):
    X, Z = samples
    mine = rd.DEQKernel().fit(X)
    for bad in (X[:, 0], X * np.nan, Z[:, :5], "text", np.zeros((0, 20))):
        for call in (mine.transform, lambda bad: mine(bad, X)):
            with pytest.raises(rd.InvalidInputError):
                call(bad)
    with pytest.raises(rd.InvalidInputError, match="leave Y out"):
        mine(X, Z, eval_gradient=True)
    with pytest.raises(rd.IllPosedError):
        rd.DEQKernel("relu", sigma_a2=2.5).fit(X)
    with pytest.raises(rd.IllPosedError) as caught:
        rd.DEQKernel("relu", sigma_a2=1.999, centered=False)(X, eval_gradient=True)
    assert "sigma_a2_bounds" in caught.value.__notes__[0]


def test_without_the_libraries_a_sentence_names_the_extra():
    code = (
        "import sys; sys.modules['sklearn'] = sys.modules['pandas'] = None\n"
        "import rmtdeq as rd; from rmtdeq import *; dir(rd)\n"
        "coef = rd.solve(rd.DEQ('tanh', 0.2, 0.8), 1.0); coef.table()\n"
        "for use in (lambda: rd.DEQKernel, coef.to_frame):\n"
        "    try: use()\n    except rd.MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.findall(r"rmtdeq\[(\w+)\]", done.stdout) == ["sklearn", "pandas"]


def test_a_network_in_the_place_of_the_model():
    X, y = rd.load_dataset("digits", n=80, seed=0)
    network = rd.Network([rd.Layer("relu", sigma_b2=2.0), rd.DEQ("tanh", 0.2, 0.8)])
    kernel = rd.DEQKernel(network=network, kind="ntk")
    np.testing.assert_allclose(kernel(X), rd.kernel(X, network, "ntk", tau0_squared=1.0), rtol=1e-12)
    assert kernel.n_dims == 0
    assert clone(kernel).network == network
    model = make_pipeline(rd.DEQKernel(network=network), SVC(kernel="precomputed")).fit(X, y)
    assert model.score(X, y) > 0.9
