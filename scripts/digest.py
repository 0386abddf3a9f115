"""Digest of all codes, psums and accumulators of a network on a set of images, on whatever device JAX finds.

Without arguments: the shipped weights on the samples, whose digest is a known answer in the tests.
"""

import argparse
import contextlib
import typing

import jax

from factory.checkpoint import load_weights
from factory.engine import Arithmetic, prepare, results_digest
from factory.images import load_images
from factory.lower import lower
from factory.spec import SystolicArray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="default: the shipped ones")
    parser.add_argument("--images", default="samples")
    parser.add_argument("--pick", help="default: all")
    parser.add_argument("--batch", type=int, default=4, help="images computed at once")
    parser.add_argument("--arithmetic", choices=typing.get_args(Arithmetic), default="fastest")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--cols", type=int, default=8)
    parser.add_argument("--no-jit", action="store_true")
    options = parser.parse_args()
    trained = load_weights(options.weights)
    source = load_images(options.images, pick=options.pick, network=trained.network)
    engine = prepare(lower(trained), SystolicArray(options.rows, options.cols), options.arithmetic)
    with jax.disable_jit() if options.no_jit else contextlib.nullcontext():
        digest = results_digest(engine, (images.pixels for images in source.batches(options.batch)))
    devices = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    print(f"{digest}  {source.count} images, {len(jax.devices())} x {devices}, jax {jax.__version__}")


if __name__ == "__main__":
    main()
