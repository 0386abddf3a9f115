"""The layout record: everything about one kind of memory file, from which writer, reader and manifest derive."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from factory.arithmetic.bits import MOST_BITS, Field
from factory.arithmetic.labelled import Axis
from factory.dataflow import INCLUDES, PIXELS, ROLES, Dataflow, axes_of
from factory.memfile.formats import FORMATS, HEADERS, header
from factory.memfile.text import check_texts
from factory.memfile.word import WordFormat
from factory.spec import InputError, check_range

MOST_WORD_BITS = 1 << 20
"""Width of the widest word that is asked for: far wider than any memory, and a line of digits still fits in memory."""
MOST_WORDS = 1 << 20
"""Words of the longest file that is asked for: deeper than memories on a chip, and its zeros still fit in memory."""
MOST_BASE = (1 << MOST_BITS) - 1
"""The largest first address: the last one that a field of codes holds."""
MOST_ALIGN = 1 << 20
TEXT_EXTENSION = ".txt"
ENDIANS = ("little", "big")
MAP_AXES = ("y", "x")
"""Names of the rows and columns of a map, which a split of its pixels by its width makes."""
_RANGES = (
    ("word_bits", 0, MOST_WORD_BITS), ("words", 0, MOST_WORDS), ("depth", 0, MOST_WORDS), ("base", 0, MOST_BASE),
    ("block_lines", 0, MOST_WORDS), ("block_stride", 0, MOST_BASE), ("align", 1, MOST_ALIGN),
)  # fmt: skip
FORMAT_KEYS = (
    "separator", "radix_prefix", "head", "foot", "blocks", "block_lines", "block_stride", "shape", "endian", "align"
)  # fmt: skip
"""Keys that only some formats have; manifests have them where they say something."""
_AXIS = re.compile(r"[a-z]+")
_NAME = re.compile(r"[A-Za-z0-9_\-]+")  # of which TOML makes keys without quotes
_TIME_AXES = ("nij", PIXELS, "px", "kij")
_SUFFIX = {"it": "_itile{it}", "pt": "_tile{pt}", "ot": "_otile{ot}"}
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Split:
    """An axis divided in two: `outer, inner = divmod(axis, size)`; `size` channels share one physical lane (SIMD).

    Where `size` does not divide the axis, zeros follow its end.
    """

    axis: str
    outer: str
    inner: str
    size: int


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
    where `signed`.

    `separator` is what stands between lanes, `radix_prefix` what stands before each number; `head` and `foot` are lines
    before and after the words. A block of words begins at each place on the axes `blocks`, of files and then of the
    outer lines, or every `block_lines` lines; addresses of blocks lie `block_stride` apart (0: the words of a block).
    `shape` has, for each dimension of an array in a language, the axes of lines and lanes that it counts (none: one
    for each axis). `endian` is the order of the bytes of a word, and `align` what the bytes of a file are a multiple
    of.
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
    separator: str = ""
    radix_prefix: str = ""
    head: tuple[str, ...] = ()
    foot: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    block_lines: int = 0
    block_stride: int = 0
    shape: tuple[str, ...] = ()
    endian: str = ENDIANS[0]
    align: int = 1

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
        check_texts(self.separator, self.radix_prefix, self.head, self.foot)
        for split in self.split:
            check_range("split: size", split.size, 1, MOST_WORDS)
            if split.outer == split.inner:
                raise InputError(f"split must divide {split.axis} into two axes, not into {split.outer} twice")
        parts = [name for split in self.split for name in (split.outer, split.inner)]
        for axis in (*map(str, (*self.files, *self.lines, *self.lanes)), *parts):
            if not _AXIS.fullmatch(axis.removeprefix("-")):
                raise InputError(f"axes must be of the letters a to z, or that after a -, not {axis!r}")
        if self.header != "none" and "header" not in FORMATS[self.format].keys:
            raise InputError(f"header must be none in format {self.format}, which has no comments, not {self.header}")

    def to_record(self) -> dict[str, Any]:
        """Return the layout as plain values, axes as their texts, without the keys of its format that say nothing."""
        values = {key.name: getattr(self, key.name) for key in fields(self) if key.name not in FORMAT_KEYS}
        values |= {name: [str(axis) for axis in values[name]] for name in ("files", "lines", "lanes")}
        return values | {"split": [vars(split) for split in self.split]} | self.format_keys()

    def format_keys(self) -> dict[str, Any]:
        """Return the keys that only some formats have, without those that say nothing."""
        given = {key.name: getattr(self, key.name) for key in fields(self) if key.name in FORMAT_KEYS}
        defaults = {key.name: key.default for key in fields(self)}
        given = {name: value for name, value in given.items() if value != defaults[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    @property
    def field(self) -> Field:
        """What a lane holds."""
        return Field(self.lane_bits, self.signed)

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
        expected, pixel = list(axes_of(ROLES[self.role], flow)), flow.pixel_tiling
        if pixel is not None and PIXELS in expected and pixel.outer in self.axes:
            at = expected.index(PIXELS)
            expected[at : at + 1] = [pixel.outer, pixel.inner]
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
        if self.shape and " ".join(self.shape).split() != [*lines, *lanes]:
            raise InputError(
                f"shape must be the axes of lines and lanes, {' '.join((*lines, *lanes))}, in dimensions, "
                f"not {list(self.shape)}"
            )

    def optional_keys(self) -> dict[str, Any]:
        """Return the keys that only some formats have, without those that say nothing."""
        values = {x.name: (getattr(self, x.name), x.default) for x in fields(self) if x.name in _REASONS}
        given = {name: value for name, (value, default) in values.items() if value != default and name != "base"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    def check_map(self, widths: Mapping[str, int], layer: str) -> None:
        """Raise InputError where pixels are divided into `y` and `x`, but not into the rows of the layer's own map."""
        for split in self.split:
            if (split.outer, split.inner) == MAP_AXES and split.axis in widths and split.size != widths[split.axis]:
                rule = (
                    f"must be divided into y and x by the width of the map, {widths[split.axis]}, not by {split.size}"
                )
                where = f"{layer}: layout {self.name}: split: {split.axis}"
                raise InputError(f"{where} {rule}; other names divide it by any size")

    def word(self, lanes: int) -> WordFormat:
        """Return the format of a word of `lanes` lanes."""
        return WordFormat(lanes, self.field, self.lane0_left, self.word_bits)

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
