"""Tracks of pedestrians and vehicles, cut into windows so that nothing of the future leaks."""

from jaxml.driving.tracks import argoverse, ethucy, kitti, toy
from jaxml.driving.tracks.windows import Windows, concatenate, cut, neighbours

__all__ = ["Windows", "argoverse", "concatenate", "cut", "ethucy", "kitti", "neighbours", "toy"]
