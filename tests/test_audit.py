"""The overflow audit against plain loops, a layer worked by hand, and what a store observed."""

import dataclasses

import numpy as np
import pytest
from helpers_network import odd_network, trained_network
from helpers_verify import build_small
from hypothesis import given, settings
from hypothesis import strategies as st

import factory.audit
from factory.audit import PE, FirstWrap, audit, running_extremes
from factory.spec import IMAGE, ConvLayer, InputError, Network, Range, SystolicArray, TrainedNetwork
from factory.store import open_store


def slow_extremes(conv, array, weight, low, high):
    """Return `{(oc, it, kij, slot): (least, most)}` by loops over output pixels, in hardware order."""
    found = {}
    for oc, lanes in enumerate(weight.reshape(conv.out_channels, conv.in_channels, conv.kij_count).tolist()):
        for oi in range(conv.out_height):
            for oj in range(conv.out_width):
                accumulator = [0, 0]
                for it in range(-(-conv.in_channels // array.rows)):
                    for kij in range(conv.kij_count):
                        y = oi * conv.stride[0] + kij // conv.kernel[1] - conv.padding[0]
                        x = oj * conv.stride[1] + kij % conv.kernel[1] - conv.padding[1]
                        column = [0, 0]
                        for row in range(array.rows):
                            ic = it * array.rows + row
                            if ic < conv.in_channels:
                                ends = lanes[ic][kij] * int(low[ic]), lanes[ic][kij] * int(high[ic])
                                column = [column[0] + min(ends), column[1] + max(ends)]
                            widen(found, (oc, it, kij, row), column)
                        if 0 <= y < conv.height and 0 <= x < conv.width:
                            accumulator = [accumulator[0] + column[0], accumulator[1] + column[1]]
                        widen(found, (oc, it, kij, array.rows), accumulator)
    return found


def widen(found, key, pair):
    least, most = found.get(key, pair)
    found[key] = (min(least, pair[0]), max(most, pair[1]))


@st.composite
def layers(draw):
    kernel = draw(st.integers(1, 3))
    channels, sizes = st.integers(1, 5), st.integers(kernel, 4)
    conv = ConvLayer(
        "c", IMAGE, draw(channels), draw(channels), draw(sizes), draw(sizes),
        kernel=kernel, stride=draw(st.integers(1, 2)), padding=draw(st.integers(0, 2)),
    )  # fmt: skip
    array = SystolicArray(draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weight = rng.integers(-7, 8, conv.weight_shape).astype(np.int8)
    low = rng.integers(-20, 10, conv.in_channels)
    return conv, array, weight, low, low + rng.integers(0, 20, low.shape)


@settings(max_examples=60, deadline=None)
@given(layers())
def test_running_extremes_equal_plain_loops(layer):
    conv, array, *rest = layer
    least, most = running_extremes(conv, array, *rest)
    slow = slow_extremes(conv, array, *rest)
    assert least.size == len(slow)
    assert all((least[key], most[key]) == pair for key, pair in slow.items())


def one_layer(weight: np.ndarray, **fields) -> TrainedNetwork:
    """Return a network of one layer on a map of 2 x 2 pixels, whose input codes reach -15 to 15."""
    oc, ic, kernel, _ = weight.shape
    conv = ConvLayer("only", IMAGE, ic, oc, 2, 2, kernel=kernel, padding=0, signed=True, batch_norm=False, **fields)
    network = Network("one", (conv,), classes=1, mean=(0.5,) * ic, std=(0.5,) * ic)
    trained = trained_network(network)
    layer = dataclasses.replace(trained.layers["only"], weight_code=weight.astype(np.int8), alpha_a=np.float32(1))
    return dataclasses.replace(trained, layers={"only": layer})


def test_a_layer_worked_by_hand():
    """Rows of 2 lanes; column sums reach 15 * (1, 3 | 3, 7), the accumulator 45 and then 45 + 105."""
    weight = np.zeros((3, 4, 1, 1))
    weight[2, :, 0, 0] = (1, -2, 3, -4)
    (found,) = audit(one_layer(weight), psum_bits=8, array=SystolicArray(2, 2))
    assert found.psum == Range(-105, 105)
    assert found.accumulator == found.running == Range(-150, 150)
    assert (found.psum.bits, found.accumulator.bits, found.headroom) == (8, 9, -1)
    assert found.first_wrap == FirstWrap(it=1, kij=0, row=None, ot=1, col=0, value=-150)
    assert found.warning == (
        "only: psums need 8 bits and accumulators 9, psum_bits is 8; "
        "the first wrap could happen at it 1, kij 0, accumulator (ot 1, col 0 can reach -150)"
    )
    assert audit(one_layer(weight), psum_bits=7, array=SystolicArray(2, 2))[0].first_wrap == FirstWrap(
        1, 0, 1, 1, 0, -105
    )
    assert audit(one_layer(weight), psum_bits=9, array=SystolicArray(2, 2))[0].warning is None


def test_a_pe_that_wraps_codes_changes_the_worst_case():
    """Codes -15..15 in a signed PE of 4 bits are -8..7, in an unsigned one 0..15."""
    weight = np.array([7, -7, 7, -7]).reshape(1, 4, 1, 1)
    as_is, signed, unsigned, narrow = (
        audit(one_layer(weight), activation_bits=bits, activation_signed=sign)[0]
        for bits, sign in ((None, None), (4, True), (4, False), (2, None))
    )
    assert as_is.pe == signed.pe == PE(4, True) and unsigned.pe == PE(4, False) and narrow.pe == PE(2, True)
    assert [x.activation for x in (as_is, signed, unsigned)] == [Range(-15, 15)] * 3
    assert [x.unfit_values for x in (as_is, signed, unsigned, narrow)] == [15, 15, 15, 27]
    assert as_is.psum == Range(-420, 420)
    assert signed.psum == Range(-7 * 8 * 2 - 7 * 7 * 2, 7 * 7 * 2 + 7 * 8 * 2)
    assert unsigned.psum == Range(-210, 210)
    assert narrow.psum == Range(-7 * (2 + 2 + 1 + 1), 7 * (1 + 1 + 2 + 2))


@given(st.integers(1, 16), st.booleans(), st.integers(-(2**15), 2**15 - 1))
def test_a_pe_reads_the_low_bits(bits, signed, code):
    pe = PE(bits, signed)
    (read,) = pe.read(np.array([code]))
    least = -(2 ** (bits - 1)) if signed else 0
    assert least <= read < least + 2**bits and (read - code) % 2**bits == 0
    assert pe.fits(np.array([code]))[0] == (read == code)


@pytest.mark.parametrize("psum_bits", [2, 6, 9, 11, 12, 16])
def test_the_first_wrap_is_the_earliest_sum_out_of_range(psum_bits):
    network, array = odd_network(), SystolicArray(4, 4)
    for found, conv in zip(audit(trained_network(odd_network()), psum_bits, array=array), network.layers, strict=True):
        assert (found.first_wrap is None) == found.running.fits(psum_bits) == (found.headroom >= 0)
        assert found.running.low <= found.accumulator.low and found.accumulator.high <= found.running.high
        trained = trained_network(network).layers[conv.name]
        low = np.full(conv.in_channels, found.activation.low)
        if conv.signed or found.first_wrap is None:
            continue
        slow = slow_extremes(conv, array, trained.weight_code, low, low + found.activation.high)
        first = min(key[1:] for key, pair in slow.items() if not Range(*pair).fits(psum_bits))
        wrap = found.first_wrap
        assert first == (wrap.it, wrap.kij, array.rows if wrap.row is None else wrap.row)
        assert wrap.value in slow[wrap.ot * array.cols + wrap.col, *first]


@pytest.mark.parametrize("block", [1, 100, 1 << 24])
def test_a_store_says_what_was_observed(tmp_path, monkeypatch, block):
    monkeypatch.setattr(factory.audit, "BLOCK_BYTES", block)
    built = build_small(tmp_path, one_layer(np.full((3, 4, 1, 1), 7)).network)
    with open_store(built.store) as store:
        (found,) = audit(store, activation_bits=3, activation_signed=False)
        (layer,) = store.layers.values()
        for observed, data in zip(
            (found.observed.psum, found.observed.accumulator, found.observed.activation),
            (layer.psum[:], layer.accumulator[:], layer.activation[:]),
            strict=True,
        ):
            assert observed == Range(int(data.min()), int(data.max()))
        codes = layer.activation[:]
        assert found.observed.codes == codes.size
        assert found.observed.unfit == ((codes < 0) | (codes > 7)).sum() > 0
        with pytest.raises(InputError, match=r"store\.h5: array must be 4 x 8, not 8 x 8$"):
            audit(store, array=SystolicArray())


def test_what_is_observed_lies_within_the_worst_case(tmp_path):
    built = build_small(tmp_path, odd_network())
    with open_store(built.store) as store:
        for found in audit(store):
            for worst, seen in (
                (found.psum, found.observed.psum),
                (found.accumulator, found.observed.accumulator),
                (found.activation, found.observed.activation),
            ):
                assert worst.low <= seen.low <= seen.high <= worst.high


def test_wrong_widths_are_named():
    with pytest.raises(InputError, match=r"^psum_bits must be 2 to 32, not 1$"):
        audit(trained_network(odd_network()), psum_bits=1)
    with pytest.raises(InputError, match=r"^activation_bits must be 1 to 16, not 17$"):
        audit(trained_network(odd_network()), activation_bits=17)
