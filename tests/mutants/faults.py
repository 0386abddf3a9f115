"""Wrong words of right codes: an array in plain einsums whose parts can be done wrongly, one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

X = 1 << 40
"""A value whose bits are x."""


@dataclass(frozen=True)
class Plain:
    """A layer cut for an array: `weight` (it, ot, kij, col, row), `act` (it, nij, row) and `other`, another image's.

    An output-stationary array has one input channel for each `it`, and `tile` pixels in a file of outputs. A result
    that is too narrow has one bit less than `result_bits`; 0: than these outputs need.
    """

    weight: np.ndarray
    act: np.ndarray
    other: np.ndarray
    kernel: int
    stride: int
    width: int
    out: tuple[int, int]
    border: np.ndarray
    tile: int
    bits: int = 16
    shift: int = 0
    result_bits: int = 0

    def pixels(self, ki: int, kj: int) -> np.ndarray:
        y, x = np.divmod(np.arange(self.out[0] * self.out[1]), self.out[1])
        return (y * self.stride + ki) * self.width + x * self.stride + kj + self.shift

    def psum(self) -> np.ndarray:
        """Return (it, ot, kij, nij, col)."""
        return np.einsum("inr,iokcr->iokpc".replace("p", "n"), self.act.astype(np.int64), self.weight.astype(np.int64))

    def passes(self) -> np.ndarray:
        """Return what each pass adds, (it, kij, ot, onij, col)."""
        psum, count = self.psum(), self.kernel**2
        padded = np.concatenate([psum, np.zeros_like(psum[:, :, :, : self.shift + 1])], axis=3)
        return np.stack([padded[:, :, k][:, :, self.pixels(*divmod(k, self.kernel))] for k in range(count)], axis=1)

    def acc(self) -> np.ndarray:
        return self.passes().sum(axis=(0, 1))


def relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0)


def held(values: np.ndarray, bits: int) -> np.ndarray:
    half = 1 << (bits - 1)
    return (values + half) % (2 * half) - half


@dataclass(frozen=True)
class Fault:
    """`words(plain)` gives the `role`'s wrong values, `(it, ot, kij, nij, col)` or `(ot, onij, col)`.

    `causes` are the hypotheses that say the same; `flows` those that can have it.
    """

    what: str
    causes: tuple[str, ...]
    words: Callable[[Plain], np.ndarray]
    role: str = "out"
    flows: tuple[str, ...] = ("ws", "os")


def _late(values: np.ndarray, by: int) -> np.ndarray:
    rolled = np.roll(values, by, axis=1)
    rolled[:, :by] = 0
    return rolled


def _lanes_late(values: np.ndarray) -> np.ndarray:
    found = np.zeros_like(values)
    for lane in range(values.shape[-1]):
        found[..., lane : values.shape[-2], lane] = values[..., : values.shape[-2] - lane, lane]
    return found


def _weights(plain: Plain, weight: np.ndarray) -> Plain:
    return replace(plain, weight=weight)


def _rows_early(plain: Plain) -> np.ndarray:
    act = np.zeros_like(plain.act)
    for row in range(act.shape[2]):
        act[:, : act.shape[1] - row, row] = plain.act[:, row:, row]
    return replace(plain, act=act).psum()


def _row_early(plain: Plain, row: int) -> np.ndarray:
    act = plain.act.copy()
    act[:, :-1, row], act[:, -1, row] = plain.act[:, 1:, row], 0
    return replace(plain, act=act).psum()


def _before(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return the weights of the place before on an axis; the first keeps its own."""
    count = weight.shape[axis]
    return weight.take([0, *range(count - 1)], axis=axis)


def _transposed(plain: Plain) -> Plain:
    kij = np.arange(plain.kernel**2).reshape(plain.kernel, -1).T.reshape(-1)
    return _weights(plain, plain.weight[:, :, kij])


