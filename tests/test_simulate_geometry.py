"""Layers of any geometry on the reference array: by axis and side, dilated, grouped, with a zero point, of 8 bits."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers_bench import Builds, device, export_bench, given_store
from helpers_simulator import need

from factory.memfile import Profile, load_profile
from factory.simulate import simulate
from factory.spec import ComparisonError, InputError, SystolicArray

pytestmark = pytest.mark.simulator
ARRAY = SystolicArray(3, 4, psum_bits=24)
INCLUDED = {"ws": "activation,weight,out,psum,conv", "os": "activation,weight,out,conv"}
GEOMETRIES = {
    "1 x 3": dict(kernel=(1, 3), padding=0),
    "3 x 1": dict(kernel=(3, 1)),
    "2 x 3, padding by side": dict(kernel=(2, 3), padding=(0, 1, 2, 3), zero_point=9),
    "stride 2,1": dict(kernel=(3, 2), stride=(2, 1), height=6),
    "dilation 2,3": dict(kernel=(2, 2), dilation=(2, 3), height=5, width=6),
    "stride and dilation": dict(kernel=(3, 2), stride=(2, 3), dilation=(2, 3), height=7, padding=(1, 2, 0, 2)),
    "depthwise": dict(in_channels=6, groups=6, zero_point=3),
    "two groups": dict(in_channels=4, groups=2, padding=(0, 0, 1, 0)),
    "1 x tokens": dict(height=1, width=7, kernel=1, padding=0),
    "1 x tokens, 1 x 3": dict(height=1, width=7, kernel=(1, 3), padding=(0, 2), zero_point=15),
    "8 bits": dict(activation_bits=8, weight_bits=8, zero_point=128),
}
SIGNED = {
    "signed": dict(signed=True, zero_point=-5, kernel=(2, 3), stride=(1, 2)),
    "signed, 8 bits": dict(activation_bits=8, weight_bits=8, signed=True, zero_point=-128, padding=(2, 0)),
}


@pytest.fixture(scope="module")
def builds(tmp_path_factory) -> Builds:
    return Builds(tmp_path_factory.mktemp("builds"))


def byte_profile(dataflow: str, signed: bool = False) -> Profile:
    """Return the default profile with lanes of 8 bits for codes."""
    profile = load_profile("notebook", dataflow)
    changes = {"activation": dict(lane_bits=8, signed=signed), "weight": dict(lane_bits=8)}
    return replace(profile, layouts=tuple(replace(x, **changes.get(x.name, {})) for x in profile.layouts))


def exported(folder: Path, dataflow: str, array: SystolicArray = ARRAY, **conv) -> Path:
    profile = byte_profile(dataflow, conv.get("signed", False))
    return export_bench(given_store(array, 1, **conv), folder, profile=profile, include=INCLUDED[dataflow])


@pytest.mark.parametrize("dataflow", INCLUDED)
@pytest.mark.parametrize("conv", (GEOMETRIES | SIGNED).values(), ids=(GEOMETRIES | SIGNED).keys())
def test_every_geometry_runs_on_the_array(builds, tmp_path, dataflow, conv):
    result = builds.run(exported(tmp_path / "x", dataflow, **conv), stall=5)
    assert result.compared > 0 and result.unchecked == ()


@pytest.mark.slow
@pytest.mark.parametrize(("dataflow", "cases"), [("ws", GEOMETRIES), ("os", SIGNED)])
def test_verilator_agrees(builds, tmp_path, dataflow, cases):
    for number, conv in enumerate(cases.values()):
        assert builds.run(exported(tmp_path / str(number), dataflow, **conv), "verilator").compared > 0


@pytest.mark.parametrize("dataflow", INCLUDED)
def test_sums_of_8_bits_wrap_in_a_narrow_adder(builds, tmp_path, dataflow):
    """The adder is narrower than a product, and what is compared is not what wider adders give."""
    narrow = exported(tmp_path / "narrow", dataflow, replace(ARRAY, psum_bits=12), **GEOMETRIES["8 bits"])
    wide = exported(tmp_path / "wide", dataflow, **GEOMETRIES["8 bits"])
    name = next(path.relative_to(narrow) for path in narrow.rglob("out*.txt"))
    assert (narrow / name).read_text() != (wide / name).read_text()
    assert builds.run(narrow).compared > 0


@pytest.mark.parametrize("dataflow", INCLUDED)
def test_a_border_of_zeros_is_caught(builds, tmp_path, dataflow):
    """Replace the activations by those of a map whose border is 0, where it must be the zero point."""
    right = exported(tmp_path / "right", dataflow, zero_point=3)
    wrong = exported(tmp_path / "wrong", dataflow)
    for path in wrong.rglob("activation*.txt"):
        (right / path.relative_to(wrong)).write_bytes(path.read_bytes())
    with pytest.raises(ComparisonError, match="layer, image 0, .* must be "):
        builds.run(right)


@pytest.mark.parametrize("name", ["stride and dilation", "two groups", "1 x tokens, 1 x 3", "8 bits"])
def test_another_device_passes(tmp_path, name):
    need("icarus")
    folder = exported(tmp_path / "x", "ws", **GEOMETRIES[name])
    assert simulate(folder, "icarus", dut=[device(tmp_path)], stall=6).compared > 0


@pytest.mark.parametrize("field", ["stride", "dilation"])
def test_a_step_that_the_ports_do_not_hold_is_refused(tmp_path, field):
    with pytest.raises(InputError, match=f"^testbench: layer: {field}_x must be at most 65535, not 65536$"):
        exported(tmp_path / "x", "ws", kernel=1, **{field: (1, 1 << 16)})
