"""The experiments by name, each with a small and a full set of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq.papers import (
    accuracy,
    certificates,
    classifiers,
    designs,
    errors,
    kernel_accuracy,
    large_spectrum,
    predicted_training,
    rates,
    spectra,
    ten_classes,
    training,
    widths,
)
from rmtdeq.papers.outcome import Outcome
from rmtdeq.papers.setting import Setting

L23 = "Ling et al., AISTATS 2023, arXiv 2205.13814"
G22 = "Gao et al., ICLR 2022, arXiv 2110.05645"
P24 = "Gabor et al., ICML 2024, arXiv 2402.04029"
L24 = "Ling et al., ICML 2024, arXiv 2402.02697"
BEYOND = "in no paper"


@dataclass(frozen=True)
class Experiment:
    """A figure or table, and how it is made.

    Attributes
    ----------
    name, title : str
    source : str
        The paper, and which of its figures or tables.
    small, full : dataclass
        Parameters for minutes on two cores, and the papers'.
    function : callable
        From parameters and setting to an `Outcome`.
    alone : bool
        Run by name and in full only, being long even if small.
    seconds : float or None
        What the small parameters took on two cores with nothing else to do; None where that was not measured.
    """

    name: str
    title: str
    source: str
    small: Any
    full: Any
    function: Callable[[Any, Setting], Outcome]
    alone: bool = False
    seconds: float | None = None

    def parameters(self, full: bool) -> Any:
        """Return the parameters of a size."""
        return self.full if full else self.small


_SMALL_RELU: Mapping[str, Any] = MappingProxyType(
    {"model": "relu", "n": 100, "test": 100, "widths": (500, 1000, 2000), "epochs": 200}
)
_FULL_RELU: Mapping[str, Any] = MappingProxyType(
    {"model": "relu", "n": 1000, "test": 1000, "widths": (500, 1000, 2000, 4000), "epochs": 1000}
)
_SMALL_IMAGES: Mapping[str, Any] = MappingProxyType(
    {"model": "deq", "n": 100, "widths": (200, 400, 800), "epochs": 300, "tolerance": 1e-5}
)


def _relu_training(dataset: str) -> Experiment:
    return Experiment(
        f"training-relu-{dataset}",
        f"Losses and γ̃‖A‖ of ReLU implicit networks of growing width on {dataset} 0/1",
        f"{G22}; figures of training and test loss and of the norm",
        training.Training(dataset=dataset, **_SMALL_RELU),
        training.Training(dataset=dataset, **_FULL_RELU),
        training.of_growing_widths,
    )


def _deq_training(dataset: str, full: tuple[int, ...]) -> Experiment:
    return Experiment(
        f"training-deq-{dataset}",
        f"Loss and ‖W‖ of over-parameterised DEQs of growing width on {dataset} 0/1",
        f"{L23}; figures of the loss and of the norm",
        training.Training(dataset=dataset, **_SMALL_IMAGES),
        training.Training(dataset=dataset, widths=full),
        training.of_growing_widths,
    )


def _accuracy(dataset: str, small: accuracy.Accuracy, full: accuracy.Accuracy) -> Experiment:
    return Experiment(
        f"accuracy-{dataset}",
        f"Test accuracy against width of a DEQ, its designed network and plain ones, random features of {dataset}",
        f"{L24}; figure of the accuracy against the width",
        small,
        full,
        accuracy.of_random_features,
    )


def _pcdeq(network: str, dataset: str, small: dict[str, Any], full: dict[str, Any], alone: bool) -> Experiment:
    return Experiment(
        f"pcdeq-{network}-{dataset}",
        f"Accuracy and iterations of positive concave DEQs, {network}, on {dataset}",
        f"{P24}; table of accuracies",
        classifiers.Classifiers(dataset=dataset, network=network, **small),
        classifiers.Classifiers(dataset=dataset, network=network, **full),
        classifiers.of_positive_concave,
        alone,
    )


def _spectra(dataset: str, classes: tuple[int, int]) -> Experiment:
    return Experiment(
        f"spectra-{dataset}",
        f"Predicted and measured spectra of CK and NTK on {dataset} {classes[0]}/{classes[1]}",
        f"{L24}; figures of spectra",
        spectra.Images(dataset, classes, n=600),
        spectra.Images(dataset, classes, n=4000),
        spectra.of_images,
    )


_CONVOLUTIONS: dict[str, Any] = {"activations": ("softsign",), "rate": 5e-4, "weight_decay": 1.5e-2, "draws": 1}
_BRIEFLY: dict[str, Any] = {**_CONVOLUTIONS, "n": 2000, "test": 2000, "epochs": 2, "milestones": ()}
_AT_LENGTH: dict[str, Any] = {**_CONVOLUTIONS, "epochs": 40, "milestones": (30,)}

_ALL = (
    Experiment(
        "spectra-mixture",
        "Predicted and measured spectra of CK and NTK on a Gaussian mixture",
        f"{L24}; figures of spectra",
        spectra.Mixture(p=1000),
        spectra.Mixture(p=2000),
        spectra.of_mixture,
    ),
    _spectra("mnist", (6, 8)),
    _spectra("fashion-mnist", (6, 8)),
    Experiment(
        "spectra-cifar10",
        "Predicted and measured spectra of CK and NTK on a convolutional network's features of CIFAR-10 6/8",
        f"{L24}; figures of spectra",
        spectra.Features(classes=(6, 8), n=600, train=10_000, epochs=3),
        spectra.Features(classes=(6, 8), n=4000),
        spectra.of_features,
    ),
    Experiment(
        "equivalent-error",
        "Error of the deterministic equivalents against the dimension, first order and class-wise",
        f"{L24}; theorems on the CK and NTK",
        errors.Errors(),
        errors.Errors(ps=(250, 500, 1000, 2000, 4000), draws=5),
        errors.of_equivalents,
    ),
    Experiment(
        "solved-examples",
        "τ*, γ², α and the explicit networks of a tanh and a ReLU DEQ",
        f"{L24}; equations and examples",
        designs.Examples(),
        designs.Examples(p=4000),
        designs.solved_examples,
    ),
    Experiment(
        "design-mixture",
        "Spectra of DEQs, of designed and of plain networks on a Gaussian mixture",
        f"{L24}; figures of spectra of implicit and explicit kernels",
        designs.Designs(p=1000, n=800),
        designs.Designs(),
        designs.on_data,
    ),
    Experiment(
        "design-mnist",
        "Spectra of DEQs, of designed and of plain networks on ten classes of MNIST",
        f"{L24}; figures of spectra of implicit and explicit kernels",
        designs.Designs("mnist", (), n=1000),
        designs.Designs("mnist", (), n=4000),
        designs.on_data,
    ),
    _accuracy(
        "mnist",
        accuracy.Accuracy(widths=(32, 256), sigma_a2=(0.1, 0.2, 0.5)),
        accuracy.Accuracy(sigma_a2=(0.1, 0.2, 0.5), draws=(3,)),
    ),
    Experiment(
        "read-out-rate",
        "Test accuracy of explicit networks on random features of mnist against the rate at which the read-out learns",
        f"{L24}; figure of the accuracy against the width",
        rates.Rates(),
        rates.Rates(widths=(32, 256, 1024), rates=(0.125, 0.25, 0.5, 0.7, 1.0), draws=3),
        rates.of_read_out,
    ),
    _accuracy(
        "fashion-mnist",
        accuracy.Accuracy(
            "fashion-mnist", widths=(32, 128, 512), train=5000, test=2000, epochs=20, sigma_a2=(0.2, 0.5)
        ),
        accuracy.Accuracy("fashion-mnist", sigma_a2=(0.1, 0.2, 0.5), draws=(3,)),
    ),
    _accuracy(
        "cifar10",
        accuracy.Accuracy(
            "cifar10", widths=(32, 128, 512), train=5000, test=2000, epochs=20, rate=0.1, convnet_epochs=3
        ),
        accuracy.Accuracy("cifar10", sigma_a2=(0.1, 0.2, 0.5), rate=0.1, draws=(3,), convnet_epochs=20, test=10_000),
    ),
    Experiment(
        "finite-width",
        "Kernels of random networks against those of infinite width",
        f"{L24} and {L23}; limits of infinite width",
        widths.FiniteWidth(widths=(128, 256, 512, 1024, 2048), draws=4),
        widths.FiniteWidth(),
        widths.of_finite_width,
    ),
    Experiment(
        "population-gram",
        "The Gram matrix of equilibria: its limit, and the truncation after some layers",
        f"{L23}; lemmas on the population Gram matrix",
        widths.PopulationGram(n=100, p=100, widths=(500, 1000, 2000)),
        widths.PopulationGram(n=500, p=500, widths=(500, 1000, 2000, 4000, 8000), depths=12),
        widths.of_population_gram,
    ),
    Experiment(
        "training-deq-sphere",
        "Loss and ‖W‖ of over-parameterised DEQs of growing width, random targets on the sphere",
        f"{L23}; figures of the loss and of the norm",
        training.Training(n=60, p=60, widths=(200, 400, 800), epochs=300, tolerance=1e-6),
        training.Training(),
        training.of_growing_widths,
    ),
    _deq_training("mnist", (21_000, 22_000, 23_000, 24_000, 25_000)),
    _deq_training("cifar10", (26_000, 27_000, 28_000, 29_000, 30_000)),
    *(_relu_training(dataset) for dataset in ("mnist", "fashion-mnist", "cifar10", "svhn")),
    _pcdeq("linear", "mnist", {"draws": 1}, {}, False),
    *(
        _pcdeq(network, dataset, _BRIEFLY, _AT_LENGTH, True)
        for dataset in ("mnist", "svhn", "cifar10")
        for network in ("conv", "three-blocks")
    ),
    Experiment(
        "uncentred",
        "Spectra with activations that keep their mean, on a Gaussian mixture",
        BEYOND,
        spectra.Mixture(p=1000, activations=("relu", "swish", "softplus"), centered=False),
        spectra.Mixture(p=4000, activations=("relu", "swish", "softplus"), centered=False),
        spectra.of_mixture,
    ),
    Experiment(
        "ten-classes",
        "Prediction for ten classes: on its own random matrix, on Gaussian samples, and on images",
        BEYOND,
        ten_classes.TenClasses(n=1500, covariance="common"),
        ten_classes.TenClasses(),
        ten_classes.of_ten_classes,
    ),
    Experiment(
        "predicted-training",
        "Loss during training against what the kernel, and the spectrum alone, foretell",
        BEYOND,
        predicted_training.PredictedTraining(widths=(512, 1024, 2048)),
        predicted_training.PredictedTraining(),
        predicted_training.of_training,
    ),
    Experiment(
        "kernel-accuracy",
        "Test accuracy of kernel ridge regression: kernels of DEQs, of ReLU networks and a Gaussian one",
        BEYOND,
        kernel_accuracy.KernelAccuracy(n=1000, test=2000),
        kernel_accuracy.KernelAccuracy(),
        kernel_accuracy.of_whole_sets,
    ),
    Experiment(
        "certificates",
        "Stability before and after training against what the papers' models certify",
        f"conditions and certificates of {L23}; {G22}; {P24}",
        certificates.Certificates(),
        certificates.Certificates(n=200, p=200, width=2000, epochs=1000),
        certificates.of_the_papers,
    ),
    Experiment(
        "whole-mnist",
        "Spectrum of the NTK on all of MNIST by Lanczos iterations, against subsamples and the prediction",
        BEYOND,
        large_spectrum.LargeSpectrum(n=6000, steps=48, subsamples=1, n_subsample=2000),
        large_spectrum.LargeSpectrum(),
        large_spectrum.of_whole_set,
    ),
)

_SECONDS = {
    "spectra-mixture": 11,
    "spectra-mnist": 9,
    "spectra-fashion-mnist": 7,
    "equivalent-error": 10,
    "solved-examples": 3,
    "design-mixture": 13,
    "design-mnist": 40,
    "accuracy-mnist": 517,
    "accuracy-fashion-mnist": 22,
    "read-out-rate": 271,
    "finite-width": 20,
    "population-gram": 6,
    "training-deq-sphere": 20,
    "training-deq-mnist": 13,
    "training-relu-mnist": 38,
    "training-relu-fashion-mnist": 39,
    "pcdeq-linear-mnist": 79,
    "uncentred": 4,
    "ten-classes": 15,
    "predicted-training": 10,
    "certificates": 28,
    "whole-mnist": 22,
}
"""Of the small sizes on two cores, data at hand, the engine compiled; the best that was measured."""

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {each.name: replace(each, seconds=_SECONDS.get(each.name)) for each in _ALL}
)
"""All experiments, by name."""


def find(name: str) -> Experiment:
    """Return an experiment by its name.

    Raises
    ------
    InvalidInputError
        There is none of this name; the message suggests some.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    parts = [each for each in EXPERIMENTS if name and name in each]
    near = parts[:3] or get_close_matches(name, EXPERIMENTS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "rmtdeq reproduce list shows all."
    raise InvalidInputError(f"There is no experiment {name!r}; {hint}")
