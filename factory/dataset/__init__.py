"""Regression datasets: a folder of shards, plain stores of codes alone, that one plan decides to the last bit."""

from factory.dataset.folder import Dataset as Dataset
from factory.dataset.folder import SealedShard as SealedShard
from factory.dataset.folder import read_dataset as read_dataset
from factory.dataset.folder import read_plan as read_plan
from factory.dataset.plan import Part as Part
from factory.dataset.plan import Plan as Plan
from factory.dataset.plan import Shard as Shard
from factory.dataset.plan import Split as Split
from factory.dataset.reading import OpenDataset as OpenDataset
from factory.dataset.reading import open_dataset as open_dataset
from factory.dataset.shard import build_shard as build_shard
