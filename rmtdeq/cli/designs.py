"""Command: design."""

from __future__ import annotations

import argparse
from pathlib import Path

import rmtdeq
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.tables import without_rounding
from rmtdeq._lib.types import KINDS, Kind
from rmtdeq.cli.options import (
    add_data,
    add_network,
    add_report,
    network_of,
    own_options,
    problem_of,
    record_of,
    save,
    save_report,
)

_ROWS = {"ck": ("alpha1", "alpha2", "alpha3", "gamma2"), "ntk": ("beta1", "beta2", "beta3", "kappa2")}


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser's."""
    design = commands.add_parser(
        "design",
        help="find an explicit network of at most two layers with a DEQ's kernels",
        examples=[
            "rmtdeq design --activation relu --save net.json",
            "rmtdeq design --dataset fashion-sample --class-wise --out figures/design",
        ],
    )
    add_network(design)
    design.add_argument("--kind", default="ck", choices=(*KINDS, "both"), help="kernel to match (default ck)")
    design.add_argument(
        "--family",
        default="auto",
        help="of activations: hard_tanh, leaky_relu, piecewise_linear, polynomial, ternary, quantised (default: the "
        "cheapest of the first four that matches exactly); or hermite, one layer for samples of one norm",
    )
    design.add_argument(
        "--tau0-squared", type=float, help="mean squared norm of the inputs (default: that of the data set, or 1)"
    )
    design.add_argument(
        "--class-wise",
        action="store_true",
        help="fit the kernel at the mean squared norm of each class of the data instead of at their mean",
    )
    add_data(design, default=None)
    design.add_argument("--save", help="file for the network's description, JSON")
    design.add_argument("--out", help="figure to write (.png by default, .pdf, .svg), and its manifest")
    add_report(design)
    design.set_defaults(run=_design)


def _design(options: argparse.Namespace) -> int:
    _check(options)
    deq = network_of(options)
    problem = problem_of(options) if options.dataset or options.data else None
    tau0_squared = options.tau0_squared
    if tau0_squared is None:
        tau0_squared = 1.0 if problem is None else problem.tau0_squared
    norms = problem.mixture.squared_norms if options.class_wise and problem else None
    with Stage("designing the network"):
        net = rmtdeq.design(deq, tau0_squared, options.kind, options.family, norms=norms)
    print(f"{deq}, tau0_squared = {tau0_squared:g}, kind {options.kind}: {net.status}")
    for depth, layer in enumerate(net.activations, start=1):
        print(f"  layer {depth}  {layer!r}")
    for kind in net.targets:
        print(_table(net, kind))
    if net.consequence:
        print(f"  {net.consequence}")
    if net.on_sphere is not None:
        print(f"  largest error of an entry on samples of one norm: {net.on_sphere.residual:.1e} of the diagonal")
    if options.class_wise and net.at_norms is not None:
        print(f"  largest error at the classes' squared norms: {net.at_norms.residual:.1e} of the diagonal")
    if options.save:
        print(f"wrote {net.save(Path(options.save))}")
    if problem is None:
        if options.report:
            save_report("An explicit network instead of the equilibrium", [_of_network(deq, net)], options)
        return 0
    fidelities = [rmtdeq.compare_kernels(problem.X, deq, net, kind) for kind in net.targets]
    for fidelity in fidelities:
        print(fidelity.summary())
    if not (options.out or options.report):
        return 0
    from rmtdeq.output.figures import design_figure

    title = f"{problem.name}, n = {len(problem.X)}: {deq.activation!r} DEQ, $\\sigma_a^2$ = {deq.sigma_a2:g}"
    figure = design_figure(fidelities, deq, net, title)
    if options.out:
        results = {
            f.kind: {"residual": net.residuals[f.kind], "distance": f.distance, "distance_plain": f.distance_plain}
            for f in fidelities
        }
        save(figure, options, record_of("design", options, {"network": repr(net), **results}))
    if options.report:
        sections = [
            rmtdeq.Section("Kernels on data", [str(deq), *(fidelity.summary() for fidelity in fidelities), figure]),
            _of_network(deq, net),
        ]
        save_report(f"{problem.name}: an explicit network instead of the equilibrium", sections, options, problem)
    return 0


def _of_network(deq: rmtdeq.DEQ, net: rmtdeq.ExplicitNetwork) -> rmtdeq.Section:
    tables = [net.table()]
    # The four equations have no bias.
    if not any(layer.sigma_c2 for layer in deq.layers):
        tables.append(rmtdeq.solve(deq, net.tau0_squared, tuple(net.targets)).table())
    return rmtdeq.Section("Coefficients", tables)


def _check(options: argparse.Namespace) -> None:
    """Refuse options that would be ignored."""
    if not (options.dataset or options.data):
        own = own_options(options)
        if options.p is not None:
            raise InvalidInputError("--p is of --dataset mixture; name that, or leave it out.")
        for given, why in (
            (options.class_wise, "A class-wise design needs the norms of classes"),
            (options.out, "The figure compares spectra on data"),
            (options.classes or options.n, "--classes and --n choose samples"),
            (own, f"{own}: for samples of your own alone"),
        ):
            if given:
                raise InvalidInputError(f"{why}; name data, as in --dataset mnist or --data X.npy.")


def _table(net: rmtdeq.ExplicitNetwork, kind: Kind) -> str:
    """Coefficients of both, side by side."""
    names = _ROWS["ck" if kind == "ck" else "ntk"]
    lines = [f"  {kind:<9}{'DEQ':>15}{'network':>17}{'relative error':>19}"]
    # Coefficients that vanish are zero up to rounding, and their error is held against the diagonal.
    zero = 1e-12 * net.targets[kind].diagonal
    rows = zip(names, vars(net.targets[kind]).values(), vars(net.coefficients(kind)).values(), strict=True)
    for (name, wanted, found), error in zip(rows, net.errors(kind), strict=True):
        shown = f"{error:.1e}"
        if abs(wanted) <= zero:
            shown = f"of {names[-1]} {shown}" if without_rounding(error, 1.0) else "0"
        lines.append(f"  {name:<9}{wanted:>15.9f}{found:>17.9f}{shown:>19}")
    return "\n".join(lines)
