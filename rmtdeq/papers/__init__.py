"""The figures and tables of four papers, and some that no paper has, as seeded experiments."""

from rmtdeq.papers.experiments import EXPERIMENTS, Experiment, find
from rmtdeq.papers.outcome import Curve, Outcome, Row, comparison_table
from rmtdeq.papers.runner import Report, Status, reports_table, run, run_all
from rmtdeq.papers.setting import Setting

__all__ = [
    "EXPERIMENTS",
    "Curve",
    "Experiment",
    "Outcome",
    "Report",
    "Row",
    "Setting",
    "Status",
    "comparison_table",
    "find",
    "reports_table",
    "run",
    "run_all",
]
