"""Real outputs recovered from accumulators, against the Flax float model fed the same codes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from factory.spec import ComparisonError, TrainedLayer, TrainedNetwork
from factory.store import Store, StoredLayer
from factory.verify import plain
from factory.verify.result import Recovered
from factory.verify.sample import Sample

LIMIT = 1e-5
BATCH = 16


def recover_layers(store: Store, trained: TrainedNetwork, chosen: Sample) -> tuple[Recovered, ...]:
    """Compare every stored layer's real outputs over the images that were chosen of it.

    Recovered outputs are the accumulators times both steps, then batch norm and ReLU, as the notebook's. Raise
    ComparisonError where one is further than `LIMIT` of the layer's largest output from the float model's.
    """
    from factory.model import from_trained, layer_forward

    model, found = from_trained(trained), []
    for name, layer in store.layers.items():
        images = chosen.images_of(name)
        if images.size:
            forward = functools.partial(layer_forward, model, name)
            found.append(_measure(layer, trained.layers[name], images, forward))
            _require_close(store.path, found[-1])
    return tuple(found)


def _measure(
    layer: StoredLayer,
    known: TrainedLayer,
    images: Int64[np.ndarray, " image"],
    forward: Callable[[np.ndarray], np.ndarray],
) -> Recovered:
    values, largest, most, total = 0, 0.0, 0.0, 0.0
    for batch in np.split(images, range(BATCH, images.size, BATCH)):
        floating = forward(layer.activation[batch].astype(np.float32) * known.activation_scale)
        recovered = plain.real_outputs(layer.accumulator[batch].swapaxes(0, 1), known).swapaxes(0, 1)
        difference = np.abs(recovered.astype(np.float64) - floating)
        values, total = values + difference.size, total + float(difference.sum())
        largest, most = max(largest, float(floating.max())), float(np.maximum(most, difference.max()))
    scale = largest or 1.0  # a layer that gives nothing but zeros
    return Recovered(known.spec.name, values, largest, most / scale, total / values / scale)


def _require_close(path: Path, found: Recovered) -> None:
    if not found.max_error <= LIMIT:  # NaN is not close
        raise ComparisonError(
            f"{path}: {found.layer}: recovered outputs must be within {LIMIT} of the float model's, "
            f"relative to its largest, {found.largest:.6g}, not {found.max_error:.1e}"
        )
