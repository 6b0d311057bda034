"""Rigid motions, cameras, rotated boxes."""

from jaxml.driving.geometry.camera import project, unproject
from jaxml.driving.geometry.nms import circle_nms, rotated_nms, suppress
from jaxml.driving.geometry.rotated_iou import (
    corners_bev,
    overlap_bev,
    rotated_iou_3d,
    rotated_iou_bev,
)
from jaxml.driving.geometry.sample import bilinear
from jaxml.driving.geometry.se3 import (
    boxes_to,
    exp,
    inverse,
    log,
    planar,
    transform,
    wrap,
    yaw_of,
)

__all__ = [
    "bilinear",
    "boxes_to",
    "circle_nms",
    "corners_bev",
    "exp",
    "inverse",
    "log",
    "overlap_bev",
    "planar",
    "project",
    "rotated_iou_3d",
    "rotated_iou_bev",
    "rotated_nms",
    "suppress",
    "transform",
    "unproject",
    "wrap",
    "yaw_of",
]
