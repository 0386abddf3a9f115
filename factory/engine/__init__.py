"""The engine: every code, psum and accumulator of an integer network, exact, for batches of images at once (JAX)."""

from factory.engine.forward import LayerValues as LayerValues
from factory.engine.forward import forward as forward
from factory.engine.forward import input_codes as input_codes
from factory.engine.forward import logits as logits
from factory.engine.forward import needed_layers as needed_layers
from factory.engine.forward import outputs as outputs
from factory.engine.forward import results_digest as results_digest
from factory.engine.forward import shard_images as shard_images
from factory.engine.forward import stream_logits as stream_logits
from factory.engine.layer import activation_tiles as activation_tiles
from factory.engine.layer import convolve as convolve
from factory.engine.layer import layer_psums as layer_psums
from factory.engine.layer import next_codes as next_codes
from factory.engine.layer import selected_psums as selected_psums
from factory.engine.parameters import Arithmetic as Arithmetic
from factory.engine.parameters import EngineLayer as EngineLayer
from factory.engine.parameters import EngineNetwork as EngineNetwork
from factory.engine.parameters import prepare as prepare
from factory.engine.parameters import prepare_layer as prepare_layer
from factory.engine.parameters import prepare_tiled as prepare_tiled
from factory.engine.streams import add_stream as add_stream
from factory.engine.streams import layer_term as layer_term
from factory.engine.streams import stem_term as stem_term
from factory.engine.streams import stream_codes as stream_codes
