"""Where a write goes: which scale and which box of which ``info``, in each mode.

Nothing here writes; everything that can be refused is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xprecomputed.codecs import codec_for, scale_members
from xprecomputed.coords import AXES
from xprecomputed.errors import (
    AlignmentError,
    CoordinateError,
    InfoMissingError,
    LayerExistsError,
    LayoutError,
    OutOfBoundsError,
    ScaleNotFoundError,
    UnsupportedEncodingError,
)
from xprecomputed.grid import Box, Triple
from xprecomputed.jobs.describe import Described
from xprecomputed.metadata import ScaleInfo, ShardingSpec, VolumeInfo
from xprecomputed.store.changes import inserted, is_inside
from xprecomputed.volume import aligned_region
from xprecomputed.volume.layout import (
    Downsample,
    Sharding,
    coarser_scale,
    coarser_sharding,
    default_encoding,
    default_type,
    downsample_factors,
    find_sharding,
    make_scale,
    scale_key,
)

__all__ = [
    "Layout",
    "Plan",
    "Target",
    "check_same_scale",
    "plan_new",
    "plan_region",
]

CHUNK_SIZE = (64, 64, 64)
#: Members of a scale that do not belong to its encoding.
STRUCTURE = ("key", "size", "voxel_offset", "resolution", "chunk_sizes", "encoding", "sharding",
             "hidden", "locked", "rois")  # fmt: skip
LAYER_MEMBERS = ("mesh", "skeletons", "segment_properties")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The arguments of a write that say how the layer looks; None: as before, or the default.

    `keep_lossy` lets a lossy encoding of the source count as named.
    """

    encoding: str | None = None
    encoding_options: Mapping[str, Any] | None = None
    chunk_size: Sequence[int] | None = None
    sharding: Sharding = None
    layer_type: str | None = None
    downsample: Downsample = 0
    keep_lossy: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """One array and its place: the absolute voxels `box` of scale number `mip`."""

    described: Described
    mip: int
    box: Box


@dataclass(frozen=True, slots=True)
class Plan:
    """A write.

    Parameters
    ----------
    info : VolumeInfo
        As it is when the write begins.
    targets : tuple of Target
    pyramid : tuple of (int, Triple)
        Further mips, each with its factor from the one before; the first from the last target.
    is_new : bool
        Whether `info` has to be written.
    """

    info: VolumeInfo
    targets: tuple[Target, ...]
    pyramid: tuple[tuple[int, Triple], ...]
    is_new: bool

    @property
    def scales(self) -> list[ScaleInfo]:
        """The scales that are written."""
        mips = [each.mip for each in self.targets] + [mip for mip, _ in self.pyramid]
        return [self.info.scales[mip] for mip in mips]


def plan_new(
    levels: Sequence[Described],
    layout: Layout,
    existing: VolumeInfo | None,
    *,
    mode: str,
    resume: bool,
    url: str,
) -> Plan:
    """A write of whole scales.

    Parameters
    ----------
    levels : sequence of Described
        Finest first; the place of each is known.
    layout : Layout
    existing : VolumeInfo or None
        What is there.
    mode : {"w-", "w", "a"}
    resume : bool
        Go on with a layer of the identical layout, where there is one.
    url : str
        For messages.

    Raises
    ------
    LayerExistsError, LayoutError, UnsupportedEncodingError, InvalidInfoError
    """
    wanted, scales, factors = _new_info(levels, layout, existing, keeps=mode == "a" or resume)
    if existing is None or (mode == "w" and not resume):
        info, is_new = wanted, True
    elif resume:
        info, is_new = _identical(wanted, existing, url), False
    elif mode == "a":
        _check_volume(wanted, existing, url)
        info, is_new = inserted(existing, wanted.scales), True
    else:
        raise LayerExistsError(
            f"{url}: there is a layer ({existing.type}, {len(existing.scales)} scales). Replace it "
            "with mode='w', add a scale with mode='a', write values into it with region='auto', "
            "or go on with resume=True"
        )
    for scale in info.scales:
        codec_for(info, scale)
    mips = [_same_key(info, scale.key) for scale in scales]
    targets = tuple(
        Target(level, mip, info.scales[mip].bounds)
        for level, mip in zip(levels, mips, strict=False)
    )
    return Plan(info, targets, tuple(zip(mips[len(levels) :], factors, strict=True)), is_new)


def _same_key(info: VolumeInfo, key: str) -> int:
    return next(mip for mip, scale in enumerate(info.scales) if scale.key == key)


