"""Bridges to other libraries: flax modules both ways, and weights by foreign names."""
