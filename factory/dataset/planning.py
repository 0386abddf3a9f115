"""Planning: from options, or a TOML file of them, to a dataset's folder with its plan."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import factory
from factory.build.captured import capture
from factory.build.sources import Source, open_pictures, open_stored
from factory.build.synthetic import corners
from factory.checkpoint import shipped_weights
from factory.dataset.folder import SOURCES, read_plan, write_plan
from factory.dataset.plan import FULL, MOST_SHARD_IMAGES, SMOKE, Part, Plan, Split
from factory.spec import InputError, SystolicArray, check_range, read_toml, typed_values, whole_folder
from factory.store import COMPRESSIONS, KEPT, is_store, plan_store
from factory.synthetic import MOST_SEED, Draw, random_words
from factory.tables import bytes_text

TOML = "plan.toml"
_CORNER, _RANDOM = "corner", "random-"
_SMOKE_IMAGES = 8
_SOURCES = ("images", "source", "corners", "random")
_PRODUCTS = 20e9
"""Products of codes that one processor with AVX-512 adds up in a second: measured, a guess for any other."""


@dataclass(frozen=True)
class PlanOptions:
    """What a dataset is planned from.

    Of these one is given: `images` (with `weights`, `split` and `pick` as `factory build` takes them), `source` (a
    store, or arrays as `factory capture` takes them, of which `pick` chooses), `corners`, and `random`, the seed of
    random codes (`count` of each kind). `splits` maps names to ranges of images, `random-<seed>` to how many are drawn,
    or any to a table of `images`, `layers` and `tiles`.
    """

    weights: str = ""
    images: str = ""
    split: str = "test"
    pick: str = "all"
    source: str = ""
    corners: bool = False
    random: int = -1
    count: int = 4
    layers: str = "all"
    rows: int = 8
    cols: int = 8
    psum_bits: int = 16
    shard_images: int = 512
    compression: str = "none"
    splits: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        given = [self.images, self.source, self.corners, self.random >= 0]
        if sum(map(bool, given)) > 1:
            raise InputError("one of images, source, corners and random must be given", options=_SOURCES)
        if self.weights and any(given[1:]):
            raise InputError("weights must be given with images only", options=("weights", "images"))
        if self.split != PlanOptions.split and not self.pictures:
            raise InputError("split must be given with images only", options=("split", "images"))
        if self.count != PlanOptions.count and self.random < 0:
            raise InputError("count must be given with random only", options=("count", "random"))
        if self.compression not in ("none", *COMPRESSIONS):
            raise InputError(f"compression must be none or of {' '.join(COMPRESSIONS)}, not {self.compression}")

    @property
    def pictures(self) -> bool:
        """Whether images are pictures that go through a network."""
        return not (self.source or self.corners or self.random >= 0)

    @property
    def array(self) -> SystolicArray:
        """The array."""
        return SystolicArray(self.rows, self.cols, self.psum_bits)


def read_options(path: Path) -> PlanOptions:
    """Read options from a TOML file, whose paths are relative to its folder; raise InputError for anything else."""
    kinds = {item.name: item.type for item in dataclasses.fields(PlanOptions)}
    try:
        data = read_toml(path, "dataset plan")
        splits = data.pop("splits", {})
        if not isinstance(splits, dict):
            raise InputError(f"splits must be a table, not {splits!r}")
        values = typed_values(data, kinds, ())
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    for name in ("weights", "images", "source"):
        if (path.parent / values.get(name, "")).exists() and values.get(name):
            values[name] = str(path.parent / values[name])
    return PlanOptions(**values, splits=splits)


def plan_dataset(
    folder: Path | str, options: PlanOptions, say: Callable[[str], None] | None = None, toml: Path | None = None
) -> Plan:
    """Plan a dataset in a new folder, and return the plan; nothing is computed but digests of the images.

    `say` is called with a line for each thing that a source leaves out, and with lines that say how large the dataset
    will be; `toml` is the file of the options, which is kept. Raise InputError where an option is not what it must be,
    or there is something in the folder already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: must be a new folder, there is something already")
    try:
        with whole_folder(folder.absolute()) as root:
            source, part = _open(root, options, 0, 0, say)
            plan = Plan(
                network=source.origin.network.name,
                origin=source.origin.kind,
                pictures=options.pictures,
                weights=_weights(options.weights) if options.pictures else "",
                weights_sha256=source.origin.sha256,
                layers=tuple(planned.tiled.layer.spec.name for planned in source.planned),
                shard_images=options.shard_images,
                compression=options.compression,
                array=options.array,
                parts=(part,),
                splits=tuple(_splits(options, part.count)),
            )
            write_plan(root, plan)
            if toml is not None:
                (root / TOML).write_bytes(toml.read_bytes())
            for line in describe_plan(folder, plan, source, part):
                if say:
                    say(line)
    except OSError as error:
        raise InputError(f"{folder}: a dataset cannot be planned there: {error}") from None
    return plan


