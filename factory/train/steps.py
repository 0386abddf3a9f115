"""The steps of training: which images each takes and how they are cut, the loss, the update, and the evaluation.

All are pure functions of a seed, an epoch and an image, or of a model and an optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float32, Int32, Integer, PyTree, UInt8

from factory.model import QuantNetwork
from factory.train.config import TrainConfig

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


class Totals(NamedTuple):
    """Sums over images: of the loss, of the right predictions, and of the images themselves."""

    loss: Float32[Array, ""]
    correct: Int32[Array, ""]
    images: Int32[Array, ""]

    @classmethod
    def zero(cls) -> Totals:
        """Return the sums over no images."""
        return cls(jnp.float32(0), jnp.int32(0), jnp.int32(0))


def learning_rate(config: TrainConfig, steps: int) -> Callable[[Int32[Array, ""] | int], Float32[Array, ""]]:
    """Return the rate as a function of the number of steps done; an epoch has `steps` of them."""

    def step_rate(done: Int32[Array, ""] | int) -> Float32[Array, ""]:
        drops = jnp.asarray([epoch * steps for epoch in config.milestones], jnp.int32)
        return config.lr * jnp.float32(0.1) ** (done >= drops).sum().astype(jnp.float32)

    def cosine_rate(done: Int32[Array, ""] | int) -> Float32[Array, ""]:
        return config.lr * 0.5 * (1.0 + jnp.cos(jnp.float32(done) * (jnp.pi / (config.epochs * steps))))

    return cosine_rate if config.schedule == "cosine" else step_rate


def make_optimizer(model: QuantNetwork, config: TrainConfig, steps: int) -> nnx.Optimizer:
    """Return SGD with momentum; only weights decay, not the alphas, the batch norms or the bias."""
    return nnx.Optimizer(model, _rule(config, steps), wrt=nnx.Param)


@lru_cache  # the rule is part of what a step is compiled for
def _rule(config: TrainConfig, steps: int) -> optax.GradientTransformation:
    def is_weight(params: PyTree[Array]) -> PyTree[bool]:
        return jax.tree.map(lambda value: value.ndim > 1, params)

    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=is_weight),
        optax.sgd(learning_rate(config, steps), momentum=config.momentum),
    )


def loss_fn(
    model: QuantNetwork, pixels: UInt8[Array, "image colour y x"], labels: Int32[Array, " image"], config: TrainConfig
) -> tuple[Float32[Array, ""], Float32[Array, "image classes"]]:
    """Return the mean cross entropy against smoothed labels, and the logits, in training mode."""
    logits = model(pixels, train=True, dtype=jnp.dtype(config.dtype))
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[1]), config.label_smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean(), logits


@partial(nnx.jit, static_argnames="config")
def train_step(
    model: QuantNetwork,
    optimizer: nnx.Optimizer,
    totals: Totals,
    pixels: UInt8[Array, "image colour y x"],
    labels: Int32[Array, " image"],
    config: TrainConfig,
) -> Totals:
    """Move the model one step down its loss on a batch; return the totals with the batch added."""
    (loss, logits), gradients = nnx.value_and_grad(loss_fn, has_aux=True)(model, pixels, labels, config)
    optimizer.update(model, gradients)
    count = labels.shape[0]
    correct = (logits.argmax(axis=1) == labels).sum(dtype=jnp.int32)
    return Totals(totals.loss + loss * count, totals.correct + correct, totals.images + count)


@nnx.jit
def eval_step(
    model: QuantNetwork,
    totals: Totals,
    pixels: UInt8[Array, "image colour y x"],
    labels: Int32[Array, " image"],
    valid: Bool[Array, " image"],
) -> Totals:
    """Return the totals with the `valid` images of a batch added, in evaluation mode."""
    logits = model(pixels)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(axis=1) == labels) & valid
    return Totals(
        totals.loss + jnp.where(valid, loss, 0.0).sum(),
        totals.correct + correct.sum(dtype=jnp.int32),
        totals.images + valid.sum(dtype=jnp.int32),
    )
