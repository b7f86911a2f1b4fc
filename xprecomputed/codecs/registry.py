"""Which codec an encoding has; built-in ones and those of the entry point group.

Codecs are imported when a scale that needs them is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from xprecomputed.codecs.base import Codec
from xprecomputed.errors import UnsupportedEncodingError
from xprecomputed.metadata import ScaleInfo, VolumeInfo

__all__ = ["codec_for", "encodings", "scale_members"]

GROUP = "xprecomputed.codecs"

BUILT_IN = {
    "raw": "xprecomputed.codecs.raw:Raw",
    "jpeg": "xprecomputed.codecs.image:Jpeg",
    "png": "xprecomputed.codecs.png:Png",
    "jxl": "xprecomputed.codecs.jxl:Jxl",
    "compressed_segmentation": (
        "xprecomputed.codecs.compressed_segmentation:CompressedSegmentation"
    ),
    "compresso": "xprecomputed.codecs.compresso:Compresso",
    "crackle": "xprecomputed.codecs.crackle:Crackle",
    "fpzip": "xprecomputed.codecs.fpzip:Fpzip",
    "kempressed": "xprecomputed.codecs.fpzip:Kempressed",
    "zfpc": "xprecomputed.codecs.zfpc:Zfpc",
}


@lru_cache(maxsize=1)
def _places() -> dict[str, str]:
    announced = {point.name: point.value for point in entry_points(group=GROUP)}
    return announced | BUILT_IN


def encodings() -> tuple[str, ...]:
    """Names of the encodings that can be opened here.

    Examples
    --------
    >>> "raw" in encodings()
    True
    """
    return tuple(sorted(_places()))


@lru_cache(maxsize=64)
def _codec_class(encoding: str) -> type[Codec]:
    if encoding not in _places():
        raise UnsupportedEncodingError(
            f"unknown encoding {encoding!r}, known are {', '.join(encodings())}"
        )
    module, _, name = _places()[encoding].partition(":")
    cls = getattr(importlib.import_module(module), name)
    if not (isinstance(cls, type) and issubclass(cls, Codec)):
        raise TypeError(f"entry point {GROUP}:{encoding} is {cls!r}, expected a Codec class")
    return cls


def codec_for(info: VolumeInfo, scale: ScaleInfo) -> Codec:
    """The codec of a scale with its parameters, checked against the volume.

    Raises
    ------
    UnsupportedEncodingError
        Unknown encoding, or one that cannot carry the data type or the number of channels.
    """
    try:
        cls = _codec_class(scale.encoding)
    except UnsupportedEncodingError as error:
        raise UnsupportedEncodingError(f"scale {scale.key!r}: {error}") from None
    if info.data_type not in cls.dtypes:
        raise UnsupportedEncodingError(
            f"scale {scale.key!r}: {scale.encoding} cannot hold {info.data_type}, "
            f"only {', '.join(cls.dtypes)}"
        )
    if cls.channels is not None and info.num_channels not in cls.channels:
        raise UnsupportedEncodingError(
            f"scale {scale.key!r}: {scale.encoding} cannot hold {info.num_channels} channels, "
            f"only {', '.join(map(str, cls.channels))}"
        )
    return cls.from_scale(scale)


def scale_members(encoding: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The members that a scale needs for `encoding` with `options`.

    Parameters
    ----------
    encoding : str
    options : dict
        As users give them: ``quality`` (0 to 100) of jpeg, ``level`` (0 to 9) of png,
        ``block_size`` (voxels x, y, z) of compressed_segmentation; ``quality`` (0 to 100, which
        is lossless), ``effort`` (1 to 9) and ``decodingspeed`` (0 to 4) of jxl; ``precision``
        (bits, 0 for all) of fpzip; one of ``rate``, ``precision`` and ``tolerance``, and
        ``correlated_dims`` (booleans for x, y, z, channel) of zfpc.

    Returns
    -------
    dict
        Ready for JSON; what is not given and can be absent is absent.

    Raises
    ------
    UnsupportedEncodingError
        Unknown encoding.
    ValueError
        An option that the encoding does not have, or a value out of its range.

    Examples
    --------
    >>> scale_members("jpeg", {"quality": 70})
    {'jpeg_quality': 70}
    >>> scale_members("compressed_segmentation", {})
    {'compressed_segmentation_block_size': [8, 8, 8]}
    """
    return _codec_class(encoding).scale_members(options)
