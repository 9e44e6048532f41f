"""Command: train."""

from __future__ import annotations

import argparse

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq.cli import classifiers, regressions

_DEQ, _RELU = regressions.MODELS
_REGRESSIONS, _CLASSIFIERS = tuple(regressions.MODELS), tuple(classifiers.NETWORKS)

_OF = {
    "widths": _REGRESSIONS,
    "sigma_w2": (_DEQ,),
    "gamma": (_RELU,),
    "dtype": _REGRESSIONS,
    "p": _REGRESSIONS,
    "step": _REGRESSIONS,
    "measure_every": _REGRESSIONS,
    "activation": _CLASSIFIERS,
    "channels": _CLASSIFIERS,
    "positivity": _CLASSIFIERS,
    "rate": _CLASSIFIERS,
    "milestones": _CLASSIFIERS,
    "weight_decay": _CLASSIFIERS,
    "batch": _CLASSIFIERS,
    "precision": _CLASSIFIERS,
    "augment": _CLASSIFIERS,
    "save": _CLASSIFIERS,
}
"""The options that some models alone have; their defaults are None."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser's."""
    train = commands.add_parser(
        "train",
        help="train implicit networks: of growing width against what theory says, or classifiers",
        description="deq and implicit-relu are trained by full-batch gradient descent on the squared loss and held "
        "against theory; the pcdeq networks are classifiers, trained by AdamW.",
    )
    model = train.add_argument_group("network")
    model.add_argument(
        "--model",
        default=_DEQ,
        choices=(*_REGRESSIONS, *_CLASSIFIERS),
        help="deq: the over-parameterised DEQ of arXiv 2205.13814; implicit-relu: the network of arXiv 2110.05645; "
        "pcdeq-...: the positive concave ones of arXiv 2402.04029 (default deq)",
    )
    model.add_argument("--tolerance", type=float, help="of equilibria and gradients (default: the model's)")
    model.add_argument("--device", default="cpu", help="of torch (default cpu)")
    data = train.add_argument_group("data")
    data.add_argument(
        "--dataset",
        help="a data set, as mnist; for deq and implicit-relu its classes have the targets -1 and 1, or sphere "
        "(uniform, targets N(0, 1)) (default sphere; for classifiers digits)",
    )
    data.add_argument("--classes", nargs="+", type=int, help="labels of the data set (default 0 1; classifiers: all)")
    data.add_argument("--n", type=int, help="samples (default 100; classifiers: all)")
    data.add_argument("--test", type=int, help="test samples (default 0; classifiers: all)")
    data.add_argument("--data-dir", help="folder with the files of a data set that is not in the package")
    data.add_argument("--seed", type=int, default=0, help="of samples, weights and batches (default 0)")
    training = train.add_argument_group("training")
    training.add_argument("--epochs", type=int, help="(default 500; classifiers: 20)")
    training.add_argument(
        "--checkpoint", help="folder that keeps the state: the same command goes on where it was interrupted"
    )
    _add_regressions(train)
    _add_classifiers(train)
    train.add_argument("--out", help="figure to write (.png by default, .pdf, .svg), and its manifest")
    train.set_defaults(run=_train)


def _add_regressions(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("deq and implicit-relu")
    group.add_argument("--widths", nargs="+", type=int, help="(default 200 500 1000)")
    group.add_argument("--sigma-w2", type=float, help="of --model deq, below 1/8 (default 0.08)")
    group.add_argument("--gamma", type=float, help="of --model implicit-relu, at most 1/2 (default 0.1)")
    group.add_argument("--dtype", choices=("float64", "float32"), help="(default float64)")
    group.add_argument("--p", type=int, help="dimension of --dataset sphere (default 100)")
    group.add_argument(
        "--step",
        type=float,
        help="learning rate, the same for all widths (default: the inverse of the largest eigenvalue of their tangent "
        "kernels)",
    )
    group.add_argument("--measure-every", type=int, help="epochs between measured norms (default: 50 times in all)")


def _add_classifiers(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("pcdeq-linear, pcdeq-conv and pcdeq-three-blocks")
    group.add_argument("--activation", help="tanh, softsign, relu6 (pcDEQ-1) or sigmoid (pcDEQ-2) (default tanh)")
    group.add_argument("--channels", nargs="+", type=int, help="width, channels, or those of the three blocks")
    group.add_argument("--positivity", choices=("absolute", "clamp"), help="how weights are kept so (default absolute)")
    group.add_argument("--rate", type=float, help="learning rate (default 0.001)")
    group.add_argument(
        "--milestones", nargs="+", type=int, help="epochs after which it falls to a tenth (default none)"
    )
    group.add_argument("--weight-decay", type=float, help="(default 0.01)")
    group.add_argument("--batch", type=int, help="(default 64)")
    group.add_argument(
        "--precision", choices=("float32", "bfloat16", "float16"), help="of all but the equilibria (default float32)"
    )
    group.add_argument("--augment", action="store_true", default=None, help="shift and mirror the images")
    group.add_argument("--save", help="file for the trained weights, a state dict of torch")


def _train(options: argparse.Namespace) -> int:
    for name, models in _OF.items():
        if getattr(options, name) is not None and options.model not in models:
            shown = f"--{name.replace('_', '-')} is of --model {', '.join(models)}"
            raise InvalidInputError(f"{shown}, not of {options.model}; leave it out.")
    if options.model in _CLASSIFIERS:
        return classifiers.train(options)
    on_sphere = options.dataset in (None, regressions.SPHERE)
    for given, applies, what in (
        (options.p, on_sphere, f"--p is of --dataset {regressions.SPHERE}"),
        (options.classes, not on_sphere, f"--classes are of data sets, not of --dataset {regressions.SPHERE}"),
    ):
        if given is not None and not applies:
            raise InvalidInputError(f"{what}; leave it out.")
    return regressions.train(options)
