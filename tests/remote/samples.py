"""Small volumes of every kind that matters, each written to a disk by a peer and read by it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.images import labels, noise, smooth
from tests.remote.places import cv_read, cv_write, on_disk, ts_read, ts_write

SIZE = (45, 38, 33)  # x, y, z
OFFSET = (-7, 100, 3)
CHUNK = (16, 16, 16)
SHAPE = SIZE[::-1]


def sharding(preshift, minishard, shard, data="gzip"):
    return {
        "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": preshift, "hash": "identity",
        "minishard_bits": minishard, "shard_bits": shard,
        "minishard_index_encoding": "gzip", "data_encoding": data,
    }  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """What a peer wrote, where, and what it reads itself: (channel, z, y, x)."""

    name: str
    folder: Path
    array: np.ndarray

    @property
    def is_sharded(self):
        return self.name.startswith("sharded")


#: name: (encoding, array, writer, arguments). CloudVolume's unsharded ones are gzipped.
RECIPES = {
    "raw": ("raw", noise((1, *SHAPE), "u1"), "cv", {"compress": "gzip"}),
    "raw channels": ("raw", noise((3, *SHAPE), "u2"), "ts", {}),
    "jpeg": ("jpeg", smooth(SHAPE)[None], "cv", {}),
    "png": ("png", noise((1, *SHAPE), "u1"), "cv", {}),
    "cseg": ("compressed_segmentation", labels((1, *SHAPE)), "cv", {"compress": "gzip"}),
    "compresso": ("compresso", labels((1, *SHAPE)), "cv", {"compress": "gzip"}),
    "sharded raw": ("raw", noise((1, *SHAPE), "u2"), "ts", {"sharding": sharding(1, 1, 9)}),
    "sharded cseg": (
        "compressed_segmentation", labels((1, *SHAPE)), "ts", {"sharding": sharding(2, 2, 3)}
    ),
}  # fmt: skip


def write_sample(name, folder):
    encoding, array, writer, arguments = RECIPES[name]
    if writer == "cv":
        path = f"file://{folder}"
        cv_write(path, array, encoding, offset=OFFSET, chunk=CHUNK, **arguments)
        found = cv_read(path)
    else:
        ts_write(on_disk(folder), array, encoding, offset=OFFSET, chunk=CHUNK, **arguments)
        found = ts_read(on_disk(folder))
    if encoding != "jpeg":
        np.testing.assert_array_equal(found, array)
    return Sample(name, folder, found)
