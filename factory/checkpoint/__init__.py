"""Trained weights as files: the notebook's torch checkpoints (read), and safetensors files (written and read)."""

from factory.checkpoint.notebook import import_checkpoint as import_checkpoint
from factory.checkpoint.notebook import import_float_weights as import_float_weights
from factory.checkpoint.weights import default_weights as default_weights
from factory.checkpoint.weights import load_weights as load_weights
from factory.checkpoint.weights import save_weights as save_weights
from factory.checkpoint.weights import shipped_weights as shipped_weights
from factory.checkpoint.weights import trained_network as trained_network
