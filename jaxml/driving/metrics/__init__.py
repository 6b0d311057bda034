"""Metrics equal to those of the development kits, in float64 on the host."""

from jaxml.driving.metrics.coco import Boxes2D, coco_ap, iou_2d
from jaxml.driving.metrics.depth import depth_metrics, garg_crop
from jaxml.driving.metrics.kitti import KittiFrameBoxes, kitti_ap
from jaxml.driving.metrics.nuscenes import SceneBoxes, nuscenes_nds
from jaxml.driving.metrics.scene import average_precision
from jaxml.driving.metrics.tracks import TrackFrames, clear_mot, hota

__all__ = [
    "Boxes2D",
    "KittiFrameBoxes",
    "SceneBoxes",
    "TrackFrames",
    "average_precision",
    "clear_mot",
    "coco_ap",
    "depth_metrics",
    "garg_crop",
    "hota",
    "iou_2d",
    "kitti_ap",
    "nuscenes_nds",
]
