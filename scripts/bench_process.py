"""What whole processes need: the most memory of builds, and the time of commands."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench_figure import Figure, best_seconds, growth, limit
from bench_store import noise

_PEAK = """
import json, resource, sys
from pathlib import Path
from factory.build import build
output, options = sys.argv[1:]
build(output, **json.loads(options))
status = Path("/proc/self/status")  # the peak that getrusage gives is the parent's where that is larger
lines = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.exists() else {}
print(lines["VmHWM"].split()[0] if lines else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def memory_figures(folder: Path, cases: Mapping[int, str]) -> list[Figure]:
    """Return the most memory of builds of noise: `cases` maps a number of images to the layers."""
    images, store, figures, sizes = noise(folder, max(cases)), folder / "peak.h5", [], []
    for count, layers in cases.items():
        options = json.dumps(dict(images=str(images), pick=f"0:{count}", layers=layers))
        done = subprocess.run([sys.executable, "-c", _PEAK, str(store), options], capture_output=True, check=True)
        name = f"peak memory of a build: {count} images, layers {layers}, {store.stat().st_size / 1e9:.2f} GB"
        figures.append(limit(name, int(done.stdout) / 1024, 2048, "MiB"))
        sizes.append(store.stat().st_size)
        store.unlink()
    if len(set(cases.values())) == 1 < len(cases):
        peaks = [figure.measured for figure in figures]
        figures.append(growth(f"of the peak memory with images, {min(cases)} to {max(cases)}", [*cases], peaks, sizes))
    return figures


def command_seconds(rounds: int, *arguments: str, **environment: str) -> float:
    """Return the fewest seconds that a `factory` command takes, in an environment that `environment` is added to."""

    def run() -> None:
        command = [sys.executable, "-m", "factory", *arguments]
        subprocess.run(command, capture_output=True, check=True, env=os.environ | environment)

    return best_seconds(rounds, dict(run=run))["run"]


def start_figures(folder: Path, store: Path, rounds: int) -> list[Figure]:
    """Return how long commands take from start to end; `store` holds the whole network."""
    python = best_seconds(rounds, dict(run=lambda: subprocess.run([sys.executable, "-c", "import numpy"], check=True)))
    target = str(folder / "start")
    seconds = {
        layer: command_seconds(
            rounds, "export", str(store), "--dataflow", "ws", "--layers", layer, "-o", target, "--force"
        )
        for layer in ("features.27", "features.3")
    }
    return [
        limit("factory --help", command_seconds(rounds, "--help"), 0.4, "s"),
        *(limit(f"factory export of {layer} from a store", taken, 1.5, "s") for layer, taken in seconds.items()),
        Figure("factory --help", command_seconds(rounds, "--help"), python["run"], "s", 'python -c "import numpy"'),
    ]


def cold_figures(folder: Path) -> list[Figure]:
    """Return how long `factory build` of one image takes with and without functions compiled by an earlier command."""
    arguments = "build", "--output", str(folder / "cold.h5"), "--force"
    cached = dict(FACTORY_HOME=str(folder / "home"), JAX_ENABLE_COMPILATION_CACHE="1")
    (folder / "home").mkdir()
    filling = command_seconds(1, *arguments, **cached)
    figures = [
        Figure("factory build of one image, compiled before", command_seconds(2, *arguments, **cached), filling, "s",
               "the first such command, which compiles"),
    ]  # fmt: skip
    (folder / "cold.h5").unlink()
    return figures
