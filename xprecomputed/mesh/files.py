"""Meshes as files of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from xprecomputed.mesh.legacy import encode_fragment
from xprecomputed.mesh.mesh import SUFFIXES, Mesh

__all__ = ["FILE_FORMATS", "check_files", "write_files"]

PRECOMPUTED = "precomputed"
FILE_FORMATS = (*(suffix[1:] for suffix in SUFFIXES), PRECOMPUTED)


def check_files(path: Path, count: int, file_format: str, fuse: bool) -> None:
    """Refuse what cannot be written, before anything is read.

    Raises
    ------
    ValueError
        An unknown format, several meshes for one file, one mesh of several for a folder, or a
        name that looks like that of a file of another kind, and is not that of a folder.
    """
    if file_format not in FILE_FORMATS:
        raise ValueError(f"file_format={file_format!r}: expected one of {FILE_FORMATS}")
    if path.suffix and not _is_file(path) and not os.path.isdir(path):
        raise ValueError(
            f"{path}: expected a folder, or a file that ends with one of {FILE_FORMATS}; a folder "
            "of such a name must be there before"
        )
    if _is_file(path) and count != 1 and not fuse:
        raise ValueError(
            f"{path}: {count} meshes for one file; give a folder, or fuse=True for one mesh of all"
        )
    if fuse and not _is_file(path):
        raise ValueError(
            f"{path}: fuse=True makes one mesh; give a file such as {path / 'all.ply'}"
        )


def write_files(meshes: Mapping[int, Mesh] | Mesh, path: Path, file_format: str) -> None:
    """Write one mesh into a file, or several into a folder, which is made where it is not.

    Raises
    ------
    ValueError
        A mesh without faces, which only "precomputed" has a form for.
    MissingDependencyError
        trimesh is absent.
    OSError
    """
    if isinstance(meshes, Mesh):
        _write(meshes, path, path.suffix[1:].lower())
        return
    if _is_file(path):
        for mesh in meshes.values():
            _write(mesh, path, path.suffix[1:].lower())
        return
    path.mkdir(parents=True, exist_ok=True)
    for segment_id, mesh in meshes.items():
        _write(mesh, path / f"{segment_id}.{file_format}", file_format)


def _write(mesh: Mesh, path: Path, file_format: str) -> None:
    if file_format == PRECOMPUTED:
        path.write_bytes(encode_fragment(mesh.vertices, mesh.faces))
    else:
        mesh.save(path)


def _is_file(path: Path) -> bool:
    return path.suffix[1:].lower() in FILE_FORMATS and not os.path.isdir(path)
