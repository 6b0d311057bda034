"""Peers of driving: `driving_worker.py iou NUM` (torch) or `icp` (kiss-icp, needs JAXML_DATA)."""

import json
import os
import sys
import time

import numpy as np


def boxes(num, seed, spread_m=20.0):
    draw = np.random.default_rng(seed)
    where = draw.normal(size=(num, 3)) * [spread_m, spread_m, 0.3]
    size = draw.uniform([3.5, 1.6, 1.4], [5.0, 2.0, 1.8], (num, 3))
    return np.concatenate([where, size, draw.uniform(-np.pi, np.pi, (num, 1))], 1).astype("f4")


def torch_iou(num):
    """The usual vectorised way: corners, crossings, points inside, sorted by angle, shoelace."""
    import torch

    a, b = (torch.tensor(boxes(num, seed)) for seed in (0, 1))

    def corners(x):
        sign = torch.tensor([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
        local = sign[None] * x[:, None, 3:5]
        c, s = torch.cos(x[:, 6])[:, None], torch.sin(x[:, 6])[:, None]
        u, v = local[..., 0], local[..., 1]
        return torch.stack([c * u - s * v, s * u + c * v], -1) + x[:, None, :2]

    def inside(points, box):
        d = points - box[..., None, :2]
        c, s = torch.cos(box[..., 6])[..., None], torch.sin(box[..., 6])[..., None]
        x, y = c * d[..., 0] + s * d[..., 1], c * d[..., 1] - s * d[..., 0]
        half = box[..., None, 3:5] / 2 + 1e-5
        return (x.abs() <= half[..., 0]) & (y.abs() <= half[..., 1])

    def rows(a, b):
        ca = corners(a)[:, None].expand(len(a), len(b), 4, 2)
        cb = corners(b)[None].expand(len(a), len(b), 4, 2)
        pa, pb = ca[..., :, None, :], cb[..., None, :, :]
        da = (ca.roll(-1, 2) - ca)[..., :, None, :]
        db = (cb.roll(-1, 2) - cb)[..., None, :, :]
        cross = da[..., 0] * db[..., 1] - da[..., 1] * db[..., 0]
        gap = pb - pa
        safe = torch.where(cross.abs() < 1e-9, torch.full_like(cross, 1e-9), cross)
        t = (gap[..., 0] * db[..., 1] - gap[..., 1] * db[..., 0]) / safe
        u = (gap[..., 0] * da[..., 1] - gap[..., 1] * da[..., 0]) / safe
        good = (cross.abs() > 1e-9) & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
        met = pa + t[..., None] * da
        points = torch.cat([ca, cb, met.flatten(2, 3)], 2)
        mask_a = inside(ca, b[None].expand(len(a), len(b), 7))
        mask_b = inside(cb, a[:, None].expand(len(a), len(b), 7))
        mask = torch.cat([mask_a, mask_b, good.flatten(2, 3)], 2)
        count = mask.sum(-1, keepdim=True)
        middle = (points * mask[..., None]).sum(2) / count.clamp(min=1)
        d = points - middle[:, :, None]
        angle = torch.where(
            mask, torch.atan2(d[..., 1], d[..., 0]), torch.full_like(t[..., 0, 0, None], 9.0)
        )
        order = angle.argsort(-1)
        sorted_points = torch.gather(d, 2, order[..., None].expand_as(d))
        last = torch.gather(
            sorted_points, 2, torch.zeros_like(order[..., :1, None]).expand(-1, -1, 1, 2)
        )
        there = torch.gather(mask, 2, order)
        ring = torch.where(there[..., None], sorted_points, last)
        nxt = ring.roll(-1, 2)
        area = 0.5 * (ring[..., 0] * nxt[..., 1] - ring[..., 1] * nxt[..., 0]).sum(-1).abs()
        total = (a[:, 3] * a[:, 4])[:, None] + (b[:, 3] * b[:, 4])[None]
        return area / (total - area)

    def run():
        with torch.inference_mode():
            return torch.cat([rows(a[i : i + 100], b) for i in range(0, num, 100)])

    return run, 1


def icp():
    from kiss_icp.config import KISSConfig
    from kiss_icp.kiss_icp import KissICP

    path = os.path.join(os.environ["JAXML_DATA"], "driving/kitti_raw78/kitti_raw78.npz")
    with np.load(path) as found:
        cloud, offset = found["cloud_cm"].astype(float) / 100, found["cloud_offset"]
    clouds = np.split(cloud, offset[1:-1])
    config = KISSConfig()
    config.mapping.voxel_size = 1.0
    config.data.max_range = 100.0
    config.data.deskew = False

    def run():
        odometry = KissICP(config)
        for points in clouds:
            odometry.register_frame(points, np.zeros(len(points)))

    return run, len(clouds)


if __name__ == "__main__":
    run, parts = torch_iou(int(sys.argv[2])) if sys.argv[1] == "iou" else icp()
    for _ in sys.stdin:
        begun = time.perf_counter()
        run()
        print(json.dumps({"seconds": (time.perf_counter() - begun) / parts}), flush=True)
