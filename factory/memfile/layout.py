"""The layout record: everything about one kind of memory file, from which writer, reader and manifest derive."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from factory.arithmetic.bits import CODES, MOST_BITS, Field
from factory.arithmetic.labelled import Axis
from factory.dataflow import CYCLE, INCLUDES, PIXELS, ROLES, Dataflow, EdgeSchedule
from factory.memfile.formats import FORMATS, HEADERS, header
from factory.memfile.named import BIT, MAPS, named_axes, wanted_axes
from factory.memfile.regroup import Split
from factory.memfile.text import check_texts
from factory.memfile.word import Beats, WordFormat
from factory.spec import InputError, check_range

MOST_WORD_BITS = 1 << 20
"""Width of the widest word that is asked for: far wider than any memory, and a line of digits still fits in memory."""
MOST_WORDS = 1 << 20
"""Words of the longest file that is asked for: deeper than memories on a chip, and its zeros still fit in memory."""
MOST_ALIGNED, MOST_PIXEL_WORDS = 1 << 16, 1 << 10
"""The largest multiple that lines begin at, and words of a pixel: their files still fit in memory."""
MOST_BASE = (1 << MOST_BITS) - 1
"""The largest first address: the last one that a field of codes holds."""
MOST_ALIGN_BYTES = 1 << 20
"""The largest multiple that the bytes of a file are: its zeros still fit in memory."""
TEXT_EXTENSION = ".txt"
ENDIANS = ("little", "big")
_RANGES = (
    ("word_bits", 0, MOST_WORD_BITS), ("words", 0, MOST_WORDS), ("depth", 0, MOST_WORDS), ("base", 0, MOST_BASE),
    ("bus_bits", 0, MOST_WORD_BITS), ("beats", 0, MOST_WORDS), ("block_lines", 0, MOST_WORDS),
    ("block_stride", 0, MOST_BASE), ("align_bytes", 1, MOST_ALIGN_BYTES),
)  # fmt: skip
FORMAT_KEYS = tuple("separator radix_prefix head foot blocks block_lines block_stride shape endian align_bytes".split())
"""Keys that only some formats have, and that do not change which words a file has."""
LATER_KEYS = (
    *"code border align bus_bits beats beats_pow2 highest_beat_first stride pixel_words edge".split(), *FORMAT_KEYS
)  # fmt: skip
"""Keys that a record of a layout has only where they differ from their defaults."""
_AXIS = re.compile(r"[a-z]+")
_NAME = re.compile(r"[A-Za-z0-9_\-]+")  # of which TOML makes keys without quotes
_TIME_AXES = ("nij", PIXELS, "px", "kij", CYCLE)
_SUFFIX = {"it": "_itile{it}", "pt": "_tile{pt}", "ot": "_otile{ot}"}
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Align:
    """An axis of lines each of whose places begins at a multiple of so many words, zeros filling what is between."""

    axis: str
    words: int


@dataclass(frozen=True)
class Layout:
    """One kind of memory file.

    `name` is the layout's own in its profile (letters, digits, `_` and `-`), `role` what it holds, `include` the word
    that asks for it. `file` is the template of the file's name. The role's axes, after `split`, are each in one of
    three places: `files` select the file, `lines` count its words (outer axis first), `lanes` are the fields of a word
    (most significant axis first); any of them may be reversed. A word is `lane_bits` for each lane, lane 0
    rightmost or, with `lane0_left`, leftmost, zero-extended on the left to `word_bits` (0: as wide as its lanes).
    `words` is the least number of words, zeros after the last line, `depth` the largest (0: any). `base` is the address
    of the first word; of role `address`, what is added to every address that the file holds. Codes are two's complement
    where `signed`, or what `code` says.

    `border` false leaves the border of the input map out. `align` are line strides. A bus of `bus_bits` takes each word
    in beats, at least `beats` or a power of two of them, the lowest bits first or the highest; the words of the file
    are then the beats. An address file counts `pixel_words` words for each pixel, and pixels are `stride` addresses
    apart. `edge` is when values cross the array's edges, of a role that is what crosses one.

    `separator` is what stands between lanes, `radix_prefix` what stands before each number; `head` and `foot` are lines
    before and after the words. A block of words begins at each place on the axes `blocks`, of files and then of the
    outer lines, or every `block_lines` words; addresses of blocks lie `block_stride` apart (0: the words of a block).
    `shape` has, for each dimension of an array in a language, the axes of lines and lanes that it counts (none: one
    for each axis). `endian` is the order of the bytes of a word, and `align_bytes` what the bytes of a file are a
    multiple of.
    """

    name: str
    role: str
    file: str
    files: tuple[Axis, ...]
    lines: tuple[Axis, ...]
    lanes: tuple[Axis, ...]
    lane_bits: int
    signed: bool
    include: str = ""
    split: tuple[Split, ...] = ()
    lane0_left: bool = False
    word_bits: int = 0
    words: int = 0
    depth: int = 0
    base: int = 0
    format: str = "bin"
    header: str = "none"
    code: str = CODES[0]
    border: bool = True
    align: tuple[Align, ...] = ()
    bus_bits: int = 0
    beats: int = 0
    beats_pow2: bool = False
    highest_beat_first: bool = False
    stride: int = 1
    pixel_words: int = 1
    edge: EdgeSchedule = EdgeSchedule()
    separator: str = ""
    radix_prefix: str = ""
    head: tuple[str, ...] = ()
    foot: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    block_lines: int = 0
    block_stride: int = 0
    shape: tuple[str, ...] = ()
    endian: str = ENDIANS[0]
    align_bytes: int = 1

    def __post_init__(self):
        try:
            self._check()
        except InputError as error:
            raise InputError(f"layout {self.name}: {error}") from None

    def _check(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(f"name must be of letters, digits, _ and -, not {self.name!r}")
        for field, value, known in (
            ("role", self.role, ROLES),
            ("include", self.include or INCLUDES[0], INCLUDES),
            ("format", self.format, FORMATS),
            ("header", self.header, HEADERS),
            ("code", self.code, CODES),
            ("endian", self.endian, ENDIANS),
        ):
            if value not in known:
                raise InputError(f"{field} must be one of {' '.join(known)}, not {value}")
        if not self.include:
            include = self.role if self.role in INCLUDES else ROLES[self.role].include
            object.__setattr__(self, "include", include)
        if not 1 <= self.lane_bits <= MOST_BITS:
            raise InputError(f"lane_bits must be 1 to {MOST_BITS}, not {self.lane_bits}")
        for field, least, most in _RANGES:
            check_range(field, getattr(self, field), least, most)
        if self.blocks and self.block_lines:
            raise InputError(
                f"one of blocks and block_lines must be given, not {list(self.blocks)} and {self.block_lines}"
            )
        if self.block_stride and not (self.blocks or self.block_lines):
            raise InputError(f"block_stride must be given with blocks or block_lines, {self.block_stride} is alone")
        check_texts(self.separator, self.radix_prefix, self.head, self.foot, beats=self.bus_bits > 0)
        for split in self.split:
            check_range("split: size", split.size, 1, MOST_WORDS)
            if split.outer == split.inner:
                raise InputError(f"split must divide {split.axis} into two axes, not into {split.outer} twice")
        self._check_words()
        parts = [name for split in self.split for name in (split.outer, split.inner)]
        for axis in (*map(str, (*self.files, *self.lines, *self.lanes)), *parts):
            if not _AXIS.fullmatch(axis.removeprefix("-")):
                raise InputError(f"axes must be of the letters a to z, or that after a -, not {axis!r}")
        if self.header != "none" and "header" not in FORMATS[self.format].keys:
            raise InputError(f"header must be none in format {self.format}, which has no comments, not {self.header}")

    def _check_words(self) -> None:
        """Raise InputError where what the layout says of its words contradicts itself."""
        if self.code != CODES[0] and not self.signed:
            raise InputError(f"code must be {CODES[0]} where signed is false, not {self.code}")
        if self.code == "offset" and self.has_bits:
            raise InputError(f"code must be {CODES[0]} or sign_magnitude where bits have an axis, not {self.code}")
        if not self.bus_bits and (self.beats or self.beats_pow2 or self.highest_beat_first):
            raise InputError("bus_bits must be given with beats, beats_pow2 and highest_beat_first, it is 0")
        if self.beats and self.beats_pow2:
            raise InputError(f"beats must be 0 with beats_pow2, not {self.beats}")
        if self.bus_bits and self.separator:
            raise InputError(f"separator must be '' with bus_bits, whose beats have no lanes, not {self.separator!r}")
        for align in self.align:
            check_range("align: words", align.words, 1, MOST_ALIGNED)
        aligned, lines = [align.axis for align in self.align], [axis.name for axis in self.lines]
        for axis in aligned:
            if axis not in lines or aligned.count(axis) > 1:
                raise InputError(f"align must be of the axes of lines, {' '.join(lines)}, each once, not {axis}")
        if (self.stride, self.pixel_words) != (1, 1) and not ROLES[self.role].states:
            raise InputError(f"stride and pixel_words must be 1 for role {self.role}, which holds no addresses")
        if self.edge != EdgeSchedule() and not ROLES[self.role].edge:
            raise InputError(f"edge must be given with a role that crosses an edge of the array, not {self.role}")
        if self.edge.addresses and not self.signed:
            raise InputError("signed must be true where edge has content address: -1 is nothing")
        check_range("pixel_words", self.pixel_words, 1, MOST_PIXEL_WORDS)
        check_range("stride", self.stride, self.pixel_words, MOST_WORDS)

    def to_record(self) -> dict[str, Any]:
        """Return the layout as plain values, axes as their texts; of the later keys those that say something."""
        values = {key.name: getattr(self, key.name) for key in fields(self) if key.name not in LATER_KEYS}
        values |= {name: [str(axis) for axis in values[name]] for name in ("files", "lines", "lanes")}
        values |= self._given(LATER_KEYS)
        if "edge" in values:
            values["edge"] = self.edge.to_record()
        records = {name: [vars(record) for record in values[name]] for name in ("split", "align") if name in values}
        return values | records

    def format_keys(self) -> dict[str, Any]:
        """Return the keys that only some formats have, without those that say nothing."""
        return self._given(FORMAT_KEYS)

    def _given(self, keys: Collection[str]) -> dict[str, Any]:
        """Return those of some keys that say something."""
        given = {key.name: getattr(self, key.name) for key in fields(self) if key.name in keys}
        defaults = {key.name: key.default for key in fields(self)}
        given = {name: value for name, value in given.items() if value != defaults[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    @property
    def field(self) -> Field:
        """What holds a value: a lane, or as many lanes as it has bits where these have an axis."""
        return Field(self.lane_bits, self.signed, self.code)

    @property
    def states(self) -> bool:
        """Whether the values are addresses, for which lanes are as wide as the layer needs."""
        return ROLES[self.role].states or self.edge.addresses

    @property
    def has_bits(self) -> bool:
        """Whether the bits of values have an axis; those of addresses have none."""
        return BIT in wanted_axes(self) and not self.states

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes, in the order of the bits in the files."""
        return tuple(axis.name for axis in (*self.files, *self.lines, *self.lanes))

    @property
    def file_axes(self) -> tuple[str, ...]:
        """The axes that select a file."""
        return tuple(axis.name for axis in self.files)

    def check_axes(self, flow: Dataflow) -> None:
        """Raise InputError unless the layout places every axis of its role once, and names files by its own axes."""
        try:
            self._check_axes(flow)
            image = ("image",) if ROLES[self.role].per_image else ()
            check_template(self.file, (*self.file_axes, *image, "n", "tile"))
        except InputError as error:
            raise InputError(f"layout {self.name}: {error}") from None

    def _check_axes(self, flow: Dataflow) -> None:
        passes = flow.pass_axes if ROLES[self.role].edge else ()
        for axis in self.edge.sequence:
            if axis not in passes:
                raise InputError(f"sequence must be of the axes of passes, {' '.join(passes)}, not {axis}")
        expected = list(named_axes(self, flow).made)
        for split in self.split:
            if split.axis not in expected:
                raise InputError(f"split must divide one of {' '.join(expected)}, not {split.axis}")
            at = expected.index(split.axis)
            expected[at : at + 1] = [split.outer, split.inner]
        if sorted(expected) != sorted(self.axes):
            raise InputError(
                f"files, lines and lanes must be the axes {' '.join(sorted(expected))}, "
                f"not {' '.join(sorted(self.axes))}"
            )
        lines, lanes = ([axis.name for axis in part] for part in (self.lines, self.lanes))
        counted = [name for name in lines if name in self.blocks]
        if [*self.blocks] != [name for name in self.file_axes if name in self.blocks] + lines[: len(counted)]:
            raise InputError(
                f"blocks must be axes of files ({' '.join(self.file_axes) or 'none'}), and then the first of lines "
                f"({' '.join(lines) or 'none'}), not {' '.join(self.blocks)}"
            )
        for align in self.align:
            if align.axis in counted[:-1]:
                raise InputError(
                    f"align must not be of an axis of blocks but the last, {counted[-1]}, so that blocks are all as "
                    f"long, not of {align.axis}"
                )
        if self.shape and " ".join(self.shape).split() != [*lines, *lanes]:
            raise InputError(
                f"shape must be the axes of lines and lanes, {' '.join((*lines, *lanes))}, in dimensions, "
                f"not {list(self.shape)}"
            )

    def check_map(self, widths: Mapping[str, int]) -> None:
        """Raise InputError where pixels are divided into `y` and `x`, but not into the rows of the layer's own map."""
        for split in self.split:
            parts = (split.outer, split.inner)
            if parts in MAPS.values() and split.axis in widths and split.size != widths[split.axis]:
                names, width = " and ".join(parts), widths[split.axis]
                rule = f"must be divided into {names} by the width of the map, {width}, not by {split.size}"
                where = f"layout {self.name}: split: {split.axis}"
                raise InputError(f"{where} {rule}; other names divide it by any size")

    def word(self, lanes: int) -> WordFormat:
        """Return the format of a word of `lanes` lanes."""
        field = Field(1, False) if self.has_bits else self.field
        return WordFormat(lanes, field, self.lane0_left, self.word_bits)

    def beats_of(self, word: WordFormat) -> Beats | None:
        """Return the beats that a bus takes a word in; None without a bus."""
        if not self.bus_bits:
            return None
        count = max(-(-word.width // self.bus_bits), self.beats)
        count = 1 << (count - 1).bit_length() if self.beats_pow2 else count
        if count * self.bus_bits > MOST_WORD_BITS:
            bits = f"{count} of {self.bus_bits}"
            raise InputError(
                f"layout {self.name}: beats of a word must be of {MOST_WORD_BITS} bits at most, not {bits}"
            )
        return Beats(self.bus_bits, count, self.highest_beat_first)

    def header_lines(self, lane_names: tuple[str, ...]) -> bytes:
        """Return the comment lines of one file."""
        inner = self.lines[-1].name if self.lines else "line"
        return header(self.header, "time" if inner in _TIME_AXES else inner, lane_names)


def template_fields(template: str) -> tuple[str, ...]:
    """Return the names in a template's braces, in order."""
    return tuple(_FIELD.findall(template))


def check_template(template: str, known: Iterable[str]) -> None:
    """Raise InputError unless a template is a plain file name whose fields are all `known`."""
    plain = _FIELD.sub("0", _OPTIONAL.sub(r"\1", template))
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", plain):
        raise InputError(f"file must be a plain file name with fields in braces, not {template!r}")
    known = tuple(known)
    for field in template_fields(template):
        if field not in known:
            raise InputError(f"file must have fields of {' '.join(known)}, not {field}")


def complete_template(template: str, axes: Iterable[str], several: Collection[str], extension: str) -> str:
    """Return the template as a plain format string for files that are selected by `axes`.

    `{it}` is an index, `[_tile{pt}]` a part that is there only where several `pt` are. An axis that the template does
    not name gets such a part of its own at the end. `extension` takes the place of `.txt`.
    """
    stem, dot, rest = template.rpartition(".")
    stem, tail = (stem, dot + rest) if dot else (template, "")
    fields = template_fields(template)
    for axis in axes:
        if axis not in fields:
            stem += f"[{_SUFFIX.get(axis, f'_{axis}{{{axis}}}')}]"
    stem = _OPTIONAL.sub(lambda part: part[1] if set(several) & set(template_fields(part[1])) else "", stem)
    return stem + (extension if tail == TEXT_EXTENSION else tail)
