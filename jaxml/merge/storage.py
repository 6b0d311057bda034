"""Networks on disk; see `jaxml.core.storage`."""

from jaxml.core.storage import SUFFIXES, load, save

__all__ = ["SUFFIXES", "load", "save"]
