"""``.precomputed`` on DataArray, Dataset and DataTree.

It holds no state: the source is in the variable's attrs, which survive arithmetic and
indexing; mip, resolution, offset and bounds are derived from the coordinates each time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import xarray as xr

__all__ = ["Later"]


class Later:
    """An accessor that is imported when it is first used.

    Parameters
    ----------
    room, name : str
        Module in this package, and class.
    """

    def __init__(self, room: str, name: str) -> None:
        self._room, self._name = room, name

    @property
    def accessor(self) -> Any:
        """The class itself."""
        return getattr(import_module(f"xprecomputed.accessor.{self._room}"), self._name)

    def __call__(self, obj: Any) -> Any:
        """The accessor of an object."""
        return self.accessor(obj)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.accessor, name)

    def __dir__(self) -> list[str]:  # completion and documentation see the class
        return dir(self.accessor)


xr.register_dataarray_accessor("precomputed")(Later("arrays", "PrecomputedArrayAccessor"))
xr.register_dataset_accessor("precomputed")(Later("arrays", "PrecomputedDatasetAccessor"))
xr.register_datatree_accessor("precomputed")(Later("trees", "PrecomputedTreeAccessor"))
