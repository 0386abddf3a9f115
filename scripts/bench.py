"""Everything that is promised about speed and memory, each figure beside its reference of the same run.

Only ratios of one run say something: a machine that others use too changes from minute to minute. Tasks take turns and
the best time of each counts. The engine uses all cores, filling memory one: where other work runs, the engine loses
more. What was learnt on the way, on two cores (AVX-512, 32 MiB of shared cache, jax 0.10):

- Engine. Filling 96 MB of warm memory takes 3 ms, new memory 10 ms: its pages are made on first use. Psums took 8 ms;
  6.2 with their operands laid out before the loop (`factory/engine/layer.py`); 5.2 when they took the memory of psums
  that were done with; 5 when padding and tiling were no longer a call of their own; a single call for all layers gained
  2 % and was not worth the longer compilation. Layers under 1 MB cost what calling a compiled function costs, 50 us.
  Codes and accumulators took 16 ms, now 6: weights lie ready in the matrix product's type and order.
- Images go one at a time where the whole network is chosen: batches of four took as long an image or longer.
- Build. Computing an image takes 12 ms, copying it to the system 23 ms: the thread that writes is the bottleneck, and
  two layers may wait for it. What does not depend on the images took 0.85 s, half of it exact bounds, whose arrays of
  19 MB were made six times a layer; now 0.45 s, in parts that fit the caches. A build ends when its store lies on the
  disk; the disk works meanwhile, since another thread flushes what is written: 16 images took 1.25 s, and
  1.6 with one flush at the end. A `tofile` that only fills the system's cache is two to four times as fast.
- Layout. Uncompressed variables are contiguous, with the image outermost: a layer of a batch is one `pwrite`, a tile of
  one image one run, and a scan reads the file in its order. Compressed ones have chunks of whole inner axes of one
  image, up to 256 KiB. Of 12 MB psums of features.10 in lz4, with 64 KiB, 256 KiB, 1 MiB and 4 MiB: one tile of four
  images took 0.17, 0.44, 1.2 and 5.7 ms, a scan 1.6, 1.6, 1.9 and 1.7 GB/s, and the file 17.3, 15.3, 14.7 and 14.7 MB.
- Compiled functions are kept between commands (`factory/cli/cache.py`): 79 of them, 0.5 MB; a build of one image went
  from 9.4 s to 3.3 on a busy machine.
- The system's cache: a file is written several times faster where the memory of a removed one is free than where a
  virtual machine must first find some. So each file is removed before the next is written.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
from bench_dataset import dataset_figures
from bench_engine import engine_figures, growth_figures
from bench_export import export_rows
from bench_figure import Figure, add_folder_option, table
from bench_forms import form_figures
from bench_process import cold_figures, memory_figures, start_figures
from bench_store import build_figures, build_growth, compression_figures, lazy_figures, read_figures

from factory.build import build
from factory.checkpoint import load_weights
from factory.engine import forward, prepare
from factory.images import load_images
from factory.lower import lower
from factory.store import open_store

ROOM = 40e9
"""Bytes of disk that must be free for a store of the whole network and 256 images, 25 GB."""


def figures(folder: Path, quick: bool) -> Iterator[tuple[str, list[Figure]]]:
    """Yield a title and its figures, measured in `folder`; `quick` takes less than a minute."""
    trained = load_weights()
    pixels = load_images("samples", network=trained.network).batch(0, 1).pixels
    engine = prepare(lower(trained))
    yield "Engine", engine_figures(engine, pixels, 20 if quick else 100)
    if not quick:
        values = list(forward(engine, pixels))
        chosen = max(values, key=lambda x: x.activation.size), max(values, key=lambda x: x.layer.spec.in_channels)
        yield "Forms", form_figures(chosen, 30)
    yield "Growth", growth_figures(5 if quick else 30)
    for images, rounds in [(4, 2)] if quick else [(48, 3), (16, 3)]:
        yield f"Build, {images} images", build_figures(folder, trained, images, rounds)
    yield "Build, growth", [build_growth(folder, trained, (1, 2) if quick else (1, 4, 16), 1 if quick else 3)]
    if not quick:
        yield "Datasets", dataset_figures(folder, 128, 5)
    yield "Read", read_figures(folder, trained, *((2, 2) if quick else (16, 4)))
    yield "Psums from codes", lazy_figures(folder, trained, *((64, 2) if quick else (1000, 5)))
    store = build(folder / "export.h5", trained)
    with open_store(store) as opened:
        yield "Export", [Figure(**vars(row)) for row in export_rows(opened, folder, quick)]
    yield "Start", start_figures(folder, store, 2 if quick else 5)
    store.unlink()
    large = "all" if shutil.disk_usage(folder).free > ROOM else "features.14"
    yield "Memory", memory_figures(folder, {2: "squeezed"} if quick else {1: "all", 16: "all", 256: large})
    if not quick:
        yield "Compression", compression_figures(folder, trained)
        yield "Cold start", cold_figures(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add_folder_option(parser)
    parser.add_argument("--quick", action="store_true", help="less than a minute: fewer rounds and smaller stores")
    parser.add_argument("--json", action="store_true", help="records instead of tables")
    options = parser.parse_args()
    records = []
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        for title, found in figures(Path(folder), options.quick):
            if options.json:
                records += [dict(group=title) | figure.record() for figure in found]
            else:
                print(f"\n### {title}\n\n{table(found)}", flush=True)
    if options.json:
        print(json.dumps(dict(cores=os.cpu_count(), jax=jax.__version__, figures=records), indent=1))


if __name__ == "__main__":
    main()
