"""Edge streams of `--profile scalesim` against the SRAM traces of SCALE-Sim 3.0.0 itself, byte by byte.

Where SCALE-Sim is wrong, a test says by how much.
"""

from functools import cache
from io import BytesIO

import numpy as np
import pytest
from helpers_edges import SHAPES, layer_store, odd_layer

from factory.dataflow import DATAFLOWS
from factory.export import ExportOptions, export
from factory.spec import SystolicArray

pytest.importorskip("scalesim")
ARRAYS = {"odd": (4, 3), "stride": (3, 5), "point": (2, 2), "line": (4, 4), "tall": (5, 1), "matrix": (1, 6)}
TRACES = ("IFMAP", "FILTER", "OFMAP")


@cache
def scalesim(name: str, dataflow: str, **fields):
    """Return SCALE-Sim's simulation of a layer, run."""
    import builtins

    import scalesim.memory.double_buffered_scratchpad_mem as memory
    from scalesim.layout_utils import layouts
    from scalesim.scale_config import scale_config
    from scalesim.single_layer_sim import single_layer_sim
    from scalesim.topology_utils import topologies

    # it makes an int of the largest array of one cycle, which NumPy 2.4 does no more
    memory.max = lambda *values: np.max(values[0]) if len(values) == 1 else builtins.max(*values)
    spec, config, topology = odd_layer(name, **fields), scale_config(), topologies()
    config.array_rows, config.array_cols = ARRAYS[name]
    config.df, config.valid_conf_flag = dataflow, True
    sides = (spec.height, spec.width, *spec.kernel, spec.in_channels, spec.out_channels, *spec.stride)
    topology.append_topo_arrays(name, [name, *sides, 1, 1])
    topology.num_layers, topology.topo_load_flag = 1, True
    found = single_layer_sim()
    found.set_params(0, config, topology, layouts(), verbose=False)
    found.run()
    found.calc_report_data()
    return found


def trace(simulation, which: str) -> np.ndarray:
    """Return a trace as SCALE-Sim's files have it: the cycle, then a column for each lane."""
    memory, text = simulation.memory_system, BytesIO()
    np.savetxt(text, getattr(memory, f"{which.lower()}_trace_matrix"), fmt="%i", delimiter=",")
    return np.loadtxt(BytesIO(text.getvalue()), np.int64, delimiter=",", ndmin=2)


def exported(folder, name: str, dataflow: str) -> dict[str, np.ndarray]:
    """Return the traces that the profile writes, read as plain CSV."""
    store = layer_store(odd_layer(name), array=SystolicArray(*ARRAYS[name]))
    export(store, folder, ExportOptions(dataflow, "all", profile="scalesim", include="west,north,south"))
    files = {which: next(folder.rglob(f"{which}_SRAM_TRACE.csv")) for which in TRACES}
    return {which: np.loadtxt(path, np.int64, delimiter=",", ndmin=2) for which, path in files.items()}


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", SHAPES)
def test_cycles_and_addresses_are_those_of_scalesim(name, dataflow, tmp_path):
    simulation, ours = scalesim(name, dataflow), exported(tmp_path / "out", name, dataflow)
    rows, late = ARRAYS[name][0], 0
    if not DATAFLOWS[dataflow].has_psums:
        late = rows - 1
    for which in TRACES:
        expected, found = trace(simulation, which), ours[which]
        assert len(found) == len(expected) + late
        if which == "OFMAP" and late:
            # its outputs leave before the last rows have added their last products: the sum of row r and column c is
            # complete in cycle T - 1 + r + c, and row R - 1 is the first to leave, in its cycle T - 1 + c
            assert (found[:late, 1:] == -1).all()
            found = np.concatenate([np.arange(len(found) - late)[:, None], found[late:, 1:]], axis=1)
        assert (found[len(expected) :, 1:] == -1).all()
        np.testing.assert_array_equal(found[: len(expected)], expected)
