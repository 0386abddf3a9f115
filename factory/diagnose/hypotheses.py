"""The causes that a diagnosis tries: one table, one record each, so that more can be added.

`TABLE` is in the order in which causes are named where two explain the same. A hypothesis of your own is a record with
a function that yields guesses: `diagnose(..., hypotheses=(*TABLE, Hypothesis("mine", "...", "...", my_function)))`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from factory.diagnose import models, sums, views, windows
from factory.diagnose.case import Case, Guess


@dataclass(frozen=True)
class Hypothesis:
    """A cause: its name, what it `looks` like, what to `check` in the design, and what a dump would hold.

    `predict` yields a guess for each value of what is free in it. `computes` says that it needs the operands; the
    others only move or change words, and so can come on top of one that computes.
    """

    name: str
    looks: str
    check: str
    predict: Callable[[Case], Iterator[Guess]]
    computes: bool = True


def _view(name: str, looks: str, check: str, predict: Callable[[Case], Iterator[Guess]]) -> Hypothesis:
    return Hypothesis(name, looks, check, predict, computes=False)


TABLE = (
    Hypothesis(
        "wrong sign of codes",
        "sums are off by multiples of 2^bits of an operand",
        "$signed and the sign extension of the operand at the multiplier; the parameter that says how it is read",
        models.signs,
    ),
    Hypothesis("products subtracted", "every sum has the other sign", "the sign of the product", models.subtracted),
    Hypothesis(
        "adder overflows the wrong way",
        "only sums beyond the width differ",
        "wrap or saturate, the width, and which end a clamp goes to, in every adder",
        sums.adders,
    ),
    _view(
        "lanes reversed",
        "every lane differs but the middle one; a mirrored picture",
        "the direction of part selects, [c*W +: W] against [(N-1-c)*W +: W], and of unpacked arrays",
        views.lanes_reversed,
    ),
    _view(
        "lanes rotated",
        "each lane has its neighbour's values",
        "the index of lanes, and of the first one",
        views.lanes_rotated,
    ),
    _view("lanes swapped", "two lanes differ, or all by pairs", "the wiring of these lanes", views.lanes_swapped),
    _view(
        "lanes shifted",
        "each lane has its neighbour's values, the last one 0",
        "the index of lanes; whether the weights of a column are loaded a clock late",
        views.lanes_shifted,
    ),
    _view(
        "rows and columns exchanged",
        "a transposed picture",
        "the order of the loops that read or write the tile",
        views.exchanged,
    ),
    _view(
        "words in reverse order",
        "the first word of a file comes last",
        "the direction of the address counter",
        views.lines_reversed,
    ),
    _view(
        "words of another tile or pass",
        "a whole tile is another one's right words",
        "the index of it, ot, kij in the address, and when it counts on",
        views.places_moved,
    ),
    Hypothesis(
        "kernel positions reordered",
        "border and inside differ, less where weights are alike",
        "kij = ki * K + kj on the side of the weights and of the pixels",
        models.kernel_reordered,
    ),
    Hypothesis(
        "stale weights",
        "all words of a pass are right products of other weights",
        "when a column takes its weights, against when the pass begins",
        models.stale_weights,
    ),
    _view(
        "words never written",
        "x, 0 or ones in whole words",
        "the write enable, the address, and the end of the loop",
        views.not_written,
    ),
    Hypothesis(
        "accumulator not cleared",
        "the first tile is right, or all is x; the others are too large",
        "what clears the sums at the start of a tile",
        sums.not_cleared,
    ),
    Hypothesis(
        "accumulator cleared inside a sum",
        "the words are the sums of the last it or kij only",
        "the condition of the clear: once a tile, not once a pass; whether a job continues the one before",
        sums.restarted,
    ),
    Hypothesis(
        "a pass missing or doubled",
        "the difference is one pass's psum",
        "the ends of the loops over it and kij",
        sums.passes_counted,
    ),
    Hypothesis(
        "another post-op",
        "only negative sums differ",
        "the ReLU: that it is there, once, after the whole sum",
        sums.post_ops,
    ),
    Hypothesis(
        "window moved",
        "every pixel reads others; worse at the border",
        "the first pixel of a pass; stride, dilation and the map's width, each of its own axis",
        windows.windows_moved,
    ),
    Hypothesis(
        "kernel of another size",
        "sums of too few or too many passes, or of passes at other pixels",
        "the ends of the loops over ki and kj, each of its own axis",
        windows.kernels_resized,
    ),
    Hypothesis(
        "padding is not the padding code",
        "only pixels of the border differ",
        "what the border of the map is filled with",
        models.padding_codes,
    ),
    Hypothesis(
        "missing skew",
        "one lane, or each more than the one before, meets the codes of other clocks",
        "the delay of each row or column",
        models.operands_skewed,
    ),
    _view(
        "lanes late",
        "one lane, or each more than the one before, has the words of other clocks",
        "the delay of each lane at the edge, where words are put together again",
        views.lanes_skewed,
    ),
    _view(
        "words late",
        "the right words, n places further on",
        "valid against the word; the latency that is assumed",
        views.late,
    ),
    Hypothesis(
        "lanes of an operand",
        "every sum differs, none looks random",
        "the order of rows and columns of one operand",
        models.lanes_of_operands,
    ),
    Hypothesis(
        "products missing",
        "the difference is one row's product",
        "that row's, or SIMD channel's, multiplier and adder",
        models.rows_missing,
    ),
    _view(
        "stuck bit of the words", "the differences are one power of two", "that bit's wire or register", views.stuck_bit
    ),
    Hypothesis(
        "stuck bit inside the sums",
        "every word has the bit, and others differ too",
        "that bit in the elements' adders",
        sums.adder_bits,
    ),
    Hypothesis(
        "carry lost",
        "sums are off by multiples of one power of two, always downwards",
        "where an adder is cut in two: the carry into the upper part",
        sums.carries,
    ),
    Hypothesis(
        "stuck bit of codes",
        "sums differ where codes have the bit",
        "that bit of the operand's register",
        models.code_bits,
    ),
    _view("bits reordered", "values differ, all of them", "bit and byte order; a sign; a shift", views.bits_reordered),
    _view(
        "result too narrow", "only large values differ", "the width of the register or port after the sum", views.narrow
    ),
    _view(
        "words of another image or layer",
        "the right words of something else",
        "which files are loaded, and what is left of the run before",
        views.other_words,
    ),
    Hypothesis("threshold compared wrongly", "only sums at a threshold differ", "> against >=", sums.thresholds),
    _view(
        "words lost or taken twice",
        "right up to a word, then the same words out of place",
        "valid and ready: a word moves in the clocks in which both are 1, and waits in the others",
        views.handshake,
    ),
)
"""Every hypothesis, in the order in which equal ones are named."""
