"""The ``provenance`` file beside ``info``: who made a layer from what, and how.

A JSON object as CloudVolume reads and writes it: description, owners, processing, sources.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from xprecomputed._version import __version__
from xprecomputed.errors import InvalidInfoError, PrecomputedWarning
from xprecomputed.metadata import parse_json
from xprecomputed.storage import Location

__all__ = ["Provenance", "append_provenance", "read_provenance"]

Provenance = str | Mapping[str, Any] | Literal[False] | None

MAX_BYTES = 16 << 20
LISTS = ("owners", "processing", "sources")


def append_provenance(location: Location, given: Provenance, method: Mapping[str, Any]) -> None:
    """Add one step to the file, or make it; what others wrote stays.

    Parameters
    ----------
    location : Location
        Of the layer.
    given : str, mapping, None or False
        A description; or members of the file: ``description``, and ``sources`` and ``owners``
        to add, any other member to add to the step. False: leave the file alone.
    method : mapping
        What was done, for the new member of ``processing``.
    """
    if given is False:
        return
    members = {"description": given} if isinstance(given, str) else dict(given or {})
    place = location.child("provenance")
    document = _read(location)
    if document is None:
        return
    for name in ("sources", "owners"):
        added: Any = members.pop(name, [])
        added = [added] if isinstance(added, str) else list(added)
        document[name] += [each for each in added if each not in document[name]]
    if "description" in members:
        document["description"] = members.pop("description")
    document["processing"].append(
        {
            "method": {**method, "software": f"xprecomputed {__version__}"},
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            **members,
        }
    )
    data = json.dumps(document, indent=2).encode()
    place.storage.put(place.key, data)


def read_provenance(location: Location) -> dict[str, Any]:
    """The file of the layer at `location`, empty where there is none.

    Raises
    ------
    InvalidInfoError
        It is not JSON.
    """
    place = location.child("provenance")
    blob = place.storage.get(place.key, MAX_BYTES)
    document = {} if blob is None else parse_json(blob.data, place.url)
    if not isinstance(document, dict):
        raise InvalidInfoError(f"{place.url}: expected an object, found {type(document).__name__}")
    return document


def _read(location: Location) -> dict[str, Any] | None:
    """The document with its four members; None where it is not ours to change."""
    empty: dict[str, Any] = {"description": "", "owners": [], "processing": [], "sources": []}
    try:
        document = read_provenance(location)
    except InvalidInfoError:
        document = {"owners": None}
    if any(not isinstance(document.get(name, []), list) for name in LISTS):
        warnings.warn(
            f"{location.url}/provenance: not a provenance file as CloudVolume writes it; it is "
            "left as it is",
            PrecomputedWarning,
            stacklevel=4,
        )
        return None
    return empty | document
