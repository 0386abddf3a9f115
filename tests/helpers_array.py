"""Random jobs for the reference array, and what must come out of it by plain loops in the hardware's own order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factory.testbench import Bench, Device, Job, Load, Stream, Walk, bench_files


@dataclass(frozen=True)
class Case:
    """A random convolution on an array.

    `os`: the output-stationary mode, `it` then counts input channels. `partial`: each `it` is a job of its own.
    """

    seed: int = 0
    os: bool = False
    rows: int = 3
    cols: int = 4
    simd: int = 1
    it: int = 2
    ot: int = 2
    kernel: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    height: int = 4
    width: int = 5
    act_bits: int = 4
    act_signed: bool = False
    weight_bits: int = 4
    psum_bits: int = 16
    acc_bits: int = 16
    saturate: bool = False
    post_op: str = "relu"
    partial: bool = False

    @property
    def kij_count(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def out_size(self) -> list[int]:
        sides = zip((self.height, self.width), self.kernel, self.dilation, self.stride, strict=True)
        return [(size - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel, dilation, stride in sides]


def _held(value: int, bits: int, saturate: bool) -> int:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if saturate:
        return min(max(value, low), high)
    return (value - low) % (1 << bits) + low


def _after(value: int, post_op: str) -> int:
    return value if value >= 0 or post_op == "none" else value >> 6 if post_op == "leaky" else 0


def _line(codes, bits: int) -> str:
    return "".join(format(int(code) % (1 << bits), f"0{bits}b") for code in reversed(codes)) + "\n"


def _codes(rng, shape, bits: int, signed: bool):
    low = -(1 << (bits - 1)) if signed else 0
    return rng.integers(low, low + (1 << bits), shape)


class Writer:
    """The file of one stream."""

    def __init__(self, bits: int):
        self.bits, self.lines = bits, []

    def write(self, words) -> int:
        """Add words `(line, lane)`; return the line of the first one."""
        self.lines += [_line(word, self.bits) for word in words]
        return len(self.lines) - len(words)


def write_case(folder: Path, case: Case) -> Bench:
    """Write the case's files and testbench into `folder`, and return the bench."""
    widths = {"act": case.act_bits, "weight": case.weight_bits, "psum": case.psum_bits,
              "partial": case.acc_bits, "acc": case.acc_bits, "out": case.acc_bits}  # fmt: skip
    writers = {name: Writer(bits) for name, bits in widths.items()}
    jobs = list((_os_jobs if case.os else _ws_jobs)(case, writers, np.random.default_rng(case.seed)))
    lanes = {"act": case.rows * case.simd, "weight": (case.cols if case.os else case.rows) * case.simd}
    streams = {
        name: Stream(
            line_bits=lanes.get(name, case.cols) * bits,
            field_bits=bits,
            lanes=tuple((0, bits * lane) for lane in range(lanes.get(name, case.cols))),
            depth=max(len(writers[name].lines), 1),
        )
        for name, bits in widths.items()
    }
    device = Device(
        case.rows, case.cols, case.simd, case.act_bits, case.act_signed, case.weight_bits, case.psum_bits,
        case.acc_bits, case.saturate, max(job.onij_count for job in jobs),
    )  # fmt: skip
    loads = []
    for name, writer in writers.items():
        (folder / f"{name}.txt").write_text("".join(writer.lines))
        loads.append(Load(name, (f"{name}.txt",), len(writer.lines)))
    bench = Bench(device, streams, (*loads, *jobs))
    for path, data in bench_files(bench).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return bench


