"""The package's front: lazy, complete, and without side effects."""

import subprocess
import sys

import pytest

import rmtdeq

LATE = ("numba", "torch", "dask", "matplotlib", "scipy", "pooch", "psutil")


def test_import_loads_nothing_heavy():
    code = f"import sys, rmtdeq; print([m for m in {LATE!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_modules_leave_the_compiler_of_torch_alone():
    """It takes a second and more to load, and is for those who compile."""
    code = (
        "import sys, rmtdeq as rd; rd.DEQ('tanh', 0.2, 0.8).to_torch(4, width=8); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_theory_needs_neither_numba_nor_matplotlib():
    code = (
        "import sys, rmtdeq as rd; rd.solve(rd.DEQ('tanh', 0.2, 0.8), 1.0); import rmtdeq.cli;"
        "print([m for m in ('numba', 'matplotlib', 'torch', 'dask') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", rmtdeq.__all__)
def test_every_public_name_exists_and_is_documented(name):
    value = getattr(rmtdeq, name)
    assert name == "__version__" or value.__doc__
    assert name in dir(rmtdeq)


def test_the_names_listed_are_the_public_ones():
    of_scikit_learn = {"DEQClassifier", "DEQKernel", "DEQRegressor", "load_estimator", "save_estimator"}
    assert set(dir(rmtdeq)) - of_scikit_learn == set(rmtdeq.__all__)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'kernal'"):
        rmtdeq.kernal  # noqa: B018


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    from rmtdeq._lib.optional import require

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(rmtdeq.MissingDependencyError, match=r"rmtdeq\[torch\]"):
        require("torch")


def test_every_error_is_of_the_package():
    for name in ("InvalidInputError", "IllPosedError", "ConvergenceError", "MemoryLimitError", "DataNotFoundError"):
        assert issubclass(getattr(rmtdeq, name), rmtdeq.RmtdeqError)
    assert issubclass(rmtdeq.InvalidInputError, ValueError)


def test_kernels_and_predictions_leave_torch_its_threads_and_start_none_that_spin():
    code = (
        "import numpy as np, rmtdeq as rd, torch; torch.set_num_threads(1); deq = rd.DEQ('tanh', 0.2, 0.8);"
        "rd.kernel(np.eye(5), deq); gmm = rd.GaussianMixture(np.eye(2, 50), [1.0, 1.2]);"
        "rd.predict_spectrum(deq, gmm, n=40, level='classwise');"
        "from numba.np.ufunc import parallel; print(torch.get_num_threads(), parallel._is_initialized)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
