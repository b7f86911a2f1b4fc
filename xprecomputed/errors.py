"""Every error of the package, grouped by what a caller would do about it.

::

    PrecomputedError
    ├── InvalidInfoError (ValueError)          the JSON cannot be used: mend it or pass ``info=``
    ├── ScaleNotFoundError (LookupError, ValueError)   ask for a mip that exists
    ├── LodNotFoundError (LookupError, ValueError)     ask for a level of detail that exists
    ├── UnsupportedEncodingError (ValueError)  this scale cannot be decoded here
    ├── InvalidURLError (ValueError)           the address cannot be used
    ├── NotFoundError (FileNotFoundError)      a definite "there is no such object"
    │   ├── InfoMissingError
    │   ├── ChunkMissingError
    │   └── SegmentMissingError (KeyError)     a segment has no mesh or skeleton here
    ├── AccessDeniedError (PermissionError)    the object may exist; credentials are wrong
    ├── StorageError (OSError)                 the request failed; trying again may help
    │   └── ConflictError                      somebody else replaced the object meanwhile
    ├── CorruptDataError (ValueError)          the bytes are there and are not what they should be
    ├── MissingDependencyError (ImportError)   install the named package
    ├── CoordinateError (ValueError)           the labels do not lie on a voxel grid
    ├── OutOfBoundsError (IndexError, ValueError)   the request leaves the volume
    ├── DataTypeError (TypeError, ValueError)  the values have no lossless place in the format
    ├── AlignmentError (ValueError)            a write would replace a part of a stored object
    ├── LayerExistsError (FileExistsError)     a write would replace what is there
    ├── LayoutError (ValueError)               the array or an argument does not fit the layer
    └── SourceError (ValueError)               an xarray object does not say where it came from

Missing, denied, failed and corrupt are four different answers; only the first
can ever become a fill value, and only when the caller asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AccessDeniedError",
    "AlignmentError",
    "ChunkMissingError",
    "ConflictError",
    "CoordinateError",
    "CorruptDataError",
    "DataTypeError",
    "InfoMissingError",
    "InvalidInfoError",
    "InvalidURLError",
    "LayerExistsError",
    "LayoutError",
    "LodNotFoundError",
    "MissingDependencyError",
    "NotFoundError",
    "OutOfBoundsError",
    "PrecomputedError",
    "PrecomputedWarning",
    "ScaleNotFoundError",
    "SegmentMissingError",
    "SourceError",
    "StorageError",
    "UnsupportedEncodingError",
]


class PrecomputedError(Exception):
    """Root of all errors that this package raises."""


class InvalidInfoError(PrecomputedError, ValueError):
    """A JSON document is not usable; ``problems`` lists *all* that is wrong with it.

    Attributes
    ----------
    problems : tuple of str
        One line per problem, each starting with its place in the document.
    """

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__(message, self.problems)

    def __str__(self) -> str:
        return "\n  - ".join((str(self.args[0]), *self.problems))


class ScaleNotFoundError(PrecomputedError, LookupError, ValueError):
    """No scale of the volume answers to the given mip, resolution or key."""


class LodNotFoundError(PrecomputedError, LookupError, ValueError):
    """A mesh has no such level of detail."""


class UnsupportedEncodingError(PrecomputedError, ValueError):
    """The scale's encoding is unknown, or cannot carry this data type or channel count."""


class InvalidURLError(PrecomputedError, ValueError):
    """A URL or a relative key cannot be used, or leaves its bucket or folder tree."""


class NotFoundError(PrecomputedError, FileNotFoundError):
    """The store gave a definite answer: there is no such object."""


class InfoMissingError(NotFoundError):
    """There is no ``info`` at the URL."""


class ChunkMissingError(NotFoundError):
    """A chunk of the requested box is not stored and ``fill_missing`` is off."""


class SegmentMissingError(NotFoundError, KeyError):
    """There is no mesh or skeleton of a segment; the store gave a definite answer.

    Attributes
    ----------
    segment_ids : tuple of int
        All that are missing.
    """

    def __init__(self, message: str, segment_ids: Iterable[int] = ()) -> None:
        self.segment_ids: tuple[int, ...] = tuple(segment_ids)
        super().__init__(message)

    def __str__(self) -> str:  # without the quotes of KeyError
        return str(self.args[0])

    def __reduce__(self) -> tuple[type, tuple[str, tuple[int, ...]]]:
        return type(self), (str(self), self.segment_ids)


class AccessDeniedError(PrecomputedError, PermissionError):
    """The store refused access; whether the object exists is unknown.

    Attributes
    ----------
    may_be_absent : bool
        Whether the answer was a plain 403, as S3 gives for objects that do not exist to those
        who may not list the bucket.
    """

    may_be_absent: bool = False


class StorageError(PrecomputedError, OSError):
    """The request failed (I/O error, timeout, broken connection); nothing is known."""


class ConflictError(StorageError):
    """Somebody else replaced the object while it was read or changed; do it again."""


class CorruptDataError(PrecomputedError, ValueError):
    """An object exists but its bytes are not what the metadata promises."""


class MissingDependencyError(PrecomputedError, ImportError):
    """An optional package is needed; the message holds the install line."""


class CoordinateError(PrecomputedError, ValueError):
    """Coordinates are absent, irregular or not on the voxel grid."""


class OutOfBoundsError(PrecomputedError, IndexError, ValueError):
    """A box or a point lies outside the volume or the array."""


class DataTypeError(PrecomputedError, TypeError, ValueError):
    """The values have no lossless place among the data types of the format."""


class AlignmentError(PrecomputedError, ValueError):
    """A write would replace a part of a stored object, or two tasks would write the same one."""


class LayerExistsError(PrecomputedError, FileExistsError):
    """There is a layer or a scale already, and the mode does not allow to replace it."""


class LayoutError(PrecomputedError, ValueError):
    """The array or an argument of a write does not fit the layer that is there."""


class SourceError(PrecomputedError, ValueError):
    """An xarray object does not know which Precomputed layer it came from."""


class PrecomputedWarning(UserWarning):
    """Something odd that does not make the data wrong."""
