"""Edge streams of `--profile scalesim` against the SRAM traces of SCALE-Sim 3.0.0 itself, byte by byte.

Where SCALE-Sim is wrong, a test says by how much.
"""

from functools import cache
from io import BytesIO

import numpy as np
import pytest
from helpers_edges import SHAPES, layer_store, odd_layer

from factory.dataflow import DATAFLOWS, EdgeSchedule, LayerMapping
from factory.dataflow.edges import edge_traffic
from factory.export import ExportOptions, export
from factory.spec import SystolicArray

pytest.importorskip("scalesim")
ARRAYS = {"odd": (4, 3), "stride": (3, 5), "point": (2, 2), "line": (4, 4), "tall": (5, 1), "matrix": (1, 6)}
TRACES = ("IFMAP", "FILTER", "OFMAP")
WINDOW = EdgeSchedule(order="window", drain=0)


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


def trace_file(simulation, which: str) -> bytes:
    """Return a trace's file, as SCALE-Sim's own `save_traces` writes it."""
    text = BytesIO()
    np.savetxt(text, getattr(simulation.memory_system, f"{which.lower()}_trace_matrix"), fmt="%i", delimiter=",")
    return text.getvalue()


def table(text: bytes) -> np.ndarray:
    return np.loadtxt(BytesIO(text), np.int64, delimiter=",", ndmin=2)


def trace(simulation, which: str) -> np.ndarray:
    """Return a trace: the cycle, then a column for each lane."""
    return table(trace_file(simulation, which))


def exported(folder, name: str, dataflow: str) -> dict[str, bytes]:
    """Return the traces that the profile writes."""
    store = layer_store(odd_layer(name), array=SystolicArray(*ARRAYS[name]))
    export(store, folder, ExportOptions(dataflow, "all", profile="scalesim", include="west,north,south"))
    return {which: next(folder.rglob(f"{which}_SRAM_TRACE.csv")).read_bytes() for which in TRACES}


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", SHAPES)
def test_cycles_and_addresses_are_those_of_scalesim(name, dataflow, tmp_path):
    simulation, ours = scalesim(name, dataflow), exported(tmp_path / "out", name, dataflow)
    rows, late = ARRAYS[name][0], 0
    if not DATAFLOWS[dataflow].has_psums:
        late = rows - 1
    for which in TRACES:
        if not late:
            assert ours[which] == trace_file(simulation, which)
        expected, found = trace(simulation, which), table(ours[which])
        assert len(found) == len(expected) + late
        if which == "OFMAP" and late:
            # its outputs leave before the last rows have added their last products: the sum of row r and column c is
            # complete in cycle T - 1 + r + c, and row R - 1 is the first to leave, in its cycle T - 1 + c
            assert (found[:late, 1:] == -1).all()
            found = np.concatenate([np.arange(len(found) - late)[:, None], found[late:, 1:]], axis=1)
        assert (found[len(expected) :, 1:] == -1).all()
        np.testing.assert_array_equal(found[: len(expected)], expected)


def folds(simulation) -> int:
    return simulation.compute_system.row_fold * simulation.compute_system.col_fold


def test_scalesim_stamps_reads_a_cycle_later_than_writes():
    """A sum of one row is written in cycle 1, and its activation read in cycle 2; of 4 rows, 2 cycles after it."""
    for name, read, written in (("matrix", 2, 1), ("odd", 5, 7)):
        simulation, rows = scalesim(name, "ws"), ARRAYS[name][0]
        reads, writes = trace(simulation, "IFMAP"), trace(simulation, "OFMAP")
        first_read, first_written = (int(x[(x[:, 1:] >= 0).any(axis=1)][0, 0]) for x in (reads, writes))
        assert (first_read, first_written) == (read, written) == (rows + 1, 2 * rows - 1)


def test_scalesim_counts_the_last_columns_twice_in_its_utilisation():
    """Each fold of `ws` has 2 R + C + T - 2 lines in its traces, and counts 2 R + 2 C + T - 3 cycles."""
    simulation, (rows, cols) = scalesim("odd", "ws"), ARRAYS["odd"]
    pixels, lines = 3 * 5, len(trace(simulation, "IFMAP"))
    assert lines == folds(simulation) * (2 * rows + cols + pixels - 2) == 576
    traffic = edge_traffic(LayerMapping.whole(DATAFLOWS["ws"], odd_layer("odd"), SystolicArray(rows, cols)), WINDOW)
    assert traffic.cycles == lines and traffic.products == pixels * 30 * 7 / (lines * rows * cols)
    counted = simulation.compute_util / 100  # 0.4207, where the traces have 0.4557
    assert counted == pytest.approx(traffic.products * lines / (folds(simulation) * (2 * rows + 2 * cols + pixels - 3)))
    assert simulation.total_cycles == lines - 1  # the number of the last cycle


def test_scalesim_counts_more_outputs_than_it_writes():
    """Each fold of `os` adds the sides of the array to the outputs: 189 for 105."""
    simulation = scalesim("odd", "os")
    assert simulation.ofmap_sram_writes == 189 == 105 + folds(simulation) * (4 + 3)
    assert (trace(simulation, "OFMAP")[:, 1:] >= 0).sum() == 105


def test_scalesim_has_outputs_beyond_the_map_where_the_stride_does_not_divide_it():
    """A 3 x 3 kernel of stride 2 fits a map of 6 x 6 pixels twice, not three times."""
    simulation = scalesim("stride", "ws", height=6, width=6, stride=(2, 2))
    assert (simulation.op_mat_obj.ofmap_rows, simulation.op_mat_obj.ofmap_cols) == (3, 3)
    spec = odd_layer("stride", height=6, width=6, stride=(2, 2))
    assert (spec.out_height, spec.out_width) == (2, 2)
