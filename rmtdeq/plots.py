"""Moved to `rmtdeq.output.figures`; this name goes with the next release."""

from rmtdeq._lib.moved import forwarding

__getattr__ = forwarding(__name__, "rmtdeq.output.figures")
