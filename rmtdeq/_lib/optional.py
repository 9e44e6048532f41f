"""Libraries that are loaded when first used."""

from __future__ import annotations

import importlib
from types import ModuleType

from rmtdeq._lib.errors import MissingDependencyError

_REMEDY = {
    "torch": 'pip install "rmtdeq[torch]"',
    "triton": 'pip install "rmtdeq[triton]"',
    "dask": 'pip install "rmtdeq[dask]"',
    "distributed": 'pip install "rmtdeq[dask]"',
    "sklearn": 'pip install "rmtdeq[sklearn]"',
    "gpytorch": 'pip install "rmtdeq[gpytorch]"',
    "pandas": 'pip install "rmtdeq[pandas]"',
    "pyarrow": 'pip install "rmtdeq[parquet]"',
    "matplotlib": "pip install matplotlib",
}


def require(module: str) -> ModuleType:
    """Import `module`, or say in one sentence how to get it.

    Parameters
    ----------
    module : str
        Dotted name, such as ``"matplotlib.pyplot"``.

    Raises
    ------
    MissingDependencyError
        The library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        remedy = _REMEDY.get(root, f"pip install {root}")
        raise MissingDependencyError(
            f"This needs {root}, which could not be imported ({error}); install it with: {remedy}"
        ) from error
