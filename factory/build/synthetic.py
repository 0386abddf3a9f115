"""Synthetic stores: corner cases and seeded random codes, with their psums and accumulators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from factory.build.codes import store_codes
from factory.coverage import Coverage, read_coverage
from factory.coverage.missing import missing_network
from factory.spec import ConvLayer, Progress, SystolicArray
from factory.synthetic import Draw, base_layer, corner_network, random_network


def corners(
    output: str | Path,
    array: SystolicArray | None = None,
    spec: ConvLayer | None = None,
    random: Draw | None = None,
    compression: str | None = None,
    keep: str = "psums",
    force: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
    missing: Coverage | str | Path | None = None,
    **given: object,
) -> Path:
    """Write a store of corner cases, or of what `random` draws, for an array (8 x 8 by default); return its path.

    Layers are weight patterns, images are activation patterns, so that all pairs are there. `spec` is the geometry, the
    bits and the sign of the layers; None: `base_layer` with the fields `given`, such as `activation_bits=8`. `say` is
    called with a line for each corner case that the array or the codes cannot have. The other parameters are those of
    `build`. `missing` is a coverage, or the JSON file that has it: then the store has the corner cases that hit what is
    missing there, on its array and in its bits. Raise InputError where a parameter is not what it must be, or the store
    cannot be written.
    """
    if missing is not None:
        coverage = missing if isinstance(missing, Coverage) else read_coverage(Path(missing))
        array, network = coverage.array, missing_network(coverage)
    else:
        array = array or SystolicArray()
        spec = base_layer(array, **given) if spec is None else spec
        network = corner_network(array, spec) if random is None else random_network(random, array, spec)
    path = store_codes(network, output, "synthetic", array, compression, keep, force, progress=progress)
    for line in network.remarks:
        if say:
            say(line)
    return path
