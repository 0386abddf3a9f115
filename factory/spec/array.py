"""The systolic array: its size, and the widths of what goes through it."""

from __future__ import annotations

from dataclasses import dataclass

from factory.spec.errors import InputError

MOST_LANES = 4096
"""Rows or columns of the largest array: far more than any that was built, few enough for the memory of a tile."""


@dataclass(frozen=True)
class SystolicArray:
    """A systolic array of `rows` x `cols` processing elements; `psum_bits` is the width of its adders.

    Input channels enter rows, output channels leave columns. A tile is `rows` x `cols` channels; the last one of a
    layer is padded with zero lanes.
    """

    rows: int = 8
    cols: int = 8
    psum_bits: int = 16

    def __post_init__(self):
        for field in ("rows", "cols"):
            if getattr(self, field) < 1:
                raise InputError(f"array {field} must be at least 1, not {getattr(self, field)}")
            if getattr(self, field) > MOST_LANES:
                raise InputError(f"array {field} must be at most {MOST_LANES}, not {getattr(self, field)}")
        if not 2 <= self.psum_bits <= 32:
            raise InputError(f"array psum_bits must be 2 to 32, not {self.psum_bits}")

    def input_tiles(self, channels: int) -> int:
        """Number of `it` that hold `channels` input channels."""
        return -(-channels // self.rows)

    def output_tiles(self, channels: int) -> int:
        """Number of `ot` that hold `channels` output channels."""
        return -(-channels // self.cols)

    def pixel_tiles(self, pixels: int) -> int:
        """Number of `pt` that hold `pixels` output pixels (OS: `rows` pixels a tile)."""
        return -(-pixels // self.rows)
