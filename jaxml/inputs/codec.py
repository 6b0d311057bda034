"""Encoded images to pixels and back, by Pillow."""

import io

import numpy as np


def decode(content: bytes, channels: int | None = None) -> np.ndarray:
    """The pixels of an encoded image (PNG, JPEG, WebP, ...).

    Args:
      content: the file's bytes.
      channels: 1 for grey, 3 for RGB; None keeps the image's own.

    Returns:
      uint8 [y, x] for grey, else [y, x, c].

    Raises:
      ValueError: not an image that Pillow reads, or another number of channels.
    """
    from PIL import Image, UnidentifiedImageError

    modes = {1: "L", 3: "RGB", None: None}
    if channels not in modes:
        raise ValueError(f"channels must be 1, 3 or None; got channels={channels}.")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return np.asarray(picture.convert(modes[channels]) if channels else picture)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"content must be an image; got {len(content)} bytes ({error}).") from None


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG bytes of uint8 pixels, [y, x] or [y, x, 3]; lossless."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
