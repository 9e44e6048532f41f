"""Hostile arguments and damaged files for every entry point: each is computed with or refused, by an exception of ours.

    python tests/fuzzing.py --cases 50000

prints what was called how often, and what else came out, if anything did: another exception, more than five seconds, a
pickle opened, a file outside the folder given.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gzip
import hashlib
import io
import os
import pickle
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import rmtdeq as rd

PATIENCE = 5.0

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 5)) / 5**0.5
Y = np.array([0, 0, 0, 1, 1, 1])
TARGETS = np.array([1.0, -1, 1, -1, 1, -1])
MANY = np.random.default_rng(1).standard_normal((64, 5)) / 5**0.5


@cache
def things() -> dict[str, Any]:
    """Return valid arguments that take time to make."""
    deq = rd.DEQ("tanh", 0.2, 0.8)
    gmm = rd.GaussianMixture([[1.0, 0, 0, 0, 0], [0.0, 1, 0, 0, 0]], [1.0, 1.5])
    return {
        "deq": deq,
        "gmm": gmm,
        "pred": rd.predict_spectrum(deq, gmm, 6, level="classwise"),
        "emp": rd.empirical_spectrum(X, deq),
        "net": rd.design(deq, 1.0),
    }


def _regression() -> Any:
    return things()["deq"].to_regression(5, 8, 0)


def _relu() -> Any:
    from rmtdeq.models import ImplicitReLU

    return ImplicitReLU(5, 8, seed=0)


def _classifier() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 2))


def _pcdeq(**arguments: Any) -> Any:
    from rmtdeq.models.pcdeq import PcDEQLinear

    return PcDEQLinear(**arguments)


def _forward(x: Any, fed: str) -> Any:
    import torch

    layer = _pcdeq(features=3)
    if isinstance(fed, str) and isinstance(x, np.ndarray) and x.dtype.kind in "fiu":
        x = torch.from_numpy(x.astype(np.float32))
    return layer(x)


def _estimator(X: Any, Y: Any, **given: Any) -> Any:
    with warnings.catch_warnings():
        # Of norms far from one.
        warnings.simplefilter("ignore", UserWarning)
        return rd.DEQKernel(**given)(X, Y)


def _learner(estimator: Any) -> Callable[..., Any]:
    def call(X: Any, y: Any, sample_weight: Any, **given: Any) -> Any:
        with warnings.catch_warnings():
            # Of norms far from one, and labels in columns.
            warnings.simplefilter("ignore", UserWarning)
            return estimator(**given).fit(X, y, sample_weight).predict(np.ones((2, 5)))

    return call


def _report(**given: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return rd.write_report(Path(folder) / "report", **given)


def _cli(*arguments: Any) -> int:
    from rmtdeq.cli import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return main([str(each).replace("\0", "") for each in arguments])
        except SystemExit as error:
            return int(error.code or 0)


@cache
def entries() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Return every entry point with valid arguments."""
    t = things()
    deq, gmm, pred, emp, net = (t[name] for name in ("deq", "gmm", "pred", "emp", "net"))
    kernel = {"X": X, "deq": deq, "kind": "ck", "Y": None, "tau0_squared": None, "backend": "auto", "dtype": None}
    kernel |= {"device": None, "products": "full", "out": None, "memory_limit": None}
    data = {"X": X, "y": Y, "deq": deq, "gmm": gmm, "kind": "ck", "level": "classwise", "tau0_squared": None}
    learner = {"X": X, "sample_weight": None, "deq": deq, "kind": "ntk", "ridge": "loo", "scale": True}
    learner |= {"fit_intercept": True, "backend": "auto", "dtype": None, "device": None, "memory_limit": None}
    learner |= {"solver": "direct", "checkpoint": None}
    found: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "DEQ": (rd.DEQ, {"activation": "tanh", "sigma_a2": 0.2, "sigma_b2": 0.8, "centered": True}),
        "DEQ.pinned": (deq.pinned, {"tau0_squared": 1.0}),
        "activation": (rd.activation, {"spec": "relu"}),
        "solve": (rd.solve, {"deq": deq, "tau0_squared": 1.0, "kind": ("ck", "ntk")}),
        "kernel": (rd.kernel, kernel),
        "diagnose": (rd.diagnose, {"deq": deq, "X": X, "tau0_squared": None, "layer": None}),
        "DEQKernel": (
            _estimator,
            {"X": X, "Y": None, "activation": "relu", "sigma_a2": 0.2, "sigma_b2": 0.8, "centered": True, "kind": "ck",
             "scale": 1.0, "tau0_squared": 1.0, "backend": "auto", "dtype": None, "device": None},
        ),
        "DEQRegressor": (_learner(rd.DEQRegressor), learner | {"y": TARGETS}),
        "DEQClassifier": (_learner(rd.DEQClassifier), learner | {"y": Y}),
        "learning_curve": (
            rd.learning_curve,
            {"X": MANY, "y": np.arange(64) % 2, "deq": deq, "kind": "ntk", "sizes": (64, 200), "ridge": 0.1, "seed": 0,
             "tau0_squared": None, "backend": "auto", "dtype": None, "device": None, "memory_limit": None},
        ),
        "write_report": (_report, {"contents": ["text"], "title": "title", "command": "command", "parameters": {}}),
        "kernel_operator": (
            rd.kernel_operator,
            {name: value for name, value in kernel.items() if name not in ("Y", "out")}
            | {"method": "auto", "folder": None, "group": None},
        ),
        "empirical_spectrum": (
            rd.empirical_spectrum,
            {name: value for name, value in kernel.items() if name not in ("Y", "out")}
            | {"method": "slq", "top": 2, "steps": 4, "block": 2, "storage": "auto", "start": None, "seed": 0},
        ),
        "exact spectrum": (rd.empirical_spectrum, {"X": X, "deq": deq, "kind": "ntk", "top": None, "method": "exact"}),
        "equivalent": (rd.equivalent, data | {"diagonal": "sample", "memory_limit": None}),
        "equivalent_operator": (rd.equivalent_operator, data | {"diagonal": "sample"}),
        "predict_spectrum": (
            rd.predict_spectrum,
            {"deq": deq, "gmm": gmm, "n": 6, "kind": "ck", "level": "classwise", "truncation": 0.01},
        ),
        "prediction.density": (pred.density, {"x": [0.1, 0.5]}),
        "prediction.cdf": (pred.cdf, {"x": [0.1, 0.5]}),
        "prediction.quantiles": (pred.quantiles, {"q": [0.1, 0.5]}),
        "prediction.stieltjes": (pred.stieltjes, {"z": [0.1 + 0.1j]}),
        "spectrum.density": (emp.density, {"x": [0.1, 0.5], "bandwidth": 0.1}),
        "spectrum.masses": (emp.masses, {"edges": [0.0, 0.5, 1.0]}),
        "spectrum.alignments": (emp.alignments, {"y": Y, "classes": 2}),
        "compare": (rd.compare, {"emp": emp, "pred": pred, "y": Y}),
        "compare_kernels": (rd.compare_kernels, {"X": X, "deq": deq, "network": net, "kind": "ck"}),
        "network.kernel": (net.kernel, {"X": X, "kind": "ck", "Y": None, "backend": "auto", "dtype": None}),
        "network.to_torch": (net.to_torch, {"in_features": 5, "width": 7, "seed": 0}),
        "DEQ.to_torch": (deq.to_torch, {"in_features": 5, "width": 7, "seed": 0}),
        "sample_features": (rd.sample_features, {"X": X, "deq": deq, "width": 8, "seed": 0, "batch": 3, "dtype": None}),
        "finite_width_kernel": (rd.finite_width_kernel, {"X": X, "deq": deq, "width": 8, "kind": "ntk", "seed": 0}),
        "on_sphere": (rd.on_sphere, {"X": X, "norm": 1.0, "seed": 0}),
        "GaussianMixture": (
            rd.GaussianMixture, {"means": [[0.0, 1.0], [1.0, 0.0]], "covariances": [1.0, 2.0], "weights": [0.5, 0.5]},
        ),
        "mixture.sample": (gmm.sample, {"n": 6, "seed": 0}),
        "from_data": (rd.GaussianMixture.from_data, {"X": X, "y": Y, "covariance": "common"}),
        "predict_training": (rd.predict_training, {"spectrum": emp, "y": TARGETS, "step": 0.01, "method": "descent"}),
        "gradient_descent": (
            lambda **given: rd.gradient_descent(_regression(), **given),
            {"X": X, "y": TARGETS, "step": 0.001, "epochs": 2, "test": None, "measure_every": None},
        ),
        "gradient_flow": (
            lambda **given: rd.gradient_flow(_regression(), **given),
            {"X": X, "y": TARGETS, "time": 0.01, "tolerance": 1e-3, "test": None},
        ),
        "check_initial_condition": (
            lambda **given: rd.check_initial_condition(_relu(), **given), {"X": X, "y": TARGETS, "step": None},
        ),
        "train_classifier": (
            lambda **given: rd.train_classifier(_classifier(), **given),
            {"X": X.astype("f4"), "y": Y, "test": None, "epochs": 1, "batch": 3, "step": 0.01, "weight_decay": 0.0,
             "milestones": (), "precision": "float32", "augment": False, "seed": 0},
        ),
        "PcDEQLinear": (_pcdeq, {"features": 3, "activation": "tanh"}),
        "PcDEQLinear.forward": (_forward, {"x": abs(X[:, :3]) + 0.1, "fed": "array"}),
        "load_dataset": (
            rd.load_dataset, {"name": "digits", "classes": (0, 1), "n": 10, "split": "train", "seed": 0, "raw": False},
        ),
        "load_classification": (rd.load_classification, {"name": "digits", "n": 10, "test": 5, "seed": 0}),
        "design": (rd.design, {"deq": deq, "tau0_squared": 1.0, "kind": "ck", "family": "hard_tanh", "norms": None}),
    }  # fmt: skip
    return found


