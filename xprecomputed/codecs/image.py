"""``jpeg``: a chunk as one two-dimensional image (format reference 3.2 and 3.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xprecomputed.codecs._images import (
    check_image,
    max_image_bytes,
    scratch,
    to_image,
    to_planes,
)
from xprecomputed.codecs._jpeg_crop import crop
from xprecomputed.codecs._optional import optional
from xprecomputed.codecs.base import (
    Array,
    Bytes,
    ChunkSpec,
    Codec,
    Region,
    integer_option,
    paste,
)
from xprecomputed.errors import CorruptDataError

if TYPE_CHECKING:
    from xprecomputed.metadata import ScaleInfo

__all__ = ["Jpeg"]

MAX_JPEG_SIDE = 65500  # of libjpeg; format reference 3.3


@dataclass(frozen=True)
class Jpeg(Codec):
    """Lossy uint8 images, gray or RGB.

    simplejpeg decodes it: it lets go of the GIL and refuses truncated data, where libjpeg
    through other packages fills the rest with gray.

    Parameters
    ----------
    quality : int
        Of what is written, 0 to 100.
    """

    name: ClassVar[str] = "jpeg"
    dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    channels: ClassVar[tuple[int, ...]] = (1, 3)
    parameters: ClassVar[Mapping[str, str]] = {"quality": "jpeg_quality"}
    quality: int = 85

    @classmethod
    def from_scale(cls, scale: ScaleInfo) -> Jpeg:  # noqa: D102 - inherited
        return cls() if scale.jpeg_quality is None else cls(scale.jpeg_quality)

    @classmethod
    def check_option(cls, name: str, value: Any) -> int:  # noqa: D102
        return integer_option(cls.name, name, value, 0, 100)

    @property
    def lossy(self) -> bool:  # noqa: D102
        return True

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102
        return max_image_bytes(chunk)

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        return bytes(data[:2]) != b"\xff\xd8"

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        return self._planes(data, chunk, np.empty(chunk.nbytes, np.uint8))

    def decode_into(self, data: Bytes, chunk: ChunkSpec, region: Region, out: Array) -> None:  # noqa: D102
        cropped = crop(data, chunk, region)
        if cropped is not None:
            pixels = scratch(math.prod(cropped.shape)).reshape(cropped.shape)
            if _decoded(cropped.data, pixels):
                paste(cropped.voxels(pixels), out)
                return
        if out.size == chunk.nbytes and chunk.shape[0] == 1 and out.flags.c_contiguous:
            self._planes(data, chunk, out.reshape(-1))
            return
        paste(self._planes(data, chunk, scratch(chunk.nbytes))[region], out)

    def _planes(self, data: Bytes, chunk: ChunkSpec, memory: Array) -> Array:
        """The voxels (channel, z, y, x), decoded into `memory`; a view of it."""
        simplejpeg = optional("simplejpeg", "jpeg chunks")
        if self.is_impossible(data, chunk):
            raise CorruptDataError(f"not a JPEG: begins {bytes(data[:4]).hex(' ')}")
        try:
            height, width, found, _ = simplejpeg.decode_jpeg_header(data)
            components = {"Gray": 1, "YCbCr": 3, "RGB": 3}.get(found)
            # which makes it as many bytes as `memory` has
            check_image("JPEG", chunk, width, height, components)
            simplejpeg.decode_jpeg(data, _space(chunk.shape[0]), strict=True, buffer=memory)
        except CorruptDataError:
            raise
        except ValueError as error:
            raise CorruptDataError(f"JPEG that does not decode: {error}") from None
        return to_planes(memory, chunk)

    def encode(self, array: Array) -> bytes:  # noqa: D102
        pixels = to_image(array, self.name, MAX_JPEG_SIDE, borrowed=True)
        simplejpeg = optional("simplejpeg", "jpeg chunks")
        gray = pixels.shape[2] == 1
        data: bytes = simplejpeg.encode_jpeg(
            pixels,
            quality=self.quality,
            colorspace=_space(pixels.shape[2]),
            colorsubsampling="Gray" if gray else "444",
        )
        return data


def _space(channels: int) -> str:
    return "GRAY" if channels == 1 else "RGB"


def _decoded(data: bytes, pixels: Array) -> bool:
    """Whether `data`, whose header was checked, could be decoded into `pixels`."""
    simplejpeg = optional("simplejpeg", "jpeg chunks")
    try:
        simplejpeg.decode_jpeg(data, _space(pixels.shape[2]), strict=True, buffer=pixels)
    except ValueError:
        return False
    return True
