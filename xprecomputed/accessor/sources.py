"""Where an xarray object came from, out of the attributes of its variables."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from xprecomputed.errors import SourceError
from xprecomputed.store import PrecomputedStore, reopen

__all__ = ["source_of"]

SOURCE = "precomputed_source"
#: Given at opening, and not in ``info``: they travel with the array.
FOLDERS = ("precomputed_mesh_dir", "precomputed_skeleton_dir")


def source_of(attributes: Iterable[Mapping[Hashable, Any]]) -> PrecomputedStore:
    """The layer that all variables which name one came from; one request, for its ``info``.

    Parameters
    ----------
    attributes : iterable of mapping
        Of the variables.

    Raises
    ------
    SourceError
        No variable names a source, or several name different ones.
    """
    named = [attrs for attrs in attributes if SOURCE in attrs]
    sources = {(attrs[SOURCE], *(attrs.get(name) for name in FOLDERS)) for attrs in named}
    if len(sources) != 1:
        found = sorted({str(source) for source, *_ in sources})
        raise SourceError(
            f"expected one source in attrs['{SOURCE}'], found {found}"
            f"{' with different folders' if len(found) == 1 else ''}; "
            "select a variable that was opened with engine='precomputed', or put it back:\n"
            f"    da.attrs['{SOURCE}'] = url"
        )
    ((source, mesh_dir, skeleton_dir),) = sources
    return reopen(str(source), mesh_dir=mesh_dir, skeleton_dir=skeleton_dir)
