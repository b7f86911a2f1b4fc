"""Meshes of segments: values, what is stored of them, and reading many at once."""

from xprecomputed.mesh.creating import create_meshes
from xprecomputed.mesh.manifest import Manifest
from xprecomputed.mesh.mesh import Mesh
from xprecomputed.mesh.meshes import Meshes, open_meshes

__all__ = ["Manifest", "Mesh", "Meshes", "create_meshes", "open_meshes"]
