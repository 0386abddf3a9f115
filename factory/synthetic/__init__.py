"""Synthetic codes: corner cases, in which every weight pattern meets every activation pattern, and seeded random."""

from factory.synthetic.corners import corner_network as corner_network
from factory.synthetic.corners import dense_network as dense_network
from factory.synthetic.seeded import MOST_SEED as MOST_SEED
from factory.synthetic.seeded import Draw as Draw
from factory.synthetic.seeded import random_network as random_network
from factory.synthetic.seeded import random_words as random_words
from factory.synthetic.shapes import base_layer as base_layer
