"""Profiles: the memory files that one family of testbenches reads, as named records."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from factory.memfile.layout import Layout
from factory.memfile.roles import DATAFLOWS, INCLUDES, ROLES
from factory.spec import MOST_LANES, MOST_SIZE, InputError, SystolicArray, check_range

POSTS = ("relu", "none", "leaky", "relu+maxpool2")


@dataclass(frozen=True)
class Profile:
    """A dataflow's memory files and what the array that reads them does.

    `rows` and `cols` are the array's size, 0 for the store's; each row takes `simd` input channels, so that a tile is
    `rows * simd` x `cols` channels. `post` follows the outputs. `pixel_block` is the order of an OS array's pixels:
    blocks of `(height, width)` in row-major order, row-major inside; `(1, 1)` is consecutive `onij`.
    """

    name: str
    dataflow: str
    layouts: tuple[Layout, ...]
    about: str = ""
    rows: int = 0
    cols: int = 0
    simd: int = 1
    post: str = "relu"
    pixel_block: tuple[int, int] = (1, 1)

    def __post_init__(self):
        try:
            self._check()
        except InputError as error:
            raise InputError(f"profile {self.name}: {error}") from None

    def _check(self) -> None:
        if self.dataflow not in DATAFLOWS:
            raise InputError(f"dataflow must be one of {' '.join(DATAFLOWS)}, not {self.dataflow}")
        if self.post not in POSTS:
            raise InputError(f"post must be one of {' '.join(POSTS)}, not {self.post}")
        if self.dataflow == "os" and self.simd != 1:
            raise InputError(f"simd must be 1 in dataflow os, not {self.simd}")
        for field, least in dict(rows=0, cols=0, simd=1).items():
            check_range(field, getattr(self, field), least, MOST_LANES)
        if len(self.pixel_block) != 2 or min(self.pixel_block) < 1:
            raise InputError(f"pixel_block must be two numbers of at least 1, not {list(self.pixel_block)}")
        if max(self.pixel_block) > MOST_SIZE:  # the side of the largest map
            raise InputError(f"pixel_block must be two numbers of at most {MOST_SIZE}, not {list(self.pixel_block)}")
        names = [layout.name for layout in self.layouts]
        if len(set(names)) != len(names):
            raise InputError(f"layouts must have different names, not {' '.join(names)}")
        for layout in self.layouts:
            layout.check_axes(self.dataflow)

    @property
    def activation_signed(self) -> bool:
        """Whether the processing elements read activation codes as two's complement."""
        return any(layout.signed for layout in self.layouts if layout.role == "activation")

    @property
    def address_base(self) -> int:
        """The address of the first activation word."""
        return next((layout.base for layout in self.layouts if layout.role == "address"), 0)

    def field(self, role: str) -> tuple[int, bool]:
        """Return the `(bits, signed)` of the lanes that hold `activation` or `weight` codes."""
        for layout in self.layouts:
            if layout.role == role:
                return layout.lane_bits, layout.signed
        raise InputError(f"profile {self.name}: it must have a layout of role {role}")

    def tile_array(self, array: SystolicArray) -> SystolicArray:
        """Return the tile that the profile's array takes at a time, `rows` being input channels (OS: pixels)."""
        return replace(array, rows=(self.rows or array.rows) * self.simd, cols=self.cols or array.cols)

    def select(self, include: Collection[str]) -> tuple[Layout, ...]:
        """Return the layouts that the words of `include` ask for; raise InputError for a word without any."""
        if not include:
            raise InputError(f"include must name at least one of {' '.join(INCLUDES)}, it is empty")
        held = {layout.include for layout in self.layouts}
        for word in include:
            if word not in held:
                known = " ".join(name for name in INCLUDES if name in held)
                raise InputError(f"include must be of {known} in profile {self.name} ({self.dataflow}), not {word}")
        return tuple(layout for layout in self.layouts if layout.include in include)

    def configure(
        self,
        *,
        format: str | None = None,
        header: str | None = None,
        activation_signed: bool | None = None,
        post: str | None = None,
        base: int | None = None,
        psum_bits: int = 0,
        merge: bool = False,
    ) -> Profile:
        """Return the profile with options in place of its own values; None leaves a value as it is.

        Lanes that hold sums are at least `psum_bits` wide. `merge` puts the files of a layer and role into one.
        """
        given = {"format": format, "header": header}
        changes = {name: value for name, value in given.items() if value is not None}

        def configured(layout: Layout) -> Layout:
            own = dict(changes)
            if layout.role == "activation" and activation_signed is not None:
                own["signed"] = activation_signed
            if layout.role == "address" and base is not None:
                own["base"] = base
            if ROLES[layout.role].sums:
                own["lane_bits"] = max(layout.lane_bits, psum_bits)
            if merge:
                own |= dict(files=(), lines=(*layout.files, *layout.lines), file=f"{layout.name}.txt")
            return replace(layout, **own)

        return replace(self, layouts=tuple(map(configured, self.layouts)), post=post or self.post)
