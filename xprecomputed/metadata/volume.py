"""The ``info`` of a volume as frozen values.

Fact: format reference 1.1 to 1.6. Everything that real files do is read; what cannot work
is refused, with *all* problems and their places in one error.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from xprecomputed.errors import InvalidInfoError, ScaleNotFoundError
from xprecomputed.grid import Box, ChunkGrid, Triple
from xprecomputed.metadata._checks import (
    Checker,
    boolean,
    integer_in,
    one_of,
    parse_json,
    positive_number,
    shown,
    string,
    triple_of,
    word,
)
from xprecomputed.metadata.sharding import ShardingSpec

__all__ = ["DATA_TYPES", "ScaleInfo", "VolumeInfo"]

TYPE = "neuroglancer_multiscale_volume"
#: The types of the specification, then the two that CloudVolume writes beside them.
DATA_TYPES = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32",
    "int64", "float64",
)  # fmt: skip

OTHER_KINDS = {
    "neuroglancer_legacy_mesh": "a mesh directory",
    "neuroglancer_multilod_draco": "a mesh directory",
    "neuroglancer_skeletons": "a skeleton directory",
    "neuroglancer_annotations_v1": "an annotation collection",
    "neuroglancer_segment_properties": "segment properties",
}

_positive_triple = triple_of(integer_in(1))


def _chunk_sizes(value: Any) -> tuple[Triple, ...]:
    if not isinstance(value, list) or not value:
        raise TypeError
    return tuple(_positive_triple(each) for each in value)


@lru_cache(maxsize=64)
def _grid(size: Triple, voxel_offset: Triple, chunk_size: Triple) -> ChunkGrid:
    """Made once: it is asked for with every chunk."""
    return ChunkGrid(size, voxel_offset, chunk_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleInfo:
    """One scale (mip) of a volume. All triples are x, y, z.

    Parameters
    ----------
    key : str
        Relative path of the chunk directory; opaque.
    size : tuple of int
        Voxels.
    resolution : tuple of int or float
        nm per voxel, spelled as in the document.
    chunk_sizes : tuple of tuple of int
        Each listed shape is a complete copy; the first is the one that is read.
    encoding : str
        Chunk encoding, lower case.
    voxel_offset : tuple of int
        First voxel, absolute; may be negative.
    sharding : ShardingSpec or None
    compressed_segmentation_block_size : tuple of int or None
    jpeg_quality, png_level : int or None
        Hints for writers.
    hidden : bool
        Neuroglancer does not render the scale.
    extra : dict
        Members that are unknown here, kept and written back.

    Examples
    --------
    >>> scale = ScaleInfo(key="8_8_40", size=(100, 90, 80), resolution=(8, 8, 40),
    ...                   chunk_sizes=((64, 64, 64),), encoding="raw", voxel_offset=(5, 0, -3))
    >>> str(scale.bounds), scale.grid.name((1, 1, 1))
    ('x[5, 105) y[0, 90) z[-3, 77)', '69-105_64-90_61-77')
    """

    key: str
    size: Triple
    resolution: tuple[float, float, float]
    chunk_sizes: tuple[Triple, ...]
    encoding: str
    voxel_offset: Triple = (0, 0, 0)
    sharding: ShardingSpec | None = None
    compressed_segmentation_block_size: Triple | None = None
    jpeg_quality: int | None = None
    png_level: int | None = None
    hidden: bool = False
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def chunk_size(self) -> Triple:
        """The first of `chunk_sizes`, the one that is read, as CloudVolume and TensorStore do."""
        return self.chunk_sizes[0]

    @property
    def grid(self) -> ChunkGrid:
        """The chunk grid."""
        return _grid(self.size, self.voxel_offset, self.chunk_sizes[0])

    @property
    def bounds(self) -> Box:
        """The absolute voxels of the scale."""
        return Box.from_offset(self.voxel_offset, self.size)

    @property
    def is_placeholder(self) -> bool:
        """Whether the scale is declared without data (the key says so by convention)."""
        return "placeholder" in self.key.lower()

    @classmethod
    def read(cls, data: object, at: str, problems: list[str]) -> ScaleInfo | None:
        """Parse `data`, adding what is wrong to `problems` under the place `at`."""
        before = len(problems)
        check = Checker(data, at, problems)
        members = _read_scale(check)
        raw_sharding = members.pop("raw_sharding")
        if raw_sharding is not None:
            members["sharding"] = ShardingSpec.read(raw_sharding, f"{at}.sharding", problems)
            if members["chunk_sizes"] is not None and len(members["chunk_sizes"]) > 1:
                check.problem(
                    "chunk_sizes",
                    f"a sharded scale has exactly one, found {len(members['chunk_sizes'])}",
                )
        if len(problems) > before:
            return None
        return cls(**members, extra=check.rest())

    def to_json(self) -> dict[str, Any]:
        """The object to write: plain numbers, no null, unknown members last."""
        document: dict[str, Any] = {
            "key": self.key,
            "size": list(self.size),
            "voxel_offset": list(self.voxel_offset),
            "resolution": list(self.resolution),
            "chunk_sizes": [list(each) for each in self.chunk_sizes],
            "encoding": self.encoding,
        }
        if self.compressed_segmentation_block_size is not None:
            block = list(self.compressed_segmentation_block_size)
            document["compressed_segmentation_block_size"] = block
        for name in ("jpeg_quality", "png_level"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name)
        if self.sharding is not None:
            document["sharding"] = self.sharding.to_json()
        if self.hidden:
            document["hidden"] = True
        return document | copy.deepcopy(self.extra)


def _read_scale(check: Checker) -> dict[str, Any]:
    positive = "three integers >= 1"
    return {
        "key": check.get("key", string, "a string", required=True),
        "size": check.get("size", _positive_triple, positive, required=True),
        "voxel_offset": check.get(
            "voxel_offset", triple_of(integer_in(-(2**62))), "three integers", (0, 0, 0), null=False
        ),
        "resolution": check.get(
            "resolution", triple_of(positive_number), "three finite numbers > 0", required=True
        ),
        "chunk_sizes": check.get(
            "chunk_sizes", _chunk_sizes, f"a list of at least one of {positive}", required=True
        ),
        "encoding": check.get("encoding", word, "the name of an encoding", required=True),
        "compressed_segmentation_block_size": check.get(
            "compressed_segmentation_block_size", _positive_triple, positive
        ),
        # writer's hints: odd values in them do not make data unreadable
        "jpeg_quality": check.get("jpeg_quality", integer_in(0, 100), "an integer 0 to 100"),
        "png_level": check.get("png_level", integer_in(-1, 9), "an integer 0 to 9"),
        "hidden": check.get("hidden", boolean, "a boolean", False),
        "raw_sharding": check.get("sharding", lambda value: value, "an object"),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeInfo:
    """The ``info`` of a volume.

    Parameters
    ----------
    type : str
        ``"image"`` or ``"segmentation"``.
    data_type : str
        One of `DATA_TYPES`.
    num_channels : int
    scales : tuple of ScaleInfo
        Finest first; the index is the mip.
    mesh, skeletons, segment_properties : str or None
        Relative directories.
    redirect : str or None
        Another location that stands in for this one (format reference 1.5).
    extra : dict
        Members that are unknown here, kept and written back.

    Examples
    --------
    >>> info = VolumeInfo.from_json({
    ...     "type": "image", "data_type": "uint8", "num_channels": 1,
    ...     "scales": [{"key": "8_8_40", "size": [100, 90, 80], "resolution": [8, 8, 40],
    ...                 "chunk_sizes": [[64, 64, 64]], "encoding": "raw"}]})
    >>> info.scales[0].grid.shape
    (2, 2, 2)
    """

    type: str
    data_type: str
    num_channels: int
    scales: tuple[ScaleInfo, ...]
    mesh: str | None = None
    skeletons: str | None = None
    segment_properties: str | None = None
    redirect: str | None = None
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type, little-endian as stored."""
        return np.dtype(self.data_type).newbyteorder("<")

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "info") -> VolumeInfo:
        """Parse the bytes of an ``info`` object; `where` names it in errors."""
        return cls.from_json(parse_json(data, where), where)

    @classmethod
    def from_json(cls, data: object, where: str = "info") -> VolumeInfo:
        """Parse a decoded ``info`` document.

        Parameters
        ----------
        data : dict
            As ``json.loads`` gives it.
        where : str
            The name of the document, for errors.

        Raises
        ------
        InvalidInfoError
            With every problem and its place.
        """
        problems: list[str] = []
        check = Checker(data, "", problems)
        members = _read_volume(check)
        raw_scales = members.pop("raw_scales") or []
        scales = [
            ScaleInfo.read(each, f"scales[{index}]", problems)
            for index, each in enumerate(raw_scales)
        ]
        if problems:
            raise InvalidInfoError(f"{where} is not a usable volume description:", problems)
        members["scales"] = tuple(scale for scale in scales if scale is not None)
        return cls(**members, extra=check.rest())

    def to_json(self) -> dict[str, Any]:
        """The document to write; shares nothing mutable with this value."""
        document: dict[str, Any] = {
            "@type": TYPE,
            "type": self.type,
            "data_type": self.data_type,
            "num_channels": self.num_channels,
            "scales": [scale.to_json() for scale in self.scales],
        }
        for name in ("mesh", "skeletons", "segment_properties", "redirect"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name)
        return document | copy.deepcopy(self.extra)

    def find_mip(self, mip: int | str | Sequence[float]) -> int:
        """The index of a scale named by index, resolution in nm (x, y, z) or key.

        Parameters
        ----------
        mip : int, str or sequence of three numbers
            Negative indexes count from the coarsest.

        Raises
        ------
        ScaleNotFoundError
            With what there is.

        Examples
        --------
        >>> scale = dict(key="8_8_40", size=[9, 9, 9], resolution=[8, 8, 40],
        ...              chunk_sizes=[[4, 4, 4]], encoding="raw")
        >>> info = VolumeInfo.from_json(dict(
        ...     type="image", data_type="uint8", num_channels=1, scales=[scale]))
        >>> info.find_mip((8, 8, 40)), info.find_mip("8_8_40"), info.find_mip(0)
        (0, 0, 0)
        """
        if isinstance(mip, str):
            found = [i for i, scale in enumerate(self.scales) if scale.key == mip]
        elif isinstance(mip, Sequence | np.ndarray):
            found = [
                i
                for i, scale in enumerate(self.scales)
                if len(mip) == 3 and np.allclose(scale.resolution, mip, rtol=1e-6, atol=0)
            ]
        elif isinstance(mip, int | np.integer) and not isinstance(mip, bool):
            found = list(range(len(self.scales)))[slice(mip, mip + 1 or None)]
        else:
            raise TypeError(
                f"mip={shown(mip)}: expected an index, a resolution (x, y, z) in nm or a scale key"
            )
        if not found:
            there_is = "\n".join(
                f"  mip {i}: resolution {scale.resolution} nm, key {scale.key!r}"
                + (" (placeholder, no data)" if scale.is_placeholder else "")
                for i, scale in enumerate(self.scales)
            )
            raise ScaleNotFoundError(f"there is no mip {shown(mip)}; there is\n{there_is}")
        return found[0]


def _read_volume(check: Checker) -> dict[str, Any]:
    _check_kind(check)
    return {
        "type": check.get("type", word, '"image" or "segmentation"', required=True),
        "data_type": check.get(
            "data_type", one_of(DATA_TYPES), f"one of {', '.join(DATA_TYPES)}", required=True
        ),
        "num_channels": check.get(
            "num_channels", integer_in(1, 2**31), "an integer >= 1", required=True
        ),
        "raw_scales": check.get("scales", _non_empty_list, "a list of scales", required=True),
        **{
            name: check.get(name, string, "a string")
            for name in ("mesh", "skeletons", "segment_properties", "redirect")
        },
    }


def _non_empty_list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise TypeError
    return value


def _check_kind(check: Checker) -> None:
    check.seen.add("@type")
    kind = check.data.get("@type", TYPE)
    if kind != TYPE:
        what = OTHER_KINDS.get(kind, "not a volume") if isinstance(kind, str) else "not a volume"
        check.problem("@type", f"this is {what}: expected {TYPE!r} or none, found {shown(kind)}")
