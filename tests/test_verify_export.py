"""Verification of exports: true ones pass in every profile and format, and every kind of damage is found."""

import json
import os
import shutil

import jsonschema
import pytest
from helpers_export import SHIPPED
from helpers_verify import build_small, edit_manifest, repair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.dataflow import DATAFLOWS
from factory.export import export
from factory.manifest import KEYWORDS, NOTES, check_schema, manifest_schema
from factory.memfile import FORMATS
from factory.spec import ComparisonError, FactoryError, InputError, SystolicArray, vgg
from factory.store import open_store
from factory.verify import verify, verify_export

NETWORK = vgg("small", [11, dict(channels=10, kernel=2), "M", dict(channels=3, kernel=1, padding=0)], image=(3, 4, 6))
FIRST, MIDDLE, LAST = (conv.name for conv in NETWORK.layers)
EVERYTHING = "activation,weight,out,accumulator,threshold,next,address"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_small(tmp_path_factory.mktemp("built"), NETWORK, array=SystolicArray(8, 8))


@pytest.fixture(scope="module")
def packs(built, tmp_path_factory):
    """Return exports of everything of one layer: two input tiles, two output tiles, two images."""
    folder = tmp_path_factory.mktemp("packs")
    export(built.store, folder / "ws", dataflow="ws", layers=MIDDLE, images="0:2", include=f"{EVERYTHING},psum")
    export(built.store, folder / "os", dataflow="os", layers=MIDDLE, images="0:2", include=EVERYTHING)
    export(built.store, folder / "is", dataflow="is", layers=MIDDLE, images="0:2", include=f"{EVERYTHING},psum")
    return folder


@pytest.fixture(params=["ws", "os", "is"])
def pack(packs, tmp_path, request):
    return shutil.copytree(packs / request.param, tmp_path / request.param)


def files_of(pack, role):
    """Return the paths of the files of a role, in the manifest's order."""
    groups = json.loads((pack / "manifest.json").read_text())["groups"]
    sets = [record for group in groups for record in group["sets"] if record["role"] == role]
    return [pack / record["directory"] / entry["name"] for record in sets for entry in record["files"]]


def has(pack, role):
    return bool(files_of(pack, role))


def flip_bit(path, word=0):
    """Flip the lowest bit of a word of a file of bit strings."""
    lines = path.read_bytes().split(b"\n")
    lines[word] = lines[word][:-1] + (b"1" if lines[word].endswith(b"0") else b"0")
    path.write_bytes(b"\n".join(lines))


def swap_lines(path):
    """Swap the first line and the first that differs from it."""
    lines = path.read_bytes().split(b"\n")[:-1]
    other = next(place for place, line in enumerate(lines) if line != lines[0])
    lines[0], lines[other] = lines[other], lines[0]
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def swap_files(first, second):
    one, other = first.read_bytes(), second.read_bytes()
    assert one != other
    first.write_bytes(other)
    second.write_bytes(one)


def reverse_lanes(path, lane_bits):
    lines = path.read_text().split()
    lanes = [[line[at : at + lane_bits] for at in range(0, len(line), lane_bits)] for line in lines]
    path.write_text("".join("".join(reversed(line)) + "\n" for line in lanes))


def fails(pack, built, *, alone=True):
    """Assert that verification fails with the store and, where outputs can tell, `alone`; return the first message."""
    with pytest.raises(ComparisonError) as error:
        verify_export(pack, built.store)
    if alone:
        with pytest.raises(ComparisonError):
            verify_export(pack)
    return str(error.value).removeprefix(f"{pack}: ")