def _ws_jobs(case: Case, writers, rng):
    """Weight-stationary: psums row by row down a column, accumulated over it (outer) and kij."""
    channels, kij_count = case.rows * case.simd, case.kij_count
    out_height, out_width = case.out_size
    nij_count, onij_count = case.height * case.width, out_height * out_width
    act = _codes(rng, (case.it, nij_count, channels), case.act_bits, case.act_signed)
    act_base = [writers["act"].write(tile) for tile in act][0]
    for ot in range(case.ot):
        weight = _codes(rng, (case.it, kij_count, case.cols, channels), case.weight_bits, True)
        weight_base = [writers["weight"].write(lines) for tile in weight for lines in tile][0]
        psum = np.zeros((case.it, kij_count, nij_count, case.cols), np.int64)
        acc = np.zeros((onij_count, case.cols), np.int64)
        for it, kij, nij, col in np.ndindex(psum.shape):
            value = 0
            for channel in range(channels):
                product = int(act[it, nij, channel]) * int(weight[it, kij, col, channel])
                value = _held(value + product, case.psum_bits, case.saturate)
            psum[it, kij, nij, col] = value
        partial = []
        for it in range(case.it):
            for kij, onij, col in np.ndindex(kij_count, onij_count, case.cols):
                (oi, oj), (ki, kj) = divmod(onij, out_width), divmod(kij, case.kernel[1])
                y = oi * case.stride[0] + ki * case.dilation[0]
                nij = y * case.width + oj * case.stride[1] + kj * case.dilation[1]
                acc[onij, col] = _held(int(acc[onij, col] + psum[it, kij, nij, col]), case.acc_bits, case.saturate)
            partial.append(writers["partial"].write(acc.copy()))
        psum_base = [writers["psum"].write(lines) for tile in psum for lines in tile][0]
        acc_base, out_base = writers["acc"].write(acc), _write_out(case, writers, acc)
        count = 1 if case.partial else case.it
        for it in range(0, case.it, count):
            lines, tile = nij_count * kij_count, case.cols * kij_count
            walks = {
                "act": Walk((count, kij_count, nij_count), act_base + it * nij_count, (nij_count, 0, 1)),
                "weight": Walk((count, kij_count, case.cols), weight_base + it * tile, (tile, case.cols, 1)),
                "psum": Walk((count, kij_count, nij_count), psum_base + it * lines, (lines, nij_count, 1)),
                "partial": Walk((1, 1, onij_count), partial[it + count - 1], (0, 0, 1)),
            }
            if it + count == case.it:
                walks["acc"] = Walk((1, 1, onij_count), acc_base, (0, 0, 1))
                walks["out"] = Walk((1, 1, onij_count), out_base, (0, 0, 1))
            yield Job("layer", 0, it, ot, 0, 0, it > 0, count, case.kernel, case.stride, case.dilation, case.width,
                      out_width, nij_count, nij_count, onij_count, case.post_op, walks)  # fmt: skip


def _os_jobs(case: Case, writers, rng):
    """Output-stationary: each element adds up its own output pixel and channel, one step a clock."""
    steps = case.it * case.kij_count
    for ot in range(case.ot):
        act = _codes(rng, (steps, case.rows * case.simd), case.act_bits, case.act_signed)
        weight = _codes(rng, (steps, case.cols * case.simd), case.weight_bits, True)
        acc = np.zeros((case.rows, case.cols), np.int64)
        for step, row, col, lane in np.ndindex(steps, case.rows, case.cols, case.simd):
            product = int(act[step, row * case.simd + lane]) * int(weight[step, col * case.simd + lane])
            acc[row, col] = _held(int(acc[row, col]) + product, case.psum_bits, case.saturate)
        for row, col in np.ndindex(acc.shape):
            acc[row, col] = _held(int(acc[row, col]), case.acc_bits, case.saturate)
        counts = (case.it, case.kij_count, 1)
        walks = {
            "act": Walk(counts, writers["act"].write(act), (case.kij_count, 1, 0)),
            "weight": Walk(counts, writers["weight"].write(weight), (case.kij_count, 1, 0)),
            "acc": Walk((1, 1, case.rows), writers["acc"].write(acc), (0, 0, 1)),
            "out": Walk((1, 1, case.rows), _write_out(case, writers, acc), (0, 0, 1)),
        }
        one = (1, 1)
        yield Job("layer", 0, 0, ot, 0, 1, False, 1, one, one, one, case.rows, case.rows, steps, case.rows, case.rows,
                  case.post_op, walks)  # fmt: skip


def _write_out(case: Case, writers, acc) -> int:
    return writers["out"].write(np.vectorize(lambda value: _after(int(value), case.post_op))(acc))
