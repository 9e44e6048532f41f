"""Parameters by name, from texts."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

import rmtdeq as rd
from rmtdeq.cli.settings import with_settings


@dataclass(frozen=True)
class Parameters:
    """One of every type."""

    p: int = 1000
    rate: float = 0.5
    kind: str = "ck"
    class_wise: bool = False
    widths: tuple[int, ...] = (10, 20)
    sigma_a2: tuple[float, ...] = (0.2,)
    activations: tuple[str, ...] = ("tanh",)


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("p=4000", "p", 4000),
        ("rate=2", "rate", 2.0),
        ("rate=1e-3", "rate", 1e-3),
        ("kind=ntk", "kind", "ntk"),
        ("kind=a=b", "kind", "a=b"),
        ("class-wise=true", "class_wise", True),
        ("class_wise=False", "class_wise", False),
        ("widths=5", "widths", (5,)),
        ("widths=5, 6,7", "widths", (5, 6, 7)),
        ("widths=", "widths", ()),
        ("sigma_a2=0.1,1", "sigma_a2", (0.1, 1.0)),
        ("activations=relu,two_slopes(0.1, 2),tanh", "activations", ("relu", "two_slopes(0.1, 2)", "tanh")),
    ],
)
def test_values_have_the_type_of_their_parameter(setting, name, value):
    found = with_settings(Parameters(), [setting], "it")
    assert getattr(found, name) == value
    assert type(getattr(found, name)) is type(value)
    assert all(getattr(found, f.name) == f.default for f in fields(found) if f.name != name)


def test_several_are_set_and_the_last_of_one_holds():
    found = with_settings(Parameters(), ["p=1", "kind=ntk", "p=2"], "it")
    assert found == Parameters(p=2, kind="ntk")
    assert with_settings(Parameters(), [], "it") == Parameters()


def test_a_wrong_name_shows_the_right_ones():
    with pytest.raises(rd.InvalidInputError) as caught:
        with_settings(Parameters(), ["n=3"], "an-experiment")
    message = str(caught.value)
    assert "an-experiment has no parameter 'n'" in message
    assert "p=1000, rate=0.5, kind=ck, class_wise=false, widths=10,20, sigma_a2=0.2, activations=tanh" in message


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("p=1.5", "a whole number, as --set p=1000"),
        ("p=", "a whole number"),
        ("p", "a whole number"),
        ("rate=fast", "a number, as --set rate=0.5"),
        ("class_wise=1", "true or false"),
        ("widths=1,x", "whole numbers with commas between, as --set widths=10,20"),
        ("activations", "texts with commas between"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_right(setting, words):
    with pytest.raises(rd.InvalidInputError, match=words):
        with_settings(Parameters(), [setting], "it")
