"""Independent float64 transcriptions and made-up scenes; nothing here imports jaxml."""

import numpy as np


def boxes(rng, num, spread=6.0):
    """Random boxes [n, 7], many of which overlap."""
    where = rng.normal(size=(num, 3)) * [spread, spread, 0.3]
    return np.concatenate([where, rng.uniform(1, 5, (num, 3)), rng.uniform(-4, 4, (num, 1))], 1)


def polygons(box):
    """Shapely polygons of boxes [..., 7]."""
    import shapely

    box = np.asarray(box, np.float64)
    c, s = np.cos(box[..., 6]), np.sin(box[..., 6])
    corners = []
    for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        x, y = i * box[..., 3] / 2, j * box[..., 4] / 2
        corners.append(np.stack([box[..., 0] + c * x - s * y, box[..., 1] + s * x + c * y], -1))
    return shapely.polygons(np.stack(corners, -2))


def iou_bev(a, b):
    """Overlap of all pairs from above, by polygons."""
    import shapely

    pa, pb = polygons(a)[:, None], polygons(b)[None]
    shared = shapely.area(shapely.intersection(pa, pb))
    return shared / (shapely.area(pa) + shapely.area(pb) - shared)


def iou_3d(a, b):
    """Overlap of volumes of all pairs."""
    import shapely

    pa, pb = polygons(a)[:, None], polygons(b)[None]
    top = np.minimum((a[:, 2] + a[:, 5] / 2)[:, None], (b[:, 2] + b[:, 5] / 2)[None])
    low = np.maximum((a[:, 2] - a[:, 5] / 2)[:, None], (b[:, 2] - b[:, 5] / 2)[None])
    shared = shapely.area(shapely.intersection(pa, pb)) * np.maximum(top - low, 0)
    va, vb = np.prod(a[:, 3:6], 1)[:, None], np.prod(b[:, 3:6], 1)[None]
    return shared / (va + vb - shared)


def coco_scene(seed, images=6, classes=3):
    """Labels and noisy detections: rows (image, class, x1, y1, x2, y2, score, crowd)."""
    rng = np.random.default_rng(seed)
    gt, dt = [], []
    for image in range(images):
        for _ in range(rng.integers(2, 9)):
            label, corner = rng.integers(classes), rng.uniform(0, 300, 2)
            size = rng.choice([20.0, 60.0, 140.0]) * rng.uniform(0.6, 1.4, 2)
            gt.append([image, label, *corner, *(corner + size), 1, rng.random() < 0.1])
            for _ in range(rng.integers(0, 3)):
                move = rng.normal(size=4) * size.max() * 0.08
                box = np.sort((np.array([*corner, *(corner + size)]) + move).reshape(2, 2), 0)
                dt.append([image, label, *box.ravel(), np.round(rng.random(), 1), 0])
        dt.append([image, rng.integers(classes), 5, 5, 50, 60, rng.random(), 0])
    return np.array(gt, float), np.array(dt, float)


KITTI_NAMES = ("Car", "Van", "Pedestrian", "Person_sitting", "Cyclist", "DontCare", "Truck")


def kitti_scene(seed, frames=12):
    """For each frame labels and detections as dicts of arrays; boxes z up, upright camera."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(frames):
        num = rng.integers(3, 9)
        box = boxes(rng, num, 12.0)
        box[:, 3:6] = rng.uniform([3, 1.5, 1.4], [4.5, 2, 1.8], (num, 3))
        corner = rng.uniform(0, 500, (num, 2))
        height = rng.uniform(15, 90, num)
        box2d = np.concatenate([corner, corner + np.stack([1.5 * height, height], 1)], 1)
        gt = {
            "name": rng.choice(KITTI_NAMES, num, p=[0.4, 0.1, 0.2, 0.05, 0.1, 0.1, 0.05]),
            "box2d": box2d,
            "box": box,
            "occluded": rng.integers(0, 4, num),
            "truncated": rng.uniform(0, 0.6, num) * (rng.random(num) < 0.4),
        }
        again = np.concatenate([np.arange(num), rng.integers(0, num, 3)])
        noise = rng.normal(size=(len(again), 7)) * [0.2, 0.1, 0.05, 0.1, 0.05, 0.05, 0.03]
        names = np.where(gt["name"][again] == "DontCare", "Car", gt["name"][again])
        dt = {
            "name": np.where(rng.random(len(again)) < 0.1, "Pedestrian", names),
            "box2d": box2d[again] + rng.normal(size=(len(again), 4)) * 2,
            "box": box[again] + noise,
            "score": np.round(rng.random(len(again)), 2),
        }
        out.append((gt, dt))
    return out


NUSCENES_NAMES = ("car", "pedestrian", "barrier", "traffic_cone")


def nuscenes_scene(seed, scenes=8):
    """Labels and detections as dicts of arrays over all scenes."""
    rng = np.random.default_rng(seed)
    gt, dt = [], []
    for scene in range(scenes):
        for _ in range(rng.integers(4, 12)):
            name = rng.choice(NUSCENES_NAMES)
            row = [
                scene,
                name,
                boxes(rng, 1, 15.0)[0],
                rng.normal(size=2),
                rng.choice(["a", "b", ""]),
            ]
            if rng.random() < 0.1:
                row[3] = np.array([np.nan, np.nan])
            gt.append([*row, 1.0])
            for _ in range(rng.integers(0, 3)):
                box = row[2] + rng.normal(size=7) * [0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.5]
                box[3:6] = np.abs(box[3:6])
                speed = np.nan_to_num(row[3]) + rng.normal(size=2) * 0.3
                dt.append([scene, name, box, speed, rng.choice(["a", "b"]), rng.random()])
        dt.append([scene, "car", boxes(rng, 1, 15.0)[0], np.zeros(2), "a", rng.random()])
    keys = ("scene", "name", "box", "velocity", "attribute", "score")
    return tuple(
        {k: np.array(c) for k, c in zip(keys, zip(*x, strict=True), strict=True)} for x in (gt, dt)
    )


def track_scene(seed, frames=30, num=7):
    """Identities of labels and of a tracker with switches, and their overlaps, by frame."""
    rng = np.random.default_rng(seed)
    names = np.arange(num)
    truth, found, similarity = [], [], []
    for _ in range(frames):
        if rng.random() < 0.2:
            i, j = rng.integers(num, size=2)
            names[[i, j]] = names[[j, i]]
        gt = np.flatnonzero(rng.random(num) < 0.8)
        seen = gt[rng.random(len(gt)) < 0.8]
        extra = np.setdiff1d(np.arange(num), gt)[: rng.integers(0, 2)]
        ids = np.concatenate([names[seen], names[extra]]).astype(int)
        value = rng.uniform(0, 0.25, (len(gt), len(ids)))
        for column, g in enumerate(seen):
            value[np.flatnonzero(gt == g)[0], column] = rng.uniform(0.3, 1.0)
        truth.append(gt)
        found.append(ids)
        similarity.append(value)
    return truth, found, similarity
