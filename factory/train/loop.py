"""The loop of a training run: a configuration and a folder in, a curve, checkpoints and the best weights out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int32, UInt8

from factory.checkpoint import import_checkpoint, import_float_weights, load_weights, save_weights, trained_network
from factory.images import load_images
from factory.model import QuantNetwork, create_model, from_trained, to_tensors, transfer
from factory.spec import InputError, Network, load_network
from factory.train.config import EpochResult, Report, StepResult, TrainConfig, TrainResult, Transfer
from factory.train.run_folder import BEST, CHECKPOINTS, CURVE, Checkpoints, open_folder, read_curve, write_curve
from factory.train.steps import Totals, augment, epoch_order, eval_step, learning_rate, make_optimizer, train_step

REPORT_STEPS = 10


@dataclass(frozen=True)
class _Split:
    pixels: UInt8[np.ndarray, "image colour y x"]
    labels: Int32[np.ndarray, " image"]


@dataclass(frozen=True)
class _Run:
    """What does not change while a run goes on, but for the values inside model and optimizer."""

    config: TrainConfig
    folder: Path
    network: Network
    train: _Split
    test: _Split
    model: QuantNetwork
    optimizer: nnx.Optimizer
    steps: int
    checkpoints: Checkpoints
    report: Report


def fit(
    config: TrainConfig, folder: str | Path, *, resume: bool = False, report: Report = lambda record: None
) -> TrainResult:
    """Train, and keep in `folder`: `config.json`, `metrics.jsonl` (the curve), `checkpoints/`, `best.safetensors`.

    `report` is called with a Transfer where a run starts from another network's weights, with a StepResult every few
    steps and with an EpochResult after each epoch. With `resume` a run that was stopped anywhere goes on from its
    newest checkpoint (from the start, if it has none) and ends with the bits that it would have had, on the same
    machine (a GPU adds in a fixed order only under `XLA_FLAGS=--xla_gpu_deterministic_ops=true`). Raise InputError
    where the folder is not empty, or, with `resume`, where it holds no run or one of another configuration.
    """
    folder, network = Path(folder), load_network(config.network)
    train, test = (_load_split(config.data, split, network) for split in ("train", "test"))
    if (steps := len(train.labels) // config.batch) == 0:
        raise InputError(f"batch must be at most the {len(train.labels)} images of the train split, not {config.batch}")
    model, transferred = _initial_model(config, network)
    open_folder(folder, config, resume)
    with Checkpoints(folder / CHECKPOINTS) as checkpoints:
        optimizer = make_optimizer(model, config, steps)
        if transferred and checkpoints.newest is None:
            report(transferred)
        return _go_on(_Run(config, folder, network, train, test, model, optimizer, steps, checkpoints, report))


def _load_split(data: str, split: str, network: Network) -> _Split:
    source = load_images(data, split, network=network)
    images = source.batch(0, source.count)
    if not ((images.label >= 0) & (images.label < network.classes)).all():
        raise InputError(f"{data}: every image of the {split} split must have a label 0 to {network.classes - 1}")
    return _Split(images.pixels, images.label.astype(np.int32))


def _initial_model(config: TrainConfig, network: Network) -> tuple[QuantNetwork, Transfer | None]:
    if config.init is None:
        return create_model(network, config.seed), None
    theirs = "auto" if config.transfer else network
    if config.init.endswith(".safetensors"):
        trained, floats = load_weights(config.init), None
    else:
        trained, floats = import_checkpoint(config.init, theirs), import_float_weights(config.init, theirs)
    if config.transfer:
        model = create_model(network, config.seed)
        taken = transfer(from_trained(trained, floats, to_train=True), model)
        if not set(taken) - {"classifier"}:
            raise InputError(f"{config.init}: must have a layer that fits the network {config.network}, it has none")
        parts = [*model.layers, "classifier"]
        return model, Transfer(config.init, taken, tuple(name for name in parts if name not in taken))
    if trained.network != network:
        raise InputError(f"{config.init}: must be weights of the network {config.network}, not of another")
    return from_trained(trained, floats, to_train=True), None


def _go_on(run: _Run) -> TrainResult:
    totals = _restore(run)
    done = int(run.optimizer.step[...])
    curve = read_curve(run.folder / CURVE, done // run.steps)
    for epoch in range(done // run.steps, run.config.epochs):
        totals, speed = _train_epoch(run, epoch, totals)
        curve = [*curve, _end_epoch(run, epoch, totals, speed, curve)]
        totals = Totals.zero()
        _save(run, totals)
        run.report(curve[-1])
    return TrainResult(tuple(curve), _best(curve), run.folder / BEST)


def _train_epoch(run: _Run, epoch: int, totals: Totals) -> tuple[Totals, float]:
    """Take the steps of an epoch that are still to be taken; return its totals, and the images trained a second."""
    config = run.config
    order = epoch_order(config.seed, epoch, len(run.train.labels), config.batch)
    first = int(run.optimizer.step[...]) - epoch * run.steps
    start = time.perf_counter()
    speed = 0.0
    for step in range(first, run.steps):
        index = order[step]
        pixels = augment(
            jnp.asarray(run.train.pixels[index]),
            jnp.asarray(index, jnp.int32),
            jnp.int32(config.seed),
            jnp.int32(epoch),
        )
        labels = jnp.asarray(run.train.labels[index])
        totals = train_step(run.model, run.optimizer, totals, pixels, labels, config)
        taken, last = step + 1, step + 1 == run.steps
        if taken % REPORT_STEPS == 0 or last:
            loss, accuracy = _means(totals)
            speed = (taken - first) * config.batch / (time.perf_counter() - start)
            left = ((config.epochs - epoch) * run.steps - taken) * config.batch / speed
            run.report(StepResult(epoch, config.epochs, taken, run.steps, loss, accuracy, speed, left))
        if config.checkpoint_steps and taken % config.checkpoint_steps == 0 and not last:
            _save(run, totals)
    return totals, speed


def _end_epoch(run: _Run, epoch: int, totals: Totals, speed: float, curve: list[EpochResult]) -> EpochResult:
    """Evaluate the weight codes, write the curve, and write the codes too where they are the best so far."""
    trained = trained_network(run.network, to_tensors(run.model))
    loss, accuracy = _means(totals)
    test_loss, test_accuracy = _means(_evaluate(from_trained(trained), run.test, run.config.batch))
    lr = float(learning_rate(run.config, run.steps)(epoch * run.steps))
    result = EpochResult(epoch, lr, loss, accuracy, test_loss, test_accuracy, speed)
    write_curve(run.folder / CURVE, [*curve, result])
    if _best([*curve, result]) is result:
        save_weights(trained, run.folder / BEST)
    return result


def _evaluate(model: QuantNetwork, split: _Split, batch: int) -> Totals:
    totals = Totals.zero()
    for start in range(0, len(split.labels), batch):
        index = np.arange(start, start + batch)
        valid = index < len(split.labels)
        index = np.where(valid, index, 0)  # one shape, compiled once
        values = (jnp.asarray(array) for array in (split.pixels[index], split.labels[index], valid))
        totals = eval_step(model, totals, *values)
    return totals


def _means(totals: Totals) -> tuple[float, float]:
    """Return mean loss and accuracy; raise InputError where the loss has left the numbers."""
    images = int(totals.images)
    loss = float(totals.loss) / images
    if not math.isfinite(loss):
        raise InputError(f"the loss must stay finite, it is {loss}: a smaller lr may help")
    return loss, int(totals.correct) / images


def _best(curve: list[EpochResult]) -> EpochResult:
    return max(curve, key=lambda line: line.test_accuracy)  # the first, where several are equal


def _tree(run: _Run, totals: Totals) -> dict[str, Any]:
    states = {"model": nnx.state(run.model), "optimizer": nnx.state(run.optimizer)}
    return {name: nnx.to_pure_dict(state) for name, state in states.items()} | {"totals": totals}


def _save(run: _Run, totals: Totals) -> None:
    run.checkpoints.save(int(run.optimizer.step[...]), _tree(run, totals))


def _restore(run: _Run) -> Totals:
    """Put the newest checkpoint's values into model and optimizer; return its totals (no checkpoint: none)."""
    tree = run.checkpoints.restore(_tree(run, Totals.zero()))
    if tree is None:
        return Totals.zero()
    for name, node in (("model", run.model), ("optimizer", run.optimizer)):
        state = nnx.state(node)
        nnx.replace_by_pure_dict(state, tree[name])
        nnx.update(node, state)
    return tree["totals"]
