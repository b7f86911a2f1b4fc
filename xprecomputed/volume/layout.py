"""What the ``info`` of a new layer says: scales, keys, sharding, the pyramid (pure).

Fact: format reference 1.2, 1.6, 4.7 and 11.3. All triples are x, y, z.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from xprecomputed.codecs import codec_for, scale_members
from xprecomputed.errors import InvalidInfoError, LayoutError
from xprecomputed.grid import Triple
from xprecomputed.metadata import ScaleInfo, ShardingSpec, VolumeInfo
from xprecomputed.shard_format import MortonCode
from xprecomputed.volume.downsampling import auto_factor, auto_factors, coarse_box

__all__ = [
    "Downsample",
    "Sharding",
    "auto_sharding",
    "coarser_scale",
    "coarser_sharding",
    "create_info",
    "default_encoding",
    "default_type",
    "downsample_factors",
    "find_sharding",
    "fitted_sharding",
    "make_scale",
    "scale_key",
]

Sharding = Literal["auto", False] | ShardingSpec | Mapping[str, Any] | None
Downsample = int | Literal["auto"] | Sequence[Sequence[int]]

#: Raw bytes of one shard under ``sharding="auto"``.
SHARD_BYTES = 1 << 30
#: Chunks of one minishard under ``sharding="auto"``: an index of 12 KiB before compression.
MINISHARD_BITS_INSIDE = 9
#: Encodings whose values gzip still makes smaller (as TensorStore and CloudVolume choose).
WORTH_GZIP = ("raw", "compressed_segmentation", "compresso")


def default_type(data_type: str) -> str:
    """The layer type that peers give this data type: labels are uint32 and uint64."""
    return "segmentation" if data_type in ("uint32", "uint64") else "image"


def default_encoding(layer_type: str, data_type: str) -> str:
    """Lossless, and what every reader knows."""
    labels = layer_type == "segmentation" and data_type in ("uint32", "uint64")
    return "compressed_segmentation" if labels else "raw"


def scale_key(resolution: Sequence[float]) -> str:
    """The usual name of a scale's folder.

    Examples
    --------
    >>> scale_key((4.5, 4, 40.0))
    '4.5_4_40'
    """
    return "_".join(f"{each:.15g}" for each in resolution)


def auto_sharding(grid_shape: Triple, chunk_bytes: int, encoding: str) -> ShardingSpec:
    """Bits for a volume: shards of at most 1 GiB raw, each one box; minishards of 512 chunks.

    Parameters
    ----------
    grid_shape : tuple of int
        Chunks along x, y, z.
    chunk_bytes : int
        Decoded bytes of a whole chunk, all channels.
    encoding : str

    Examples
    --------
    >>> spec = auto_sharding((157, 157, 157), 64**3, "raw")
    >>> spec.preshift_bits, spec.minishard_bits, spec.shard_bits
    (9, 3, 12)
    """
    bits = MortonCode(grid_shape).bits
    inside = min(bits, max(0, int(math.log2(max(1, SHARD_BYTES // chunk_bytes)))))
    preshift = min(inside, MINISHARD_BITS_INSIDE)
    return ShardingSpec(
        preshift_bits=preshift,
        hash="identity",
        minishard_bits=inside - preshift,
        shard_bits=bits - inside,
        minishard_index_encoding="gzip",
        data_encoding="gzip" if encoding in WORTH_GZIP else "raw",
    )


def fitted_sharding(spec: ShardingSpec, grid_shape: Triple) -> ShardingSpec:
    """Shards of as many chunks for a smaller grid: no bits to spare.

    Examples
    --------
    >>> spec = ShardingSpec(preshift_bits=9, hash="identity", minishard_bits=3, shard_bits=12)
    >>> fitted_sharding(spec, (40, 40, 20)).shard_bits
    5
    """
    if spec.hash != "identity":
        return spec
    left = MortonCode(grid_shape).bits
    bits = {}
    for name in ("preshift_bits", "minishard_bits", "shard_bits"):
        bits[name] = min(getattr(spec, name), left)
        left -= bits[name]
    return replace(spec, **bits)


def coarser_sharding(
    sharding: Sharding, before: ScaleInfo, scale: ScaleInfo, info: VolumeInfo
) -> ShardingSpec | None:
    """The spec of the next mip: as the one before, unless an argument says otherwise."""
    if sharding is None or isinstance(sharding, ShardingSpec | Mapping):
        spec = find_sharding(before.sharding if sharding is None else sharding, scale, info)
        return None if spec is None else fitted_sharding(spec, scale.grid.shape)
    return find_sharding(sharding, scale, info)


def find_sharding(sharding: Sharding, scale: ScaleInfo, info: VolumeInfo) -> ShardingSpec | None:
    """The spec that an argument means for `scale`."""
    if sharding is None or sharding is False:
        return None
    if isinstance(sharding, ShardingSpec):
        return sharding
    if isinstance(sharding, Mapping):
        return ShardingSpec.from_json(dict(sharding))
    if sharding != "auto":
        raise LayoutError(
            f"sharding={sharding!r}: expected None, False, 'auto', a ShardingSpec or its JSON"
        )
    chunk_bytes = math.prod(scale.chunk_size) * info.dtype.itemsize * info.num_channels
    return auto_sharding(scale.grid.shape, chunk_bytes, scale.encoding)


def make_scale(document: Mapping[str, Any]) -> ScaleInfo:
    """A scale out of its members, all problems in one error.

    Raises
    ------
    InvalidInfoError
    """
    problems: list[str] = []
    plain = {name: _plain(value) for name, value in document.items() if value is not None}
    scale = ScaleInfo.read(plain, "scale", problems)
    if scale is None:
        raise InvalidInfoError("this scale cannot be written:", problems)
    return scale


def _plain(value: Any) -> Any:
    """NumPy's numbers and tuples as JSON has them."""
    if isinstance(value, str | bytes | Mapping):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Sequence):
        return [_plain(each) for each in value]
    return value


