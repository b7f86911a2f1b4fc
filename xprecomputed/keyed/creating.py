"""Making a folder of meshes or skeletons: its ``info``, and room for what it describes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeVar

import numpy as np

from xprecomputed.errors import LayerExistsError
from xprecomputed.keyed.segments import Info, read_info
from xprecomputed.metadata import ShardingSpec, Transform
from xprecomputed.parallel import run_bounded
from xprecomputed.shard_format import sharding_for_ids
from xprecomputed.storage import Location, Unchanged, index_cache, workers_for

__all__ = ["Mode", "Sharding", "make_folder", "sharding_json", "transform_json"]

Mode = Literal["w-", "w"]
Sharding = Literal["auto"] | ShardingSpec | Mapping[str, Any] | None
InfoT = TypeVar("InfoT", bound=Info)


def make_folder(
    directory: Location,
    members: Mapping[str, Any],
    parse: Callable[[dict[str, Any], str], InfoT],
    mode: Mode,
    kinds: Collection[str],
) -> InfoT:
    """Write the ``info`` of a folder, last and as a whole.

    Parameters
    ----------
    directory : Location
    members : mapping
        Of the document, as users give them; those that are None are left out.
    parse : callable
        Makes the `info` of the document and of its name for errors.
    mode : {"w-", "w"}
        "w-" takes a folder without objects only; "w" removes those that lie in it before, but
        not those of folders in it.
    kinds : collection of str
        The ``@type`` of folders that "w" may clear.

    Raises
    ------
    LayerExistsError
        There are objects, and `mode` is "w-"; or they are those of something else.
    InvalidInfoError
        With everything that is wrong with the members.
    ValueError
        An unknown `mode`, or further members that are no JSON.
    AccessDeniedError, StorageError
    """
    if mode not in ("w-", "w"):
        raise ValueError(f"mode={mode!r}: expected 'w-' or 'w'")
    place = directory.child("info")
    given = {name: _plain(value) for name, value in members.items() if value is not None}
    info = parse(given, place.url)
    try:
        data = json.dumps(info.to_json(), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place.url}: not JSON: {error}") from None

    def write(only_if: Unchanged | None) -> None:
        if mode == "w":
            _clear(directory, kinds)
        else:
            _require_empty(directory)
        place.storage.put(place.key, data, only_if=only_if)

    place.storage.update(place.key, write, anyway=True)
    return info


def transform_json(transform: Any) -> Any:
    """The twelve numbers of what users take for a transform."""
    if transform is None or isinstance(transform, Transform):
        return transform
    return np.ravel(transform).tolist()


def sharding_json(
    sharding: Sharding, num_labels: int | None, data_encoding: Literal["raw", "gzip"]
) -> Any:
    """The member of ``info``, chosen as the peers choose it where it is "auto".

    Raises
    ------
    ValueError
        "auto" without `num_labels`, or with something else than a number.
    """
    if sharding != "auto":
        return sharding
    if num_labels is None:
        raise ValueError("sharding='auto' needs num_labels, about how many there will be")
    is_integer = isinstance(num_labels, int | np.integer) and not isinstance(num_labels, bool)
    if not is_integer or num_labels < 1:
        raise ValueError(f"num_labels={num_labels!r}: expected an integer >= 1")
    return sharding_for_ids(int(num_labels), data_encoding)


def _plain(value: Any) -> Any:
    """The JSON of a value of ours, or of whoever gave JSON."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _require_empty(directory: Location) -> None:
    entry = next(iter(directory.storage.list_dir(directory.key)), None)
    if entry is not None:
        raise LayerExistsError(
            f"{directory.url}: there are objects, such as {entry.name!r}; choose another folder, "
            "or replace what is there with mode='w'"
        )


def _kind(document: Any, where: str) -> str:
    del where
    return repr(document.get("@type") if isinstance(document, Mapping) else document)


def _clear(directory: Location, kinds: Collection[str]) -> None:
    """Remove what lies in a folder, but for ``info``, which is replaced after it."""
    kind = read_info(directory, _kind)
    names = [entry.name for entry in directory.storage.list_dir(directory.key)]
    if names and kind not in [repr(each) for each in kinds]:
        says = f"no info, but {names[0]!r}" if kind is None else f"an info of type {kind}"
        raise LayerExistsError(
            f"{directory.url}: there is {says}; mode='w' replaces folders of {' or '.join(kinds)} "
            "only. Choose another folder, or delete this one yourself"
        )

    def remove(name: str) -> None:
        place = directory.child(name)
        place.storage.delete(place.key)

    run_bounded([name for name in names if name != "info"], remove, workers=workers_for(directory))
    index_cache.clear()  # not every store can tell that an object was replaced
