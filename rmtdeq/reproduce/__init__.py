"""The figures and tables of four papers, and some that no paper has, as seeded experiments."""

from rmtdeq.reproduce.experiments import EXPERIMENTS, Experiment, find
from rmtdeq.reproduce.outcome import Curve, Outcome, Row, comparison_table
from rmtdeq.reproduce.place import Place
from rmtdeq.reproduce.runner import Report, Status, reports_table, run, run_all

__all__ = [
    "EXPERIMENTS",
    "Curve",
    "Experiment",
    "Outcome",
    "Place",
    "Report",
    "Row",
    "Status",
    "comparison_table",
    "find",
    "reports_table",
    "run",
    "run_all",
]