def coarser_scale(scale: ScaleInfo, factor: Triple) -> ScaleInfo:
    """The next scale of a pyramid, on the absolute voxel grid; unsharded.

    Examples
    --------
    >>> fine = ScaleInfo(key="8_8_40", size=(5, 5, 5), resolution=(8, 8, 40),
    ...                  chunk_sizes=((64, 64, 64),), encoding="raw", voxel_offset=(3, 0, 1))
    >>> coarse = coarser_scale(fine, (2, 2, 1))
    >>> coarse.key, coarse.size, coarse.voxel_offset
    ('16_16_40', (3, 3, 5), (1, 0, 1))
    """
    box = coarse_box(scale.bounds, factor)
    x, y, z = (r * f for r, f in zip(scale.resolution, factor, strict=True))
    extra = {name: value for name, value in scale.extra.items() if name != "rois"}
    return replace(
        scale,
        key=scale_key((x, y, z)),
        size=box.shape,
        voxel_offset=box.start,
        resolution=(x, y, z),
        sharding=None,
        chunk_sizes=scale.chunk_sizes[:1],
        hidden=False,
        extra=extra,
    )


def downsample_factors(downsample: Downsample, scale: ScaleInfo) -> list[Triple]:
    """From each mip to the next, x, y, z, as an argument means it.

    Parameters
    ----------
    downsample : int, "auto" or sequence of triples
        A number of further mips with factors by the resolution; "auto": until one chunk
        holds everything; or the factors themselves.

    Raises
    ------
    LayoutError

    Examples
    --------
    >>> scale = ScaleInfo(key="8_8_40", size=(500, 500, 50), resolution=(8, 8, 40),
    ...                   chunk_sizes=((64, 64, 64),), encoding="raw")
    >>> downsample_factors(2, scale), downsample_factors([(2, 2, 2)], scale)
    ([(2, 2, 1), (2, 2, 1)], [(2, 2, 2)])
    """
    if isinstance(downsample, str):
        if downsample != "auto":
            raise LayoutError(f"downsample={downsample!r}: expected a number, 'auto' or factors")
        return auto_factors(scale.resolution, scale.size, scale.voxel_offset, scale.chunk_size)
    if isinstance(downsample, int | np.integer):
        if isinstance(downsample, bool) or downsample < 0:
            raise LayoutError(f"downsample={downsample!r}: expected a number of mips >= 0")
        factors: list[Triple] = []
        for _ in range(downsample):
            factor = auto_factor(scale.resolution, scale.size)
            if factor == (1, 1, 1):
                raise LayoutError(
                    f"downsample={downsample}: after {len(factors)} mips a single voxel is left"
                )
            factors.append(factor)
            scale = coarser_scale(scale, factor)
        return factors
    try:
        triples = [tuple(operator.index(each) for each in factor) for factor in downsample]
        if any(len(each) != 3 or min(each) < 1 or max(each) == 1 for each in triples):
            raise ValueError
    except (TypeError, ValueError):
        raise LayoutError(
            f"downsample={downsample!r}: expected factors such as [(2, 2, 1), (2, 2, 2)], x, y, z, "
            "a number of mips, or 'auto'"
        ) from None
    return [(x, y, z) for x, y, z in triples]


