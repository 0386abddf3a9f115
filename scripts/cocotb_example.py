#!/usr/bin/env python
"""Drive the reference array from cocotb 2 with an export's words, and compare all that comes out.

    factory export store.h5 -o ws --include activation,weight,psum,out
    scripts/cocotb_example ws

An export of `west,north,south` drives the array that has no control of its own.

The file is both the command, which compiles the array with Icarus, and the test that the simulator loads.
"""

import os
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from cocotb_tools.runner import get_results, get_runner

from factory.cocotb import Scoreboard, Vectors
from factory.spec import FactoryError

CLOCKS_AT_REST = 50


async def feed(dut, stream, words, coin):
    """Offer words one after the other; each moves in the clock in which valid and ready are 1."""
    valid, ready, data = (getattr(dut, f"{stream}{part}") for part in ("_valid", "_ready", ""))
    for word in words:
        while coin.random() < 0.25:
            await RisingEdge(dut.clk)
        valid.value, data.value = 1, word
        await RisingEdge(dut.clk)
        while ready.value != 1:
            await RisingEdge(dut.clk)
        valid.value = 0


async def drain(dut, stream, ports, board, coin):
    """Take words for ever, and compare each; `ports` are the streams that move together and their ports."""
    valid, ready = getattr(dut, f"{stream}_valid"), getattr(dut, f"{stream}_ready")
    while True:
        ready.value = coin.random() < 0.75
        await RisingEdge(dut.clk)
        if valid.value == 1 and ready.value == 1:
            for name, port in ports.items():
                board.take(name, port.value)


@cocotb.test()
async def every_job_of_the_export(dut):
    """Run every job and compare every word."""
    vectors = Vectors.read(os.environ["FACTORY_VECTORS"])
    board = Scoreboard(vectors)
    Clock(dut.clk, 10, "ns").start()
    dut.rst.value = 1
    await (edge_streams if vectors.top == "factory_edge_array" else tiles)(dut, vectors, board)
    for _ in range(CLOCKS_AT_REST):
        await RisingEdge(dut.clk)
    dut._log.info("%d words compared", board.finish())


async def edge_streams(dut, vectors, board):
    """Play each stream, a word of every edge in each clock, after a reset."""
    entering = ("west", "west_valid", "north", "north_valid")
    for job in vectors.jobs():
        board.begin(job)
        for name, value in job.job.ports.items():
            getattr(dut, name).value = value
        await FallingEdge(dut.clk)
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        for words in zip(*map(job.words, entering), strict=True):
            dut.rst.value = 0
            for name, word in zip(entering, words, strict=True):
                getattr(dut, name).value = word
            await RisingEdge(dut.clk)
            board.take("south", dut.south.value, dut.south_valid.value)
            await FallingEdge(dut.clk)


async def tiles(dut, vectors, board):
    """Run each output tile, with random stalls."""
    coin = random.Random(0)
    for name in ("job_valid", "act_valid", "weight_valid", "psum_ready", "out_ready"):
        getattr(dut, name).value = 0
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    cocotb.start_soon(drain(dut, "psum", {"psum": dut.psum}, board, coin))
    cocotb.start_soon(drain(dut, "out", {"partial": dut.acc, "acc": dut.acc, "out": dut.out}, board, coin))
    for job in vectors.jobs():
        board.begin(job)
        for name, value in job.job.ports.items():
            getattr(dut, name).value = value
        dut.job_valid.value = 1
        await RisingEdge(dut.clk)
        dut.job_valid.value = 0
        feeders = [cocotb.start_soon(feed(dut, name, job.words(name), coin)) for name in ("weight", "act")]
        for feeder in feeders:
            await feeder
        await RisingEdge(dut.clk)
        while dut.job_ready.value != 1:
            await RisingEdge(dut.clk)


def main(directory: Path) -> int:
    """Compile the array for an export, run the test above in the simulator, and return the exit code."""
    try:
        vectors = Vectors.read(directory)
    except FactoryError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    runner = get_runner("icarus")
    with TemporaryDirectory() as build:
        runner.build(
            sources=vectors.sources, hdl_toplevel=vectors.top, parameters=vectors.parameters, build_dir=build,
            build_args=["-g2012"], timescale=("1ns", "1ps"),
        )  # fmt: skip
        here = Path(__file__)
        path = os.pathsep.join([str(here.parent), *sys.path])
        results = runner.test(
            hdl_toplevel=vectors.top, test_module=here.stem, build_dir=build, test_dir=build,
            extra_env={"FACTORY_VECTORS": str(directory.resolve()), "PYTHONPATH": path},
        )  # fmt: skip
        tests, failed = get_results(results)
    return 0 if tests and not failed else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: cocotb_example DIR, an export's directory")
    sys.exit(main(Path(sys.argv[1])))
