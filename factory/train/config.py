"""What a training run is given, checked when it is made, and what it reports."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from factory.spec import InputError, check_range

SCHEDULES = ("step", "cosine")
DTYPES = ("float32", "bfloat16")
MOST_SEED = 2**31 - 1


@dataclass(frozen=True)
class TrainConfig:
    """All that decides the weights that come out.

    `network` is a network's name or TOML file. `data` is an image source with the splits `train` and `test`. `init` is
    a torch checkpoint or a weights file to start from; None starts from random weights. With `transfer` it may be of
    another network: the layers that fit start from it, the others from random weights. The rate is `lr`, times 0.1 at
    each epoch of `milestones` (schedule `step`, the notebook's), or falls to 0 along a half `cosine` over all epochs.
    `weight_decay` applies to the weights of convolutions and classifier only. `dtype` is that of the convolutions'
    products. A checkpoint is written after each epoch and, where `checkpoint_steps` is not 0, every so many steps.
    """

    network: str
    data: str
    epochs: int
    batch: int = 128
    lr: float = 0.1
    schedule: str = "step"
    milestones: tuple[int, ...] = (150, 225)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    dtype: str = "float32"
    seed: int = 0
    init: str | None = None
    transfer: bool = False
    checkpoint_steps: int = 0

    def __post_init__(self):
        for field, low in dict(epochs=1, batch=2, checkpoint_steps=0).items():
            if getattr(self, field) < low:
                raise InputError(f"{field} must be at least {low}, not {getattr(self, field)}")
        check_range("seed", self.seed, 0, MOST_SEED)
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"lr must be finite and more than 0, not {self.lr}")
        for field, high in dict(momentum=1, label_smoothing=1, weight_decay=math.inf).items():
            if not 0 <= getattr(self, field) < high:
                raise InputError(f"{field} must be at least 0 and less than {high}, not {getattr(self, field)}")
        if self.transfer and self.init is None:
            raise InputError("transfer needs weights to start from: init must be given")
        for field, choices in dict(schedule=SCHEDULES, dtype=DTYPES).items():
            if getattr(self, field) not in choices:
                raise InputError(f"{field} must be one of {' '.join(choices)}, not {getattr(self, field)}")


@dataclass(frozen=True)
class StepResult:
    """Where a run is: `step` of `steps` of an epoch are done; loss and accuracy are means over the epoch so far.

    Epochs count from 0, as in the notebook.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class EpochResult:
    """One line of the curve. The test figures are those of the weight codes, as they would be written to a file."""

    epoch: int
    lr: float
    loss: float
    accuracy: float
    test_loss: float
    test_accuracy: float
    images_per_second: float


@dataclass(frozen=True)
class TrainResult:
    """What a run has come to: its curve, the best of its epochs, and the weights file of that one."""

    curve: tuple[EpochResult, ...]
    best: EpochResult
    weights: Path


@dataclass(frozen=True)
class Transfer:
    """Which layers (and `classifier`) of a network start from the weights in `source`, and which anew."""

    source: str
    taken: tuple[str, ...]
    anew: tuple[str, ...]


Report = Callable[[StepResult | EpochResult | Transfer], None]
