"""The data of the rows: made once, kept in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import xprecomputed as xp
from benchmarks import shapes

__all__ = ["CHUNKED", "ENCODINGS", "NAMES", "make", "options", "real_volume", "source"]

SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "hash": "identity",
    "preshift_bits": 3,
    "minishard_bits": 3,
    "shard_bits": 3,
    "minishard_index_encoding": "gzip",
    "data_encoding": "gzip",
}
FLAT, CUBE = (128, 128, 32), (64, 64, 64)

#: encoding, chunk_size (x, y, z), compression around objects, whether sharded
ENCODINGS: dict[str, tuple[str, tuple[int, int, int], str | None, bool]] = {
    "image raw": ("raw", CUBE, None, False),
    "image raw gzip": ("raw", CUBE, "gzip", False),
    "image jpeg": ("jpeg", FLAT, None, False),
    "image png": ("png", FLAT, None, False),
    "segmentation cseg": ("compressed_segmentation", CUBE, None, False),
    "segmentation cseg gzip": ("compressed_segmentation", CUBE, "gzip", False),
    "segmentation crackle": ("crackle", FLAT, None, False),
    "segmentation compresso gzip": ("compresso", FLAT, "gzip", False),
    "segmentation raw gzip": ("raw", CUBE, "gzip", False),
    "sharded segmentation cseg": ("compressed_segmentation", CUBE, None, True),
    "sharded image raw": ("raw", CUBE, None, True),
    "sharded image jpeg": ("jpeg", CUBE, None, True),
}
NAMES = tuple(ENCODINGS)
CHUNKED = tuple(name for name in NAMES if not ENCODINGS[name][3])


def real_volume() -> Path | None:
    """A real segmentation, beside the checkout or where the variable says."""
    checkout = Path(__file__).resolve().parent.parent
    beside = checkout.parent / "shared/data/connectomics_seg"
    folder = Path(os.environ.get("XPRECOMPUTED_REAL_VOLUME", beside))
    return folder if (folder / "info").exists() else None


def _labels(side: int) -> Any:
    """Real labels where there are some, otherwise cells with wavy walls; uint64, (z, y, x)."""
    if found := real_volume():
        store = xp.open_store(str(found))
        if min(store.info.scales[0].size) >= side:
            return np.asarray(store.read(((0, 0, 0), (side,) * 3)), np.uint64).reshape((side,) * 3)
    at = np.arange(side, dtype=np.float32)
    out = np.empty((side, side, side), np.uint64)
    for z in range(side):
        y, x = at[:, None], at[None, :]
        u = (x + 9 * np.sin(y / 17) + 7 * np.sin(z / 23)) // 40
        v = (y + 8 * np.sin(z / 19) + 6 * np.sin(x / 13)) // 33
        w = (z + 7 * np.sin(x / 29) + 9 * np.sin(y / 31)) // 37
        code = (u + 50) + 1000 * (v + 50) + 1_000_000 * (w + 50)
        out[z] = code.astype(np.uint64) * np.uint64(7919) + np.uint64(1 << 40)
    return out


def _image(side: int) -> Any:
    """Smooth shapes and noise, as entropic as electron micrographs; uint8, (z, y, x)."""
    random = np.random.default_rng(0)
    values = random.normal(size=(side, side, side)).astype(np.float32)
    for axis in range(3):
        values = sum(np.roll(values, by, axis) for by in range(1, 4)) + values
    values *= 30 / values.std()
    values += 120 + 6 * random.normal(size=values.shape).astype(np.float32)
    return np.clip(values, 0, 255).astype(np.uint8)


def source(data: Path, name: str) -> Any:
    """The voxels of a layer as they were before they were written; read into memory."""
    return np.load(data / ("image.npy" if "image" in name else "labels.npy"))


def options(name: str) -> dict[str, Any]:
    """What `to_precomputed` is told about a layer."""
    encoding, chunk_size, compression, sharded = ENCODINGS[name]
    return {
        "resolution": (8, 8, 8),
        "layer_type": "image" if "image" in name else "segmentation",
        "encoding": encoding,
        "chunk_size": chunk_size,
        "compression": compression,
        "sharding": SHARDING if sharded else None,
        "provenance": False,
    }


def make(data: Path, side: int) -> None:
    """Write all layers below `data`, unless they are there."""
    data.mkdir(parents=True, exist_ok=True)
    shapes.make(data)
    stamp = data / "made.json"
    wanted = {"side": side, "names": list(NAMES), "real": str(real_volume())}
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return
    for name, voxels in {"image": _image(side), "segmentation": _labels(side)}.items():
        np.save(data / ("image.npy" if name == "image" else "labels.npy"), voxels)
        array = xr.DataArray(voxels, dims=("z", "y", "x"))
        for each in NAMES:
            if name in each:
                xp.to_precomputed(array, str(data / each), mode="w", **options(each))
    stamp.write_text(json.dumps(wanted))
