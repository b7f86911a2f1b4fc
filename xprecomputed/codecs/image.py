"""``jpeg`` and ``png``: a chunk as one two-dimensional image (format reference 3.2 to 3.4).

Width and height are arbitrary as long as their product is the number of voxels; pixels are
row-major in x-fastest voxel order and interleave the channels.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xprecomputed.codecs._images import check_image, max_image_bytes, to_image, to_planes
from xprecomputed.codecs._optional import optional
from xprecomputed.codecs.base import (
    Array,
    Bytes,
    ChunkSpec,
    Codec,
    integer_option,
    require_length,
)
from xprecomputed.errors import CorruptDataError

if TYPE_CHECKING:
    from xprecomputed.metadata import ScaleInfo

__all__ = ["Jpeg", "Png"]

MAX_JPEG_SIDE = 65500  # of libjpeg; format reference 3.3
MAX_PNG_SIDE = 1_000_000  # of libpng, unless the caller raises it


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
        simplejpeg = optional("simplejpeg", "jpeg chunks")
        if self.is_impossible(data, chunk):
            raise CorruptDataError(f"not a JPEG: begins {bytes(data[:4]).hex(' ')}")
        space = "GRAY" if chunk.shape[0] == 1 else "RGB"
        try:
            height, width, found, _ = simplejpeg.decode_jpeg_header(data)
            components = {"Gray": 1, "YCbCr": 3, "RGB": 3}.get(found)
            check_image("JPEG", chunk, width, height, components)
            return to_planes(simplejpeg.decode_jpeg(data, space, strict=True), chunk)
        except CorruptDataError:
            raise
        except ValueError as error:
            raise CorruptDataError(f"JPEG that does not decode: {error}") from None

    def encode(self, array: Array) -> bytes:  # noqa: D102
        pixels = to_image(array, self.name, MAX_JPEG_SIDE)
        simplejpeg = optional("simplejpeg", "jpeg chunks")
        gray = pixels.shape[2] == 1
        data: bytes = simplejpeg.encode_jpeg(
            pixels,
            quality=self.quality,
            colorspace="GRAY" if gray else "RGB",
            colorsubsampling="Gray" if gray else "444",
        )
        return data


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xae\x42\x60\x82"
PNG_COMPONENTS = {0: 1, 4: 2, 2: 3, 6: 4}  # by colour type; 3 is a palette


@dataclass(frozen=True)
class Png(Codec):
    """Lossless uint8 and uint16 images of 1 to 4 channels.

    Parameters
    ----------
    level : int
        Of the compression of what is written, 0 to 9.
    """

    name: ClassVar[str] = "png"
    dtypes: ClassVar[tuple[str, ...]] = ("uint8", "uint16")
    channels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    parameters: ClassVar[Mapping[str, str]] = {"level": "png_level"}
    level: int = 6

    @classmethod
    def from_scale(cls, scale: ScaleInfo) -> Png:  # noqa: D102 - inherited
        # -1 is zlib's word for its default
        return cls() if scale.png_level in (None, -1) else cls(scale.png_level)

    @classmethod
    def check_option(cls, name: str, value: Any) -> int:  # noqa: D102
        return integer_option(cls.name, name, value, 0, 9)

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102
        return max_image_bytes(chunk)

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        return bytes(data[:8]) != PNG_SIGNATURE

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        imagecodecs = optional("imagecodecs", "png chunks")
        width, height = self._check_header(data, chunk)
        if PNG_END not in bytes(data):  # libpng does not ask for it once it has all pixels
            raise CorruptDataError("PNG that does not decode: it is truncated")
        shape = (height, width) if chunk.shape[0] == 1 else (height, width, chunk.shape[0])
        pixels = np.empty(shape, chunk.dtype.newbyteorder("="))
        try:
            # without `out`, imagecodecs 2026.3 gives back a reference too many for each damaged
            # image: after some ten thousand Python itself aborts
            imagecodecs.png_decode(bytes(data), out=pixels)
        except Exception as error:  # imagecodecs' own error classes differ between versions;
            # a tRNS chunk, which adds alpha and so changes the shape, ends here as well
            raise CorruptDataError(f"PNG that does not decode: {error}") from None
        return to_planes(pixels, chunk)

    def _check_header(self, data: Bytes, chunk: ChunkSpec) -> tuple[int, int]:
        """Width and height, after everything that the header tells was checked."""
        require_length(data, 57, "a PNG")
        if self.is_impossible(data, chunk):
            raise CorruptDataError(f"not a PNG: begins {bytes(data[:8]).hex(' ')}")
        length, kind, width, height, depth, colour = struct.unpack(">I4sIIBB", data[8:26])
        if kind != b"IHDR" or length != 13:
            raise CorruptDataError("PNG whose first chunk is not IHDR")
        check_image("PNG", chunk, width, height, PNG_COMPONENTS.get(colour))
        if depth != 8 * chunk.dtype.itemsize:
            raise CorruptDataError(
                f"PNG of bit depth {depth}, expected {8 * chunk.dtype.itemsize} "
                f"({chunk.dtype.name} volume)"
            )
        return width, height

    def encode(self, array: Array) -> bytes:  # noqa: D102
        pixels = to_image(array, self.name, MAX_PNG_SIDE)
        imagecodecs = optional("imagecodecs", "png chunks")
        # a row begins with a byte of its own, which imagecodecs 2026.3 forgets: without `out`
        # it fails for narrow images of noise
        filtered = pixels.nbytes + len(pixels)
        encoded = imagecodecs.png_encode(
            pixels[..., 0] if pixels.shape[2] == 1 else pixels,
            self.level,
            out=filtered + filtered // 64 + 1024,
        )
        return bytes(encoded)