@pytest.mark.parametrize(("dataflow", "profile"), SHIPPED, ids=["-".join(names) for names in SHIPPED])
def test_every_profile_passes(built, tmp_path, dataflow, profile):
    include = EVERYTHING + (",psum" if dataflow == "ws" else "")
    chosen = dict(dataflow=dataflow, profile=profile, layers=MIDDLE, images="0:2", include=include)
    export(built.store, tmp_path / "pack", **chosen)
    report = verify_export(tmp_path / "pack", built.store)
    assert report.unchecked == ()
    roles = {"files", *include.split(",")} | {"direction"} | ({"running_sum"} if DATAFLOWS[dataflow].parts else set())
    assert set(report.counts) == roles and min(report.counts.values()) > 0
    alone = verify_export(tmp_path / "pack")
    said = "weights, thresholds and activation codes against the store, store.h5, which was not given"
    assert alone.unchecked == (said,)
    assert set(report.counts) - set(alone.counts) == {"activation", "weight", "threshold", "direction"}


OPTIONS = [
    *(dict(format=name) for name in FORMATS),
    *(dict(header=style, format=format) for style in ("tokens", "verilog", "short") for format in ("bin", "hex")),
    dict(files="layer"),
    dict(files="layer", format="mif"),
    dict(psum_bits=8),
    dict(psum_bits=8, overflow="saturate"),
    dict(psum_bits=20),
    dict(overflow="error"),
    dict(post="none"),
    dict(post="leaky"),
    dict(kij="0,2:4"),
    dict(tiles="ot=1"),
    dict(address_base=5),
    dict(layers=FIRST, pe_activation="signed"),
    dict(layers=MIDDLE, pe_activation="signed", psum_bits=9, overflow="saturate"),
    dict(flat=True),
]


