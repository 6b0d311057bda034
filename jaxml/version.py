"""The version of the distribution; read by packaging without importing anything else."""

__version__ = "0.1.0"
