"""The figures and tables of four papers, and some that no paper has, as seeded experiments."""

from rmtdeq.reproduce.outcome import Curve, Outcome, Row, comparison_table

__all__ = ["Curve", "Outcome", "Row", "comparison_table"]
