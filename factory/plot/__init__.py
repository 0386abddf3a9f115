"""Figures, one function for each, as matplotlib figures: of a network, a layer, a tile, files, and results."""

from factory.plot.files import memory_word as memory_word
from factory.plot.files import mismatches as mismatches
from factory.plot.layers import histograms as histograms
from factory.plot.layers import network as network
from factory.plot.layers import tile as tile
from factory.plot.results import board as board
from factory.plot.results import coverage as coverage
from factory.plot.results import pairs as pairs
from factory.plot.results import selection_curve as selection_curve
from factory.plot.streams import edge_streams as edge_streams
from factory.plot.style import save as save
