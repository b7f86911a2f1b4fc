"""The version, and those of everything that matters in a bug report."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

__all__ = ["__version__", "show_versions"]

__version__ = "0.1.0"

PACKAGES = (
    "numpy", "xarray", "dask", "distributed", "fsspec", "obstore", "numba", "isal", "brotli",
    "backports.zstd", "compressed-segmentation", "compresso", "crackle-codec", "fpzip",
    "zfpc", "zfpy", "simplejpeg", "imagecodecs",
)  # fmt: skip


def show_versions(file: TextIO | None = None) -> None:
    """Print the versions of this package, Python and the packages that it can use.

    Parameters
    ----------
    file : text file, optional
        Standard output by default.
    """
    from xprecomputed.codecs import encodings

    out = sys.stdout if file is None else file
    print(f"xprecomputed: {__version__}", file=out)
    print(f"python: {platform.python_version()} on {platform.platform()}", file=out)
    for package in PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "not installed"
        print(f"{package}: {found}", file=out)
    print(f"encodings: {', '.join(encodings())}", file=out)
