"""The options of an export, as one record, and the grammar of selections: `all`, `3`, `0:4,7`, `it=0:2,ot=5`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from factory.arithmetic.adders import Adder
from factory.arithmetic.labelled import Selection
from factory.dataflow import ROLES, Dataflow, LayerMapping
from factory.dataflow.schedule import SKEWS
from factory.memfile import Profile, load_profile
from factory.spec import ConvLayer, InputError, SystolicArray, parse_ranges

FILES = ("tile", "layer")
PE_ACTIVATIONS = ("unsigned", "signed")
_INCLUDE = "activation,weight,out"


DEFAULT_PROFILE = "notebook"


@dataclass(frozen=True)
class ExportOptions:
    """What an export is asked for.

    `layers` are `all`, `squeezed` or names with commas; `images` and `kij` are `all` or indices and ranges such as
    `0:4,7`; `include` has words of `factory.dataflow.INCLUDES`. `overflow` is what the array's adders do: `wrap`,
    `saturate`, or `error`, which raises InputError. `format`, `header` and `post` are those of Layout and Profile.
    `profile` is a name, a TOML file or a Profile; None: `notebook`, with lanes that hold codes that were given. None
    for `dataflow`, `format`, `header`, `pe_activation`, `post` and `address_base` leaves the profile's own, for
    `psum_bits`, `rows` and `cols` the store's. `tiles` is `all` or such as
    `it=0:2,ot=5` (ws), `pt=0,ot=0:4` (os), `it=0,pt=1,oc=0:8` (is); `input_channels` are the first ones to sum over
    (os). `files` is `tile`, or `layer` for one file a layer and role. `testbench` adds a self-checking SystemVerilog
    testbench. `flat` puts one layer and image straight into the folder. `flags` are words with commas: of a synthetic
    store, the layers that have one of them, and the images that have one; a word that no layer has selects no layers,
    and so with images. None for `layers` and `images` is the squeezed layer and the first image; with `flags`, all.
    `renumber` numbers what is kept of tiles, channels, images and kij from 0 in names of files. `header_roles` are the
    roles or words of `include` that have `header` (None: all). `content` (`value` or `address`) and `skew` (`diagonal`
    or `none`) are those of the streams that cross the array's edges; None: as the profile has them.
    """

    dataflow: str | None = None
    layers: str | Sequence[str] | None = None
    images: str | None = None
    tiles: str = "all"
    kij: str = "all"
    input_channels: int | None = None
    include: str | Iterable[str] = _INCLUDE
    profile: str | Path | Profile | None = None
    format: str | None = None
    header: str | None = None
    files: str = "tile"
    pe_activation: str | None = None
    rows: int | None = None
    cols: int | None = None
    psum_bits: int | None = None
    overflow: str = "wrap"
    post: str | None = None
    address_base: int | None = None
    testbench: bool = False
    flat: bool = False
    flags: str | None = None
    renumber: bool = False
    header_roles: str | Iterable[str] | None = None
    content: str | None = None
    skew: str | None = None

    def __post_init__(self):
        for name, known in (("files", FILES), ("pe_activation", (None, *PE_ACTIVATIONS))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {' '.join(filter(None, known))}, not {getattr(self, name)}")
        for name in ("images", "tiles", "kij"):
            given = getattr(self, name)
            if not isinstance(given, str) and (name != "images" or given is not None):
                raise InputError(f"{name} must be text such as all or 0:4,7, not {given!r}")
        stated = [role.include for role in ROLES.values() if role.states]
        if self.address_base is not None and not set(stated) & set(self.included):
            raise InputError(
                f"address_base must be given with include {stated[0]}, not with {','.join(self.included)}",
                options=("address_base", "include"),
            )

        crossing = [role.include for role in ROLES.values() if role.edge]
        for name, known in (("content", ("value", "address")), ("skew", SKEWS)):
            if getattr(self, name) not in (None, *known):
                raise InputError(f"{name} must be one of {' '.join(known)}, not {getattr(self, name)}")
            if getattr(self, name) is not None and not set(crossing) & set(self.included):
                raise InputError(
                    f"{name} must be given with include {','.join(crossing)}, not with {','.join(self.included)}",
                    options=(name, "include"),
                )
        if self.header_roles is not None and self.header is None:
            raise InputError("header_roles must be given with header", options=("header_roles", "header"))

    @property
    def merge(self) -> bool:
        """Whether a layer and role is one file."""
        return self.files == FILES[1]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The words of `layers`."""
        chosen = self.layers if self.layers is not None else "squeezed" if self.flags is None else "all"
        return tuple(map(str.strip, chosen.split(","))) if isinstance(chosen, str) else tuple(chosen)

    @property
    def image_places(self) -> str:
        """The text of `images`."""
        return self.images if self.images is not None else "0" if self.flags is None else "all"

    @cached_property
    def included(self) -> tuple[str, ...]:
        """The words of `include`, each once."""
        return _words(self.include)

    @cached_property
    def chosen(self) -> Profile:
        """The profile as it is asked for, without the options that change it."""
        given = DEFAULT_PROFILE if self.profile is None else self.profile
        found = given if isinstance(given, Profile) else load_profile(str(given), self.dataflow)
        if self.dataflow not in (None, found.dataflow):
            raise InputError(f"dataflow must be {found.dataflow} with profile {found.name}, not {self.dataflow}")
        return found

    def array(self, own: SystolicArray) -> SystolicArray:
        """Return the tile that the profile's array takes at a time, `own` being the store's."""
        for name in ("rows", "cols"):
            fixed, wanted = getattr(self.chosen, name), getattr(self, name)
            if fixed and wanted not in (None, fixed):
                raise InputError(f"{name} must be {fixed} with profile {self.chosen.name}, not {wanted}")
        given = {name: getattr(self, name) for name in ("rows", "cols", "psum_bits")}
        return self.chosen.tile_array(replace(own, **{name: x for name, x in given.items() if x is not None}))

    def configured(self, own: SystolicArray) -> Profile:
        """Return the profile with the options in place of its own values."""
        return self.chosen.configure(
            self.array(own).psum_bits,
            format=self.format,
            header=self.header,
            header_roles=None if self.header_roles is None else _words(self.header_roles),
            activation_signed=None if self.pe_activation is None else self.pe_activation == PE_ACTIVATIONS[1],
            post=self.post,
            base=self.address_base,
            merge=self.merge,
            content=self.content,
            skew=self.skew,
        )

    def map_layer(self, spec: ConvLayer, own: SystolicArray, profile: Profile) -> LayerMapping:
        """Return the selected part of a layer on the array of the configured `profile`.

        Raise InputError for an empty or wrong selection.
        """
        flow, fields, array = profile.flow, profile.fields, self.array(own)
        counts = flow.counts(spec, array)
        where = f"{spec.name}: "
        kept = {"kij": parse_indices(self.kij, spec.kij_count, f"{where}kij")}
        kept |= parse_tiles(self.tiles, {axis: counts[axis] for axis in flow.tile_axes}, where)
        kept |= self._channels(flow, spec, where)
        adder = Adder(array.psum_bits, self.overflow)
        selection = Selection({axis: kept[axis] for axis in counts})
        return LayerMapping(flow, spec, array, selection, fields, adder, profile.pixel_block)

    def _channels(self, flow: Dataflow, spec: ConvLayer, where: str) -> dict[str, tuple[int, ...]]:
        if not flow.sums_channels:
            if self.input_channels is not None:
                raise InputError(
                    f"input_channels must be given where channels are summed one by one, not with dataflow "
                    f"{flow.name}: there tiles it=... selects them",
                    options=("input_channels", "dataflow", "tiles"),
                )
            return {}
        wanted = spec.in_channels if self.input_channels is None else self.input_channels
        if not 1 <= wanted <= spec.in_channels:
            raise InputError(
                f"{where}input_channels must be 1 to {spec.in_channels}, not {wanted}", options=("input_channels",)
            )
        return {"ic": tuple(range(wanted))}