@pytest.mark.parametrize("dataflow", ["ws", "os"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_every_option_passes(built, tmp_path, dataflow, options):
    include = "activation,weight,out,accumulator,address" + (",psum" if dataflow == "ws" else "")
    summary = export(
        built.store, tmp_path / "pack", **(dict(dataflow=dataflow, layers=MIDDLE, include=include) | options)
    )
    for store in (built.store, None):
        assert verify_export(tmp_path / "pack", store).counts["files"] == summary.files
    if "psum_bits" in options and options["psum_bits"] < 16:
        assert summary.inexact > 0


def test_pooled_outputs_and_pixel_blocks_pass(built, tmp_path):
    (tmp_path / "blocks.toml").write_text('extends = "os-all"\npixel_block = [2, 2]\npost = "relu+maxpool2"\n')
    options = dict(profile=str(tmp_path / "blocks.toml"), layers=FIRST, pe_activation="signed")
    export(built.store, tmp_path / "os", dataflow="os", **options)
    export(built.store, tmp_path / "ws", dataflow="ws", layers="all", post="relu+maxpool2", pe_activation="signed")
    for pack in ("os", "ws"):
        assert verify_export(tmp_path / pack, built.store).counts["out"] > 0


def test_a_part_of_the_channels_passes(built, tmp_path):
    for flow, options in (("os", dict(input_channels=3, tiles="pt=1,ot=0")), ("ws", dict(tiles="it=1,ot=1"))):
        export(built.store, tmp_path / flow, dataflow=flow, layers=MIDDLE, **options)
        for store in (built.store, None):
            verify_export(tmp_path / flow, store)


def test_progress_counts_files(packs, built):
    calls = []
    report = verify_export(packs / "ws", built.store, progress=lambda *call: calls.append(call))
    assert [call[0] for call in calls] == list(range(1, report.counts["files"] + 1))
    assert {call[1] for call in calls} == {report.counts["files"]}
    assert calls[0][2].startswith(MIDDLE)


ROLES = [
    "activation",
    "weight",
    "out",
    "psum",
    "running_sum",
    "accumulator",
    "threshold",
    "direction",
    "next",
    "address",
]


def test_a_flipped_bit_is_found_by_its_digest(pack, built):
    path = files_of(pack, "out")[-1]
    flip_bit(path)
    assert fails(pack, built).startswith(f"{path.relative_to(pack)}: sha256 must be ")


@pytest.mark.parametrize("role", ROLES)
def test_a_flipped_bit_is_found_by_its_value(pack, built, role):
    """The manifest has the damaged file's digest, so that the value alone can tell."""
    assert has(pack, role) or (pack.name == "os" and role in ("psum", "running_sum"))
    if not has(pack, role):
        return
    path = files_of(pack, role)[-1]
    flip_bit(path)
    repair(pack)
    said = fails(pack, built, alone=role in ("out", "psum", "running_sum", "accumulator", "next", "address"))
    assert said.startswith(f"{path.relative_to(pack)}: word 0, lane 0 (") and ": must be " in said


@pytest.mark.parametrize("role", ["activation", "weight", "out", "psum", "accumulator"])
@pytest.mark.parametrize("repaired", [False, True])
def test_two_swapped_lines_are_found(pack, built, role, repaired):
    assert has(pack, role) or (pack.name == "os" and role == "psum")
    if not has(pack, role):
        return
    path = next(path for path in files_of(pack, role) if len(set(path.read_bytes().split())) > 1)
    swap_lines(path)
    if repaired:
        repair(pack)
    said = fails(pack, built, alone=not repaired or role in ("out", "psum", "accumulator"))
    assert said.startswith(f"{path.relative_to(pack)}: {'word ' if repaired else 'sha256 '}")


@pytest.mark.parametrize("role", ["activation", "weight", "out"])
@pytest.mark.parametrize("repaired", [False, True])
def test_two_swapped_files_are_found(pack, built, role, repaired):
    *_, second = files_of(pack, role)
    first = next(path for path in files_of(pack, role) if path.read_bytes() != second.read_bytes())
    swap_files(first, second)
    if repaired:
        repair(pack)
    assert fails(pack, built).startswith(f"{first.relative_to(pack)}: {'word ' if repaired else 'sha256 '}")


@pytest.mark.parametrize("role", ["activation", "weight", "out"])
def test_two_swapped_names_are_found(pack, built, role):
    """Files and manifest agree, but the names that a testbench opens hold each other's tiles."""
    first, second = files_of(pack, role)[:2]
    swap_files(first, second)

    def change(manifest):
        for group in manifest["groups"]:
            for record in group["sets"]:
                if record["role"] == role and f"{first.parent}".endswith(record["directory"]):
                    one, other = record["files"][:2]
                    one["name"], other["name"] = other["name"], one["name"]

    edit_manifest(pack, change)
    repair(pack)
    assert f"{second.name}: the name must have " in fails(pack, built)


def test_a_changed_weight_is_found_by_the_outputs_alone(pack, built):
    """The whole weight file of one tile is negated; digests are repaired, and no store is there to tell."""
    path = files_of(pack, "weight")[0]
    lines = path.read_text().split()
    swapped = str.maketrans("01", "10")
    path.write_text("".join(line.translate(swapped) + "\n" for line in lines))
    repair(pack)
    assert fails(pack, built).startswith(f"{path.relative_to(pack)}: word 0, lane ")


@pytest.mark.parametrize(("role", "lane_bits"), [("activation", 4), ("weight", 4), ("out", 16)])
def test_reversed_lanes_are_found(pack, built, role, lane_bits):
    before = [path.read_bytes() for path in files_of(pack, role)]
    for path in files_of(pack, role):
        reverse_lanes(path, lane_bits)
    changed = [path for path, data in zip(files_of(pack, role), before, strict=True) if path.read_bytes() != data]
    assert ": sha256 must be " in fails(pack, built)
    repair(pack)
    said = fails(pack, built)
    assert said.startswith(f"{changed[0].relative_to(pack)}: word ") and ": must be " in said


def test_lanes_that_the_manifest_calls_reversed_are_found(pack, built):
    def change(manifest):
        manifest["layouts"]["weight"]["lane0_left"] = True

    edit_manifest(pack, change)
    assert ": word 0, lane " in fails(pack, built)


@pytest.mark.parametrize("repaired", [False, True])
def test_a_truncated_file_is_found(pack, built, repaired):
    path = files_of(pack, "out")[0]
    path.write_bytes(path.read_bytes()[:-1])
    if repaired:
        repair(pack)
    assert fails(pack, built).startswith(
        f"{path.relative_to(pack)}: {'must end in a newline' if repaired else 'sha256'}"
    )
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines[:-1]) + b"\n")
    if repaired:
        repair(pack)
        words = len(lines)
        assert fails(pack, built) == f"{path.relative_to(pack)}: must hold {words} words, not {words - 1}"


