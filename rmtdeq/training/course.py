"""The training of a classifier under way: its samples, what it records, and the folder it can be resumed from."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from rmtdeq._lib import check
from rmtdeq._lib.checkpoint import Checkpoint, checksum
from rmtdeq._lib.errors import ConvergenceError, InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._version import __version__
from rmtdeq.curves import ClassificationRun
from rmtdeq.models import Equilibrium, ImplicitModule, Trace
from rmtdeq.training.augmentation import shifted_and_mirrored

_SAVE_EVERY = 30.0
_FACTOR = 0.1
_TEST_BATCH = 500


class Samples:
    """Inputs and labels on the model's device."""

    def __init__(self, model: nn.Module, X: ArrayLike, y: ArrayLike, which: str, images: bool = False) -> None:
        like = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
        if like is None:
            raise InvalidInputError("model must be a torch module with parameters, as pcdeq.linear_network() is.")
        inputs = check.real_array(X, f"{which}X")
        if inputs.ndim < 2 or 0 in inputs.shape:
            raise InvalidInputError(f"{which}X must hold one sample a row, (n, …), not shape {inputs.shape}.")
        if len(inputs) == 1 and not which:
            raise InvalidInputError("X holds one sample; a classifier needs two at least.")
        if images and inputs.ndim != 4:
            raise InvalidInputError(
                f"augment needs images (n, channels, height, width), and {which}X has the shape {inputs.shape}."
            )
        self.x = torch.from_numpy(np.require(inputs, requirements=["C", "W"])).to(like)
        self.y = torch.from_numpy(check.labels(y, len(inputs))).to(like.device)

    def checksum(self) -> str:
        """Return what tells these samples from others."""
        return checksum(self.x.cpu().numpy()) + checksum(self.y.cpu().numpy())


_LISTS = ("loss", "accuracy", "test_accuracy", "seconds", "iterations", "adjoint_iterations")
"""What is recorded of every epoch."""

_SUMS = ("seen", "loss_sum", "right_sum", "elapsed")
"""What is summed within one."""

_MODULES = ("model", "optimizer", "scaler")
_VALUES = ("records", "sums", "layer_sums", "epoch", "step")
"""What is kept of a training."""