def _stepwise(plain: Plain, bits: int) -> np.ndarray:
    """Return accumulators of adders that saturate at each product and each pass."""
    half = 1 << (bits - 1)
    total = np.zeros(plain.acc().shape, np.int64)
    for it, kij in np.ndindex(len(plain.weight), plain.kernel**2):
        act = plain.act[it, plain.pixels(*divmod(kij, plain.kernel))]  # (onij, row)
        psum = np.zeros_like(total)
        for row in range(act.shape[1]):
            product = act[:, row, None] * plain.weight[it, :, kij, None, :, row]
            psum = np.clip(psum + product, -half, half - 1)
        total = np.clip(total + psum, -half, half - 1)
    return total


def narrow(plain: Plain) -> int:
    """Return a width that some of the outputs do not fit."""
    return plain.result_bits or int(relu(plain.acc()).max()).bit_length()


def _not_cleared(plain: Plain) -> np.ndarray:
    """Return accumulators on top of those before, in the order of the jobs: pixel tile outside, ot inside."""
    acc = plain.acc()
    ots, pixels, cols = acc.shape
    jobs = acc.reshape(ots, pixels // plain.tile, plain.tile, cols).swapaxes(0, 1)
    total = jobs.reshape(-1, plain.tile, cols).cumsum(axis=0).reshape(jobs.shape)
    return total.swapaxes(0, 1).reshape(acc.shape)


def _swap(values: np.ndarray, first: int, second: int) -> np.ndarray:
    order = np.arange(values.shape[-1])
    order[[first, second]] = second, first
    return values[..., order]


def _without(plain: Plain, kij: int, times: int) -> np.ndarray:
    return plain.acc() + (times - 1) * plain.passes()[:, kij].sum(axis=0)


def _unwritten(plain: Plain) -> np.ndarray:
    values = relu(plain.acc())
    values[-1, -plain.tile :] = X
    return values


WS = ("ws",)
FAULTS = (
    Fault("output lanes are reversed", ("lanes reversed",), lambda p: relu(p.acc())[..., ::-1]),
    Fault("psum lanes are reversed", ("lanes reversed",), lambda p: p.psum()[..., ::-1], "psum", WS),
    Fault("output lanes are rotated", ("lanes rotated",), lambda p: np.roll(relu(p.acc()), 1, axis=-1)),
    Fault("two lanes are swapped", ("lanes swapped",), lambda p: _swap(relu(p.acc()), 1, 2)),
    Fault("even and odd lanes are exchanged", ("lanes swapped",), lambda p: _swap(_swap(relu(p.acc()), 0, 1), 2, 3)),
    Fault("ki and kj are exchanged", ("kernel positions reordered",), lambda p: relu(_transposed(p).acc())),
    Fault("the kernel is flipped", ("kernel positions reordered",),
          lambda p: relu(_weights(p, p.weight[:, :, ::-1]).acc())),
    Fault("psums of kij are transposed", ("kernel positions reordered", "words of another tile or pass"),
          lambda p: _transposed(p).psum(), "psum", WS),
    Fault("psums come one word late", ("words late",), lambda p: _late(p.psum().swapaxes(1, 3), 1).swapaxes(1, 3),
          "psum", WS),
    Fault("psums come two words late", ("words late",), lambda p: _late(p.psum().swapaxes(1, 3), 2).swapaxes(1, 3),
          "psum", WS),
    Fault("rows are not skewed", ("missing skew",), _rows_early, "psum", WS),
    Fault("one row is not skewed", ("missing skew",), lambda p: _row_early(p, 2), "psum", WS),
    Fault("output lanes are not put together", ("lanes late",), lambda p: _lanes_late(p.psum()), "psum", WS),
    Fault("weights of the kij before", ("stale weights",), lambda p: relu(_weights(p, _before(p.weight, 2)).acc())),
    Fault("weights of the kij before, psums", ("stale weights", "words of another tile or pass"),
          lambda p: _weights(p, _before(p.weight, 2)).psum(), "psum", WS),
    Fault("weights of the it before", ("stale weights",), lambda p: relu(_weights(p, _before(p.weight, 0)).acc())),
    Fault("weights of the ot before", ("stale weights", "words of another tile or pass"),
          lambda p: relu(_weights(p, _before(p.weight, 1)).acc())),
    Fault("kij 4 is missing", ("a pass missing or doubled",), lambda p: relu(_without(p, 4, 0))),
    Fault("kij 4 is added twice", ("a pass missing or doubled",), lambda p: relu(_without(p, 4, 2))),
    Fault("the last it is missing", ("a pass missing or doubled",), lambda p: relu(p.passes()[:-1].sum(axis=(0, 1)))),
    Fault("accumulators are cleared by each it", ("accumulator cleared inside a sum", "a pass missing or doubled"),
          lambda p: relu(p.passes()[-1].sum(axis=0))),
    Fault("accumulators are not cleared", ("accumulator not cleared",), lambda p: relu(held(_not_cleared(p), p.bits))),
    Fault("weights are unsigned", ("wrong sign of codes",), lambda p: relu(_weights(p, p.weight % 16).acc())),
    Fault("activations have the other sign", ("wrong sign of codes",),
          lambda p: relu(replace(p, act=np.where(p.act > 7, p.act - 16, p.act % 16)).acc())),
    Fault("activations are shifted by one row", ("lanes of an operand",),
          lambda p: replace(p, act=np.roll(p.act, 1, axis=2)).psum(), "psum", WS),
    Fault("row 1 counts for nothing", ("products missing",),
          lambda p: replace(p, act=p.act * (np.arange(p.act.shape[2]) != 1)).psum(), "psum", WS),
    Fault("outputs are cut to fewer bits", ("result too narrow", "adder overflows the wrong way"),
          lambda p: held(relu(p.acc()), narrow(p) - 1)),
    Fault("outputs are clamped to fewer bits", ("result too narrow",),
          lambda p: np.minimum(relu(p.acc()), (1 << (narrow(p) - 2)) - 1)),
    Fault("every addition saturates", ("adder overflows the wrong way",), lambda p: relu(_stepwise(p, narrow(p) - 1)),
          flows=WS),
    Fault("ReLU is missing", ("another post-op",), lambda p: p.acc()),
    Fault("ReLU comes after each it", ("another post-op",), lambda p: relu(p.passes().sum(axis=1)).sum(axis=0),
          flows=WS),
    Fault("bit 3 is stuck at 1", ("stuck bit of the words",), lambda p: relu(p.acc()) | 8),
    Fault("bit 2 is stuck at 0", ("stuck bit of the words",), lambda p: relu(p.acc()) & ~4),
    Fault("bit 1 of the weights is stuck", ("stuck bit of codes",), lambda p: relu(_weights(p, p.weight | 2).acc())),
    Fault("another image's words", ("words of another image or layer",), lambda p: relu(replace(p, act=p.other).acc())),
    Fault("the border is 1 and not 0", ("padding is not the padding code",),
          lambda p: relu(replace(p, act=np.where(p.border[:, None], 1, p.act)).acc())),
    Fault("windows are a column off", ("window moved",), lambda p: relu(replace(p, shift=1).acc()), flows=WS),
    Fault("the last tile is never written", ("words never written",), _unwritten),
    Fault("nothing is written", ("words never written",), lambda p: np.zeros_like(p.acc())),
    Fault("the sums are negative", ("products subtracted",), lambda p: relu(-p.acc())),
)  # fmt: skip
"""Every fault."""
PAIRS = (
    Fault("lanes are reversed and a row is not skewed", ("missing skew", "lanes reversed"),
          lambda p: _row_early(p, 2)[..., ::-1], "psum", WS),
    Fault("ReLU is missing and lanes are reversed", ("another post-op", "lanes reversed"),
          lambda p: p.acc()[..., ::-1]),
    Fault("ki and kj are exchanged and bit 3 is stuck", ("kernel positions reordered", "stuck bit of the words"),
          lambda p: relu(_transposed(p).acc()) | 8),
)  # fmt: skip
"""Two faults at once."""
