"""The skeletons of one folder: the public class."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from xprecomputed.errors import CorruptDataError, PrecomputedWarning
from xprecomputed.keyed import (
    Bounds,
    KeyedValues,
    Missing,
    Segments,
    Value,
    as_ids,
    check_missing,
    raise_missing,
    read_info,
)
from xprecomputed.metadata import SkeletonInfo
from xprecomputed.parallel import decode_slot
from xprecomputed.skeleton.attributes import left_as_stored
from xprecomputed.skeleton.cropping import cropped
from xprecomputed.skeleton.files import FileFormat, check_files, write_files
from xprecomputed.skeleton.format import (
    ASSUMED,
    MAX_BYTES,
    ExtraAttributes,
    Skeleton,
    decode,
    encode,
    shape_nm,
)
from xprecomputed.skeleton.writing import Given, by_id
from xprecomputed.storage import Location

__all__ = ["Skeletons", "open_skeletons"]


def open_skeletons(directory: Location, bounds_nm: Bounds | None = None) -> Skeletons:
    """Open a folder of skeletons; one request, for its ``info``.

    Parameters
    ----------
    directory : Location
        Without an ``info`` it is taken for one of skeletons in nm with ``radius`` and
        ``vertex_types``, as CloudVolume does.
    bounds_nm : two corners in nm, optional
        Of the volume, which say what files a spatial index has.

    Returns
    -------
    Skeletons

    Raises
    ------
    InvalidInfoError, AccessDeniedError, StorageError, CorruptDataError
    """
    info = read_info(directory, SkeletonInfo.from_json)
    return Skeletons(directory, info or ASSUMED, info is not None, bounds_nm)


@dataclass(frozen=True, slots=True, repr=False)
class Skeletons(Segments[SkeletonInfo]):
    """Skeletons by segment id. Frozen, cheap, picklable.

    Parameters
    ----------
    directory : Location
    info : SkeletonInfo
    has_info : bool
        Whether `info` was read; otherwise it is what is taken for granted without.
    bounds_nm : two corners in nm, optional
        Of the volume.

    Notes
    -----
    What is read are skeletons of osteoid, whose methods do the rest. Some of these return one
    without id, in space "voxel" and without a transform although it is in nm (``downsample``,
    ``components``, ``average_smoothing``); say ``skeleton.space = "physical"`` before it is `put`
    where the transform of `info` is not the identity. ``voxel_space`` is right only for
    transforms that do not move.

    Examples
    --------
    >>> import osteoid
    >>> from xprecomputed.skeleton import create_skeletons, open_skeletons
    >>> from xprecomputed.storage import locate_url
    >>> place = locate_url("memory://doc/skeletons")
    >>> _ = create_skeletons(place, sharding="auto", num_labels=2000)
    >>> skeletons = open_skeletons(place)
    >>> skeletons
    <Skeletons of memory://doc/skeletons: sharded, radius>
    >>> path = osteoid.Skeleton([(0, 0, 0), (300, 400, 0)], [(0, 1)], radii=[90, 60])
    >>> skeletons.put({7: path, 2**63: path})
    >>> found = skeletons.get([2**63, 7])
    >>> list(found), float(found[7].cable_length())
    ([9223372036854775808, 7], 500.0)
    """

    kind: ClassVar[str] = "skeleton"

    @property
    def values(self) -> KeyedValues:
        """The stored bytes, by id."""
        return KeyedValues(self.directory, self.info.sharding, max_value_bytes=MAX_BYTES)

    def get(self, ids: Any, missing: Missing = "raise") -> Any:
        """Read skeletons.

        Thousands at once take few requests where they are in shards, and many at a time where
        not.

        Parameters
        ----------
        ids : int or iterable of int
        missing : {"raise", "skip"}

        Returns
        -------
        osteoid.Skeleton, or dict of int to osteoid.Skeleton
            Of one id the skeleton, or None where it is missing and skipped; of several those
            that are there, in the order asked. ``vertices`` (N, 3) float32 nm, x, y, z, in space
            "physical"; ``edges`` (M, 2) uint32; the attributes that `info` names as members,
            ``radius`` in nm and ``cross_sectional_area`` in nm² too. CloudVolume leaves these
            two in units of the stored model; they differ where the transform scales.

        Warns
        -----
        PrecomputedWarning
            The transform stretches the axes differently, so that ``radius`` is as stored.

        Raises
        ------
        SegmentMissingError
            With all that are missing.
        CorruptDataError
            Naming the skeleton.
        TypeError, ValueError
            What `ids` has is no segment id.
        AccessDeniedError, StorageError, MissingDependencyError
        """
        numbers, single = as_ids(ids)
        check_missing(missing)
        values = self.values
        found: list[Skeleton] = [None] * len(numbers)

        def deliver(position: int, data: Any) -> None:
            if data is None:
                return
            number = int(numbers[position])
            try:
                with decode_slot():
                    found[position] = decode(data, self.info, number, is_assumed=not self.has_info)
            except CorruptDataError as error:
                self._forget(number)
                raise CorruptDataError(
                    f"{values.place_of(number)}, skeleton of segment {number}: {error}"
                ) from None

        values.read(numbers, deliver)
        self._warn(2)
        lost = [int(n) for n, each in zip(numbers, found, strict=True) if each is None]
        if lost and missing == "raise":
            raise_missing("skeleton", values.place_of(lost[0]), lost)
        if single:
            return found[0]
        return {int(n): each for n, each in zip(numbers, found, strict=True) if each is not None}

    def get_by_bbox(
        self, bbox: Any, crop: bool = False, missing: Missing = "raise"
    ) -> dict[int, Skeleton]:
        """Read the skeletons that the spatial index has in a box.

        Parameters
        ----------
        bbox : array_like or mapping
            nm: ``((x0, y0, z0), (x1, y1, z1))``, or axes to slices or pairs.
        crop : bool
            Cut them to the box: edges that leave it go. Those of which nothing is left are left
            out.
        missing : {"raise", "skip"}

        Returns
        -------
        dict of int to osteoid.Skeleton
            Ids ascending. The index knows boxes of parts: a skeleton may pass by.

        Raises
        ------
        NotFoundError
            There is no spatial index, or a file of it is missing.
        SegmentMissingError, CorruptDataError, OutOfBoundsError, AccessDeniedError, StorageError
        """
        found: dict[int, Skeleton] = self.get(self.ids_in(bbox), missing)
        if not crop:
            return found
        parts = {number: cropped(each, bbox) for number, each in found.items()}
        return {number: each for number, each in parts.items() if not each.empty()}

    def put(
        self,
        skeletons: Given,
        *,
        extra_attributes: ExtraAttributes = "raise",
        compression: Literal["auto", "gzip"] | None = "auto",
        cache_control: str | None = None,
    ) -> None:
        """Store skeletons, each in the place of one that is there; others stay.

        Nothing is written before all are checked. Where `info` has a spatial index, it names old
        and new places until all is written, and after an interruption. Give all that go into the
        same shards at once: each call rewrites every shard that it touches.

        Parameters
        ----------
        skeletons : osteoid.Skeleton, iterable of those, or mapping
            Ids to skeletons or to paths of SWC files (in nm); the ids of a mapping win over
            those that its skeletons have. Vertices in space "physical" are nm and go through the
            inverse of the transform of `info`; those in space "voxel" go through their own
            transform before. Radii are in nm. A skeleton without vertices is stored as one.
        extra_attributes : {"raise", "drop"}
            What to do about attributes that `info` does not name.
        compression : {"auto", "gzip"} or None
            Around objects of their own, never in shards; "auto" is gzip where a header can tell
            it.
        cache_control : str, optional
            Header of the objects, where the store has headers.

        Warns
        -----
        PrecomputedWarning
            As `get`.

        Raises
        ------
        LayoutError
            An attribute too few or too many, a wrong shape, an unknown space.
        DataTypeError
            Values without a place in the data type that `info` names, or vertices that are not
            finite.
        TypeError, ValueError
            No skeleton, or no id.
        LayoutError, NotFoundError
            The spatial index has no files yet and the bounds of the volume are unknown (open the
            folder through its volume), or one of its files is missing; or edges pass through a
            million of its cells.
        CorruptDataError, AccessDeniedError, StorageError, MissingDependencyError
        """
        encoded = {
            number: encode(
                each,
                self.info,
                f"{self.url}, skeleton of segment {number}",
                extra_attributes=extra_attributes,
            )
            for number, each in by_id(skeletons).items()
        }
        self._warn(2)
        index: AbstractContextManager[None] = nullcontext()
        if self.info.spatial_index is not None:
            # one that names too much leads to an error, one that names too little to nothing
            index = self.spatial_index.replacing(
                {number: shape_nm(data, self.info) for number, data in encoded.items()}
            )
        with index:
            self.values.put(
                {number: Value(data) for number, data in encoded.items()},
                compression=compression,
                cache_control=cache_control,
            )

    def delete(self, ids: Any) -> int:
        """Remove skeletons, and what the spatial index says of them.

        Also of those that are not there: what was interrupted leaves an index that names such.

        Parameters
        ----------
        ids : int or iterable of int

        Returns
        -------
        int
            How many there were.

        Raises
        ------
        TypeError, ValueError, CorruptDataError, AccessDeniedError, StorageError
        """
        numbers, _ = as_ids(ids)
        gone = self.values.delete(numbers.tolist())
        if self.info.spatial_index is not None:
            self.spatial_index.remove(numbers.tolist())
        return len(gone)

    def save(
        self,
        ids: Any,
        path: str | os.PathLike[str],
        file_format: FileFormat = "swc",
        missing: Missing = "raise",
    ) -> None:
        """Write skeletons into files of this machine.

        Parameters
        ----------
        ids : int or iterable of int
        path : str or path-like
            A folder, which gets ``<id>.swc`` or ``<id>`` for each; or, for one id, a file whose
            name ends in ``.swc``.
        file_format : {"swc", "precomputed"}
            SWC in nm, or the bytes of the format, in nm too, with the attributes of `info`.
        missing : {"raise", "skip"}

        Raises
        ------
        LayoutError
            A skeleton has a cycle, which SWC has not.
        ValueError
            Several ids for one file.
        SegmentMissingError, CorruptDataError, AccessDeniedError, StorageError
        """
        place, (numbers, _) = Path(path), as_ids(ids)
        check_files(place, len(numbers), file_format)
        write_files(self.get(numbers, missing), place, file_format)

    def _forget(self, number: int) -> None:
        """Or a cache would give what is corrupt for ever."""
        if self.info.sharding is not None:
            self.values.sharded().forget(number)
        else:
            place = self.values.place(number)
            place.storage.forget(place.key)

    def _warn(self, level: int) -> None:
        text = left_as_stored(self.info)
        if text is not None:
            warnings.warn(f"{self.url}: {text}", PrecomputedWarning, stacklevel=level + 1)

    def __repr__(self) -> str:
        names = [each.id for each in self.info.vertex_attributes]
        kind = "unsharded" if self.info.sharding is None else "sharded"
        told = "" if self.has_info else " (without an info)"
        return f"<Skeletons of {self.url}: {', '.join([kind, *names])}{told}>"
