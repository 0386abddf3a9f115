"""Everything that is promised about speed and memory, each figure beside its reference of the same run."""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
from bench_engine import engine_figures, growth_figures
from bench_export import export_rows
from bench_figure import Figure, table
from bench_process import cold_figures, memory_figures, start_figures
from bench_store import build_figures, compression_figures, read_figures

from factory.build import build
from factory.checkpoint import load_weights
from factory.engine import prepare
from factory.images import load_images
from factory.lower import lower
from factory.store import open_store


def figures(folder: Path, quick: bool) -> Iterator[tuple[str, list[Figure]]]:
    """Yield a title and its figures, measured in `folder`; `quick` takes less than a minute."""
    trained = load_weights()
    pixels = load_images("samples", network=trained.network).batch(0, 1).pixels
    engine = prepare(lower(trained))
    yield "Engine", engine_figures(engine, pixels, 20 if quick else 100)
    yield "Growth", growth_figures(5 if quick else 30)
    yield "Build", build_figures(folder, trained, *((4, 2) if quick else (16, 4)))
    yield "Read", read_figures(folder, trained, *((2, 2) if quick else (16, 4)))
    store = build(folder / "export.h5", trained)
    with open_store(store) as opened:
        yield "Export", [Figure(**vars(row)) for row in export_rows(opened, folder, quick)]
    yield "Start", start_figures(folder, store, 2 if quick else 5)
    store.unlink()
    yield "Memory", memory_figures(folder, {2: "squeezed"} if quick else {1: "all", 16: "all", 256: "features.14"})
    if not quick:
        yield "Compression", compression_figures(folder, trained)
        yield "Cold start", cold_figures(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--dir", type=Path, help="the disk to measure; default: the system's temporary directory")
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
