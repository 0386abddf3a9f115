"""The order of the images and their random crops and flips: pure functions of seed, epoch and image."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Integer, UInt8

PADDING = 4


def epoch_order(seed: int, epoch: int, count: int, batch: int) -> Integer[np.ndarray, "step image"]:
    """Return which images each step of an epoch takes; those that do not fill a last batch wait for another epoch."""
    steps = count // batch
    return np.random.default_rng((seed, epoch)).permutation(count)[: steps * batch].reshape(steps, batch)


@partial(jax.jit, static_argnames="padding")
def augment(
    pixels: UInt8[Array, "image colour y x"],
    index: Int32[Array, " image"],
    seed: Int32[Array, ""],
    epoch: Int32[Array, ""],
    padding: int = PADDING,
) -> UInt8[Array, "image colour y x"]:
    """Return each image cropped at random out of itself with a black edge of `padding` pixels, and flipped or not.

    `index` names the images: the same image in the same epoch is cut the same way, whatever batch it is in.
    """
    key = jax.random.fold_in(jax.random.key(seed), epoch)

    def cut(image: Array, place: Array) -> Array:
        corner, flip = jax.random.split(jax.random.fold_in(key, place))
        y, x = jax.random.randint(corner, (2,), 0, 2 * padding + 1)
        padded = jnp.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        crop = jax.lax.dynamic_slice(padded, (jnp.int32(0), y, x), image.shape)
        return jnp.where(jax.random.bernoulli(flip), crop[:, :, ::-1], crop)

    return jax.vmap(cut)(pixels, index)
