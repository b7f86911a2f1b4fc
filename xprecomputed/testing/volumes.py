"""Small volumes written with the pure encoders, for tests and examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec.core
import numpy as np

from xprecomputed.codecs import Array, codec_for, compress
from xprecomputed.metadata import ScaleInfo, ShardingSpec, VolumeInfo
from xprecomputed.shard_format import MortonCode, encode_shards

__all__ = ["write_volume"]

SUFFIX = {"gzip": ".gz", "br": ".br", "zstd": ".zstd", None: ""}


def write_volume(
    url: str,
    mips: Sequence[Array],
    *,
    resolution: Sequence[float] = (8, 8, 40),
    voxel_offset: Sequence[int] = (0, 0, 0),
    chunk_size: Sequence[int] = (64, 64, 64),
    encoding: str = "raw",
    sharding: ShardingSpec | Mapping[str, Any] | None = None,
    compression: str | None = None,
    layer_type: str | None = None,
    factor: Sequence[int] = (2, 2, 1),
    block_size: Sequence[int] = (8, 8, 8),
    skip_zeros: bool = False,
) -> str:
    """Write arrays as the mips of a new volume, chunk by chunk, without dask.

    Parameters
    ----------
    url : str
        A path or an fsspec URL.
    mips : sequence of ndarray
        Finest first; axes ``([channel,] z, y, x)``.
    resolution, voxel_offset : sequence of three numbers
        Of the finest mip, x, y, z.
    chunk_size : sequence of three int
        x, y, z.
    encoding : str
    sharding : ShardingSpec or mapping, optional
    compression : {"gzip", "br", "zstd"}, optional
        Of whole chunk files, announced by a suffix as CloudFiles does.
    layer_type : {"image", "segmentation"}, optional
        By default segmentation for uint32 and uint64.
    factor : sequence of three int
        Between mips, x, y, z.
    block_size : sequence of three int
        Of compressed_segmentation.
    skip_zeros : bool
        Leave chunks out that hold only zeros.

    Returns
    -------
    str
        `url`.
    """
    fs, root = fsspec.core.url_to_fs(url)
    arrays = [each if each.ndim == 4 else each[None] for each in mips]
    first = arrays[0]
    kind = layer_type or ("segmentation" if first.dtype in ("u4", "u8") else "image")
    scales = []
    for mip, array in enumerate(arrays):
        grown = [f**mip for f in factor]
        step = [r * f for r, f in zip(resolution, grown, strict=True)]
        scale: dict[str, Any] = {
            "key": "_".join(f"{each:g}" for each in step),
            "size": [*map(int, array.shape[:0:-1])],
            "voxel_offset": [int(o) // f for o, f in zip(voxel_offset, grown, strict=True)],
            "resolution": step,
            "chunk_sizes": [[int(each) for each in chunk_size]],
            "encoding": encoding,
        }
        if encoding == "compressed_segmentation":
            scale["compressed_segmentation_block_size"] = [int(each) for each in block_size]
        if sharding is not None:
            spec = sharding if isinstance(sharding, ShardingSpec) else None
            scale["sharding"] = sharding if spec is None else spec.to_json()
        scales.append(scale)
    document = {
        "@type": "neuroglancer_multiscale_volume",
        "type": kind,
        "data_type": first.dtype.name,
        "num_channels": first.shape[0],
        "scales": scales,
    }
    info = VolumeInfo.from_json(document)
    for scale_info, array in zip(info.scales, arrays, strict=True):
        chunks = dict(_encoded(info, scale_info, array, skip_zeros))
        folder = f"{root}/{scale_info.key}"
        fs.makedirs(folder, exist_ok=True)
        for name, data in _objects(scale_info, chunks, compression).items():
            fs.pipe_file(f"{folder}/{name}", data)
    fs.pipe_file(f"{root}/info", json.dumps(info.to_json()).encode())
    return url


def _encoded(info: VolumeInfo, scale: ScaleInfo, array: Array, skip_zeros: bool) -> Any:
    codec = codec_for(info, scale)
    offset = np.array(scale.voxel_offset)
    for cell in scale.grid.cells(scale.bounds):
        box = scale.grid.chunk_box(cell)
        (x0, y0, z0), (x1, y1, z1) = np.array(box.start) - offset, np.array(box.stop) - offset
        chunk = array[:, z0:z1, y0:y1, x0:x1]
        if not (skip_zeros and not chunk.any()):
            yield cell, codec.encode(chunk)


def _objects(
    scale: ScaleInfo, chunks: Mapping[tuple[int, int, int], bytes], compression: str | None
) -> dict[str, bytes]:
    if scale.sharding is None:
        return {
            scale.grid.name(cell) + SUFFIX[compression]: (
                data if compression is None else compress(data, compression)
            )
            for cell, data in chunks.items()
        }
    cells = list(chunks)
    keys = MortonCode(scale.grid.shape).encode(np.reshape(cells, (-1, 3)))
    by_key = {key: chunks[cell] for key, cell in zip(keys.tolist(), cells, strict=True)}
    return encode_shards(by_key, scale.sharding)
