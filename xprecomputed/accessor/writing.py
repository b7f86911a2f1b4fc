"""``.precomputed.to_precomputed`` and the label operations: what makes new arrays or layers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr
from numpy.typing import ArrayLike, DTypeLike

from xprecomputed.jobs import labels, to_precomputed
from xprecomputed.store import PrecomputedStore

if TYPE_CHECKING:
    from dask.delayed import Delayed

__all__ = ["LabelMethods", "WriteMethods"]


class WriteMethods:
    """Of arrays, datasets and trees."""

    _obj: Any

    def to_precomputed(
        self, url: str | os.PathLike[str], **options: Any
    ) -> PrecomputedStore | Delayed:
        """Write it as a layer, or into one: ``xprecomputed.to_precomputed(self, url, …)``.

        Parameters
        ----------
        url : str or path-like
        **options
            As of `xprecomputed.to_precomputed`.

        Examples
        --------
        >>> import numpy as np
        >>> axes = {axis: (axis, [4.0, 12.0], {"units": "nm"}) for axis in "xyz"}
        >>> da = xr.DataArray(np.ones((2, 2, 2), "u1"), axes, ("z", "y", "x"))
        >>> da.precomputed.to_precomputed("memory://doc/accessor-write").info.scales[0].key
        '8_8_8'
        """
        return to_precomputed(self._obj, url, **options)


class LabelMethods:
    """Of a segmentation's array."""

    _obj: xr.DataArray

    def mask(self, ids: ArrayLike | Iterable[int], *, other: int = 0) -> xr.DataArray:
        """Keep some labels; all other voxels become `other`. The dtype stays, unlike in `where`.

        Parameters
        ----------
        ids : int, sequence, set, array, Index, Series or DataArray of integers
            The labels that are kept.
        other : int
            Label of all other voxels.

        Returns
        -------
        DataArray
            Lazy unless the data are in memory.

        Raises
        ------
        ValueError
            Not integers, or `other` does not fit the dtype.

        Examples
        --------
        >>> import numpy as np
        >>> da = xr.DataArray(np.array([0, 7, 720575940623044103], "u8"), dims="x")
        >>> da.precomputed.mask(720575940623044103).values.tolist()
        [0, 0, 720575940623044103]
        """
        return labels.mask(self._obj, ids, other=other)

    def remap(
        self,
        mapping: Mapping[int, int] | tuple[ArrayLike, ArrayLike] | Any,
        *,
        missing: Literal["raise", "keep"] | int = "raise",
        dtype: DTypeLike | None = None,
    ) -> xr.DataArray:
        """Give labels other labels; background stays 0 unless the mapping has it.

        Parameters
        ----------
        mapping : mapping, Series, or two arrays (old, new)
        missing : "raise", "keep" or int
            What a label that is not in the mapping becomes.
        dtype : dtype, optional
            By default that of the array if all new labels fit.

        Returns
        -------
        DataArray
            Lazy unless the data are in memory; then "raise" raises when it is computed.

        Raises
        ------
        ValueError

        Examples
        --------
        >>> import numpy as np
        >>> da = xr.DataArray(np.array([0, 7, 9], "u8"), dims="x")
        >>> da.precomputed.remap({7: 2**63 + 1}, missing="keep").values.tolist()
        [0, 9223372036854775809, 9]
        """
        return labels.remap(self._obj, mapping, missing=missing, dtype=dtype)

    def renumber(self, *, start: int = 1) -> tuple[xr.DataArray, xr.DataArray]:
        """Number the labels through, in the smallest dtype; needs all labels once.

        Parameters
        ----------
        start : int
            The first new label; background stays 0.

        Returns
        -------
        renumbered : DataArray
        original : DataArray, dim ``label``
            The old label of each new one: ``original.sel(label=3)``.

        Examples
        --------
        >>> import numpy as np
        >>> da = xr.DataArray(np.array([0, 720575940623044103, 7], "u8"), dims="x")
        >>> small, original = da.precomputed.renumber()
        >>> small.values, int(original.sel(label=2))
        (array([0, 2, 1], dtype=uint8), 720575940623044103)
        """
        return labels.renumber(self._obj, start=start)

    def unique(self) -> xr.DataArray:
        """The labels and their voxels (int64, dim ``label``), block by block.

        ``store.unique(box)`` counts stored chunks without decoding them; this one counts
        whatever the array has become.

        Examples
        --------
        >>> import numpy as np
        >>> da = xr.DataArray(np.array([0, 7, 7], "u8"), dims="x")
        >>> da.precomputed.unique().values
        array([1, 2])
        """
        return labels.unique_labels(self._obj)
