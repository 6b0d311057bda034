import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxml.inputs import video
from jaxml.inputs.integrity import DataCorruptError, DataNotFoundError

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)


@given(
    num_frames=st.integers(0, 20),
    length=st.integers(1, 6),
    stride=st.integers(1, 7),
    step=st.integers(1, 4),
)
def test_clips_against_a_loop(num_frames, length, stride, step):
    frames = np.arange(num_frames * 2).reshape(num_frames, 2)
    starts = range(0, num_frames - (length - 1) * step, stride)
    want = [[frames[s + i * step] for i in range(length)] for s in starts]
    got = video.clips(frames, length, stride, step)
    np.testing.assert_array_equal(got, np.array(want).reshape(len(want), length, 2))


def test_clips_do_not_copy_and_do_not_overlap_by_default():
    clips = video.clips(FRAMES, 2)
    assert clips.shape == (2, 2, 6, 5, 3)
    assert np.shares_memory(clips, FRAMES)
    np.testing.assert_array_equal(clips.reshape(FRAMES.shape), FRAMES)


@pytest.mark.parametrize("argument", ["length", "stride", "step"])
def test_bad_clips(argument):
    with pytest.raises(ValueError, match=f"{argument} must be > 0; got {argument}=0"):
        video.clips(FRAMES, **{"length": 2, argument: 0})


@given(num_frames=st.integers(1, 50), num_samples=st.integers(1, 50))
def test_samples_are_the_middles_of_equal_parts(num_frames, num_samples):
    got = video.uniform_indices(num_frames, num_samples)
    middles = (np.arange(num_samples, dtype=np.float64) + 0.5) * num_frames / num_samples
    np.testing.assert_array_equal(got, np.floor(middles + 1e-9))
    assert got.min() >= 0 and got.max() < num_frames


def test_samples_need_frames():
    with pytest.raises(ValueError, match="num_frames must be > 0"):
        video.uniform_indices(0, 3)


def write(path, frames, **options):
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=40, **options)


@pytest.mark.parametrize(("suffix", "options"), [("webp", {"lossless": True}), ("png", {})])
def test_animations_come_back(tmp_path, suffix, options):
    write(tmp_path / f"a.{suffix}", FRAMES, **options)
    frames, durations = video.read_animation(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(frames, FRAMES)
    assert frames.dtype == np.uint8
    assert len(durations) == 4 and durations.max() == 40
    short = video.read_animation(tmp_path / f"a.{suffix}", max_frames=3)
    np.testing.assert_array_equal(short.frames, FRAMES[:3])


def test_gif_with_few_colours(tmp_path):
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    for i in range(3):
        frames[i, :, i * 2 : i * 2 + 2] = (255, 0, 0)
    write(tmp_path / "a.gif", frames)
    np.testing.assert_array_equal(video.read_animation(tmp_path / "a.gif").frames, frames)


def test_a_still_image_is_one_frame(tmp_path):
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    frames, durations = video.read_animation(tmp_path / "a.png")
    np.testing.assert_array_equal(frames, FRAMES[:1])
    assert durations.tolist() == [0.0]


def test_bad_files(tmp_path):
    with pytest.raises(DataNotFoundError, match="gone.gif not found"):
        video.read_animation(tmp_path / "gone.gif")
    (tmp_path / "text.gif").write_text("hello")
    with pytest.raises(DataCorruptError, match="text.gif is not a whole animated image"):
        video.read_animation(tmp_path / "text.gif")
    write(tmp_path / "a.webp", FRAMES)
    whole = (tmp_path / "a.webp").read_bytes()
    (tmp_path / "a.webp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataCorruptError, match="a.webp"):
        video.read_animation(tmp_path / "a.webp")
    with pytest.raises(ValueError, match="max_frames must be > 0"):
        video.read_animation(tmp_path / "a.webp", max_frames=0)
