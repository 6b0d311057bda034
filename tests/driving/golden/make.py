"""Makes devkits.json from the reference evaluators, none of which jaxml's environment can hold.

    python make.py PCDET_EVAL_FOLDER

in an environment with numba, shapely, nuscenes-devkit 1.2.0 and trackeval 1.3.0; the folder is
`kitti_object_eval_python` of OpenPCDet, whose rotated overlap needs a GPU: polygons stand in.
"""

import json
import sys
import types
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import oracle  # noqa: E402


def kitti(folder):
    """AP of cars and pedestrians by difficulty, view and number of recalls."""

    def overlap(a, b, criterion=-1):
        # (x, z, length, width, rotation about y), which turns clockwise seen from above.
        def upright(x):
            zero = 0 * x[:, 0]
            return np.stack([x[:, 0], -x[:, 1], zero, x[:, 2], x[:, 3], zero, x[:, 4]], 1)

        import shapely

        pa, pb = oracle.polygons(upright(a))[:, None], oracle.polygons(upright(b))[None]
        shared = shapely.area(shapely.intersection(pa, pb))
        return shared if criterion == 2 else shared / (shapely.area(pa) + shapely.area(pb) - shared)

    package = types.ModuleType("pcdet_eval")
    package.__path__ = [str(folder)]
    rotated = types.ModuleType("pcdet_eval.rotate_iou")
    rotated.rotate_iou_gpu_eval = overlap
    sys.modules |= {"pcdet_eval": package, "pcdet_eval.rotate_iou": rotated}
    import pcdet_eval.eval as reference

    gts, dts = [], []
    for gt, dt in oracle.kitti_scene(0):
        for part, rows in ((gt, gts), (dt, dts)):
            box = part["box"]
            care = part["name"] != "DontCare"
            place = np.stack([-box[:, 1], -(box[:, 2] - box[:, 5] / 2), box[:, 0]], 1)
            turn = -box[:, 6] - np.pi / 2
            row = {
                "name": part["name"], "bbox": part["box2d"], "alpha": 0 * turn,
                "location": np.where(care[:, None], place, -1000.0),
                "dimensions": np.where(care[:, None], box[:, [3, 5, 4]], -1.0),
                "rotation_y": np.where(care, turn, -10.0),
                "occluded": part.get("occluded"), "truncated": part.get("truncated"),
                "score": part.get("score"),
            }  # fmt: skip
            rows.append(row)
    out = {}
    for index, name in ((0, "car"), (1, "pedestrian")):
        for metric, view in ((0, "image"), (1, "bev"), (2, "3d")):
            least = 0.7 if name == "car" else 0.5
            least = np.full((1, 3, 1), 0.5 if metric else least)
            got = reference.eval_class(gts, dts, [index], [0, 1, 2], metric, least)
            for recalls, mean in ((40, reference.get_mAP_R40), (11, reference.get_mAP)):
                values = mean(got["precision"])[0, :, 0]
                for level, value in zip(("easy", "moderate", "hard"), values, strict=True):
                    out[f"{name} {view} {level} {recalls} {least[0, 0, 0]}"] = float(value)
    return out


def nuscenes():
    """The scores of a made-up detector."""
    folder = next(Path(p) / "nuscenes" for p in sys.path if (Path(p) / "nuscenes/eval").is_dir())
    for name in ("nuscenes", "nuscenes.eval", "nuscenes.eval.common", "nuscenes.eval.detection"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    constants = types.ModuleType("nuscenes.eval.detection.constants")
    constants.DETECTION_NAMES = list(oracle.NUSCENES_NAMES)
    constants.ATTRIBUTE_NAMES = ["a", "b"]
    constants.TP_METRICS = ["trans_err", "scale_err", "orient_err", "vel_err", "attr_err"]
    sys.modules[constants.__name__] = constants
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.common.utils import center_distance
    from nuscenes.eval.detection import algo
    from nuscenes.eval.detection.data_classes import DetectionBox
    from pyquaternion import Quaternion

    def wrap(part):
        found = EvalBoxes()
        for i in range(len(part["scene"])):
            box = part["box"][i]
            one = DetectionBox(
                sample_token=str(part["scene"][i]), translation=tuple(box[:3]),
                size=(box[4], box[3], box[5]), velocity=tuple(part["velocity"][i]),
                rotation=tuple(Quaternion(axis=(0, 0, 1), angle=box[6])),
                detection_name=str(part["name"][i]), detection_score=float(part["score"][i]),
                attribute_name=str(part["attribute"][i]),
            )  # fmt: skip
            found.add_boxes(one.sample_token, [one])
        return found

    gt, dt = map(wrap, oracle.nuscenes_scene(0))
    skip = {"traffic_cone": ("orient", "vel", "attr"), "barrier": ("vel", "attr")}
    ap, errors = {}, {}
    for name in oracle.NUSCENES_NAMES:
        curves = {d: algo.accumulate(gt, dt, name, center_distance, d) for d in (0.5, 1, 2, 4)}
        ap[name] = float(np.mean([algo.calc_ap(c, 0.1, 0.1) for c in curves.values()]))
        for error in ("trans", "scale", "orient", "vel", "attr"):
            if error not in skip.get(name, ()):
                value = algo.calc_tp(curves[2], 0.1, f"{error}_err")
                errors.setdefault(error, []).append(value)
    means = {e: float(np.mean(v)) for e, v in errors.items()}
    score = (5 * np.mean(list(ap.values())) + sum(max(0, 1 - v) for v in means.values())) / 10
    return {
        "AP": ap,
        "errors": means,
        "mAP": float(np.mean(list(ap.values()))),
        "NDS": float(score),
    }


def tracks():
    """HOTA and CLEAR of a made-up tracker."""
    from trackeval.metrics import CLEAR, HOTA

    out = []
    for seed in (0, 1):
        gt, found, similarity = oracle.track_scene(seed)
        record = {
            "gt_ids": gt, "tracker_ids": found, "similarity_scores": similarity,
            "num_gt_ids": 7, "num_tracker_ids": 7, "num_timesteps": len(gt),
            "num_gt_dets": sum(map(len, gt)), "num_tracker_dets": sum(map(len, found)),
        }  # fmt: skip
        h = HOTA().eval_sequence(record)
        c = CLEAR({"THRESHOLD": 0.5, "PRINT_CONFIG": False}).eval_sequence(record)
        names = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA")
        plain = {"TP": "CLR_TP", "FP": "CLR_FP", "FN": "CLR_FN"}
        clear = {
            n: float(c[plain.get(n, n)]) for n in ("MOTA", "MOTP", "IDSW", "TP", "FP", "FN", "Frag")
        }
        out.append({**{n: float(np.mean(h[n])) for n in names}, **clear})
    return out


if __name__ == "__main__":
    made = {"kitti": kitti(Path(sys.argv[1])), "nuscenes": nuscenes(), "tracks": tracks()}
    (HERE / "devkits.json").write_text(json.dumps(made, indent=1) + "\n")
