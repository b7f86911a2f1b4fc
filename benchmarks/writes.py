"""Whole layers, written from memory to a local disk."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import bare, peers
from benchmarks.layers import ENCODINGS, NAMES, SHARDING, options, source
from benchmarks.reads import CODEC_BOUND
from benchmarks.rows import LIMIT, OURS, Contender, Operation, Place, Row, Target, checksum

WRITTEN = [name for name in NAMES if name != "segmentation raw gzip"]


def ours(name: str) -> Contender:
    """`to_precomputed` of an array in memory."""

    def prepare(place: Place) -> Operation:
        import xarray as xr

        import xprecomputed as xp

        array = xr.DataArray(source(place.data, name), dims=("z", "y", "x"))
        told = options(name)
        return lambda: xp.to_precomputed(array, str(place.scratch), **told)

    return prepare


def cloudvolume(name: str) -> Contender:
    """A new volume, filled by slicing."""
    encoding, chunk_size, compression, _ = ENCODINGS[name]

    def prepare(place: Place) -> Operation:
        import cloudvolume

        voxels = source(place.data, name).T[..., None]

        def write() -> None:
            info = cloudvolume.CloudVolume.create_new_info(
                1,
                "image" if "image" in name else "segmentation",
                voxels.dtype.name,
                encoding,
                (8, 8, 8),
                (0, 0, 0),
                voxels.shape[:3],
                chunk_size=chunk_size,
            )
            volume = peers.cloudvolume(
                f"file://{place.scratch}", info=info, compress=compression or False
            )
            volume.commit_info()
            volume[:, :, :] = voxels

        return write

    return prepare


def tensorstore(name: str) -> Contender:
    """A new store, filled by `write`."""
    encoding, chunk_size, _, sharded = ENCODINGS[name]

    def prepare(place: Place) -> Operation:
        voxels = source(place.data, name).T[..., None]
        scale: dict[str, Any] = {
            "size": voxels.shape[:3],
            "encoding": encoding,
            "chunk_size": chunk_size,
            "resolution": [8, 8, 8],
            "voxel_offset": [0, 0, 0],
        }
        if encoding == "compressed_segmentation":
            scale["compressed_segmentation_block_size"] = [8, 8, 8]
        if encoding in ("jpeg", "png"):
            scale[f"{encoding}_{'quality' if encoding == 'jpeg' else 'level'}"] = (
                85 if encoding == "jpeg" else 6
            )
        if sharded:
            scale["sharding"] = SHARDING
        volume = {
            "type": "image" if "image" in name else "segmentation",
            "data_type": voxels.dtype.name,
            "num_channels": 1,
        }

        def write() -> None:
            store = peers.tensorstore(
                peers.file_kvstore(place.scratch),
                multiscale_metadata=volume,
                scale_metadata=scale,
                create=True,
            )
            store.write(voxels).result()

        return write

    return prepare


def limit(name: str) -> Contender:
    """Copy a chunk, encode it with the bare package, write a file: on all cores."""
    _, (x, y, z), _, sharded = ENCODINGS[name]

    def prepare(place: Place) -> Operation:
        voxels, encode, side = source(place.data, name), bare.encoder(name), place.side
        parts = [
            (slice(k, k + z), slice(j, j + y), slice(i, i + x))
            for k in range(0, side, z)
            for j in range(0, side, y)
            for i in range(0, side, x)
        ]

        def write() -> None:
            place.scratch.mkdir()

            def one(part: Any) -> None:
                data = encode(voxels[part])
                # shards: appended to eight files, as many as there are of them
                number = (part[0].start // z * 7 + part[1].start // y * 3 + part[2].start // x) % 8
                where = f"{number}" if sharded else "_".join(f"{each.start}" for each in part)
                with open(place.scratch / where, "ab", buffering=0) as file:
                    file.write(data)

            bare.on_all_cores(one, parts)

        return write

    return prepare


def _read_back(name: str) -> Any:
    """Of what was written: the same voxels, or for lossy encodings as far from them."""

    def summary(_: Any, place: Place) -> dict[str, float]:
        import xprecomputed as xp

        if not (place.scratch / "info").exists():
            return {}
        found = np.asarray(
            xp.open_store(str(place.scratch)).read(((0, 0, 0), (place.side,) * 3))
        ).reshape((place.side,) * 3)
        if ENCODINGS[name][0] != "jpeg":
            return checksum(found)
        wanted = source(place.data, name)
        return {"mean error": float(np.abs(found.astype(np.int16) - wanted).mean())}

    return summary


def _row(name: str) -> Row:
    encoding, _, compression, sharded = ENCODINGS[name]
    contenders = {OURS: ours(name), LIMIT: limit(name)}
    if not sharded:  # it writes none
        contenders["CloudVolume"] = cloudvolume(name)
    if compression is None and encoding not in ("crackle", "compresso"):
        contenders["TensorStore"] = tensorstore(name)
    return Row(
        name=f"write {name}",
        group="write",
        contenders=contenders,
        targets=(
            (Target(LIMIT, 0.95), Target("best peer", 1.0))
            if encoding in CODEC_BOUND
            else (Target("best peer", 1.3),)
        ),
        nbytes=lambda side: side**3 * (1 if "image" in name else 8),
        summary=_read_back(name),
        tolerance=0.05 if encoding == "jpeg" else 0.0,
        repeats=2,
        writes=True,
    )


ROWS = [_row(name) for name in WRITTEN]
