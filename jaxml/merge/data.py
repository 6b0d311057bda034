"""Labelled images, and batches of them as networks see them; they live in `jaxml.inputs.splits`."""

from jaxml.inputs.splits import Batches, Images, Splits, augment, cut, load, load_npz, synthetic

__all__ = ["Batches", "Images", "Splits", "augment", "cut", "load", "load_npz", "synthetic"]