class Course:
    """A training under way, which can be saved and restored bit for bit between any two steps."""

    def __init__(self, model: nn.Module, samples: Samples, test: Samples | None, settings: Mapping[str, Any]) -> None:
        self.model, self.samples, self.test, self.settings = model, samples, test, settings
        self.device = samples.x.device
        trained = [value for value in model.parameters() if value.requires_grad]
        if not trained:
            raise InvalidInputError("No parameter of the model is trained; all have requires_grad=False.")
        self.optimizer = torch.optim.AdamW(trained, lr=settings["step"], weight_decay=settings["weight decay"])
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings["precision"] == "float16")
        self.epoch = self.step = 0
        self.records: dict[str, list[Any]] = {name: [] for name in _LISTS}
        self.sums = dict.fromkeys(_SUMS, 0.0)
        self.layer_sums: dict[str, tuple[float, float]] = {}
        self.layers = [name for name, each in model.named_modules() if isinstance(each, ImplicitModule)]
        self._folder: Checkpoint | None = None
        self._random: dict[str, Tensor] = {}
        self._saved = time.monotonic()

    @torch.no_grad()
    def try_out(self) -> None:
        """Raise, before any long work, unless the model classifies a sample of each part."""
        self.model.eval()
        for part in (self.samples, self.test):
            if part is None:
                continue
            try:
                logits = self._logits(part.x[:1])
            except RuntimeError as error:
                shape = ("n", *part.x.shape[1:])
                raise InvalidInputError(
                    f"The model does not take inputs of shape ({', '.join(map(str, shape))}): {error}"
                ) from error
            if logits.dim() != 2 or logits.shape[1] <= int(part.y.max()):
                raise InvalidInputError(
                    f"The model's logits have the shape {tuple(logits.shape)}, and y holds the label "
                    f"{int(part.y.max())}; they must be (n, K) with K above every label. If y skips "
                    f"labels, relabel with {check.RELABEL}."
                )

    @contextmanager
    def own_random_numbers(self) -> Iterator[None]:
        """Draw what the model draws (as dropout does) from the seed, and leave torch's generators as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.settings["seed"])
            if self._random:
                torch.set_rng_state(self._random["cpu"])
                for device in devices if "cuda" in self._random else ():
                    torch.cuda.set_rng_state(self._random["cuda"], device)
            yield

    def run_epoch(self, traces: Mapping[str, Trace], stage: Stage) -> None:
        """Go through the samples once, or through what is left of them, and test."""
        passed = sum(self.epoch >= each for each in self.settings["milestones"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings["step"] * _FACTOR**passed
        n, batch = len(self.samples.y), self.settings["batch"]
        order = torch.from_numpy(np.random.default_rng([self.settings["seed"], self.epoch]).permutation(n))
        order = order.to(self.device)
        self.model.train()
        start = time.perf_counter()
        for first in range(self.step * batch, n, batch):
            rows = order[first : first + batch]
            if len(rows) > 1:  # one sample alone has no variance to be normalised by
                self._learn(rows, traces)
            self.step += 1
            now = time.perf_counter()
            self.sums["elapsed"] += now - start
            start = now
            if self.step % 20 == 0:
                loss = self.sums["loss_sum"] / self.sums["seen"]
                stage.note = f"{self.step * batch / n:.0%} of the next, loss {loss:.4g}"
                self.save()
        stage.note = ""
        self._close()

    def _learn(self, rows: Tensor, traces: Mapping[str, Trace]) -> None:
        x, y = self.samples.x[rows], self.samples.y[rows]
        if self.settings["augmented"]:
            x = shifted_and_mirrored(x, np.random.default_rng([self.settings["seed"], self.epoch, self.step]))
        logits = self._logits(x)
        loss = F.cross_entropy(logits.float(), y)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ConvergenceError(f"the loss is {value}; take a smaller step than {self.settings['step']:g}.")
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.sums["seen"] += len(y)
        self.sums["loss_sum"] += value * len(y)
        self.sums["right_sum"] += int((logits.detach().argmax(dim=1) == y).sum())
        for name, trace in traces.items():
            before = self.layer_sums.get(name, (0.0, 0.0))
            now = (_mean_iterations(trace.forward), _mean_iterations(trace.backward))
            self.layer_sums[name] = (before[0] + len(y) * now[0], before[1] + len(y) * now[1])

    def _logits(self, x: Tensor) -> Tensor:
        kind = getattr(torch, self.settings["precision"])
        with torch.autocast(self.device.type, kind, enabled=kind != torch.float32):
            return self.model(x)

    def _close(self) -> None:
        """Record the epoch that has ended."""
        seen = max(self.sums["seen"], 1.0)
        self.records["loss"].append(self.sums["loss_sum"] / seen)
        self.records["accuracy"].append(self.sums["right_sum"] / seen)
        self.records["seconds"].append(self.sums["elapsed"])
        for i, name in enumerate(("iterations", "adjoint_iterations")):
            self.records[name].append([self.layer_sums.get(each, (0.0, 0.0))[i] / seen for each in self.layers])
        if self.test is not None:
            self.records["test_accuracy"].append(self._test_accuracy(self.test))
        self.epoch, self.step = self.epoch + 1, 0
        self.sums = dict.fromkeys(_SUMS, 0.0)
        self.layer_sums = {}

    @torch.no_grad()
    def _test_accuracy(self, test: Samples) -> float:
        self.model.eval()
        right = 0
        for x, y in zip(test.x.split(_TEST_BATCH), test.y.split(_TEST_BATCH), strict=True):
            right += int((self._logits(x).argmax(dim=1) == y).sum())
        return right / len(test.y)

    def result(self) -> ClassificationRun:
        """Return what was recorded."""
        array = {name: np.array(values, dtype=float) for name, values in self.records.items()}
        shape = (self.epoch, len(self.layers))
        return ClassificationRun(
            model=_described(self.model),
            parameters=sum(value.numel() for value in self.model.parameters()),
            samples=len(self.samples.y),
            loss=array["loss"],
            accuracy=array["accuracy"],
            test_accuracy=None if self.test is None else array["test_accuracy"],
            seconds=array["seconds"],
            layers=tuple(self.layers),
            iterations=array["iterations"].reshape(shape),
            adjoint_iterations=array["adjoint_iterations"].reshape(shape),
        )

    def keep_in(self, folder: Path, epochs: int) -> None:
        """Keep the state in a folder, and go on from what is there, if it is not beyond some number of epochs."""
        initial = {name: checksum(value.cpu().numpy()) for name, value in self.model.state_dict().items()}
        record = {
            "rmtdeq": __version__,
            "program": "classifier",
            "model": _described(self.model),
            "equilibria": {name: _settings(dict(self.model.named_modules())[name]) for name in self.layers},
            **{f"{name}'s checksum": value for name, value in initial.items()},
            "samples' checksum": self.samples.checksum(),
            "test's checksum": None if self.test is None else self.test.checksum(),
            **self.settings,
        }
        self._folder = Checkpoint(folder, record, "training")
        state = self._folder.load_state()
        if state is None:
            return
        if state["epoch"] > epochs:
            raise InvalidInputError(
                f"{folder} holds a training of {state['epoch']} epochs already, more than the {epochs} asked for; ask "
                "for as many at least, or name another folder."
            )
        self._restore(state)

    def kept(self) -> str:
        """Say what an interrupted training leaves behind."""
        if self._folder is None:
            return "No checkpoint folder was given: nothing is kept."
        return self._folder.kept()

    def save(self, always: bool = False) -> None:
        """Keep everything, where there is a folder and it is time."""
        if self._folder is None or not (always or time.monotonic() - self._saved > _SAVE_EVERY):
            return
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        modules = {name: getattr(self, name).state_dict() for name in _MODULES}
        values = {name: getattr(self, name) for name in _VALUES}
        self._folder.save_state({**modules, **values, "random": random})
        self._saved = time.monotonic()

    def _restore(self, state: Mapping[str, Any]) -> None:
        for name in _MODULES:
            getattr(self, name).load_state_dict(state[name])
        for name in _VALUES:
            setattr(self, name, state[name])
        self._random = state["random"]


def _mean_iterations(found: Equilibrium | None) -> float:
    return 0.0 if found is None else float(found.iterations.double().mean())


def _settings(layer: Any) -> str:
    return f"{layer.solver}, {getattr(layer, 'positivity', 'free')} weights"


def _described(model: nn.Module) -> str:
    layers = [each.describe() for each in model.modules() if isinstance(each, ImplicitModule)]
    return " – ".join(layers) or type(model).__name__