SLOW = ("design", "predict_spectrum", "equivalent", "equivalent_operator", "compare_kernels", "diagnose")
"""Called less often."""


@cache
def models() -> tuple[Any, ...]:
    """Return models that are valid by themselves, and extreme."""
    functions = [
        lambda u: u * np.nan, lambda u: np.exp(u), lambda u: 0 * u, lambda u: u, lambda u: 1 / u, lambda u: u[:1],
        lambda u: np.sign(u), lambda u: np.sin(1e6 * u), lambda u: str(u), lambda u: u + 1j,
        lambda u: 1e200 * np.tanh(u),
    ]  # fmt: skip
    made = [
        rd.DEQ("tanh", a, b, c)
        for a in (0.0, 1e-300, 0.99, 3.0, 1e16)
        for b in (1e-300, 1.0, 1e16)
        for c in (True, False)
    ]
    made += [
        rd.DEQ(name, 0.2, 0.8) for name in ("steps([-0.5, 0.8], [-1, 0, 1.5])", "polynomial(1)", "softplus", "abs")
    ]
    for function in functions:
        with contextlib.suppress(rd.RmtdeqError):
            made.append(rd.DEQ(function, 0.2, 0.8))
    return tuple(made)


COUNTED = {
    "epochs": st.sampled_from([-1, 0, 1, 2, 0.5, None, "3", True]),
    "time": st.sampled_from([-1.0, 0.0, 0.1, None]),
}
"""Arguments of which more is only more work."""