def _is_three(resolution: object) -> bool:
    """Whether these are three numbers; if not, checking the scale tells what is wrong."""
    try:
        return bool(np.asarray(resolution, float).shape == (3,))
    except (TypeError, ValueError):
        return False


def create_info(
    *,
    size: Sequence[int],
    resolution: Sequence[float],
    data_type: str,
    layer_type: str | None = None,
    num_channels: int = 1,
    voxel_offset: Sequence[int] = (0, 0, 0),
    chunk_size: Sequence[int] = (64, 64, 64),
    encoding: str | None = None,
    encoding_options: Mapping[str, Any] | None = None,
    sharding: Sharding = None,
    downsample: Downsample = 0,
    **members: str,
) -> VolumeInfo:
    """The ``info`` of a layer that has no data yet; nothing is written.

    Parameters
    ----------
    size : sequence of three int
        Voxels of the finest scale, x, y, z.
    resolution : sequence of three numbers
        nm per voxel, x, y, z.
    data_type : str
        As ``info`` spells it: uint8, int8, uint16, int16, uint32, int32, uint64, float32.
    layer_type : {"image", "segmentation"}, optional
        By default segmentation for uint32 and uint64.
    num_channels : int
    voxel_offset : sequence of three int
        First voxel, absolute, x, y, z.
    chunk_size : sequence of three int
        Voxels of a stored chunk, x, y, z.
    encoding : str, optional
        By default compressed_segmentation for labels, else raw.
    encoding_options : mapping, optional
        ``quality`` of jpeg, ``level`` of png, ``block_size`` of compressed_segmentation.
    sharding : None, "auto", ShardingSpec or mapping
    downsample : int, "auto" or sequence of triples
        Scales of a pyramid, as in ``to_precomputed``.
    **members : str
        ``mesh``, ``skeletons``, ``segment_properties``: relative folders.

    Returns
    -------
    VolumeInfo

    Raises
    ------
    InvalidInfoError, UnsupportedEncodingError, LayoutError, ValueError

    Examples
    --------
    >>> info = create_info(size=(1000, 1000, 100), resolution=(8, 8, 40), data_type="uint64",
    ...                    downsample=1)
    >>> info.type, [scale.key for scale in info.scales]
    ('segmentation', ['8_8_40', '16_16_40'])
    """
    kind = default_type(data_type) if layer_type is None else layer_type
    if kind not in ("image", "segmentation"):
        raise LayoutError(f"layer_type={kind!r}: expected 'image' or 'segmentation'")
    encoding = encoding or default_encoding(kind, data_type)
    first = make_scale(
        {
            "key": scale_key(resolution) if _is_three(resolution) else "",
            "size": size,
            "voxel_offset": voxel_offset,
            "resolution": resolution,
            "chunk_sizes": [chunk_size],
            "encoding": encoding,
            **scale_members(encoding, encoding_options or {}),
        }
    )
    scales = [first]
    for factor in downsample_factors(downsample, first):
        scales.append(coarser_scale(scales[-1], factor))
    document = {
        "type": kind,
        "data_type": data_type,
        "num_channels": num_channels,
        "scales": [scale.to_json() for scale in scales],
        **members,
    }
    info = VolumeInfo.from_json(document, "create_info")
    sharded = [replace(first, sharding=find_sharding(sharding, first, info))]
    for scale in scales[1:]:
        spec = coarser_sharding(sharding, sharded[-1], scale, info)
        sharded.append(replace(scale, sharding=spec))
    info = replace(info, scales=tuple(sharded))
    for scale in info.scales:
        codec_for(info, scale)
    return info
