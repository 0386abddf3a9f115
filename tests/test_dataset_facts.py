"""Facts of tiles against plain loops over Python integers, and the conditions that find them."""

import numpy as np
import pytest
from helpers_network import odd_network, random_pixels, trained_network
from test_dataset_reading import random_dataset

import factory
from factory.build import build
from factory.build.synthetic import corners
from factory.dataset import facts as facts_module
from factory.dataset.facts import COLUMNS, LEAST_WIDTH, tile_facts
from factory.dataset.where import evaluate
from factory.spec import InputError, SystolicArray
from factory.store import open_store


def plain_facts(layer, image: int) -> dict[str, np.ndarray]:
    """Return the facts of one image, `(it, ot)` each, by one addition after the other."""
    spec, array = layer.spec, layer.array
    tiles, weight = layer.activation_tile[image].astype(int), layer.weight_tile[...].astype(int)
    its, ots, kijs, cols, _ = weight.shape
    real = [min(cols, spec.out_channels - ot * cols) for ot in range(ots)]
    found = {name: np.zeros((its, ots), int) for name in (*COLUMNS[3:], *(f"overflow_{w}" for w in range(8, 33)))}
    found["zeros"] = np.zeros((its, ots))
    for ot in range(ots):
        running = np.zeros((spec.onij_count, real[ot]), int)
        for it in range(its):
            psums, sums, reached = [], [], []
            for kij in range(kijs):
                outgoing = np.zeros((spec.nij_count, real[ot]), int)
                for nij in range(spec.nij_count):
                    for col in range(real[ot]):
                        total, inside = 0, []
                        for row in range(array.rows):
                            total += int(tiles[it, nij, row]) * int(weight[it, ot, kij, col, row])
                            inside.append(total)
                        outgoing[nij, col] = total
                        reached.append(inside)
                psums.append(outgoing)
                for onij in range(spec.onij_count):
                    (oi, oj), (ki, kj) = divmod(onij, spec.out_width), divmod(kij, spec.kernel[1])
                    y, x = oi * spec.stride[0] + ki * spec.dilation[0], oj * spec.stride[1] + kj * spec.dilation[1]
                    running[onij] += outgoing[y * spec.padded_width + x]
                sums.append(running.copy())
                reached += [[value] for value in running.reshape(-1).tolist()]
            for name, values in (("psum", psums), ("sum", sums)):
                found[f"{name}_low"][it, ot], found[f"{name}_high"][it, ot] = np.min(values), np.max(values)
            for width in range(8, 33):
                ends = -(1 << (width - 1)), (1 << (width - 1)) - 1
                out = [any(not ends[0] <= value <= ends[1] for value in inside) for inside in reached]
                found[f"overflow_{width}"][it, ot] = sum(out)
            channels = layer.activation[image][it * array.rows : (it + 1) * array.rows]
            found["zeros"][it, ot] = np.count_nonzero(channels == spec.zero_point) / channels.size
        found["accumulator_low"][:, ot], found["accumulator_high"][:, ot] = running.min(), running.max()
    return found


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder, network = tmp_path_factory.mktemp("facts"), odd_network()
    np.save(folder / "odd.npy", random_pixels(network, 2).transpose(0, 2, 3, 1))
    build(folder / "odd.h5", weights=trained_network(network), images=folder / "odd.npy", pick="all",
          array=SystolicArray(3, 5), keep="codes")  # fmt: skip
    corners(folder / "corners.h5", SystolicArray(9, 4, psum_bits=8), keep="codes")
    return folder


def check(layer, images: list[int]) -> None:
    found = tile_facts(layer)
    for image in images:
        for name, right in plain_facts(layer, image).items():
            assert np.array_equal(found.column(name)[image], right), (layer.spec.name, image, name)


def test_facts_of_a_lowered_network_are_those_of_plain_loops(stores):
    with open_store(stores / "odd.h5") as store:
        assert len(store.layers) > 2
        for layer in store.layers.values():
            check(layer, [1])


@pytest.mark.parametrize("name", ["tile.adder-return", "sum.adder-return", "point.ramp"])
def test_facts_of_sums_that_return_are_those_of_plain_loops(stores, name):
    with open_store(stores / "corners.h5") as store:
        check(store.layers[name], list(range(store.image_count)))


def test_a_sum_that_leaves_a_width_inside_a_column_and_returns_is_counted(stores):
    with open_store(stores / "corners.h5") as store:
        found = tile_facts(store.layers["tile.adder-return"])
    ends = [found.column(f"{of}_{end}") for of in ("psum", "sum") for end in ("low", "high")]
    shown = np.any([(end < -128) | (end > 127) for end in ends], axis=0)
    assert (found.column("overflow_8")[~shown] > 0).any()


