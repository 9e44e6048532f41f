"""The command line: solve, predict, compare, design, diagnose, fit, learn, suggest, train, resume, reproduce."""

from rmtdeq.cli.main import main
from rmtdeq.cli.reproduce import program
from rmtdeq.data.problems import example_mixture

__all__ = ["example_mixture", "main", "program"]
