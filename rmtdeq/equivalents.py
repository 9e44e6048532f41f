"""Moved to `rmtdeq.theory`; this name goes with the next release."""

from rmtdeq._lib.moved import forwarding

__getattr__ = forwarding(__name__, "rmtdeq.theory")
