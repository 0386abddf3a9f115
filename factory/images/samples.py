"""A small set of images that the package makes itself: noise, clouds, gradients, checkerboards and blobs.

Only integers and SHAKE-256 go into them, so that they are the same bytes on every machine and with every NumPy.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import UInt8

from factory.images.collection import Collection, unlabelled

COUNT = 16
_SEED = "factory samples 1"


def open_samples(image_shape: tuple[int, int, int]) -> Collection:
    """Open the samples in the network's size, `image_shape` `(colour, y, x)`."""

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([make_sample(int(n), image_shape) for n in index]), unlabelled(len(index))

    return Collection("samples", COUNT, read)


def make_sample(number: int, image_shape: tuple[int, int, int]) -> UInt8[np.ndarray, "colour y x"]:
    """Return sample `number`, 0 to 15; its kind is `number % 4`."""
    colours, height, width = image_shape
    kind = (_clouds, _blobs, _gradients, _checkers if number % 8 == 3 else _noise)[number % 4]
    return kind(_bytes(f"{_SEED} {number}", 8 * colours * height * width + 4096), colours, height, width)


def _bytes(seed: str, count: int) -> np.ndarray:
    return np.frombuffer(hashlib.shake_256(seed.encode()).digest(count), np.uint8).astype(np.int64)


def _noise(random: np.ndarray, colours: int, height: int, width: int) -> np.ndarray:
    return random[: colours * height * width].reshape(colours, height, width).astype(np.uint8)


def _clouds(random: np.ndarray, colours: int, height: int, width: int) -> np.ndarray:
    """Return noise averaged over squares of 8, 4 and 2 pixels, stretched to the whole range."""
    total = np.zeros((colours, height, width), np.int64)
    for octave, cell in enumerate((8, 4, 2)):
        part = random[octave * colours * height * width :][: colours * height * width].reshape(total.shape)
        y, x = np.arange(height) // cell, np.arange(width) // cell
        total += part[:, y[:, None], x] * cell
    return _stretch(_smooth(_smooth(total)))


def _smooth(image: np.ndarray) -> np.ndarray:
    """Return the sum of each pixel's 3x3 square, the edge repeated."""
    padded = np.pad(image, [(0, 0), (1, 1), (1, 1)], mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]


def _stretch(image: np.ndarray) -> np.ndarray:
    low = image.min(axis=(1, 2), keepdims=True)
    span = np.maximum(image.max(axis=(1, 2), keepdims=True) - low, 1)
    return ((image - low) * 255 // span).astype(np.uint8)


def _gradients(random: np.ndarray, colours: int, height: int, width: int) -> np.ndarray:
    """Return a slope in a direction of its own for each colour."""
    slope = random[: 2 * colours].reshape(2, colours, 1, 1) - 128
    return _stretch(slope[0] * np.arange(height)[:, None] + slope[1] * np.arange(width))


def _checkers(random: np.ndarray, colours: int, height: int, width: int) -> np.ndarray:
    """Return squares of 1 to 8 pixels in two colours."""
    cell = 1 << (random[0] >> 6)
    odd = (np.arange(height)[:, None] // cell + np.arange(width) // cell) % 2
    pair = random[1 : 1 + 2 * colours].reshape(2, colours, 1, 1)
    return np.where(odd == 1, pair[0], pair[1]).astype(np.uint8)


def _blobs(random: np.ndarray, colours: int, height: int, width: int) -> np.ndarray:
    """Return eight discs of one colour each on a ground of one colour."""
    y, x = np.arange(height)[:, None], np.arange(width)
    image = np.broadcast_to(random[:colours].reshape(colours, 1, 1), (colours, height, width)).copy()
    for disc in random[16 : 16 + 8 * 16].reshape(8, 16):
        centre_y, centre_x, radius = disc[0] % height, disc[1] % width, 2 + disc[2] % (max(height, width) // 4 + 1)
        inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 <= radius**2
        image = np.where(inside, np.resize(disc[3:], (colours, 1, 1)), image)
    return image.astype(np.uint8)