TYPES = ("f8", "f4", "f2", ">f8", ">f4", "i8", "i1", "u8", "?", "c16", "U3", "O", "S4", "M8[s]", "g")


def arrays() -> st.SearchStrategy[Any]:
    """Arrays of all shapes, types and layouts, with values that are none."""

    @st.composite
    def array(draw: st.DrawFn) -> Any:
        shape = draw(
            st.sampled_from([(), (0,), (1,), (6,), (5,), (6, 5), (5, 6), (1, 1), (6, 0), (0, 5), (2, 3, 2), (6, 6)])
        )
        dtype = draw(st.sampled_from(TYPES))
        values = np.asarray(RNG.standard_normal(shape)) * draw(
            st.sampled_from([0.0, 1e-300, 1e-3, 1.0, 1e6, 1e160, 1e300])
        )
        values = np.asarray(values)
        bad = draw(st.sampled_from([None, None, None, np.nan, np.inf, -np.inf]))
        if bad is not None and values.size:
            values.flat[draw(st.integers(0, values.size - 1))] = bad
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = np.asarray(np.zeros(shape, "M8[s]") if dtype == "M8[s]" else values.astype(dtype))
        layout = draw(st.sampled_from(["C", "F", "strided", "reversed", "read-only", "list", "masked", "matrix"]))
        if layout == "F":
            return np.asfortranarray(made)
        if layout == "strided" and made.ndim:
            return np.repeat(made, 2, axis=-1)[..., ::2]
        if layout == "reversed" and made.ndim:
            return made[::-1]
        if layout == "read-only":
            made.flags.writeable = False
        if layout == "list":
            return made.tolist()
        if layout == "masked":
            return np.ma.masked_array(made, mask=np.zeros(shape, bool))
        return made

    return array()


