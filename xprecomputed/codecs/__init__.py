"""Bytes to voxels and back: one file an encoding, a registry, whole-object compression."""

from xprecomputed.codecs.base import Array, Bytes, ChunkSpec, Codec, Region
from xprecomputed.codecs.compression import GZIP_MAGIC, SUFFIXES, compress, decompress
from xprecomputed.codecs.registry import codec_for, encodings, scale_members

__all__ = [
    "GZIP_MAGIC",
    "SUFFIXES",
    "Array",
    "Bytes",
    "ChunkSpec",
    "Codec",
    "Region",
    "codec_for",
    "compress",
    "decompress",
    "encodings",
    "scale_members",
]
