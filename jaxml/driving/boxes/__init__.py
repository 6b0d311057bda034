"""Boxes, and the converters from the conventions of data sets."""

from jaxml.driving.boxes.box3d import Box3D, iou_bev, make, stack, validate
from jaxml.driving.boxes.inside import count_points, points_in_boxes
from jaxml.driving.boxes.kitti import (
    Calibration,
    KittiObjects,
    from_kitti,
    parse_calibration,
    parse_objects,
    to_kitti,
    upright_boxes,
)
from jaxml.driving.boxes.quaternion import from_av2, heading_of_quaternion, matrix_of_quaternion

__all__ = [
    "Box3D",
    "Calibration",
    "KittiObjects",
    "count_points",
    "from_av2",
    "from_kitti",
    "heading_of_quaternion",
    "iou_bev",
    "make",
    "matrix_of_quaternion",
    "parse_calibration",
    "parse_objects",
    "points_in_boxes",
    "stack",
    "to_kitti",
    "upright_boxes",
    "validate",
]
