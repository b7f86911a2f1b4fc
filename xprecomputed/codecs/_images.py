"""A chunk as one two-dimensional image (format reference 3.2); what jpeg, png and jxl share.

Width and height are arbitrary as long as their product is the number of voxels; pixels are
row-major in x-fastest voxel order and interleave the channels.
"""

from __future__ import annotations

import numpy as np

from xprecomputed.codecs.base import Array, ChunkSpec, contiguous
from xprecomputed.errors import CorruptDataError, UnsupportedEncodingError

__all__ = ["check_image", "max_image_bytes", "to_image", "to_planes"]


def to_planes(pixels: Array, chunk: ChunkSpec) -> Array:
    """Pixels with interleaved channels as (channel, z, y, x); a view."""
    channels = chunk.shape[0]
    return pixels.reshape(*chunk.shape[1:], channels).transpose(3, 0, 1, 2)


def check_image(
    what: str, chunk: ChunkSpec, width: int, height: int, components: int | None
) -> None:
    """Refuse an image of another number of pixels or of components than `chunk` has."""
    if width * height != chunk.voxels:
        raise CorruptDataError(
            f"{what} of {width} x {height} = {width * height} pixels, "
            f"expected {chunk.voxels} (the voxels of this chunk)"
        )
    if components != chunk.shape[0]:
        raise CorruptDataError(
            f"{what} with {components} component(s), expected {chunk.shape[0]} (num_channels)"
        )


def to_image(array: Array, name: str, most: int) -> Array:
    """A chunk as the image (z*y, x, channel) in native byte order, no side longer than `most`."""
    channels, z, y, x = array.shape
    if y * z > most or x > most:
        raise UnsupportedEncodingError(
            f"{name}: a chunk of {x} x {y} x {z} voxels is an image of {x} x {y * z}; "
            f"no side may exceed {most}: use smaller chunks"
        )
    native = array.dtype.newbyteorder("=")
    if channels == 1:  # whose pixels need no interleaving
        return contiguous(array, native).reshape(z * y, x, 1)
    pixels = np.moveaxis(array, 0, -1).reshape(z * y, x, channels)
    return np.ascontiguousarray(pixels, native)


def max_image_bytes(chunk: ChunkSpec) -> int:
    """No image of `chunk` is longer."""
    # poorly compressible images grow a little and may carry metadata
    return 2 * chunk.nbytes + (1 << 20)
