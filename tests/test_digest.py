"""The same bits on whatever machine: one digest, whatever the batch, the devices, the arithmetic, jitted or not."""

import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers_network import integer_network, odd_network, random_pixels, tiny_network
from helpers_twin import twin_accumulators, twin_next_codes, twin_psums

from factory.checkpoint import load_weights
from factory.engine import prepare, results_digest
from factory.images import load_images
from factory.lower import lower
from factory.spec import SystolicArray

SHIPPED = "69435b20ebefb2adbb506c7f64efd94f51ed675e2d6651b7e474f4739b1d6f20"
COUNT = 64


@functools.cache
def digest(batch: int, arithmetic="fastest") -> str:
    pixels = random_pixels(odd_network(), COUNT)
    engine = prepare(integer_network(odd_network()), SystolicArray(4, 8), arithmetic)
    sums = dict(fastest="int16").get(arithmetic, arithmetic)
    assert {layer.row_weight.dtype for layer in engine.layers.values()} == {np.dtype(sums)}
    return results_digest(engine, [pixels[first : first + batch] for first in range(0, COUNT, batch)])


@pytest.mark.parametrize("batch", [3, 64])
def test_batches_do_not_matter(batch):
    assert digest(batch) == digest(1)


@pytest.mark.parametrize("arithmetic", ["float32", "int32"])
def test_arithmetic_does_not_matter(arithmetic):
    assert digest(64, arithmetic) == digest(64)


def test_jit_does_not_matter():
    engine, pixels = prepare(integer_network(tiny_network())), random_pixels(tiny_network(), 2)
    jitted = results_digest(engine, [pixels])
    with jax.disable_jit():
        assert results_digest(engine, [pixels]) == jitted


TWO_DEVICES = """
import sys
sys.path[:0] = sys.argv[1:]
import jax
from test_digest import digest
from factory.engine import forward, layer_psums, prepare, shard_images
from helpers_network import *
pixels = shard_images(random_pixels(odd_network(), 4))
for values in forward(prepare(integer_network(odd_network())), pixels):
    for array in (values.activation, values.accumulator, layer_psums(values.layer, values.activation)):
        assert [shard.data.shape[0] for shard in array.addressable_shards] == [2, 2], array.sharding
print(digest(64))
"""


def test_devices_do_not_matter():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    arguments = [sys.executable, "-c", TWO_DEVICES, str(Path(__file__).parent), str(Path.cwd())]
    found = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert (found.stdout.strip(), found.stderr) == (digest(1), "")


def test_digest_is_that_of_the_plain_loops():
    integer, pixels = integer_network(tiny_network()), random_pixels(tiny_network(), 3)
    codes = [np.stack([integer.input_table[c][image[c]] for c in range(3)]) for image in pixels]
    whole = hashlib.sha256()
    for name, layer in integer.layers.items():
        dtype, sums, part = "<i1" if layer.spec.signed else "<u1", [], hashlib.sha256()
        for image in codes:
            psum, accumulator = twin_psums(layer, SystolicArray(), image), twin_accumulators(layer, image)
            for array, kind in ((image, dtype), (psum, "<i2"), (accumulator, "<i4")):
                part.update(array.astype(kind).tobytes())
            sums.append(accumulator)
        whole.update(part.digest())
        codes = [twin_next_codes(layer, x) for x in sums] if name != integer.network.last.name else []
    assert results_digest(prepare(integer), [pixels[:2], pixels[2:]]) == whole.hexdigest()


@pytest.mark.slow
def test_shipped_weights_on_the_samples():
    """A known answer: it changes only when the weights, the samples or the meaning of the vectors change."""
    trained = load_weights()
    source = load_images("samples", network=trained.network)
    digest = results_digest(prepare(lower(trained)), (images.pixels for images in source.batches(4)))
    assert digest == SHIPPED