def test_a_missing_file_is_found(pack, built):
    path = files_of(pack, "weight")[1]
    path.unlink()
    assert fails(pack, built) == f"{path.relative_to(pack)}: must be there, it is missing"

    def change(manifest):
        record = next(x for group in manifest["groups"] for x in group["sets"] if x["role"] == "weight")
        del record["files"][1]

    edit_manifest(pack, change)
    repair(pack)
    assert f"manifest.json: {MIDDLE}, weight: there must be a file for {{" in fails(pack, built)


def test_an_extra_file_is_found(pack, built):
    extra = pack / MIDDLE / "activation_tile99.txt"
    shutil.copy(files_of(pack, "activation")[0], extra)
    assert fails(pack, built) == f"{MIDDLE}/activation_tile99.txt: must not be there, manifest.json does not list it"

    def change(manifest):
        record = next(x for group in manifest["groups"] for x in group["sets"] if x["role"] == "weight")
        record["files"].append(record["files"][0] | {"name": extra.name})

    edit_manifest(pack, change)
    repair(pack)
    assert fails(pack, built) == (
        f"manifest.json: {MIDDLE}, weight: activation_tile99.txt must hold a selected place of its own"
    )


def test_a_file_listed_twice_is_found(pack, built):
    def change(manifest):
        record = next(x for group in manifest["groups"] for x in group["sets"] if x["role"] == "weight")
        record["files"].append(record["files"][0])

    edit_manifest(pack, change)
    name = files_of(pack, "weight")[0].relative_to(pack)
    assert fails(pack, built) == f"manifest.json: must list {name} once"


def test_a_stale_manifest_is_found(pack, built, packs, tmp_path):
    """The manifest of an earlier export: of another image, and of another selection."""
    for number, options in enumerate((dict(images="1"), dict(kij="0:3"), dict(pe_activation="signed"))):
        export(built.store, tmp_path / f"{number}", dataflow=pack.name, layers=MIDDLE, **options)
        stale = shutil.copytree(pack, tmp_path / f"stale{number}")
        shutil.copy(tmp_path / f"{number}" / "manifest.json", stale)
        fails(stale, built)


def pe(**fields):
    return lambda manifest: manifest["pe"].update(fields)


def top(**fields):
    return lambda manifest: manifest.update(fields)


def counts(**fields):
    return lambda manifest: manifest["counts"].update(fields)


def conv(**fields):
    return lambda manifest: manifest["layers"][MIDDLE]["spec"].update(fields)


def first_set(**fields):
    return lambda manifest: manifest["groups"][0]["sets"][0].update(fields)


def group(place, **fields):
    return lambda manifest: manifest["groups"][place].update(fields)


