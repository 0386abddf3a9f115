"""A folder of image files (PNG, JPEG and what else Pillow reads), in the order of their names."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np

from factory.images.collection import Collection, unlabelled
from factory.spec import InputError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_DAMAGE = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises for an image that is damaged."""
_SILENCE = logging.NullHandler()
_MODES = {1: "L", 3: "RGB"}


def find_pictures(folder: Path) -> list[Path]:
    """Return the image files that lie in `folder` itself, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def open_pictures(folder: Path, files: list[Path], image_shape: tuple[int, int, int]) -> Collection:
    """Open `files`; each must have the network's size, `image_shape` `(colour, y, x)`."""
    try:
        import PIL  # noqa: F401 (its absence is known before an image is read)
    except ImportError:
        raise InputError("image files need Pillow: pip install 'factory[images]'") from None
    logging.getLogger("PIL").addHandler(_SILENCE)  # else it prints lines of its own for some images
    if image_shape[0] not in _MODES:
        raise InputError(f"{folder}: image files have 1 or 3 colours, the network takes {image_shape[0]}")

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([_read_picture(files[n], image_shape) for n in index]), unlabelled(len(index))

    return Collection(folder.name, len(files), read)


def _read_picture(path: Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return uint8 `(colour, y, x)`.

    Pillow warns of metadata, which is not used, and of large images, whose size is checked here.
    """
    from PIL import Image

    colours, height, width = image_shape
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.size != (width, height):
                raise InputError(f"{path}: must be {width}x{height} pixels, not {image.width}x{image.height}")
            pixels = np.asarray(image.convert(_MODES[colours]))
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: must be {width}x{height} pixels: {error}") from None
    except _DAMAGE as error:
        raise InputError(f"{path}: must be an image: {str(error).partition(chr(10))[0]}") from None
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))
