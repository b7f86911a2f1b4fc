"""Skeletons in files of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from xprecomputed.skeleton.format import Skeleton
from xprecomputed.skeleton.swc import parse_swc, swc_text

__all__ = ["FileFormat", "check_files", "read_swc", "write_files"]

FileFormat = Literal["swc", "precomputed"]
SUFFIX = ".swc"


def read_swc(path: str | os.PathLike[str], segment_id: int | None = None) -> Skeleton:
    r"""Read an SWC file of this machine.

    Parameters
    ----------
    path : str or path-like
    segment_id : int, optional

    Returns
    -------
    osteoid.Skeleton
        As the file has the numbers, which should be nm; see `xprecomputed.skeleton.parse_swc`.

    Raises
    ------
    CorruptDataError
        With the line that cannot be understood.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "7.swc")
    ...     _ = path.write_text("1 1 0 0 0 90 -1\n2 0 800 0 0 60 1\n")
    ...     float(read_swc(path).cable_length())
    800.0
    """
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return parse_swc(text, os.fspath(path), segment_id)


def check_files(path: Path, count: int, file_format: str) -> None:
    """Refuse what `write_files` cannot do with `count` skeletons, before they are read."""
    if file_format not in get_args(FileFormat):
        raise ValueError(f"file_format={file_format!r}: expected one of {get_args(FileFormat)}")
    if _is_file(path) and (count != 1 or file_format != "swc"):
        raise ValueError(
            f"{path}: one file, which takes one skeleton as SWC; {count} skeletons as "
            f"{file_format!r} need the name of a folder"
        )


def write_files(skeletons: Mapping[int, Skeleton], path: Path, file_format: FileFormat) -> None:
    """Write a file for each skeleton, none before all have their text.

    Parameters
    ----------
    skeletons : mapping of int to osteoid.Skeleton
        In nm.
    path : Path
        A folder, which is made; or a name that ends in ``.swc``.
    file_format : {"swc", "precomputed"}

    Raises
    ------
    LayoutError
        A skeleton has a cycle, which SWC has not.
    """
    contents: dict[Path, bytes] = {}
    for number, each in skeletons.items():
        if file_format == "precomputed":
            contents[path / str(number)] = each.to_precomputed()
        else:
            text = swc_text(each, f"skeleton of segment {number}")
            contents[path if _is_file(path) else path / f"{number}{SUFFIX}"] = text.encode()
    if not _is_file(path):
        path.mkdir(parents=True, exist_ok=True)
    for file, data in contents.items():
        file.write_bytes(data)


def _is_file(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX
