"""What `encoding` may still say of data that have become others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xprecomputed.codecs import codec_for
from xprecomputed.errors import UnsupportedEncodingError
from xprecomputed.metadata import ScaleInfo, VolumeInfo

__all__ = ["for_dtype"]


def for_dtype(encoding: Mapping[Any, Any], dtype: np.dtype[Any]) -> dict[Any, Any]:
    """`encoding` without what does not hold for data of another dtype."""
    kept = {name: value for name, value in encoding.items() if name != "dtype"}
    if "precomputed" in kept:
        drop = {"data_type"}
        if not _can_hold(str(kept["precomputed"].get("encoding")), dtype):
            drop |= {"encoding", "compressed_segmentation_block_size", "jpeg_quality", "png_level"}
        kept["precomputed"] = {
            name: value for name, value in kept["precomputed"].items() if name not in drop
        }
    return kept


def _can_hold(encoding: str, dtype: np.dtype[Any]) -> bool:
    scale = ScaleInfo(
        key="any",
        size=(1, 1, 1),
        resolution=(1, 1, 1),
        chunk_sizes=((1, 1, 1),),
        encoding=encoding,
        compressed_segmentation_block_size=(8, 8, 8),
    )
    info = VolumeInfo(type="segmentation", data_type=dtype.name, num_channels=1, scales=(scale,))
    try:
        codec_for(info, scale)
    except UnsupportedEncodingError:
        return False
    return True
