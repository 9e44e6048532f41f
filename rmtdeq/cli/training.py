"""Command: train."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq.cli import classifiers, regressions
from rmtdeq.cli.guard import tell_line
from rmtdeq.cli.options import label

_FAMILIES = ("regression", "classifier")


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser's."""
    train = commands.add_parser(
        "train",
        help="train implicit networks: of growing width against what theory says, or classifiers",
        examples=["rmtdeq train regression --help", "rmtdeq train classifier --help"],
    )
    families = train.add_subparsers(required=True, metavar="FAMILY", parser_class=type(train))
    regression = families.add_parser(
        "regression",
        help="networks of growing width on the squared loss, held against theory",
        description="Full-batch gradient descent on the squared loss, held against theory: conditions of convergence, "
        "guaranteed rates, and the loss that the tangent kernel foretells.",
        examples=["rmtdeq train regression --n 100 --p 100 --widths 200 500 1000 --out figures/train"],
    )
    classifier = families.add_parser(
        "classifier",
        help="positive concave networks that classify images",
        description="AdamW on the cross-entropy, on shuffled batches; layers show their certificate of convergence.",
        examples=["rmtdeq train classifier --dataset digits --epochs 5 --save weights.pt"],
    )
    _add_regression(regression)
    _add_classifier(classifier)


def current(arguments: Sequence[str]) -> list[str]:
    """Return a command line whose `train` names a family, where it has the model alone, as it once had."""
    given = list(arguments)
    if given[:1] != ["train"] or given[1:2] in (["-h"], ["--help"]) or (given[1:2] and given[1] in _FAMILIES):
        return given
    named = [given[i + 1] for i, each in enumerate(given[:-1]) if each == "--model"]
    named += [each.partition("=")[2] for each in given if each.startswith("--model=")]
    family = "classifier" if named and named[-1] in classifiers.NETWORKS else "regression"
    tell_line(f"rmtdeq: rmtdeq train is now rmtdeq train {family}; the old spelling goes with the next release.")
    return ["train", family, *given[1:]]


def _add_common(parser: argparse.ArgumentParser, epochs: int) -> None:
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, default=epochs, help=f"(default {epochs})")
    training.add_argument("--seed", type=int, default=0, help="of samples, weights and batches (default 0)")
    training.add_argument("--tolerance", type=float, help="of equilibria and gradients (default: the model's)")
    training.add_argument("--device", default="cpu", help="of torch (default cpu)")
    training.add_argument(
        "--checkpoint", help="folder that keeps the state: the same command goes on where it was interrupted"
    )
    parser.add_argument("--out", help="figure to write (.png by default, .pdf, .svg), and its manifest")


def _add_regression(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("network")
    model.add_argument(
        "--model",
        default="deq",
        choices=tuple(regressions.MODELS),
        help="deq: the over-parameterised DEQ of arXiv 2205.13814; implicit-relu: the network of arXiv 2110.05645 "
        "(default deq)",
    )
    model.add_argument("--widths", nargs="+", type=int, default=[200, 500, 1000], help="(default 200 500 1000)")
    model.add_argument("--sigma-w2", type=float, help="of --model deq, below 1/8 (default 0.08)")
    model.add_argument("--gamma", type=float, help="of --model implicit-relu, at most 1/2 (default 0.1)")
    model.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="(default float64)")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        default=regressions.SPHERE,
        help="a data set, as mnist, whose classes have the targets -1 and 1, or sphere (uniform, targets N(0, 1)) "
        "(default sphere)",
    )
    data.add_argument("--classes", nargs="+", type=label, help="labels or names of classes (default 0 1)")
    data.add_argument("--n", type=int, default=100, help="samples (default 100)")
    data.add_argument("--test", type=int, default=0, help="test samples (default 0)")
    data.add_argument("--p", type=int, help="dimension of --dataset sphere (default 100)")
    data.add_argument("--data-dir", help="folder with the files of a data set that is not in the package")
    parser.add_argument(
        "--step",
        type=float,
        help="learning rate, the same for all widths (default: the inverse of the largest eigenvalue of their tangent "
        "kernels)",
    )
    parser.add_argument("--measure-every", type=int, help="epochs between measured norms (default: 50 times in all)")
    parser.add_argument("--watch", choices=("stability",), help="what to measure then of the layer's Jacobian")
    _add_common(parser, 500)
    parser.set_defaults(run=_regression)


def _add_classifier(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("network")
    model.add_argument(
        "--model",
        default="pcdeq-linear",
        choices=tuple(classifiers.NETWORKS),
        help="the positive concave networks of arXiv 2402.04029 (default pcdeq-linear)",
    )
    model.add_argument("--activation", help="tanh, softsign, relu6 (pcDEQ-1) or sigmoid (pcDEQ-2) (default tanh)")
    model.add_argument("--channels", nargs="+", type=int, help="width, channels, or those of the three blocks")
    model.add_argument("--positivity", choices=("absolute", "clamp"), help="how weights are kept so (default absolute)")
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", default="digits", help="a data set, as mnist (default digits)")
    data.add_argument("--classes", nargs="+", type=label, help="labels or names of classes (default all)")
    data.add_argument("--n", type=int, help="samples (default all)")
    data.add_argument("--test", type=int, help="test samples (default all)")
    data.add_argument("--data-dir", help="folder with the files of a data set that is not in the package")
    parser.add_argument("--step", "--rate", dest="step", type=float, default=1e-3, help="learning rate (default 0.001)")
    parser.add_argument(
        "--milestones", nargs="+", type=int, default=[], help="epochs after which it falls to a tenth (default none)"
    )
    parser.add_argument("--weight-decay", type=float, default=1e-2, help="(default 0.01)")
    parser.add_argument("--batch", type=int, default=64, help="(default 64)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of all but the equilibria (default float32)",
    )
    parser.add_argument("--augment", action="store_true", help="shift and mirror the images")
    parser.add_argument("--save", help="file for the trained weights, a state dict of torch")
    _add_common(parser, 20)
    parser.set_defaults(run=classifiers.train)


def _regression(options: argparse.Namespace) -> int:
    on_sphere = options.dataset == regressions.SPHERE
    for given, applies, what in (
        (options.p, on_sphere, f"--p is of --dataset {regressions.SPHERE}"),
        (options.classes, not on_sphere, f"--classes are of data sets, not of --dataset {regressions.SPHERE}"),
        (options.sigma_w2, options.model == "deq", "--sigma-w2 is of --model deq"),
        (options.gamma, options.model == "implicit-relu", "--gamma is of --model implicit-relu"),
    ):
        if given is not None and not applies:
            raise InvalidInputError(f"{what}; leave it out.")
    return regressions.train(options)