def hostile() -> st.SearchStrategy[Any]:
    """Anything that an argument may be given by mistake."""
    return st.one_of(
        st.sampled_from([
            None, True, False, 0, 1, -1, 2, 3, 10**12, 2**63, 2**70, 0.0, -0.0, 0.5, 1.5, -1.0, 1e-320, 1e308, np.nan,
            np.inf, -np.inf, 1j, "", "tanh", "relu", "ck", "ntk", "nonsense", "\0", "ü", "leaky_relu(nan)", "relu(",
            "(", "cuda:7", "float16", b"ck", (), [], {}, {"a": 1}, set(), ("ck", "ck"), ("ck", 3), [[1], [1, 2]],
            [None], object(), int, len, lambda u: u * np.nan, lambda u: None, lambda u: 1 / 0, np.float32, np.int64(3),
            np.float32(0.5), np.array(0.5), slice(None), Path("x"), range(3), iter([1, 2]), Exception("x"),
            "a" * 10_000,
        ]),
        st.integers(-3, 40),
        st.floats(),
        st.text(max_size=5),
        arrays(),
    )  # fmt: skip


def _what_for(argument: str) -> st.SearchStrategy[Any]:
    if argument == "deq":
        return st.one_of(hostile(), st.sampled_from(models()), st.sampled_from(models()))
    if argument in ("n", "width", "in_features", "features"):
        # What would only be much work, and fits into memory.
        return hostile().filter(lambda value: not isinstance(value, (int, float)) or not 1e4 < abs(value) < 1e11)
    return COUNTED.get(argument, hostile())


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Draw an entry point, with one or two of its arguments replaced."""
    names = list(entries())
    name = draw(st.sampled_from(names))
    if name in SLOW and draw(st.integers(0, 7)):
        name = draw(st.sampled_from([each for each in names if each not in SLOW]))
    given_arguments = dict(entries()[name][1])
    for replaced in draw(st.lists(st.sampled_from(sorted(given_arguments)), min_size=1, max_size=2, unique=True)):
        given_arguments[replaced] = draw(_what_for(replaced))
    return name, given_arguments


def _idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _npz(**given_arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **given_arrays)
    return file.getvalue()


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


class _Trap:
    """What a pickle of an enemy holds: opened, it would write a file."""

    def __reduce__(self) -> Any:
        return (open, ("trapped", "w"))


@cache
def files() -> dict[str, tuple[dict[str, bytes], Callable[[Path], Any]]]:
    """Return every reader with the files that it can read."""
    from scipy.io import savemat

    from rmtdeq._lib.checkpoint import Checkpoint
    from rmtdeq.cli import jobs
    from rmtdeq.data import formats

    images = RNG.integers(0, 256, (4, 3, 3), dtype=np.uint8)
    labels = np.array([0, 1, 2, 1], dtype=np.uint8)
    colours = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    batch = pickle.dumps({b"data": colours.reshape(2, -1), b"labels": [1, 2]}, protocol=2)
    mat = io.BytesIO()
    savemat(mat, {"X": colours.transpose(1, 2, 3, 0), "y": np.array([[1], [10]])})
    md5 = hashlib.md5(mat.getvalue()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        network = things()["net"].save(Path(folder) / "net.json").read_bytes()
        Checkpoint(Path(folder) / "job", {"n": 3}, "job").close()
        record = (Path(folder) / "job" / "job.json").read_bytes()
    job = (
        b'{"rmtdeq": "%s", "arguments": ["solve"], "working folder": "/", "checkpoint": "/", "RMTDEQ_DATA": null}'
        % rd.__version__.encode()
    )
    names = {f"cifar-10-batches-py/{name}": batch for name in formats.CIFAR10_BATCHES["train"]}

    def checkpoint(folder: Path) -> Any:
        kept = Checkpoint(folder, {"n": 3}, "job")
        try:
            return kept.load("part")
        finally:
            kept.close()

    def resumed(folder: Path) -> Any:
        before = os.getcwd()
        try:
            return jobs.resume(str(folder), lambda arguments: 0)
        finally:
            os.chdir(before)

    quiet = contextlib.redirect_stdout(io.StringIO())

    def resume(folder: Path) -> Any:
        with quiet:
            return resumed(folder)

    return {
        "idx": (
            {"images": _idx(images), "labels": _idx(labels)},
            lambda folder: formats.read_idx(folder / "images", folder / "labels"),
        ),
        "idx.gz": (
            {"images": gzip.compress(_idx(images)), "labels": gzip.compress(_idx(labels))},
            lambda folder: formats.read_idx(folder / "images", folder / "labels"),
        ),
        "npz": (
            {"data.npz": _npz(x_train=images, y_train=labels)},
            lambda folder: formats.read_npz(folder / "data.npz"),
        ),
        "npz of pickles": (
            {"data.npz": _npz(x_train=np.array([_Trap()], dtype=object), y_train=labels)},
            lambda folder: formats.read_npz(folder / "data.npz"),
        ),
        "cifar": ({"c.tar.gz": _tar(names)}, lambda folder: formats.read_cifar10(folder / "c.tar.gz")),
        "cifar, traversing": (
            {"c.tar.gz": _tar(names | {"../outside": b"x", "/outside": b"x"})},
            lambda folder: formats.read_cifar10(folder / "c.tar.gz"),
        ),
        "cifar, trapped": (
            {"c.tar.gz": _tar(dict.fromkeys(names, pickle.dumps(_Trap())))},
            lambda folder: formats.read_cifar10(folder / "c.tar.gz"),
        ),
        "svhn": ({"train.mat": mat.getvalue()}, lambda folder: formats.read_svhn(folder / "train.mat", md5)),
        "network": ({"net.json": network}, lambda folder: rd.ExplicitNetwork.load(folder / "net.json")),
        "checkpoint": ({"job.json": record, "part.npz": _npz(a=X)}, checkpoint),
        "job": ({"job.json": job}, resume),
        "panels": ({}, _panels),
    }


def _panels(folder: Path) -> Any:
    """Compute a kernel into files first, if there are none."""
    op = rd.kernel_operator(X, things()["deq"], folder=folder)
    try:
        return op @ np.ones(6)
    finally:
        op.close()


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, str, list[tuple[str, int, int, bytes]]]:
    """Draw a reader, one of its files, and what happens to it: cut, overwritten, lengthened, replaced."""
    kind = draw(st.sampled_from(sorted(files())))
    count = draw(st.integers(0, 3))
    actions = [
        (
            draw(st.sampled_from(["cut", "overwrite", "overwrite", "insert", "replace", "swap"])),
            draw(st.integers(0, 1 << 16)),
            draw(st.integers(0, 9)),
            draw(st.binary(min_size=1, max_size=8)),
        )
        for _ in range(count)
    ]
    return kind, draw(st.sampled_from(["first", "last"])), actions


def damaged(content: bytes, actions: list[tuple[str, int, int, bytes]]) -> bytes:
    """Return what a file holds after all that."""
    for action, at, _, some in actions:
        place = at % (len(content) + 1)
        if action == "cut":
            content = content[:place]
        elif action == "overwrite":
            content = content[:place] + some + content[place + len(some) :]
        elif action == "insert":
            content = content[:place] + some + content[place:]
        elif action == "replace":
            content = some
        else:
            content = content[place:] + content[:place]
    return content


class Late(BaseException):
    """Interrupts what takes too long; nothing but the end of a case catches it."""


@dataclass
class Tally:
    """What came out."""

    computed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")

    @property
    def cases(self) -> int:
        """How many there were."""
        return sum(self.computed.values()) + sum(self.refused.values()) + len(self.failures)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Interrupt what takes too long; count a pickle that is opened as a failure."""

    def late(*_: Any) -> None:
        raise Late(f"more than {PATIENCE} s")

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was opened")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    kept = pickle.load, pickle.loads
    pickle.load = pickle.loads = opened  # type: ignore[assignment]
    try:
        yield
    finally:
        pickle.load, pickle.loads = kept
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge(tally: Tally, name: str, call: Callable[[], Any], said: Callable[[], str]) -> None:
    """Call, and note what came out."""
    start = time.perf_counter()
    try:
        with watched(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
        tally.computed[name] += 1
    except rd.RmtdeqError:
        tally.refused[name] += 1
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in where if "/rmtdeq/" in frame.filename]
        last = ours[-1] if ours else where[-1]
        key = f"{name}: {type(error).__name__} at {last.filename.rpartition('/rmtdeq/')[2]}:{last.lineno}"
        tally.failures.setdefault(key, f"{str(error)[:200]}\n    {said()[:300]}")
        if isinstance(error, KeyboardInterrupt):
            raise
    taken = time.perf_counter() - start
    if taken > 1 and os.environ.get("SLOW"):
        print(f"{taken:.1f} s: {name} {said()[:300]}", flush=True)
    if taken > tally.slowest[0]:
        tally.slowest = taken, f"{name} {said()[:200]}"


