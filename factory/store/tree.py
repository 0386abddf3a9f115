"""A store as a tree of xarray datasets, with what is computed from codes as lazily indexed variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray
from xarray.backends import BackendArray
from xarray.core import indexing

from factory.store.lazy import LazyArray


class _Computed(BackendArray):
    def __init__(self, array: LazyArray):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self.array.__getitem__)


def lazy_variable(axes: tuple[str, ...], array: LazyArray) -> xarray.Variable:
    """Return a variable whose values are computed when they are asked for."""
    lazy = indexing.LazilyIndexedArray(_Computed(array))
    return xarray.Variable(axes, lazy, encoding={"preferred_chunks": dict(zip(axes, array.chunks, strict=True))})


def open_tree(path: Path, computed: Mapping[str, tuple[tuple[str, ...], LazyArray]]) -> xarray.DataTree:
    """Return the tree of a file with its `computed` variables, each with its axes, by their paths."""
    tree = xarray.open_datatree(path, engine="h5netcdf")
    for name, (axes, array) in computed.items():
        group, _, variable = name.rpartition("/")
        tree[group][variable] = lazy_variable(axes, array)
    return tree
