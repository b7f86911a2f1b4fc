"""Valid chunks of every encoding, type and number of channels."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tests.images import labels, noise, smooth
from xprecomputed.codecs import ChunkSpec, Codec
from xprecomputed.codecs.compressed_segmentation import CompressedSegmentation
from xprecomputed.codecs.compresso import Compresso
from xprecomputed.codecs.crackle import Crackle
from xprecomputed.codecs.fpzip import Fpzip, Kempressed
from xprecomputed.codecs.image import Jpeg
from xprecomputed.codecs.jxl import Jxl
from xprecomputed.codecs.png import Png
from xprecomputed.codecs.raw import Raw
from xprecomputed.codecs.zfpc import Zfpc

SHAPE = (5, 9, 17)  # z, y, x
UNSIGNED = ("u1", "<u2", "<u4", "<u8")
EVERY = (*UNSIGNED, "i1", "<i2", "<i4", "<i8", "<f4", "<f8")


@dataclass(frozen=True)
class Sample:
    """A chunk, and what it decodes to."""

    codec: Codec
    chunk: ChunkSpec
    data: bytes
    decoded: np.ndarray

    @property
    def name(self):
        return f"{self.chunk.dtype.name}, {self.chunk.shape[0]} channel(s)"


def sample(codec, array):
    chunk = ChunkSpec(array.shape, array.dtype)
    data = bytes(codec.encode(array))
    return Sample(codec, chunk, data, np.array(codec.decode(data, chunk)))


def _images(channels, seed):
    return np.stack([smooth(SHAPE, seed + c) for c in range(channels)])


def _floats(channels, dtype, seed):
    return (_images(channels, seed) + noise((channels, *SHAPE), dtype, seed) / 50).astype(dtype)


def _labels(channels, dtype, seed):
    return labels((channels, *SHAPE), dtype, seed, cell=4)


@lru_cache
def samples(encoding, seed=0):
    """All samples of an encoding; `seed` changes their voxels and not their kinds."""
    s = seed
    made = {
        "raw": lambda: [(Raw(), noise((c, *SHAPE), t, s)) for t in EVERY for c in (1, 3)],
        "jpeg": lambda: [(Jpeg(), _images(c, s)) for c in (1, 3)],
        "png": lambda: [
            (Png(), noise((c, *SHAPE), t, s)) for t in ("u1", "<u2") for c in (1, 2, 3, 4)
        ],
        "jxl": lambda: [(Jxl(quality), _images(c, s)) for quality in (85, 100) for c in (1, 3, 4)],
        "compressed_segmentation": lambda: [
            (CompressedSegmentation((8, 8, 8)), _labels(c, t, s))
            for t in ("<u4", "<u8")
            for c in (1, 3)
        ],
        "compresso": lambda: [(Compresso(), _labels(1, t, s)) for t in UNSIGNED],
        "crackle": lambda: [(Crackle(), _labels(1, t, s)) for t in UNSIGNED],
        "fpzip": lambda: [
            (Fpzip(p), _floats(c, t, s)) for t in ("<f4", "<f8") for c in (1, 2) for p in (0, 24)
        ],
        "kempressed": lambda: [(Kempressed(), _floats(c, "<f4", s)) for c in (1, 2)],
        "zfpc": lambda: [
            (codec, _floats(c, "<f4", s))
            for codec in (Zfpc(), Zfpc(tolerance=0.5), Zfpc(correlated_dims=(True, True, False, False)))
            for c in (1, 2)
        ],
    }  # fmt: skip
    return [sample(codec, array) for codec, array in made[encoding]()]


ENCODINGS = (
    "raw", "jpeg", "png", "jxl", "compressed_segmentation", "compresso", "crackle", "fpzip",
    "kempressed", "zfpc",
)  # fmt: skip

#: Damage that these do not notice in their bodies changes values: they have no checksum.
#: (The checksums of png and crackle are its own; jpeg's and jxl's streams have none.)
UNCHECKED = frozenset(ENCODINGS) - {"png", "crackle"}
