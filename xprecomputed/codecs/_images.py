"""A chunk as one two-dimensional image (format reference 3.2); what jpeg, png and jxl share.

Width and height are arbitrary as long as their product is the number of voxels; pixels are
row-major in x-fastest voxel order and interleave the channels.
"""

from __future__ import annotations

import threading

import numpy as np

from xprecomputed.codecs.base import Array, ChunkSpec, paste
from xprecomputed.errors import CorruptDataError, UnsupportedEncodingError

__all__ = ["check_image", "max_image_bytes", "scratch", "to_image", "to_planes"]


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


def to_image(array: Array, name: str, most: int, *, borrowed: bool = False) -> Array:
    """A chunk as the image (z*y, x, channel) in native byte order, no side longer than `most`.

    With `borrowed` it may lie in this thread's `scratch`.
    """
    channels, z, y, x = array.shape
    if y * z > most or x > most:
        raise UnsupportedEncodingError(
            f"{name}: a chunk of {x} x {y} x {z} voxels is an image of {x} x {y * z}; "
            f"no side may exceed {most}: use smaller chunks"
        )
    native = array.dtype.newbyteorder("=")
    if channels == 1 and array.flags.c_contiguous and array.dtype == native:
        return array.reshape(z * y, x, 1)
    memory = scratch(array.nbytes) if borrowed else np.empty(array.nbytes, np.uint8)
    pixels = memory.view(native).reshape(z * y, x, channels)
    if channels == 1:  # whose pixels need no interleaving
        paste(array, pixels.reshape(array.shape))
    else:
        pixels.reshape(z, y, x, channels)[...] = np.moveaxis(array, 0, -1)
    return pixels


def max_image_bytes(chunk: ChunkSpec) -> int:
    """No image of `chunk` is longer."""
    # poorly compressible images grow a little and may carry metadata
    return 2 * chunk.nbytes + (1 << 20)


MAX_SCRATCH = 1 << 24  # bytes that each thread may keep


class _Scratch(threading.local):
    memory = np.empty(0, np.uint8)


_scratch = _Scratch()


def scratch(nbytes: int) -> Array:
    """So many bytes, which the next call in this thread gives away again.

    Fresh memory of the size of a chunk comes from the system, which clears it page by page.
    """
    if nbytes > MAX_SCRATCH:
        return np.empty(nbytes, np.uint8)
    if _scratch.memory.size < nbytes:
        _scratch.memory = np.empty(nbytes, np.uint8)
    return _scratch.memory[:nbytes]
