"""The layout record: everything about one kind of memory file, from which writer, reader and manifest derive."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from factory.arithmetic.bits import MOST_BITS
from factory.arithmetic.labelled import LabelledArray
from factory.memfile.formats import FORMATS
from factory.memfile.header import HEADERS, header
from factory.memfile.memory import Memory
from factory.memfile.names import check_template
from factory.memfile.roles import INCLUDES, ROLES
from factory.spec import InputError, check_range

MOST_WORD_BITS = 1 << 20
"""Width of the widest word that is asked for: far wider than any memory, and a line of digits still fits in memory."""
MOST_WORDS = 1 << 20
"""Words of the longest file that is asked for: deeper than memories on a chip, and its zeros still fit in memory."""
MOST_BASE = (1 << MOST_BITS) - 1
"""The largest first address: the last one that a field of codes holds."""
_AXIS = re.compile(r"-?[a-z]+")
_NAME = re.compile(r"[A-Za-z0-9_\-]+")  # of which TOML makes keys without quotes
_TIME_AXES = ("nij", "onij", "px", "kij")


@dataclass(frozen=True)
class Split:
    """An axis divided in two: `outer, inner = divmod(axis, size)`; `size` channels share one physical lane (SIMD)."""

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
    (most significant axis first); a `-` before an axis reverses it. A word is `lane_bits` for each lane, lane 0
    rightmost or, with `lane0_left`, leftmost, zero-extended on the left to `word_bits` (0: as wide as its lanes);
    `words` is the least number of words, zeros after the last line. `base` is the address of the first word; of role
    `address`, what is added to every address that the file holds. Codes are two's complement where `signed`.
    """

    name: str
    role: str
    file: str
    files: tuple[str, ...]
    lines: tuple[str, ...]
    lanes: tuple[str, ...]
    lane_bits: int
    signed: bool
    include: str = ""
    split: tuple[Split, ...] = ()
    lane0_left: bool = False
    word_bits: int = 0
    words: int = 0
    base: int = 0
    format: str = "bin"
    header: str = "none"

    def __post_init__(self):
        try:
            self._check()
        except InputError as error:
            raise InputError(f"layout {self.name}: {error}") from None

    def _check(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(f"name must be of letters, digits, _ and -, not {self.name!r}")
        if not self.include:
            object.__setattr__(self, "include", self.role)
        for field, value, known in (
            ("role", self.role, ROLES),
            ("include", self.include, INCLUDES),
            ("format", self.format, FORMATS),
            ("header", self.header, HEADERS),
        ):
            if value not in known:
                raise InputError(f"{field} must be one of {' '.join(known)}, not {value}")
        if not 1 <= self.lane_bits <= MOST_BITS:
            raise InputError(f"lane_bits must be 1 to {MOST_BITS}, not {self.lane_bits}")
        for field, most in dict(word_bits=MOST_WORD_BITS, words=MOST_WORDS, base=MOST_BASE).items():
            check_range(field, getattr(self, field), 0, most)
        for split in self.split:
            check_range("split: size", split.size, 1, MOST_WORDS)
            if split.outer == split.inner:
                raise InputError(f"split must divide {split.axis} into two axes, not into {split.outer} twice")
        parts = [name for split in self.split for name in (split.outer, split.inner)]
        for axis in (*self.files, *self.lines, *self.lanes, *parts):
            if not _AXIS.fullmatch(axis):
                raise InputError(f"axes must be of the letters a to z, or that after a -, not {axis!r}")
        if self.header != "none" and not FORMATS[self.format].header:
            raise InputError(f"header must be none in format {self.format}, which has no comments, not {self.header}")
        image = ("image",) if ROLES[self.role].per_image else ()
        check_template(self.file, (*self.file_axes, *image, "n", "tile"))

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes, in the order of the bits in the files."""
        return tuple(axis.lstrip("-") for axis in (*self.files, *self.lines, *self.lanes))

    @property
    def file_axes(self) -> tuple[str, ...]:
        """The axes that select a file."""
        return tuple(axis.lstrip("-") for axis in self.files)

    def sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Return the sizes of the layout's axes, from those of its source."""
        sizes = dict(sizes)
        for split in self.split:
            count, rest = divmod(sizes[split.axis], split.size)
            if rest:
                raise InputError(
                    f"layout {self.name}: {split.axis} must be a multiple of {split.size}, not {sizes[split.axis]}"
                )
            sizes |= {split.outer: count, split.inner: split.size}
        return {axis: sizes[axis] for axis in self.axes}

    def check_axes(self, dataflow: str) -> None:
        """Raise InputError unless the layout places every axis of its role once."""
        if dataflow not in ROLES[self.role].axes:
            raise InputError(f"layout {self.name}: dataflow {dataflow} has no {self.role}")
        expected = list(ROLES[self.role].axes[dataflow])
        if "pt" in self.axes and dataflow == "os":
            expected = [part for axis in expected for part in (("pt", "px") if axis == "onij" else (axis,))]
        for split in self.split:
            if split.axis not in expected:
                raise InputError(f"layout {self.name}: split must divide one of {' '.join(expected)}, not {split.axis}")
            at = expected.index(split.axis)
            expected[at : at + 1] = [split.outer, split.inner]
        if sorted(expected) != sorted(self.axes):
            raise InputError(
                f"layout {self.name}: files, lines and lanes must be the axes {' '.join(sorted(expected))}, "
                f"not {' '.join(sorted(self.axes))}"
            )

    def arrange(self, source: LabelledArray) -> LabelledArray:
        """Return the source's axes in the order of the bits: files, lines, lanes (most significant axis first)."""
        for split in self.split:
            source = source.split(split.axis, split.outer, split.inner, split.size)
        return source.arrange((*self.files, *self.lines, *self.lanes))

    def memory(self, lines: int, lanes: int) -> Memory:
        """Return the memory of one file of `lines` lines of `lanes` lanes."""
        words, base = max(lines, self.words), 0 if self.role == "address" else self.base
        return Memory(words, lanes, self.lane_bits, self.signed, self.lane0_left, self.word_bits, base)

    def lane_names(self, sizes: Mapping[str, int]) -> tuple[str, ...]:
        """Return the names of a word's lanes, leftmost first, such as `row7`, from the sizes of the layout's axes."""
        names = [""]
        for axis in self.lanes:
            places = list(range(sizes[axis.lstrip("-")]))[:: -1 if axis.startswith("-") else 1]
            names = [f"{name}{axis.lstrip('-')}{place}" for name in names for place in places]
        return tuple(names if self.lane0_left else reversed(names))

    def header_lines(self, sizes: Mapping[str, int]) -> bytes:
        """Return the comment lines of one file."""
        inner = self.lines[-1].lstrip("-") if self.lines else "line"
        return header(self.header, "time" if inner in _TIME_AXES else inner, self.lane_names(sizes))