def _new_info(
    levels: Sequence[Described], layout: Layout, existing: VolumeInfo | None, *, keeps: bool
) -> tuple[VolumeInfo, list[ScaleInfo], list[Triple]]:
    """The ``info`` that is wanted, the scale of each level and of each factor after them.

    Members that others wrote stay, also where the scales are replaced.
    """
    first = levels[0]
    for other in levels[1:]:
        if (other.data_type, other.num_channels) != (first.data_type, first.num_channels):
            raise LayoutError(
                f"mips of {first.data_type} x {first.num_channels} and of {other.data_type} x "
                f"{other.num_channels} channels: one layer has one data type"
            )
    kind = layout.layer_type or (existing.type if existing and keeps else _type_of(first))
    if kind not in ("image", "segmentation"):
        raise LayoutError(f"layer_type={kind!r}: expected 'image' or 'segmentation'")
    members = _layer_members(existing) | dict(first.remembered.get("layer", {}))
    bare = VolumeInfo(
        type=kind,
        data_type=first.data_type,
        num_channels=first.num_channels,
        scales=(),
        **{name: members.get(name) for name in LAYER_MEMBERS},
        extra={name: value for name, value in members.items() if name not in LAYER_MEMBERS},
    )
    scales = [_new_scale(bare, level, layout) for level in levels]
    factors = downsample_factors(layout.downsample, scales[-1])
    for factor in factors:
        coarse = coarser_scale(scales[-1], factor)
        spec = coarser_sharding(layout.sharding, scales[-1], coarse, bare)
        scales.append(replace(coarse, sharding=spec))
    return inserted(bare, scales), scales, factors


def _layer_members(info: VolumeInfo | None) -> dict[str, Any]:
    if info is None:
        return {}
    named = {name: getattr(info, name) for name in LAYER_MEMBERS}
    return info.extra | {name: value for name, value in named.items() if value is not None}


def _type_of(level: Described) -> str:
    named = level.remembered.get("type", level.array.attrs.get("layer_type"))
    possible = ("image", "segmentation") if level.array.dtype.kind in "biu" else ("image",)
    if isinstance(named, str) and named in possible:
        return named
    return default_type(level.data_type)


def _new_scale(info: VolumeInfo, level: Described, layout: Layout) -> ScaleInfo:
    remembered = level.remembered
    encoding = layout.encoding or _remembered_encoding(info, remembered, layout.keep_lossy)
    document: dict[str, Any] = {
        name: value
        for name, value in remembered.items()
        if name not in ("type", "data_type", "chunk_size", "layer")
    }
    if remembered.get("encoding") != encoding:
        document = {name: value for name, value in document.items() if name in STRUCTURE}
    resolution: Any = remembered.get("resolution") or level.resolution
    key = str(remembered.get("key", ""))
    document |= {
        # a key that leaves the layer names the source's own folder
        "key": key if is_inside(key) else scale_key(resolution),
        "size": level.size,
        "voxel_offset": level.voxel_offset,
        "resolution": resolution,
        "chunk_sizes": [
            remembered.get("chunk_size", CHUNK_SIZE)
            if layout.chunk_size is None
            else layout.chunk_size
        ],
        "encoding": encoding,
    }
    defaults = {} if remembered.get("encoding") == encoding else scale_members(encoding, {})
    document = defaults | document
    if layout.encoding_options:
        document |= scale_members(encoding, layout.encoding_options)
    scale = make_scale(document)
    _try_encoding(info, scale)
    if layout.sharding is not None:
        scale = replace(scale, sharding=find_sharding(layout.sharding, scale, info))
    return scale


def _try_encoding(info: VolumeInfo, scale: ScaleInfo) -> None:
    """Encode an empty chunk: what the encoding cannot carry is found out before anything is
    written.
    """
    x, y, z = scale.grid.chunk_shape((0, 0, 0))
    codec = codec_for(info, scale)
    if scale.encoding != "raw":
        codec.encode(np.zeros((info.num_channels, z, y, x), info.dtype))


def _remembered_encoding(info: VolumeInfo, remembered: Mapping[str, Any], keep_lossy: bool) -> str:
    """The encoding of the source, where it can carry the data and loses nothing on the way."""
    named = remembered.get("encoding")
    if named is not None:
        with suppress(UnsupportedEncodingError):
            codec = codec_for(info, make_scale(_trial(remembered)))
            if keep_lossy or not codec.lossy:  # which is written only when it is named
                return str(named)
    return default_encoding(info.type, info.data_type)


def _trial(remembered: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in remembered.items() if name not in ("sharding", "layer")}
    return kept | {"key": "trial", "size": (1, 1, 1), "voxel_offset": (0, 0, 0),
                   "resolution": (1, 1, 1), "chunk_sizes": [(1, 1, 1)]}  # fmt: skip


