"""Whole layers with three further mips, written from memory to a local disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.layers import ENCODINGS, options, source
from benchmarks.rows import OURS, Contender, Operation, Place, Row, Target, checksum

MIPS = 3
#: How the mips of a layer are made.
METHODS = {"segmentation cseg": "mode", "image raw": "mean"}


def ours(name: str) -> Contender:
    """`to_precomputed` with `downsample`."""

    def prepare(place: Place) -> Operation:
        import xarray as xr

        import xprecomputed as xp

        array = xr.DataArray(source(place.data, name), dims=("z", "y", "x"))
        told = options(name) | {
            "downsample": [(2, 2, 2)] * MIPS,
            "downsample_method": METHODS[name],
        }
        return lambda: xp.to_precomputed(array, str(place.scratch), **told)

    return prepare


def cloudvolume(name: str) -> Contender:
    """All mips by tinybrain at once, written by slicing."""
    encoding, chunk_size, _, _ = ENCODINGS[name]

    def prepare(place: Place) -> Operation:
        import cloudvolume
        import tinybrain

        voxels = source(place.data, name).T[..., None]
        coarser = (
            tinybrain.downsample_segmentation
            if METHODS[name] == "mode"
            else tinybrain.downsample_with_averaging
        )

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
                max_mip=MIPS,
                factor=(2, 2, 2),
            )
            volume = peers.cloudvolume(f"file://{place.scratch}", info=info, compress=False)
            volume.commit_info()
            levels = [voxels, *coarser(voxels, (2, 2, 2), num_mips=MIPS)]
            for mip, level in enumerate(levels):
                volume.mip = mip
                volume[:, :, :] = level

        return write

    return prepare


def tensorstore(name: str) -> Contender:
    """`downsample` of the mip below, which is kept in memory: faster than reading it again."""
    encoding, chunk_size, _, _ = ENCODINGS[name]

    def prepare(place: Place) -> Operation:
        import tensorstore as ts

        voxels = source(place.data, name).T[..., None]
        volume = {
            "type": "image" if "image" in name else "segmentation",
            "data_type": voxels.dtype.name,
            "num_channels": 1,
        }

        def save(level: Any, mip: int) -> None:
            scale: dict[str, Any] = {
                "size": level.shape[:3],
                "encoding": encoding,
                "chunk_size": chunk_size,
                "resolution": [8 << mip] * 3,
                "voxel_offset": [0, 0, 0],
            }
            if encoding == "compressed_segmentation":
                scale["compressed_segmentation_block_size"] = [8, 8, 8]
            store = peers.tensorstore(
                peers.file_kvstore(place.scratch),
                multiscale_metadata=volume,
                scale_metadata=scale,
                create=True,
            )
            store.write(level).result()

        def write() -> None:
            level = voxels
            save(level, 0)
            for mip in range(1, MIPS + 1):
                finer = ts.array(level, context=ts.Context(peers.ALL_CORES))
                level = ts.downsample(finer, [2, 2, 2, 1], METHODS[name]).read(order="F").result()
                save(level, mip)

        return write

    return prepare


def _cells(fine: Any, coarse: Any, factor: int) -> Iterator[tuple[Any, Any]]:
    """Each 16th plane of coarse voxels, and the fine ones in them, (y, x, factor ** 3)."""
    for z in range(0, coarse.shape[0], 16):
        slab = fine[z * factor : (z + 1) * factor]
        y, x = (each // factor for each in slab.shape[1:])
        cells = slab.reshape(factor, y, factor, x, factor).transpose(1, 3, 0, 2, 4)
        yield coarse[z], cells.reshape(y, x, factor**3)


def _times(cells: Any, values: Any) -> Any:
    return (cells == values[..., None]).sum(-1)


def _not_a_mode(levels: list[Any], mip: int) -> int:
    """Voxels whose label is not among the most frequent of the mip below.

    Of several that are equally frequent everybody takes another, and the next mip goes on from
    that: so each is judged by what it made of its own mip below.
    """
    found = 0
    for values, cells in _cells(levels[mip - 1], levels[mip], 2):
        most = np.max([_times(cells, cells[..., each]) for each in range(8)], axis=0)
        found += int((_times(cells, values) < most).sum())
    return found


def _not_a_mean(levels: list[Any], mip: int) -> int:
    """Voxels that are further from the mean of mip 0 than rounding explains.

    Some round at every mip to the nearest, half of one at most; others cut off once, almost one.
    """
    found = 0
    for values, cells in _cells(levels[0], levels[mip], 1 << mip):
        found += int((np.abs(cells.mean(-1) - values) > max(1.0, mip / 2)).sum())
    return found


def _read_back(name: str) -> Any:
    wrong = _not_a_mode if METHODS[name] == "mode" else _not_a_mean

    def summary(_: Any, place: Place) -> dict[str, float]:
        import xprecomputed as xp

        store = xp.open_store(str(place.scratch))
        levels = [np.squeeze(store.read(each.bounds, mip=mip)) for mip, each in store.mips.items()]
        return {f"mip {mip} wrong": float(wrong(levels, mip)) for mip in range(1, MIPS + 1)} | (
            checksum(levels[0])
        )

    return summary


def _row(name: str) -> Row:
    return Row(
        name=f"pyramid {name}",
        group="pyramid",
        contenders={
            OURS: ours(name),
            "CloudVolume": cloudvolume(name),
            "TensorStore": tensorstore(name),
        },
        targets=(Target("best peer", 1.3),),
        nbytes=lambda side: side**3 * (1 if "image" in name else 8),
        summary=_read_back(name),
        repeats=2,
        writes=True,
        needs={"CloudVolume": "tinybrain"},  # GPL: only where somebody has installed it
    )


ROWS = [_row(name) for name in METHODS]
