"""How long the diagnosis of a dump takes: psums of a layer, 10 MB of text, with faults that are named and noise."""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from factory.build import build
from factory.diagnose import diagnose
from factory.export import export

FAULTS = {
    "right": lambda words: words,
    "lanes reversed": lambda words: words[:, ::-1],
    "late by 2": lambda words: np.roll(words, 2, axis=0),
    "stuck bit": lambda words: words | 16,
    "random": lambda words: words ^ 1 << np.random.default_rng(0).integers(0, 16, words.shape),
}


def main() -> None:
    """Print a line for each fault: the dump's size, the seconds, the peak of the memory, what is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", default="hex", choices=("bin", "hex"))
    radix = parser.parse_args().format
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = build(folder / "store.h5", layers="features.3")
        tiles = "it=0:4,ot=0:8" if radix == "hex" else "it=0:1,ot=0:8"
        options = dict(layers="features.3", tiles=tiles, format=radix, files="layer", include="activation,weight,psum")
        export(store, folder / "x", **options)
        (path,) = (folder / "x").rglob("psum*")
        base, width = (16, 4) if radix == "hex" else (2, 16)
        lines = path.read_text().split()
        words = np.array([[int(line[at : at + width], base) for at in range(0, len(line), width)] for line in lines])
        for fault, change in FAULTS.items():
            dump = folder / "given.txt"
            digits = "04x" if base == 16 else "016b"
            text = ("".join(format(lane, digits) for lane in word) for word in change(words).tolist())
            dump.write_text("".join(f"{line}\n" for line in text))
            begun, worked = time.perf_counter(), time.process_time()
            found = diagnose(folder / "x", [dump], role="psum")
            took, worked = time.perf_counter() - begun, time.process_time() - worked
            named = found.causes[0].name if found.causes else "right" if found.passes else "unknown"
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            size = dump.stat().st_size / 1e6
            print(f"{fault:<16} {size:5.1f} MB  {took:5.1f} s ({worked:.1f} s of CPU)  {peak} MiB  {named}")


if __name__ == "__main__":
    main()
