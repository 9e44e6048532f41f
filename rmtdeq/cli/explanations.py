"""Commands: activations, assumptions."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from inspect import Parameter, cleandoc, signature

from rmtdeq._lib.tables import aligned
from rmtdeq.activations import Activation, jumps
from rmtdeq.activations.registry import ALIASES, EXAMPLES, REGISTRY, activation
from rmtdeq.spectra.assumptions import ASSUMPTIONS

_HEADER = ("name", "parameters", "function", "dual", "also called", "what it is")
_NOTES = """
Parameters go in parentheses, in this order: --activation "leaky_relu(0.1)", and in Python rd.DEQ("leaky_relu(0.1)").
Python takes any smooth function of arrays as well, rd.DEQ(np.arctan), or one with kinks, named:
rd.DEQ(rd.Activation(lambda u: np.maximum(u, -0.5), kinks=(-0.5,))).
Kinks are those of the parameters shown; of a dual, E φ(u)φ(v) of Gaussian u and v, a quadrature takes longer."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the parser's."""
    activations = commands.add_parser(
        "activations",
        help="list the activations: parameters, formulas, kinks, and other names",
        description="Lists the activations that --activation and rd.DEQ know by name.",
        examples=["rmtdeq activations", "rmtdeq activations | grep kink"],
    )
    activations.set_defaults(run=_activations)

    assumptions = commands.add_parser(
        "assumptions",
        help="say when the theory fails: what it assumes, how to notice, what to do",
        description="Says when the theory fails: what predictions assume, how to notice that it does not hold, and "
        "what to do then. Exact kernels and measured spectra assume nothing.",
        examples=["rmtdeq assumptions"],
    )
    assumptions.set_defaults(run=_assumptions)


def _activations(_: argparse.Namespace) -> int:
    print(aligned([_HEADER, *(_row(name, factory) for name, factory in REGISTRY.items())]))
    print(_NOTES)
    return 0


def _assumptions(_: argparse.Namespace) -> int:
    rows = [(each.name, each.sign, each.remedy) for each in ASSUMPTIONS]
    print(aligned([("assumption", "how to notice that it fails", "what to do"), *rows]))
    return 0


def _row(name: str, factory: Callable[..., Activation]) -> tuple[str, ...]:
    made = activation(EXAMPLES.get(name, name))
    parameters = signature(factory).parameters.values()
    taken = ", ".join(f"{each.name}={each.default:g}" for each in parameters if each.default is not Parameter.empty)
    names = ", ".join(other for other, ours in ALIASES.items() if ours == name)
    what = cleandoc(factory.__doc__ or "").partition("\n")[0].removesuffix(".")
    return name, EXAMPLES.get(name, taken), _pieces(made), _dual(made), names, what


def _pieces(made: Activation) -> str:
    if not made.kinks:
        return "smooth"
    kind = "jump" if jumps(made) else "kink"
    return f"{kind}{'s' if len(made.kinks) > 1 else ''} at {', '.join(f'{kink + 0.0:g}' for kink in made.kinks)}"


def _dual(made: Activation) -> str:
    return "quadrature" if made.dual_form is None else "closed form"
