"""Parameters of an experiment set by name on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_type_hints

import rmtdeq

P = TypeVar("P")

_BETWEEN = re.compile(r",(?![^()]*\))")
"""Commas but for those in parentheses, which are an activation's: leaky_relu(0.1)."""


def with_settings(parameters: P, settings: Sequence[str], what: str) -> P:
    """Return a dataclass of parameters with some of them set.

    Parameters
    ----------
    parameters : dataclass
        Of numbers, truth values and texts, and of tuples of one of these.
    settings : sequence of str
        Each ``NAME=VALUE``, with commas between the values of a tuple; the last of several of a name holds.
    what : str
        Whose parameters they are, for messages.

    Raises
    ------
    InvalidInputError
        There is no parameter of a name, or a value is not of its type.
    """
    kinds = get_type_hints(type(parameters))
    found = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if name not in kinds:
            raise rmtdeq.InvalidInputError(
                f"{what} has no parameter {name!r}; those that it has: {_shown(parameters)}."
            )
        try:
            if not equals:
                raise ValueError("no value")
            found[name] = _value(text.strip(), kinds[name])
        except (ValueError, KeyError) as error:
            example = f"{name}={_text(getattr(parameters, name))}"
            raise rmtdeq.InvalidInputError(
                f"--set {setting}: {name} takes {_described(kinds[name])}, as --set {example}."
            ) from error
    return replace(parameters, **found)  # type: ignore[type-var]


def _value(text: str, kind: Any) -> Any:
    members = get_args(kind)
    if members:
        return tuple(_value(part.strip(), members[0]) for part in _BETWEEN.split(text) if text)
    return _READ[kind](text)


_READ: Mapping[type, Callable[[str], Any]] = MappingProxyType(
    {int: int, float: float, str: str, bool: lambda text: {"true": True, "false": False}[text.lower()]}
)
_NAMES: Mapping[type, tuple[str, str]] = MappingProxyType(
    {
        int: ("a whole number", "whole numbers"),
        float: ("a number", "numbers"),
        str: ("a text", "texts"),
        bool: ("true or false", "true or false"),
    }
)


def _described(kind: Any) -> str:
    members = get_args(kind)
    return f"{_NAMES[members[0]][1]} with commas between" if members else _NAMES[kind][0]


def _shown(parameters: Any) -> str:
    return ", ".join(f"{field.name}={_text(getattr(parameters, field.name))}" for field in fields(parameters))


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