def warm_up() -> None:
    """Call everything as it is meant to be called: libraries are loaded and code is compiled at the first call."""
    for function, valid in entries().values():
        function(**valid)
    # Compiled code of the other precision is kept by numba in pickles of its own.
    rd.kernel(X.astype(np.float32), things()["deq"])
    models(), files()


def fuzz(cases: int, number: int = 0) -> Tally:
    """Try so many cases, a third of them damaged files."""
    tally = Tally()
    common = {
        "database": None, "deadline": None, "phases": [Phase.generate], "suppress_health_check": list(HealthCheck),
    }  # fmt: skip

    @seed(number)
    @settings(max_examples=max(1, cases - cases // 3), **common)
    @given(calls())
    def arguments(case: tuple[str, dict[str, Any]]) -> None:
        name, given_arguments = case
        function, valid = entries()[name]
        changed = {key: value for key, value in given_arguments.items() if value is not valid[key]}
        judge(tally, name, lambda: function(**given_arguments), lambda: repr(changed))

    @seed(number)
    @settings(max_examples=max(1, cases // 3), **common)
    @given(damages())
    def readers(case: tuple[str, str, list[tuple[str, int, int, bytes]]]) -> None:
        kind, which, actions = case
        contents, read = files()[kind]
        with tempfile.TemporaryDirectory(dir=".") as place:
            folder = Path(place) / "given"
            folder.mkdir()
            for name, content in contents.items():
                (folder / name).write_bytes(content)
            if not contents:
                read(folder)
            names = sorted(path for path in folder.iterdir() if path.name != "in-use.lock")
            target = names[0 if which == "first" else -1]
            target.write_bytes(damaged(target.read_bytes(), actions))
            judge(tally, kind, lambda: read(folder), lambda: f"{target.name} {actions}")
            if [path.name for path in Path(place).iterdir()] != ["given"]:
                tally.failures.setdefault(f"{kind}: a file outside its folder", f"{actions}")

    with tempfile.TemporaryDirectory() as place:
        before = Path.cwd()
        os.chdir(place)
        try:
            warm_up()
            arguments()
            readers()
            if Path("trapped").exists():
                tally.failures["a trap was sprung"] = ""
        finally:
            os.chdir(before)
    return tally


def main() -> int:
    """Fuzz, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=50_000)
    faulthandler.register(signal.SIGUSR1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    tally = fuzz(options.cases, options.seed)
    for name in sorted(tally.computed | tally.refused):
        print(f"{name:28} computed {tally.computed[name]:6,}  refused {tally.refused[name]:6,}")
    seconds, slowest = tally.slowest
    print(f"{tally.cases:,} cases in {time.monotonic() - start:.0f} s, the slowest {seconds:.2f} s: {slowest}")
    for key, what in sorted(tally.failures.items()):
        print(f"FAILED {key}: {what}")
    print(f"{len(tally.failures)} kinds of failure")
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main())
