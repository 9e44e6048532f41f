"""Results as one HTML file."""

from rmtdeq.output.report.document import Section, write_report

__all__ = ["Section", "write_report"]
