"""One step of training and one of evaluation, as functions of a model and an optimizer."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float32, Int32, UInt8

from factory.model import QuantNetwork
from factory.train.config import TrainConfig


@partial(jax.tree_util.register_dataclass, data_fields=["loss", "correct", "images"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Totals:
    """Sums over images: of the loss, of the right predictions, and of the images themselves."""

    loss: Float32[Array, ""]
    correct: Int32[Array, ""]
    images: Int32[Array, ""]

    @classmethod
    def zero(cls) -> Totals:
        """Return the sums over no images."""
        return cls(jnp.float32(0), jnp.int32(0), jnp.int32(0))


def learning_rate(config: TrainConfig, steps: int) -> optax.Schedule:
    """Return the rate as a function of the number of steps done; an epoch has `steps` of them."""
    if config.schedule == "cosine":
        return optax.cosine_decay_schedule(config.lr, config.epochs * steps)
    return optax.piecewise_constant_schedule(config.lr, {epoch * steps: 0.1 for epoch in config.milestones})


def make_optimizer(model: QuantNetwork, config: TrainConfig, steps: int) -> nnx.Optimizer:
    """Return SGD with momentum; only weights decay, not the alphas, the batch norms or the bias."""

    def is_weight(params: nnx.State) -> nnx.State:
        return jax.tree.map(lambda value: value.ndim > 1, params)

    rule = optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=is_weight),
        optax.sgd(learning_rate(config, steps), momentum=config.momentum),
    )
    return nnx.Optimizer(model, rule, wrt=nnx.Param)


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
