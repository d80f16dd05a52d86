"""PIL images: pixels beside the pickle, read where they are for the modes that PIL can map.

Classes derived from Image (PngImageFile, and others that open() returns) keep their class, and take
PIL's own pickling for it: their pixels are copied into the pickle, and again by each get. An image
made of one by convert() or copy() is an Image.
"""

from __future__ import annotations

import pickle
from typing import Any

from PIL import Image

from . import reducers


def reduce_image(image: Image.Image) -> Any:
    """An image as mode, size, pixels, palette and info. PIL packs the pixels: one copy more."""
    palette = None
    if image.palette is not None and image.getpalette() is not None:
        palette = image.palette.mode, image.getpalette(image.palette.mode)
    return _image, (
        image.mode,
        image.size,
        pickle.PickleBuffer(image.tobytes()),
        palette,
        image.info,
    )


def _image(
    mode: str, size: tuple[int, int], pixels: Any, palette: Any, info: dict[Any, Any]
) -> Image.Image:
    if 0 in size:
        image = Image.new(mode, size)
    else:
        image = Image.frombuffer(mode, size, pixels, "raw", mode, 0, 1)
    if palette is not None:
        image.putpalette(palette[1], palette[0])
    image.info = info
    return image


PLANNERS: dict[type, Any] = {}
LOADERS: dict[int, Any] = {}
reducers.register_reducer(Image.Image, reduce_image)