def _check_volume(wanted: VolumeInfo, existing: VolumeInfo, url: str) -> None:
    for name in ("data_type", "num_channels", "type"):
        found, asked = getattr(existing, name), getattr(wanted, name)
        if found != asked:
            raise LayoutError(
                f"{url}: {name} of the layer is {found!r}, of the array {asked!r}"
                + (f"; convert it:\n    da = da.astype({found!r})" if name == "data_type" else "")
            )


def _identical(wanted: VolumeInfo, existing: VolumeInfo, url: str) -> VolumeInfo:
    """`existing`, if it holds the scales that are wanted exactly so."""
    _check_volume(wanted, existing, url)
    for scale in wanted.scales:
        found = [each for each in existing.scales if each.key == scale.key]
        if not found:
            raise LayoutError(
                f"{url}: resume=True, but there is no scale {scale.key!r}; there is "
                f"{[each.key for each in existing.scales]}"
            )
        check_same_scale(scale, found[0], url)
    return existing


def check_same_scale(wanted: ScaleInfo, found: ScaleInfo, url: str) -> None:
    """Refuse a scale that is there and is not what is wanted."""
    asked, there = wanted.to_json(), found.to_json()
    for name in sorted(set(asked) | set(there)):
        if asked.get(name) != there.get(name) and name != "hidden":
            raise LayoutError(
                f"{url}: {name} of scale {found.key!r} is {there.get(name)}, this write asks for "
                f"{asked.get(name)}"
            )


def plan_region(
    level: Described,
    layout: Layout,
    existing: VolumeInfo | None,
    region: Any,
    *,
    safe_chunks: bool,
    url: str,
) -> Plan:
    """A write of values into a scale that exists.

    Parameters
    ----------
    level : Described
    layout : Layout
        What was given explicitly must be so already.
    existing : VolumeInfo or None
    region : None, "auto" or mapping of str to slice or "auto"
        Positions from the scale's first voxel; None: all of it.
    safe_chunks : bool
        Refuse to write a part of a stored object.

    Raises
    ------
    InfoMissingError, ScaleNotFoundError, LayoutError, CoordinateError, OutOfBoundsError
    AlignmentError
        With the nearest region that is aligned.
    """
    if existing is None:
        raise InfoMissingError(
            f"{url}: there is no layer to write into; make one first, without data:\n"
            f"    xp.write_info({url!r}, xp.create_info(size=…, resolution=…, data_type=…))"
        )
    if layout.downsample != 0:
        raise LayoutError(
            "downsample= with region= or mode='r+': write all regions, then the mips of the whole:"
            f"\n    xp.downsample({url!r}, …)"
        )
    mip = _find_scale(level, existing, url)
    scale = existing.scales[mip]
    wanted = replace(existing, data_type=level.data_type, num_channels=level.num_channels)
    _check_volume(wanted, existing, url)
    if layout.layer_type is not None:
        _check_volume(replace(existing, type=layout.layer_type), existing, url)
    check_same_scale(_asked(scale, layout, existing), scale, url)
    box = _region_box(level, scale, region)
    if safe_chunks or region is None:
        _check_region(scale, box, url)
    return Plan(existing, (Target(level, mip, box),), (), is_new=False)


def _find_scale(level: Described, info: VolumeInfo, url: str) -> int:
    told = [None if axis is None else axis[0] for axis in level.axes]
    steps = level.resolution or told
    fitting = [
        mip
        for mip, scale in enumerate(info.scales)
        if all(
            step is None or np.isclose(step, wanted, rtol=1e-6, atol=0)
            for step, wanted in zip(steps, scale.resolution, strict=True)
        )
    ]
    there_is = "\n".join(
        f"  mip {mip}: resolution {scale.resolution} nm, key {scale.key!r}"
        for mip, scale in enumerate(info.scales)
    )
    if not fitting:
        raise ScaleNotFoundError(
            f"{url}: there is no mip of the resolution {tuple(steps)}; there is\n{there_is}"
        )
    if len(fitting) > 1 and None in steps:
        raise CoordinateError(
            f"{url}: the array does not tell its resolution and the layer has several scales; say "
            f"it: resolution=…, one of\n{there_is}"
        )
    return fitting[0]


