"""The command line: solve, predict, compare, design, train, resume."""

from rmtdeq.cli.main import main
from rmtdeq.cli.options import example_mixture

__all__ = ["example_mixture", "main"]
