"""Driving: perception, fusion, prediction, planning; every sub-package stands alone."""

from jaxml.driving import metrics, planning, prediction, safety, tracks

__all__ = ["metrics", "planning", "prediction", "safety", "tracks"]