def describe_plan(folder: Path, plan: Plan, source: Source, part: Part) -> Iterator[str]:
    """Yield lines that say how large a part of a dataset will be, and how long it takes; `source` is the part's."""
    images = source.images(0, min(plan.shard_images, part.count))
    codes, psums = (plan_store(source.origin, source.planned, plan.array, images, keep=keep) for keep in KEPT[::-1])
    shards = len(part.sha256)
    constants = codes.nbytes - codes.image_bytes * codes.image_count
    size, whole = (part.count * each.image_bytes + shards * constants for each in (codes, psums))
    yield (
        f"{folder}: images of {part.name}: {part.count}, layers of {plan.network}: {len(plan.layers)}, "
        f"shards of up to {plan.shard_images} images: {shards}"
    )
    packed = "" if plan.packed is None else f", less by {plan.packed}"
    yield f"codes: {bytes_text(size)}{packed}; with psums it would be {bytes_text(whole)}"
    if plan.pictures:
        products = sum(math.prod(spec.weight_shape) * spec.onij_count for spec in source.origin.network.layers)
        seconds = part.count * products / _PRODUCTS
        yield f"time: {seconds:.1f} s, if one processor adds up {_PRODUCTS / 1e9:.0f} G products a second"
    yield f"splits: {', '.join(f'{x.name} {len(x.places(plan.image_count))}' for x in plan.splits)}"


def extend_dataset(folder: Path | str, options: PlanOptions, say: Callable[[str], None] | None = None) -> Plan:
    """Add the images of `options` to a dataset's plan, as new shards, and return it; what is there stays as it is.

    The rest of the options must be the defaults: it is as planned. Raise InputError where weights are others.
    """
    folder, plan = Path(folder), read_plan(folder)
    if options.pictures != plan.pictures or not (options.images or options.source):
        what = "images" if plan.pictures else "source"
        raise InputError(f"{folder}: {what} must be given, as it was planned", options=(what,))
    planned = dict(layers=",".join(plan.layers), shard_images=plan.shard_images, compression=plan.compression)
    options = replace(options, weights=plan.weights, **planned, **dataclasses.asdict(plan.array))
    source, part = _open(folder, options, len(plan.parts), plan.image_count, say)
    if source.origin.sha256 != plan.weights_sha256:
        raise InputError(f"{part.name}: weights must have the plan's sha256 {plan.weights_sha256}, they are others")
    plan = replace(plan, parts=(*plan.parts, part))
    write_plan(folder, plan)
    for line in describe_plan(folder, plan, source, part):
        if say:
            say(line)
    return plan


def _open(
    folder: Path, options: PlanOptions, number: int, first: int, say: Callable[[str], None] | None
) -> tuple[Source, Part]:
    """Return what `options` name, and the part `number` of a plan that it is, from the dataset's image `first` on."""
    check_range("shard_images", options.shard_images, 1, MOST_SHARD_IMAGES)
    split, pick, layers, array = options.split, options.pick, options.layers, options.array
    if options.pictures:
        place = options.images or "samples"
        source: Source = open_pictures(options.weights or None, place, split, pick, layers, array)
        place = place if place == "samples" else str(Path(place).absolute())
    else:
        path, split = _store(folder / SOURCES / f"{number}.h5", options, say), ""
        source = open_stored(path, pick, layers, array)
        place = str(path.relative_to(folder) if path.is_relative_to(folder) else path.absolute())
    starts = range(0, source.count, options.shard_images)
    digests = [source.sha256(start, min(start + options.shard_images, source.count)) for start in starts]
    return source, Part(source.name, split, pick, first, source.count, factory.__version__, tuple(digests), place)


def _store(target: Path, options: PlanOptions, say: Callable[[str], None] | None) -> Path:
    """Return the store that `options` name, or the one that is made of the arrays or patterns that they name."""
    if options.source and is_store(Path(options.source)):
        return Path(options.source)
    target.parent.mkdir(exist_ok=True)
    if options.source:
        return capture(options.source, output=target, array=options.array, keep="codes", force=True, say=say)
    drawn = Draw(options.random, options.count) if options.random >= 0 else None
    return corners(target, options.array, random=drawn, keep="codes", force=True, say=say)


def _weights(weights: str) -> str:
    named = not weights or weights in shipped_weights()
    return weights if named else str(Path(weights).absolute())


def _splits(options: PlanOptions, count: int) -> Iterator[Split]:
    """Yield the splits that are described, after `smoke` and the one that a synthetic dataset has by its nature."""
    natural = {SMOKE: f"0:{min(_SMOKE_IMAGES, count)}"}
    if options.corners or options.random >= 0:
        natural[_CORNER if options.corners else f"{_RANDOM}{options.random}"] = "all"
    for name, value in (natural | dict(options.splits)).items():
        if name == FULL:
            raise InputError(f"split {FULL} must be left out: it is every image")
        table = dict(value) if isinstance(value, dict) else dict(images=value)
        drawn = table.get("images")
        if name.startswith(_RANDOM) and str(drawn).isdecimal():
            table["images"] = _drawn(name, int(drawn), count)
        try:
            split = Split(name, **typed_values(table, dict.fromkeys(("images", "layers", "tiles"), "str"), ()))
        except InputError as error:
            raise InputError(f"split {name}: {error}") from None
        split.places(count)
        yield split


def _drawn(name: str, wanted: int, count: int) -> str:
    """Return `wanted` of `count` images as ranges, drawn by the seed in the name: those of the least random words."""
    seed = name.removeprefix(_RANDOM)
    if not seed.isdecimal() or int(seed) > MOST_SEED:
        raise InputError(f"split {name}: its name must end with a seed, 0 to {MOST_SEED}")
    check_range(f"split {name}: images", wanted, 1, count)
    places = np.argsort(random_words(int(seed), count), kind="stable")[:wanted]
    return ",".join(map(str, sorted(places.tolist())))
