"""Packages that are imported at first use, with an install line where they are absent."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from xprecomputed.errors import MissingDependencyError

__all__ = ["optional"]

#: module -> what to paste after ``pip install``
INSTALL = {
    "DracoPy": '"xprecomputed[mesh]"',
    "brotli": "brotli",
    "backports.zstd": "backports.zstd",
    "compressed_segmentation": "compressed-segmentation",
    "compresso": '"xprecomputed[compresso]"',
    "imagecodecs": "imagecodecs",
    "numba": '"xprecomputed[fast]"',
    "osteoid": '"xprecomputed[skeleton]"',
    "fast_simplification": '"xprecomputed[mesh]"',
    "simplejpeg": "simplejpeg",
    "trimesh": '"xprecomputed[mesh]"',
}


def optional(module: str, purpose: str) -> ModuleType | Any:
    """Import `module`.

    Raises
    ------
    MissingDependencyError
        With the line to paste.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose}: the package {module!r} cannot be imported ({error}).\n"
            f"    pip install {INSTALL.get(module, module)}"
        ) from error
