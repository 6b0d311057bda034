import io

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxml.inputs import codec, image
from jaxml.inputs.builders import writer


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_sets_as_arrays_from_both_copies(tiny, tmp_path, name, split):
    read = getattr(image, name)
    writer.prepare(name, out=tmp_path / "out")
    for path in (None, tmp_path / "out"):
        pixels, labels = read(split, path)
        np.testing.assert_array_equal(pixels, tiny.images[name, split])
        np.testing.assert_array_equal(labels, tiny.labels[name, split])
        assert (pixels.dtype, labels.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_is_lossless(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(codec.decode(codec.encode_png(pixels)), pixels)


def test_decode_to_another_number_of_channels():
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (10, 20, 30)).save(stream, format="WEBP", lossless=True)
    assert codec.decode(stream.getvalue(), channels=3)[0, 0].tolist() == [10, 20, 30]
    assert codec.decode(stream.getvalue(), channels=1).shape == (3, 4)


def test_what_is_no_image():
    with pytest.raises(ValueError, match="content must be an image; got 5 bytes"):
        codec.decode(b"hello")
    whole = codec.encode_png(np.arange(3000, dtype=np.uint8).reshape(50, 60))
    with pytest.raises(ValueError, match="content must be an image"):
        codec.decode(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="channels must be 1, 3 or None; got channels=2"):
        codec.decode(whole, channels=2)


def batch(b=64, y=6, x=5, c=3):
    return jnp.asarray(np.random.default_rng(0).integers(1, 256, (b, y, x, c), np.uint8))


def test_normalise_against_numpy():
    pixels = np.asarray(batch())
    mean, std = image.CIFAR10_MEAN, image.CIFAR10_STD
    want = (pixels.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    got = image.normalise(jnp.asarray(pixels), mean, std)
    assert got.dtype == jnp.float32
    chex.assert_trees_all_close(np.asarray(got, np.float64), want, atol=2e-6)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), (1.0, 1.0, 1.0), "mean must have one number for each of 3 channels; got 1"),
        ((0.5,) * 3, (1.0,), "std must have one number for each"),
        ((0.5,) * 3, (1.0, 0.0, 1.0), r"std\[1\] must be > 0"),
    ],
)
def test_normalise_wants_one_number_for_each_channel(mean, std, message):
    with pytest.raises(ValueError, match=message):
        image.normalise(batch(), mean, std)


def test_flip_gives_each_image_or_its_mirror(key):
    pixels = np.asarray(batch())
    flipped = np.asarray(jax.jit(image.random_flip)(key, pixels))
    kept = (flipped == pixels).all((1, 2, 3))
    mirrored = (flipped == pixels[:, :, ::-1]).all((1, 2, 3))
    assert (kept | mirrored).all()
    assert 16 < mirrored.sum() < 48


def test_crop_gives_a_window_of_the_padded_image(key):
    pixels, padding = np.asarray(batch()), 2
    cropped = np.asarray(jax.jit(image.random_crop, static_argnums=2)(key, pixels, padding))
    padded = np.pad(pixels, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    found = set()
    for one, whole in zip(cropped, padded, strict=True):
        places = [(r, c) for r in range(5) for c in range(5)]
        hits = [p for p in places if (whole[p[0] : p[0] + 6, p[1] : p[1] + 5] == one).all()]
        assert len(hits) == 1
        found.add(hits[0])
    assert len(found) > 15


def test_no_padding_changes_nothing(key):
    pixels = batch()
    chex.assert_trees_all_equal(image.random_crop(key, pixels, 0), pixels)


def test_views_depend_on_the_key_alone(key):
    pixels = batch()
    for view in (image.random_flip, lambda k, p: image.random_crop(k, p, 2)):
        chex.assert_trees_all_equal(view(key, pixels), view(key, pixels))
        assert (view(key, pixels) != view(jax.random.key(1), pixels)).any()


def test_views_want_a_batch(key):
    with pytest.raises(ValueError, match=r"images_byxc must have shape \[b, y, x, c\]"):
        image.random_flip(key, batch()[0])
    with pytest.raises(ValueError, match="padding must be >= 0"):
        image.random_crop(key, batch(), -1)
