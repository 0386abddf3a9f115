"""Quantization-aware training: its configuration, its steps, its folder, and the runs that fit a network."""

from factory.train.config import EpochResult as EpochResult
from factory.train.config import StepResult as StepResult
from factory.train.config import TrainConfig as TrainConfig
from factory.train.config import TrainResult as TrainResult
from factory.train.config import Transfer as Transfer
from factory.train.loop import fit as fit
from factory.train.run_folder import Checkpoints as Checkpoints
from factory.train.steps import Totals as Totals
from factory.train.steps import augment as augment
from factory.train.steps import epoch_order as epoch_order
from factory.train.steps import eval_step as eval_step
from factory.train.steps import learning_rate as learning_rate
from factory.train.steps import loss_fn as loss_fn
from factory.train.steps import make_optimizer as make_optimizer
from factory.train.steps import train_step as train_step
