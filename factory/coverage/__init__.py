"""Coverage: what vectors reach of an array, what no input can reach, and the fewest vectors that reach all."""

from factory.coverage.activity import Activity as Activity
from factory.coverage.activity import write_activity as write_activity
from factory.coverage.formats import to_ucis as to_ucis
from factory.coverage.formats import to_yaml as to_yaml
from factory.coverage.pick import PickedTiles as PickedTiles
from factory.coverage.pick import read_picks as read_picks
from factory.coverage.points import POINTS as POINTS
from factory.coverage.points import Point as Point
from factory.coverage.record import Counts as Counts
from factory.coverage.record import Coverage as Coverage
from factory.coverage.record import LayerCoverage as LayerCoverage
from factory.coverage.record import PointCoverage as PointCoverage
from factory.coverage.record import merge as merge
from factory.coverage.record import read_coverage as read_coverage
from factory.coverage.sources import activity_of as activity_of
from factory.coverage.sources import coverage as coverage
from factory.coverage.sources import merge_files as merge_files
from factory.coverage.sources import opened as opened
from factory.coverage.sources import pick_from as pick_from