def test_facts_do_not_depend_on_how_many_images_are_measured_at_once(stores, monkeypatch):
    with open_store(stores / "odd.h5") as store:
        layer = next(iter(store.layers.values()))
        at_once = tile_facts(layer)
        monkeypatch.setattr(facts_module, "_BLOCK", 1)
        one_by_one = tile_facts(layer)
    for name in (*COLUMNS, "overflow_8", "overflow_12"):
        assert np.array_equal(at_once.column(name), one_by_one.column(name))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with factory.open_dataset(random_dataset(tmp_path_factory.mktemp("facts") / "d")) as opened:
        yield opened


def test_rows_are_the_tiles_where_the_condition_holds(dataset):
    layer = dataset.layer("uniform")
    highest = layer.psum[...].max(axis=(3, 4, 5))  # the padding of a ragged tile is 0, as some psum is
    rows = dataset.find("uniform", "psum_high >= 20 and it == 1")
    right = np.argwhere(highest >= 20)
    assert len(rows) and [tuple(row)[:3] for row in rows] == [tuple(at) for at in right.tolist() if at[1] == 1]
    assert set(rows["image"].tolist()) == {0, 1, 2, 3, 6} and len(rows) < 8 * highest.shape[2]


def test_facts_are_kept_and_those_of_others_are_not_believed(dataset, monkeypatch):
    first = dataset.find("sparse", "zeros > 0")
    kept = sorted((dataset.path / "facts/sparse").iterdir())
    assert [path.name for path in kept] == ["00000.h5", "00001.h5", "00002.h5"]
    measured = []
    monkeypatch.setattr(facts_module, "tile_facts", lambda *given: measured.append(1) or tile_facts(*given))
    assert np.array_equal(dataset.find("sparse", "zeros > 0"), first) and not measured
    kept[0].write_bytes(kept[1].read_bytes())
    kept[2].write_bytes(b"")
    assert np.array_equal(dataset.find("sparse", "zeros > 0"), first) and len(measured) == 2


def test_facts_need_no_folder_that_can_be_written(dataset, monkeypatch):
    def refuse(*given):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(facts_module, "write_whole", refuse)
    layer, shard = dataset.layer("uniform"), dataset.path / "facts/none/00000.h5"
    found = facts_module.kept_facts(shard, layer, np.arange(8), "x")
    assert np.array_equal(found.psum_low, dataset.facts("uniform").psum_low) and not shard.exists()


COLUMNS_OF = {"a": np.array([1, 5, -3]), "b": np.array([0.5, 5.0, 2.0])}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a > 0", [True, True, False]),
        ("-4 < a <= 1", [True, False, True]),
        ("a == b or not (a > -1 and b != 2)", [False, True, True]),
        ("not a < 0 and b >= 0.5", [True, True, False]),
        (" a > -3.5e0 ", [True, True, True]),
        ("a < 4611686018427387904", [True, True, True]),
    ],
)
def test_a_condition_is_what_python_says(text, holds):
    assert evaluate(text, COLUMNS_OF.__getitem__).tolist() == holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a", "'a'"),
        ("", "''"),
        ("a >", "'a >'"),
        ("a + 1 > 2", "'a + 1'"),
        ("a > 'x'", "\"'x'\""),
        ("a > True", "'True'"),
        ("a > 1j", "'1j'"),
        ("a in b", "'a in b'"),
        ("__import__('os').system('x') > 1", "\"__import__('os').system('x')\""),
        ("a.real > 1", "'a.real'"),
        ("(a > 1) > 0", "'a > 1'"),
        ("a if a else b", "'a if a else b'"),
        (f"a > {10**400}", f"'{10**400}'"),
        ("a > 1e999", "'1e999'"),
        ("not a", "'a'"),
        ("a > -b", "'-b'"),
        ("a > 1\x00", "'a > 1\\x00'"),
    ],
)
def test_nothing_but_a_condition_is_evaluated(text, said):
    with pytest.raises(InputError) as caught:
        evaluate(text, COLUMNS_OF.__getitem__)
    assert str(caught.value) == f"where must be comparisons of columns and numbers, joined by and, or, not: not {said}"


def test_a_condition_is_not_too_long_for_the_parser():
    with pytest.raises(InputError, match="^where must have at most 2000 characters, not 20000$"):
        evaluate("(" * 20000, COLUMNS_OF.__getitem__)
    with pytest.raises(InputError, match="^where must be comparisons"):
        evaluate("(" * 2000, COLUMNS_OF.__getitem__)


@pytest.mark.parametrize("name", ["psum", "overflow_7", "overflow_", "overflow_123", "x"])
def test_a_wrong_column_is_said_before_anything_is_measured(dataset, monkeypatch, name):
    monkeypatch.setattr(facts_module, "tile_facts", None)
    with pytest.raises(InputError, match=f"^a column must be one of image it ot .* or overflow_8 and on, not {name}$"):
        dataset.find("uniform", f"it > 0 and {name} > 0")


def test_an_adder_that_holds_every_sum_never_overflows(dataset):
    assert not len(dataset.find("uniform", "overflow_32 > 0"))
    assert len(dataset.find("uniform", "overflow_32 == 0")) == 8 * dataset.layer("uniform").psum[0, :, :, 0, 0, 0].size
    assert LEAST_WIDTH == 8
