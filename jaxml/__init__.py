"""jaxml: published machine-learning systems as pure JAX functions.

Importing this package loads nothing heavy. A system is loaded when it is first touched:

>>> import jaxml
>>> "tnl" in jaxml.SYSTEMS
True
"""

import importlib
from types import ModuleType

from jaxml.version import __version__

__all__ = ["SYSTEMS", "__version__"]

SYSTEMS: dict[str, str] = {
    "tnl": "Lightning attention and TransNormerLLM, a linear-attention language model",
    "jsp": "Self-labelled pointer network for job-shop scheduling",
    "chiplet": "Cost model of chiplet systems for LLM training",
    "merge": "Merging trained networks by canonical correlation",
    "dp": "Convex ReLU networks under differential privacy",
    "nfard": "Detection of reused models",
    "curate": "Data management for LLM training",
    "cap": "Contrastive pruning of language models",
    "driving": "Perception, fusion, prediction, planning",
    "univilm": "Video-language pre-training",
    "emu": "Semantic specialisation of multilingual sentence embeddings",
}
"""Every system of the house by its import name; `jaxml list` says which are built."""


def __getattr__(name: str) -> ModuleType:
    if name in SYSTEMS:
        return importlib.import_module(f"jaxml.{name}")
    raise AttributeError(f"module 'jaxml' has no attribute {name!r}")