def _asked(scale: ScaleInfo, layout: Layout, info: VolumeInfo) -> ScaleInfo:
    """The scale as the explicit arguments want it."""
    if len(scale.chunk_sizes) > 1:
        raise LayoutError(
            f"scale {scale.key!r} is stored in chunks of {len(scale.chunk_sizes)} sizes, each a "
            "complete copy, and only one would be written: write the layer anew instead"
        )
    changes: dict[str, Any] = {}
    if layout.encoding is not None:
        changes["encoding"] = layout.encoding
    if layout.chunk_size is not None:
        changes["chunk_sizes"] = [layout.chunk_size, *scale.chunk_sizes[1:]]
    if layout.encoding_options:
        changes |= scale_members(layout.encoding or scale.encoding, layout.encoding_options)
    asked = make_scale(scale.to_json() | changes)
    if isinstance(layout.sharding, ShardingSpec | Mapping) or layout.sharding is False:
        asked = replace(asked, sharding=find_sharding(layout.sharding, asked, info))
    return asked


def _region_box(level: Described, scale: ScaleInfo, region: Any) -> Box:
    bounds = scale.bounds
    if region is None:
        starts = [
            told[1] if told else first for told, first in zip(level.axes, bounds.start, strict=True)
        ]
        box = Box.from_offset((starts[0], starts[1], starts[2]), level.size)
        if box != bounds:
            raise LayoutError(
                f"the array covers {box}, scale {scale.key!r} is {bounds}: say that a part is "
                "meant with region='auto' (by its coordinates) or region={'x': slice(…), …}"
            )
        return box
    if region != "auto" and not isinstance(region, Mapping):
        raise LayoutError(
            f"region={region!r}: expected 'auto' or a mapping such as {{'x': slice(0, 64)}}"
        )
    slices = dict.fromkeys(AXES, "auto") if isinstance(region, str) else dict(region)
    unknown = set(slices) - {*AXES, "channel"}
    channel = slices.get("channel", "auto")
    if unknown or not (channel == "auto" if isinstance(channel, str) else channel == slice(None)):
        raise LayoutError(
            f"region={region!r}: expected slices along x, y, z; all channels of a voxel are "
            "stored together"
        )
    spans = [_span(level, scale, i, slices.get(axis, slice(None))) for i, axis in enumerate(AXES)]
    (x0, x1), (y0, y1), (z0, z1) = spans
    box = Box((x0, y0, z0), (x1, y1, z1))
    if not bounds.contains(box):
        raise OutOfBoundsError(f"region {box} is not inside scale {scale.key!r}, {bounds}")
    if box.shape != level.size:
        raise LayoutError(f"region {box} has {box.shape} voxels (x, y, z), the array {level.size}")
    for axis, told, start in zip(AXES, level.axes, box.start, strict=True):
        if told is not None and told[1] != start:
            raise CoordinateError(
                f"coordinate {axis} begins at voxel {told[1]}, region= at {start} (absolute "
                f"voxels); if the region is right:\n    da = da.drop_vars({axis!r})"
            )
    return box


def _span(level: Described, scale: ScaleInfo, i: int, part: Any) -> tuple[int, int]:
    axis, first, size = AXES[i], scale.voxel_offset[i], scale.size[i]
    if isinstance(part, str):
        if part != "auto":
            raise LayoutError(f"region[{axis!r}]={part!r}: expected a slice or 'auto'")
        told = level.axes[i]
        if told is None:
            raise CoordinateError(
                f"region='auto' needs coordinates with units (or resolution= and voxel_offset=), "
                f"{axis} has none"
            )
        return told[1], told[1] + level.size[i]
    ends = (part.start, part.stop) if isinstance(part, slice) else (None, None)
    whole = [each is None or isinstance(each, int | np.integer) for each in ends]
    if not isinstance(part, slice) or part.step not in (None, 1) or not all(whole):
        raise LayoutError(f"region[{axis!r}]={part!r}: expected slice(start, stop) of positions")
    start, stop, _ = part.indices(size)
    if ends[1] is not None and ends[1] > size:
        raise OutOfBoundsError(
            f"region[{axis!r}]={part!r} leaves scale {scale.key!r}, which has {size} voxels there"
        )
    return first + start, first + stop


def _check_region(scale: ScaleInfo, box: Box, url: str) -> None:
    aligned = aligned_region(scale, box)
    if aligned == box:
        return
    region = {
        axis: slice(a - o, b - o)
        for axis, a, b, o in zip(AXES, aligned.start, aligned.stop, scale.voxel_offset, strict=True)
    }
    what = "chunks" if scale.sharding is None else "shards"
    raise AlignmentError(
        f"{url}: the region {box} covers stored {what} of scale {scale.key!r} in part, which would "
        "lose the rest of them. The nearest region of whole ones (positions from the scale's first "
        f"voxel):\n    region={region}\nOr keep the rest of them, which reads each one first: "
        "safe_chunks=False"
    )
