"""What the predictions assume, how to notice that it does not hold, and what to do then."""

from __future__ import annotations

from dataclasses import dataclass

COMMAND = "rmtdeq assumptions"
"""What prints them."""


@dataclass(frozen=True)
class Assumption:
    """An assumption of the theory.

    Attributes
    ----------
    name : str
    sign : str
        How to notice that it does not hold.
    remedy : str
        What to do then.
    """

    name: str
    sign: str
    remedy: str


ASSUMPTIONS = (
    Assumption(
        "means not too strong",
        "class means as long as samples",
        'level="classwise" or "auto", the default, not level="paper"',
    ),
    Assumption(
        "many dimensions",
        "p or the effective dimension below a hundred, n far above p, atoms",
        "predict from other samples: --level polynomial, rd.DataMoments",
    ),
    Assumption(
        "independent samples", "cosines near one, eigenvalues near zero", "remove near-duplicates before predicting"
    ),
    Assumption("no heavy tails", "mean of squared norms far above the median", "rd.on_sphere(X)"),
    Assumption(
        "one norm a class",
        "outliers or bulk predicted below zero, bulk too short",
        "--level polynomial, or shells of alike norms as classes; norms= in designs",
    ),
)
