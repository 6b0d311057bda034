"""Loaders and the leak-proof protocol."""

import dataclasses
import os

import numpy as np
import pytest

from jaxml.driving.prediction import baselines
from jaxml.driving.tracks import argoverse, concatenate, ethucy, kitti, neighbours, toy

needs_data = pytest.mark.skipif(
    not os.environ.get("JAXML_DATA"), reason="JAXML_DATA is not set: no recordings here"
)
COUNTS = {
    "eth": (70, 181), "hotel": (301, 1_053), "univ": (947, 24_334), "zara1": (602, 2_253),
    "zara2": (921, 5_833),
}  # fmt: skip
VELOCITY = {
    "eth": (0.99, 2.23), "hotel": (0.32, 0.62), "univ": (0.52, 1.16), "zara1": (0.43, 0.96),
    "zara2": (0.33, 0.73),
}  # fmt: skip
LINE = {
    "eth": (1.02, 2.18), "hotel": (0.26, 0.47), "univ": (0.74, 1.43), "zara1": (0.61, 1.19),
    "zara2": (0.46, 0.90),
}  # fmt: skip
HALF_DIGIT = 0.005 + 0.002  # the rows are printed with two decimals


@pytest.fixture(scope="module")
def folds():
    return ethucy.load()[0]


@pytest.fixture(scope="module")
def small():
    return toy.crowd(0)


def brute_windows(text):
    """An independent reading: every set of 20 successive frames, agents in all of them."""
    rows = [tuple(map(float, line.split())) for line in text.splitlines()]
    frames = sorted({r[0] for r in rows})
    at = {(r[0], r[1]): r[2:] for r in rows}
    found = []
    for i in range(len(frames) - 19):
        part = frames[i : i + 20]
        agents = sorted({a for f, a in at if f == part[0]})
        whole = [a for a in agents if all((f, a) in at for f in part)]
        if len(whole) >= 2:
            found += [[at[f, a] for f in part] for a in whole]
    return np.array(found)


def test_windows_are_those_of_a_brute_force_reading():
    random = np.random.default_rng(3)
    lines = []
    for frame in range(0, 300, 10):
        for agent in range(5):
            if agent * 10 <= frame < 220 + agent * 20:
                x, y = random.normal(size=2)
                lines.append(f"{frame}\t{agent}\t{x:.3f}\t{y:.3f}")
    text = "\n".join(lines)
    found, want = ethucy.parse(text), brute_windows(text)
    assert len(found) == len(want) > 10
    np.testing.assert_allclose(np.concatenate([found.past, found.future], 1), want)


def test_neighbours_are_the_nearest_of_the_window(small):
    rows, mask = neighbours(small, 3)
    for i in range(0, len(small), 7):
        same = [j for j in np.flatnonzero(small.group == small.group[i]) if j != i]
        gap = {j: np.linalg.norm(small.past[j, -1] - small.past[i, -1]) for j in same}
        want = sorted(same, key=gap.get)[:3]
        assert mask[i].sum() == min(3, len(same))
        assert rows[i][mask[i]].tolist() == want


def test_groups_stay_apart_when_joined(small):
    both = concatenate("both", [small, small])
    assert both.num_windows == 2 * small.num_windows


@pytest.mark.parametrize(
    ("text", "words"),
    [("0 1 2", "must hold frame"), ("10 1 0 0\n0 1 0 0", "frames must ascend")],
)
def test_bad_recordings_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        ethucy.parse(text, "bad")


def test_shapes_are_checked(small):
    with pytest.raises(ValueError, match="future must have shape"):
        dataclasses.replace(small, future=small.future[:-1])


@needs_data
def test_counts_of_windows_and_agents_are_exact(folds):
    for scene, (windows, agents) in COUNTS.items():
        assert (folds[scene].test.num_windows, len(folds[scene].test)) == (windows, agents)


@needs_data
def test_the_tested_scene_is_never_trained_or_chosen_on(folds):
    for fold in folds.values():
        tested = {row.tobytes() for row in np.concatenate([fold.test.past, fold.test.future], 1)}
        for part in (fold.train, fold.validation):
            rows = np.concatenate([part.past, part.future], 1)
            assert not any(row.tobytes() in tested for row in rows)


@needs_data
@pytest.mark.parametrize("scene", COUNTS)
def test_rows_that_learn_nothing(folds, scene):
    test = folds[scene].test
    for paths, want in (
        (baselines.constant_velocity(test.past, 12), VELOCITY[scene]),
        (baselines.least_squares(test.past, 12), LINE[scene]),
    ):
        gap = np.linalg.norm(paths - test.future, axis=-1)
        assert abs(gap.mean() - want[0]) <= HALF_DIGIT
        assert abs(gap[:, -1].mean() - want[1]) <= HALF_DIGIT


@needs_data
@pytest.mark.parametrize(
    ("kind", "train", "val", "ade", "fde"),
    [("vehicle", 1640, 1076, 1.00, 2.32), ("person", 186, 1272, 0.41, 0.87)],
)
def test_kitti_windows_and_constant_velocity(kind, train, val, ade, fde):
    parts, _ = kitti.load(kind)
    to_train, held = parts.train, parts.validation
    assert len(parts.choice) < train < len(parts.fit) + len(parts.choice)
    assert (len(to_train), len(held)) == (train, val)
    gap = np.linalg.norm(baselines.constant_velocity(held.past, 15, 4) - held.future, axis=-1)
    assert abs(gap.mean() - ade) <= HALF_DIGIT
    assert abs(gap[:, -1].mean() - fde) <= HALF_DIGIT


@needs_data
def test_headings_point_where_cars_drive():
    held = kitti.load("vehicle")[0].validation
    moves = kitti.moving(held)
    way = held.past[moves, -1] - held.past[moves, 0]
    angle = np.arctan2(way[:, 1], way[:, 0]) - held.heading[moves, -1]
    assert np.median(np.abs((angle + np.pi) % (2 * np.pi) - np.pi)) < 0.05


@needs_data
def test_argoverse_map_lies_under_its_cars():
    pytest.importorskip("pyarrow")
    cars, roads, _ = argoverse.load()
    assert len(cars) > 50 and len(roads.points) == 77
    gap = np.linalg.norm(roads.points[None] - cars.past[:, -1][:, None, None], axis=-1)
    assert np.median(gap.min((1, 2))) < 3.0


def test_a_machine_without_recordings_says_how_to_get_them(no_data):
    with pytest.raises(FileNotFoundError, match="eth_ucy"):
        ethucy.load()
