"""``jxl``: a chunk as one JPEG XL image (format reference 3.2 and 3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xprecomputed.codecs._images import check_image, max_image_bytes, to_image, to_planes
from xprecomputed.codecs._jxl_header import CODESTREAM, CONTAINER, JxlHeader, read_header
from xprecomputed.codecs._optional import optional
from xprecomputed.codecs.base import Array, Bytes, ChunkSpec, Codec, hint, integer_option
from xprecomputed.errors import CorruptDataError

if TYPE_CHECKING:
    from xprecomputed.metadata import ScaleInfo

__all__ = ["Jxl"]

MAX_SIDE = 1 << 18  # of level 5, which every decoder knows
LOSSLESS = 100
RANGES = {"quality": (0, LOSSLESS), "effort": (1, 9), "decodingspeed": (0, 4)}


@dataclass(frozen=True)
class Jxl(Codec):
    """uint8 images, gray, RGB or RGBA; lossy below a quality of 100.

    Parameters
    ----------
    quality : int
        Of what is written, 0 to 100; 100 is lossless.
    effort : int, optional
        1 (fast) to 9 (small); libjxl's own, 7, otherwise.
    decodingspeed : int, optional
        0 (small) to 4 (fast to decode).
    """

    name: ClassVar[str] = "jxl"
    dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    channels: ClassVar[tuple[int, ...]] = (1, 3, 4)
    parameters: ClassVar[Mapping[str, str]] = {name: f"jxl_{name}" for name in RANGES}
    quality: int = 85
    effort: int | None = None
    decodingspeed: int | None = None

    @classmethod
    def from_scale(cls, scale: ScaleInfo) -> Jxl:  # noqa: D102 - inherited
        found = {
            name: hint(scale, member, *RANGES[name]) for name, member in cls.parameters.items()
        }
        return cls(**{name: int(value) for name, value in found.items() if value is not None})

    @classmethod
    def check_option(cls, name: str, value: Any) -> int:  # noqa: D102
        return integer_option(cls.name, name, value, *RANGES[name])

    @property
    def lossy(self) -> bool:  # noqa: D102
        return self.quality < LOSSLESS

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102
        return max_image_bytes(chunk)

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        return not bytes(data[:12]).startswith((CODESTREAM, CONTAINER))

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        imagecodecs = optional("imagecodecs", "jxl chunks")
        header = read_header(data)
        _check(header, chunk)
        channels = chunk.shape[0]
        shape = (header.height, header.width)
        pixels = np.empty(shape if channels == 1 else (*shape, channels), chunk.dtype)
        try:
            # with `out` an image of several frames or of other components is refused
            imagecodecs.jpegxl_decode(bytes(data), numthreads=1, out=pixels)
        except Exception as error:  # imagecodecs' own error classes differ between versions
            raise CorruptDataError(f"JPEG XL that does not decode: {error}") from None
        return to_planes(pixels, chunk)

    def encode(self, array: Array) -> bytes:  # noqa: D102
        pixels = to_image(array, self.name, MAX_SIDE)
        imagecodecs = optional("imagecodecs", "jxl chunks")
        gray = pixels.shape[2] == 1
        encoded = imagecodecs.jpegxl_encode(
            pixels[..., 0] if gray else pixels,
            photometric="GRAY" if gray else "RGB",
            level=self.quality,
            lossless=not self.lossy,
            effort=self.effort,
            decodingspeed=self.decodingspeed,
            numthreads=1,
        )
        return bytes(encoded)


def _check(header: JxlHeader, chunk: ChunkSpec) -> None:
    alpha = int(chunk.shape[0] == 4)
    check_image("JPEG XL", chunk, header.width, header.height, chunk.shape[0])
    if not header.is_still:
        raise CorruptDataError("JPEG XL with a preview or an animation, expected a still image")
    if header.is_float or header.depth != 8:
        kind = "floating-point" if header.is_float else "integer"
        raise CorruptDataError(f"JPEG XL of {header.depth}-bit {kind} samples, expected 8-bit")
    if header.extra_channels != alpha:
        raise CorruptDataError(
            f"JPEG XL with {header.extra_channels} extra channel(s), expected {alpha}"
        )
