"""Metrics of driving, one field a file."""

from jaxml.driving.metrics import trajectory

__all__ = ["trajectory"]
