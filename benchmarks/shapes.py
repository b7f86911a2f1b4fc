"""The data of the rows that are not read whole from a disk: made once, kept in a folder."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import xprecomputed as xp

__all__ = ["CHUNKS", "CHUNK_SIZE", "PETAVOXEL", "REMOTE", "SEGMENTS", "make", "segment_ids"]

#: Folders below the data. What is served has one folder more, as a bucket has.
REMOTE, SEGMENTS, PETAVOXEL = "remote", "segments", "petavoxel"

#: x, y, z: 512 chunks of 64 KiB of uint8
CHUNK_SIZE, CHUNKS = (32, 32, 64), (8, 8, 8)
COUNT = 1000
#: 8 shards of 8 minishards.
SHARDING = xp.ShardingSpec(
    preshift_bits=0,
    hash="murmurhash3_x86_128",
    minishard_bits=3,
    shard_bits=3,
    minishard_index_encoding="gzip",
)


def make(data: Path) -> None:
    """Write the layers below `data` that are not there."""
    makers: dict[str, Callable[[Path], None]] = {
        REMOTE: _remote,
        SEGMENTS: _segments,
        PETAVOXEL: _petavoxel,
    }
    for name, write in makers.items():
        if not (data / name).exists():
            unfinished = data / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            write(unfinished)
            unfinished.rename(data / name)


def _remote(folder: Path) -> None:
    """Noise in many small objects."""
    shape = [n * size for n, size in zip(CHUNKS, CHUNK_SIZE, strict=True)][::-1]
    voxels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    xp.to_precomputed(
        xr.DataArray(voxels, dims=("z", "y", "x")),
        str(folder / "bucket/layer"),
        mode="w",
        resolution=(8, 8, 8),
        layer_type="image",
        encoding="raw",
        chunk_size=CHUNK_SIZE,
        compression=None,
        provenance=False,
    )


def segment_ids() -> list[int]:
    """In no order."""
    random = np.random.default_rng(0)
    return (random.permutation(COUNT).astype(np.uint64) * np.uint64(7919) + np.uint64(1)).tolist()


def _segments(folder: Path) -> None:
    """A volume without voxels, with its meshes and skeletons, in shards."""
    random = np.random.default_rng(0)
    url, ids = str(folder / "bucket/layer"), segment_ids()
    info = xp.create_info(
        size=(8192, 8192, 1024),
        resolution=(8, 8, 40),
        data_type="uint64",
        layer_type="segmentation",
    )
    store = xp.write_info(url, info)
    xp.create_mesh(store, sharding=SHARDING).put((_ball(random, each) for each in ids), num_lods=2)
    store = xp.open_store(url)
    xp.create_skeleton(store, sharding=SHARDING).put(_path(random, each) for each in ids)


def _ball(random: np.random.Generator, segment: int) -> xp.Mesh:
    """A bumpy ball of some hundred to some thousand vertices."""
    rows = int(random.integers(12, 60))
    across, around = np.meshgrid(
        np.linspace(0.05, math.pi - 0.05, rows), np.linspace(0, 2 * math.pi, rows, endpoint=False)
    )
    radius = 500 + 30 * np.sin(5 * across) * np.cos(4 * around)
    directions = (
        np.sin(across) * np.cos(around), np.sin(across) * np.sin(around), np.cos(across)
    )  # fmt: skip
    vertices = np.stack([radius * each for each in directions], -1).reshape(-1, 3)
    vertices += random.uniform(1000, 50_000, 3)
    i, j = np.meshgrid(np.arange(rows), np.arange(rows - 1), indexing="ij")
    here, there = i * rows + j, (i + 1) % rows * rows + j
    faces = np.concatenate(
        [np.stack([here, there, here + 1], -1), np.stack([there, there + 1, here + 1], -1)]
    )
    return xp.Mesh(vertices.astype(np.float32), faces.reshape(-1, 3).astype(np.uint32), segment)


def _path(random: np.random.Generator, segment: int) -> Any:
    """A random walk of some hundred to some thousand vertices."""
    import osteoid

    count = int(random.integers(100, 2000))
    vertices = np.cumsum(random.normal(0, 50, (count, 3)), 0) + 20_000
    edges = np.stack([np.arange(count - 1), np.arange(1, count)], 1)
    return osteoid.Skeleton(
        vertices.astype(np.float32),
        edges.astype(np.uint32),
        radii=random.uniform(20, 90, count).astype(np.float32),
        segid=segment,
    )


def _petavoxel(folder: Path) -> None:
    """Only what describes it: 10^15 voxels and coarser mips, with no chunks."""
    scales = [
        {
            "key": f"{8 << mip}_{8 << mip}_{8 << mip}",
            "size": [-(-100_000 // (1 << mip))] * 3,
            "voxel_offset": [0, 0, 0],
            "resolution": [8 << mip] * 3,
            "chunk_sizes": [[64, 64, 64]],
            "encoding": "raw",
        }
        for mip in range(8)
    ]
    info = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "image",
        "data_type": "uint8",
        "num_channels": 1,
        "scales": scales,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "info").write_text(json.dumps(info))