def order(*places):
    return lambda manifest: manifest.update(groups=[manifest["groups"][place] for place in places])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (top(pack_id="0" * 64), r"manifest\.json: pack_id must be \w{64}, not 0{64}"),
        (top(weights_sha256="0" * 64), r"manifest\.json: weights_sha256 must be that of .*, \w{64}, not 0{64}"),
        (top(network="other"), r"manifest\.json: network must be that of .*store\.h5, small, not other"),
        (top(image_source="other"), r"manifest\.json: image_source must be that of .*, pixels\.npy, not other"),
        (group(1, source_index=7), r"manifest\.json: image 0: source_index must be 0, not 7"),
        (group(-1, image=5), r"manifest\.json: image must be 0 to 1, not 5"),
        (group(1, image=1), rf"manifest\.json: the groups of {MIDDLE} must .* each other, its images ascending"),
        (order(0, 2, 1), rf"manifest\.json: the groups of {MIDDLE} must .* each other, its images ascending"),
        (order(1, 2, 0), rf"manifest\.json: the groups of {MIDDLE} must .* each other, its images ascending"),
        (conv(pool=1), rf"manifest\.json: {MIDDLE}: spec must be the store's .*"),
        (counts(files=1), r"manifest\.json: counts: files must be \d+, not 1"),
        (counts(words=1), r"manifest\.json: counts: words must be \d+, not 1"),
        (counts(bytes=1), r"manifest\.json: counts: bytes must be \d+, not 1"),
        (counts(inexact=1), r"manifest\.json: counts: inexact must be \d+, not 1"),
        (first_set(inexact=1), rf"manifest\.json: {MIDDLE}, \w+: inexact must be 0, not 1"),
        (first_set(role="psum"), r"manifest\.json: layouts: weight must be of role psum, not weight of role weight"),
        (first_set(layout="out"), r"manifest\.json: layouts: out must be of role weight, not out of role out"),
        (first_set(layout="in"), r"manifest\.json: layouts must have in, which the groups name"),
        (first_set(source=None), rf"manifest\.json: {MIDDLE}, weight: source must be \{{.*weight'\}}, not None"),
        (first_set(directory=""), r".*weight\w+\.txt: must be there, it is missing"),
        (first_set(words=99), rf"manifest\.json: {MIDDLE}, \w+: words must be \d+, not 99"),
        (first_set(radix=16), rf"manifest\.json: {MIDDLE}, \w+: radix must be 2, not 16"),
        (first_set(lane_bits=5), rf"manifest\.json: {MIDDLE}, \w+: word_bits must be \d+, not \d+"),
        (pe(psum_bits=7), rf"manifest\.json: {MIDDLE}, image 0, out: inexact must be [1-9]\d*, not 0"),
        (pe(activation_signed=True), r"manifest\.json: pe: activation bits and signed must be .*, not \(4, True\)"),
        (top(post="none"), r".*out.*: word \d+, lane \d+ \(.*\): must be -\d+, not 0 .*"),
    ],
)  # fmt: skip
def test_a_manifest_that_says_something_else_is_found(packs, built, tmp_path, change, said):
    pack = shutil.copytree(packs / "ws", tmp_path / "pack")
    edit_manifest(pack, change)
    with pytest.raises(ComparisonError, match=rf"^{pack}: {said}$"):
        verify_export(pack, built.store)


def test_sums_all_must_be_true_of_the_selection(pack, built):
    edit_manifest(pack, lambda manifest: manifest["layers"][MIDDLE].update(sums_all=False))
    said = f"manifest.json: {MIDDLE}: must have its own name and sums_all True, not {MIDDLE}, False"
    assert fails(pack, built) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda manifest: manifest.pop("pe"), "manifest.json: must have the key pe"),
        (top(extra=1), "manifest.json: must have keys of schema pack_id"),
        (top(dataflow="xs"), "manifest.json: dataflow must be one of ws os is, not xs"),
        (top(schema="factory-pack-0"), "manifest.json.schema: must be one of factory-pack-2 factory-pack-1, not "),
        (top(pack_id="0"), "manifest.json.pack_id: must match ^[0-9a-f]{64}$, not '0'"),
        (pe(psum_bits="16"), 'manifest.json.pe.psum_bits: must be of type integer, not "16"'),
        (pe(psum_bits=True), "manifest.json.pe.psum_bits: must be of type integer, not true"),
        (pe(psum_bits=0), "manifest.json.pe.psum_bits: must be at least 1, not 0"),
        (top(pixel_block=[1]), "manifest.json.pixel_block: must hold 2 to 2 items, not 1"),
        (first_set(files=[]), "manifest.json.groups[0].sets[0].files: must hold at least 1 items, not 0"),
        (top(network="a\nb"), r"manifest.json.network: must be text that can be printed, not 'a\nb'"),
        (first_set(directory="\ud800"), "manifest.json.groups[0].sets[0].directory: must be text that can be printed"),
        (lambda manifest: manifest["layers"].update({"\x1b": {}}), "manifest.json.layers: must have keys that can be "),
        (
            conv(kernel="3"),
            f"manifest.json: {MIDDLE}: spec: kernel must be a whole number, or a list (y, x) of some, not '3'",
        ),
        (lambda manifest: manifest["layers"][MIDDLE]["spec"].popitem(), f"manifest.json: {MIDDLE}: spec: the key "),
    ],
)  # fmt: skip
def test_a_manifest_that_is_not_of_the_schema_is_named(pack, built, change, said):
    edit_manifest(pack, change)
    assert fails(pack, built).startswith(said)


KINDS = [0, -1, True, None, "x", [], {}]
LEAVES = [*KINDS, 3, 99, "kij", "-kij", "out", "os", "hex", "npy", "raw", [1, 0], {"a": 1}]


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_manifest_passes_or_fails_in_one_line(packs, built, tmp_path_factory, data):
    """Any one value of the manifest replaced or removed: an error of ours, never another."""
    manifest = json.loads((packs / "ws" / "manifest.json").read_text())
    table = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(table) if isinstance(table, dict) else range(len(table))))
        if not isinstance(table[key], (dict, list)) or not table[key] or data.draw(st.integers(0, 5)) == 0:
            break
        table = table[key]
    if data.draw(st.booleans()):
        table[key] = data.draw(st.sampled_from(LEAVES))
    else:
        del table[key]
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    shutil.copytree(packs / "ws" / MIDDLE, folder / MIDDLE)
    for store in (built.store, None):
        try:
            verify_export(folder, store)
        except FactoryError as error:
            assert "\n" not in str(error)


def test_the_schema_is_validated_as_jsonschema_does(packs):
    """Every value of a manifest replaced by every other kind: the two validators agree."""
    schema = manifest_schema()
    judge = jsonschema.Draft202012Validator(schema)
    manifest = json.loads((packs / "os" / "manifest.json").read_text())
    manifest["groups"] = manifest["groups"][:2]
    for group in manifest["groups"]:
        group["sets"] = group["sets"][:1]
        group["sets"][0]["files"] = group["sets"][0]["files"][:1]
    manifest["layouts"] = dict(list(manifest["layouts"].items())[:1])
    verdicts = set()
    for table, key in list(_items(manifest)):
        before = table[key]
        for value in KINDS:
            table[key] = value
            verdict = judge.is_valid(manifest)
            verdicts.add(verdict)
            assert _is_valid(manifest, schema) == verdict, (key, value)
        table[key] = before
    assert verdicts == {True, False} and _is_valid(manifest, schema)


def test_the_schema_has_keywords_that_are_validated_alone():
    def keywords(schema):
        named = (*schema.get("properties", {}).values(), *schema.get("$defs", {}).values())
        below = [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
        return set(schema).union(*map(keywords, (*named, *below)))

    assert keywords(manifest_schema()) <= KEYWORDS | NOTES


def _items(table):
    keys = list(table) if isinstance(table, dict) else range(len(table))
    for key in keys:
        yield table, key
        if isinstance(table[key], (dict, list)):
            yield from _items(table[key])


def _is_valid(manifest, schema):
    try:
        check_schema(manifest, schema, schema, "manifest")
    except ComparisonError:
        return False
    return True


def test_a_damaged_manifest_is_found(pack, built):
    (pack / "manifest.json").write_text((pack / "manifest.json").read_text()[:-9])
    assert fails(pack, built).startswith("manifest.json: must be a JSON object: ")


def test_what_is_of_an_image_must_not_be_of_the_layer(packs, built, tmp_path):
    """Else nothing would be compared with it: its files hold anything."""

    def change(manifest):
        own, image, _ = manifest["groups"]
        moved = next(record for record in image["sets"] if record["role"] == "out")
        image["sets"].remove(moved)
        own["sets"].append(moved)

    pack = shutil.copytree(packs / "ws", tmp_path / "pack")
    edit_manifest(pack, change)
    assert fails(pack, built) == f"manifest.json: {MIDDLE}: out must be of an image, not of the layer itself"


def test_groups_of_a_layer_must_follow_each_other(built, tmp_path):
    export(built.store, tmp_path / "x", dataflow="ws", layers=f"{MIDDLE},{LAST}", images="0")
    assert verify_export(tmp_path / "x", built.store).counts["files"]
    edit_manifest(tmp_path / "x", order(0, 2, 1, 3))
    assert fails(tmp_path / "x", built) == (
        f"manifest.json: the groups of {MIDDLE} must follow each other, its images ascending"
    )


@pytest.mark.parametrize("template", ["a[b.txt", "a]b.txt", "[", "{}", "{0}", "{it!r}"])
def test_a_template_that_is_none_is_named(pack, built, template):
    edit_manifest(pack, lambda manifest: manifest["layouts"]["weight"].update(file=template))
    assert fails(pack, built).endswith(f"must have fields such as {{it}} and parts in [], not {template}") or (
        "the name must be made from" in fails(pack, built)
    )


def test_a_file_that_is_not_listed_is_named_in_one_line(pack, built):
    (pack / "a\nb.txt").touch()
    assert fails(pack, built) == "'a\\nb.txt': must not be there, manifest.json does not list it"


def test_a_manifest_may_be_written_otherwise(pack, built):
    """As `jq -S` does: sorted keys, so that groups come before layers, and other white space."""
    before = verify_export(pack, built.store)
    path = pack / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=3, sort_keys=True))
    assert verify_export(pack, built.store) == before


def test_a_folder_without_a_manifest_is_no_export(pack, built):
    (pack / "manifest.json").unlink()
    with pytest.raises(InputError) as error:
        verify_export(pack, built.store)
    assert str(error.value) == f"{pack}: must be an export, it has no manifest.json"


def test_comparing_nothing_is_a_failure(tmp_path, packs):
    manifest = json.loads((packs / "ws" / "manifest.json").read_text())
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    manifest |= dict(groups=[], layers={}, pack_id=empty, counts=dict(files=0, words=0, bytes=0, inexact=0))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ComparisonError) as error:
        verify_export(tmp_path)
    assert str(error.value) == f"{tmp_path}: nothing was compared"


def test_what_cannot_be_checked_is_said(built, tmp_path):
    export(built.store, tmp_path / "out", dataflow="ws", layers=MIDDLE, include="out,next")
    assert verify_export(tmp_path / "out", built.store).unchecked == ()
    report = verify_export(tmp_path / "out")
    assert set(report.counts) == {"files"} and report.unchecked[1:] == tuple(
        f"{MIDDLE}, image 0, {name}: its activation codes and weights are neither in the export nor in a store"
        for name in ("out", "next")
    )
    export(built.store, tmp_path / "next", dataflow="ws", layers=MIDDLE, include="activation,weight,next")
    assert verify_export(tmp_path / "next").unchecked[1:] == (
        f"{MIDDLE}, image 0, next: its thresholds and directions are neither in the export nor in a store",
    )


def test_lanes_without_a_channel_must_be_zero_even_without_a_store(built, tmp_path):
    export(built.store, tmp_path / "pack", dataflow="ws", layers=MIDDLE, include="activation")
    path = files_of(tmp_path / "pack", "activation")[0]
    lines = path.read_text().split()
    path.write_text("".join(f"1{line[1:]}\n" for line in lines))
    repair(tmp_path / "pack")
    with pytest.raises(ComparisonError, match=r"word 0, lane 7 \(it 0, nij 0, row 7\): must be 0, beyond .*, not 8$"):
        verify_export(tmp_path / "pack")


def test_words_beyond_the_last_line_must_be_zero(built, tmp_path):
    (tmp_path / "padded.toml").write_text('extends = "notebook"\n[layouts.out]\nwords = 64\n')
    export(built.store, tmp_path / "pack", profile=str(tmp_path / "padded.toml"), dataflow="ws", layers=MIDDLE)
    verify_export(tmp_path / "pack", built.store)
    path = files_of(tmp_path / "pack", "out")[0]
    flip_bit(path, 63)
    repair(tmp_path / "pack")
    with pytest.raises(ComparisonError, match=r"out_otile0\.txt: word 63: must be zero, it is beyond the last line$"):
        verify_export(tmp_path / "pack", built.store)


def test_a_sum_that_must_not_overflow_is_found(pack, built):
    edit_manifest(pack, pe(psum_bits=8, overflow="error"))
    assert "a sum must fit 8 bits, not be " in fails(pack, built)


def test_a_testbench_is_checked_by_its_digests(built, tmp_path):
    pack = tmp_path / "pack"
    export(built.store, pack, dataflow="ws", layers=MIDDLE, testbench=True)
    listed = json.loads((pack / "manifest.json").read_text())["testbench"]
    assert verify_export(pack, built.store).counts["files"] == len(files_of(pack, "weight")) + 4 + len(listed)
    path = pack / listed[0]["path"]
    path.write_bytes(path.read_bytes() + b" ")
    assert fails(pack, built).startswith(f"{listed[0]['path']}: sha256 must be {listed[0]['sha256']}, not ")
    path.unlink()
    assert fails(pack, built) == f"{listed[0]['path']}: must be there, it is missing"


def test_a_default_store_is_taken_where_the_export_came_from_it(packs, built, tmp_path):
    assert verify_export(packs / "ws", default=built.store).unchecked == ()
    (tmp_path / "other").mkdir()
    other = build_small(tmp_path / "other", NETWORK, images=1, array=SystolicArray(8, 8))
    damaged = tmp_path / "damaged" / "store.h5"
    damaged.parent.mkdir()
    damaged.write_bytes(built.store.read_bytes()[:1000])
    (tmp_path / "fewer").mkdir()
    fewer = build_small(tmp_path / "fewer", NETWORK, layers=FIRST, array=SystolicArray(8, 8))
    for default in (other.store, built.weights, tmp_path / "store.h5", damaged, fewer.store):
        assert len(verify_export(packs / "ws", default=default).unchecked) == 1


def test_an_open_store_can_be_given(packs, built):
    with open_store(built.store) as store:
        assert verify_export(packs / "os", store).counts["out"] > 0


def test_verify_takes_either(packs, built):
    assert verify(packs / "ws", store=built.store).counts == verify_export(packs / "ws", built.store).counts
    assert verify(built.store, sample=1, weights=built.weights).counts["psum"] > 0
    with pytest.raises(InputError, match=r"ws: weights and recovered outputs must be asked of a store, "):
        verify(packs / "ws", recovered=True)
    with pytest.raises(InputError, match=r"store\.h5: a store to compare with must be given for an "):
        verify(built.store, store=built.store)


@pytest.mark.parametrize("target", ["fifo", "/dev/zero"])
def test_what_is_no_file_is_not_read(target, tmp_path):
    from factory.verify.listing import read_file

    path = tmp_path / "activation.txt"
    os.mkfifo(path) if target == "fifo" else path.symlink_to(target)
    with pytest.raises(ComparisonError) as error:
        read_file(tmp_path, path.name, "0" * 64)
    assert str(error.value) == "activation.txt: must be a regular file"


def test_the_verifier_shares_no_code_with_what_it_verifies():
    """Of the package it imports words, the manifest's schema, stores and weights; recovered outputs are the model's."""
    import ast
    from pathlib import Path

    import factory.verify

    allowed = {"factory.spec", "factory.manifest", "factory.store", "factory.checkpoint"}
    for path in Path(factory.verify.__file__).parent.glob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        found = {node.module for node in nodes if node.module.startswith("factory.")}
        others = {name for name in found if not name.startswith("factory.verify.") and name != "factory.verify"}
        assert others <= allowed | ({"factory.model"} if path.name == "stored.py" else set()), path
