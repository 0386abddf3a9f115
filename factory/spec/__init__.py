"""Words and records: network, layer, array, trained values, exact range bounds, exceptions."""

from factory.spec.array import Array as Array
from factory.spec.bounds import Range as Range
from factory.spec.bounds import accumulator_range as accumulator_range
from factory.spec.bounds import accumulator_ranges as accumulator_ranges
from factory.spec.bounds import product_extremes as product_extremes
from factory.spec.bounds import psum_range as psum_range
from factory.spec.bounds import valid_taps as valid_taps
from factory.spec.errors import ComparisonError as ComparisonError
from factory.spec.errors import FactoryError as FactoryError
from factory.spec.errors import InputError as InputError
from factory.spec.files import write_whole as write_whole
from factory.spec.network import IMAGE as IMAGE
from factory.spec.network import ConvLayer as ConvLayer
from factory.spec.network import Network as Network
from factory.spec.progress import Progress as Progress
from factory.spec.ranges import parse_ranges as parse_ranges
from factory.spec.trained import BatchNorm as BatchNorm
from factory.spec.trained import IntegerLayer as IntegerLayer
from factory.spec.trained import IntegerNetwork as IntegerNetwork
from factory.spec.trained import TrainedLayer as TrainedLayer
from factory.spec.trained import TrainedNetwork as TrainedNetwork
from factory.spec.vgg import load_network as load_network
from factory.spec.vgg import part1 as part1
from factory.spec.vgg import part2 as part2
from factory.spec.vgg import vgg as vgg
