"""Random codes: the same bits for ever, of the distribution that is said."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest

import factory
from factory.spec import InputError, SystolicArray
from factory.synthetic import Draw, base_layer, random_network
from factory.synthetic.seeded import Histogram, random_words

ARRAY = SystolicArray(5, 3)


def test_the_generator_is_splitmix64():
    """The first values of the published generator, of seeds 0 and 1234567."""
    assert random_words(0, 3).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert random_words(1234567, 2).tolist() == [6457827717110365317, 3203168211198807973]


def test_the_same_seed_gives_the_same_bits():
    """Known answers: the first codes of each kind, and a digest of all."""
    network = random_network(Draw(7, count=2, density=0.5), ARRAY)
    layers = {layer.spec.name: layer for layer in network.layers}
    assert network.name == "random-7" and network.images == ("uniform-0", "uniform-1", "sparse-0", "sparse-1")
    digest = hashlib.sha256()
    for layer in layers.values():
        digest.update(np.ascontiguousarray(layer.weight))
        digest.update(np.ascontiguousarray(layer.activation))
    assert layers["uniform"].weight.ravel()[:12].tolist() == UNIFORM
    assert layers["sparse"].activation[2].ravel()[:12].tolist() == SPARSE
    assert digest.hexdigest() == DIGEST


UNIFORM = [4, -3, 6, -1, 0, -6, 5, 2, 7, 2, -2, -2]
SPARSE = [0, 3, 0, 0, 0, 0, 0, 11, 13, 3, 0, 1]
DIGEST = "3081946f9c80be1fbfef962cca1dc64f3a6328054ad154c2172c262941b54ecf"


def test_codes_by_plain_python():
    """The documented formula, word by word, in Python's own integers."""
    network = random_network(Draw(11, count=1, density=0.25), ARRAY, base_layer(ARRAY, weight_bits=3, signed=True))
    key = int.from_bytes(hashlib.sha256(b"factory-random-1 11 weight sparse").digest()[:8], "little")
    codes = [-3, -2, -1, 1, 2, 3]
    expected = []
    for i in range(50):
        u, v = (_word(key, 2 * i + half) >> 32 for half in (0, 1))
        expected.append(codes[v * len(codes) >> 32] if u < 2**30 else 0)
    assert network.layers[1].weight.ravel()[:50].tolist() == expected


def _word(key: int, place: int) -> int:
    z = (key + (place + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_an_image_does_not_depend_on_how_many_there_are():
    one, three = (random_network(Draw(3, count=count), ARRAY) for count in (1, 3))
    assert (one.layers[0].activation[0] == three.layers[0].activation[0]).all()
    assert (one.layers[0].activation[1] == three.layers[0].activation[3]).all()
    assert not (three.layers[0].activation[0] == three.layers[0].activation[1]).all()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [False, True])
def test_codes_of_any_bits_and_sign(bits, signed):
    spec = base_layer(ARRAY, weight_bits=bits, activation_bits=bits, signed=signed, in_channels=60, out_channels=40)
    network = random_network(Draw(bits, count=3, density=0.3), ARRAY, spec)
    low, high = spec.code_range
    uniform, sparse = network.layers
    codes, counts = np.unique(uniform.activation[:3], return_counts=True)
    assert codes.tolist() == list(range(low, high + 1))
    expected = 3 * 60 * 12 / len(codes)
    assert (np.abs(counts - expected) < 6 * expected**0.5).all()
    assert set(np.unique(uniform.weight)) == set(range(-spec.weight_qmax, spec.weight_qmax + 1))
    share = np.count_nonzero(sparse.weight) / sparse.weight.size
    assert abs(share - 0.3) < 0.02
    assert (uniform.activation == sparse.activation).all()  # every pair of weights and activations is there


@pytest.mark.parametrize(("density", "share"), [(0.0, 0), (1.0, 1)])
def test_none_or_all_of_the_sparse_codes(density, share):
    weight = random_network(Draw(1, density=density), ARRAY).layers[1].weight
    assert np.count_nonzero(weight) == share * weight.size


def test_codes_as_often_as_a_layer_has_them(tmp_path):
    path = factory.corners(tmp_path / "a.h5", ARRAY, random=Draw(1, count=1, density=0.3))
    network = random_network(Draw(2, like=(path, "sparse")), ARRAY, base_layer(ARRAY, out_channels=300))
    like = network.layers[2]
    assert like.pattern.flags == ("random", "like") and network.images[-1] == "like-3"
    assert like.pattern.note == (
        "seed 2, weights as often as in sparse of random-1: "
        "what only real codes meet, such as sums that grow; outputs differ"
    )
    with factory.open_store(path) as store:
        share = np.count_nonzero(store.layer("sparse").weight[...]) / store.layer("sparse").weight.size
        assert set(np.unique(like.weight)) <= set(np.unique(store.layer("sparse").weight[...]))
    assert abs(np.count_nonzero(like.weight) / like.weight.size - share) < 0.02
    with pytest.raises(InputError, match=rf"^{path}: layer must be one of uniform sparse, not x$"):
        random_network(Draw(2, like=(path, "x")), ARRAY)
    with pytest.raises(InputError, match=rf"^{path}: sparse: weight codes must be -2 to 1 here, not -7$"):
        random_network(Draw(2, like=(path, "sparse")), ARRAY, base_layer(ARRAY, weight_bits=2))


def test_a_histogram_is_of_all_blocks():
    histogram = Histogram.of(np.array([0] * 4 + [code]) for code in (5, -128))
    assert (histogram.codes.tolist(), histogram.counts.tolist()) == ([-128, 0, 5], [1, 8, 1])
    words = np.array([[0, 0], [0, 2**63], [0, 2**64 - 1]], np.uint64)
    assert histogram.drawn(words, Fraction(1)).tolist() == [-128, 0, 5]
    assert histogram.drawn(words, Fraction(0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(seed=-1), "seed must be at least 0, not -1"),
        (dict(seed=2**63), "seed must be at most 9223372036854775807, not 9223372036854775808"),
        (dict(seed=0, count=0), "count must be at least 1, not 0"),
        (dict(seed=0, density=-0.1), "density must be 0 to 1, not -0.1"),
        (dict(seed=0, density=float("nan")), "density must be 0 to 1, not nan"),
    ],
)
def test_wrong_draws(given, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        Draw(**given)
