"""Quantization-aware training: its configuration, its steps, its data order, its checkpoints."""

from factory.train.checkpoints import Checkpoints as Checkpoints
from factory.train.config import TrainConfig as TrainConfig
from factory.train.data import augment as augment
from factory.train.data import epoch_order as epoch_order
from factory.train.steps import Totals as Totals
from factory.train.steps import eval_step as eval_step
from factory.train.steps import learning_rate as learning_rate
from factory.train.steps import loss_fn as loss_fn
from factory.train.steps import make_optimizer as make_optimizer
from factory.train.steps import train_step as train_step
