"""The quantized network in Flax NNX: the model that is trained, and the float twin of the integer network."""

from factory.model.convert import create_model as create_model
from factory.model.convert import from_trained as from_trained
from factory.model.convert import to_tensors as to_tensors
from factory.model.convert import transfer as transfer
from factory.model.modules import QuantNetwork as QuantNetwork
from factory.model.modules import layer_forward as layer_forward
from factory.model.modules import logits as logits
from factory.model.modules import predict as predict
from factory.model.modules import real_maps as real_maps