def _words(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return the words of a text with commas, or of a list, each once."""
    words = given.split(",") if isinstance(given, str) else given
    return tuple(dict.fromkeys(word.strip() for word in words if word.strip()))


def parse_indices(text: str, count: int, what: str) -> tuple[int, ...]:
    """Return the indices that `parse_ranges` gives for `text` of `0 .. count - 1`, ascending and each once."""
    return tuple(sorted(set(parse_ranges(text, count, what))))


def parse_tiles(text: str, counts: Mapping[str, int], what: str) -> dict[str, tuple[int, ...]]:
    """Return the tiles of each axis of `counts` that `text` selects, such as `it=0:2,ot=5`; an axis not named is whole.

    Raise InputError, which begins with `what`, for an axis that is not of `counts` and as `parse_indices` does.
    """
    if text.strip() == "all":
        return {axis: tuple(range(count)) for axis, count in counts.items()}
    chosen: dict[str, list[str]] = {}
    axis = None
    for item in text.split(","):
        name, equals, rest = item.partition("=")
        if equals:
            axis, item = name.strip(), rest
        if axis not in counts:
            known = " and ".join(f"{known}=..." for known in counts)
            raise InputError(f"{what}tiles must be all or of {known}, not {text}")
        chosen.setdefault(axis, []).append(item)
    return {
        axis: parse_indices(",".join(chosen.get(axis, ["all"])), count, f"{what}{axis}")
        for axis, count in counts.items()
    }
