"""Folders on fake servers, as they are for us, for the peers and for a hand."""

import gzip
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xprecomputed import open_store

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cloudfiles = pytest.importorskip("cloudfiles")
    cloudvolume = pytest.importorskip("cloudvolume")
    tensorstore = pytest.importorskip("tensorstore")

#: Compressions and the suffixes by which CloudFiles declares them on disks.
SUFFIXES = {"gzip": ".gz", "br": ".br", "zstd": ".zstd"}


@dataclass
class Place:
    """A folder in a bucket.

    Parameters
    ----------
    server : Server
    bucket, path : str
    url : str
        Ours.
    options : dict
        storage_options for it.
    cloudvolume : str, optional
        The address by which CloudVolume reaches it.
    tensorstore : dict, optional
        The key-value store by which TensorStore does.
    """

    server: Any
    bucket: str
    path: str
    url: str
    options: dict = field(default_factory=dict)
    cloudvolume: str | None = None
    tensorstore: dict | None = None
    web: Any = None  # the WebServer, of our own web places

    def put(self, name, data, encoding=None):
        self.server.put(self.bucket, f"{self.path}/{name}", data, encoding)

    def get(self, name):
        """Bytes and headers as they are stored, None if missing."""
        return self.server.get(self.bucket, f"{self.path}/{name}")

    def delete(self, name):
        self.server.delete(self.bucket, f"{self.path}/{name}")

    def names(self):
        cut = len(self.path) + 1
        return [name[cut:] for name in self.server.names(self.bucket, f"{self.path}/")]

    def upload(self, folder):
        """Copy what a peer wrote to a disk, and declare compressions as on a cloud."""
        for path in files_below(folder):
            name = str(path.relative_to(folder))
            for encoding, suffix in SUFFIXES.items():
                if name.endswith(suffix):
                    self.put(name.removesuffix(suffix), path.read_bytes(), encoding)
                    break
            else:
                self.put(name, path.read_bytes())

    def download(self, folder):
        """Copy everything to a disk, and declare compressions as CloudFiles does there."""
        for name in self.names():
            data, headers = self.get(name)
            path = Path(folder) / (name + SUFFIXES.get(headers.get("content-encoding"), ""))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def open(self):
        return open_store(self.url, storage_options=self.options)


@dataclass
class WebPlace(Place):
    """The same on a server of files; `server` is its folder, and a hand writes there."""

    def put(self, name, data, encoding=None):
        path = Path(self.server) / self.path / (name + SUFFIXES.get(encoding, ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def delete(self, name):
        for suffix in ("", *SUFFIXES.values()):
            (Path(self.server) / self.path / (name + suffix)).unlink(missing_ok=True)

    def names(self):
        folder = Path(self.server) / self.path
        return [str(path.relative_to(folder)) for path in files_below(folder)]


@dataclass
class PlainWebPlace(WebPlace):
    """A server that knows no twins: everything lies there uncompressed."""

    def put(self, name, data, encoding=None):
        super().put(name, gzip.decompress(data) if encoding == "gzip" else data)


def files_below(folder):
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


# ---- the peers


def cv_write(path, array, encoding, *, offset, chunk, sharding=None, compress=None):
    """`array` is (channel, z, y, x); `path` an address of CloudVolume."""
    is_image = encoding in ("jpeg", "png") or array.dtype.kind == "f"
    info = cloudvolume.CloudVolume.create_new_info(
        num_channels=array.shape[0],
        layer_type="image" if is_image else "segmentation",
        data_type=array.dtype.name,
        encoding=encoding,
        resolution=(4, 4, 40),
        voxel_offset=offset,
        volume_size=array.shape[:0:-1],
        chunk_size=chunk,
    )
    if sharding:
        info["scales"][0]["sharding"] = sharding
    volume = cloudvolume.CloudVolume(path, info=info, compress=compress, progress=False)
    volume.commit_info()
    volume[:, :, :] = np.asfortranarray(array.T)


def cv_read(path, mip=0):
    volume = cloudvolume.CloudVolume(path, mip=mip, progress=False)
    return np.asarray(volume[:, :, :]).T


def ts_write(kvstore, array, encoding, *, offset, chunk, sharding=None):
    """`kvstore` is the folder of the volume."""
    scale = {
        "size": array.shape[:0:-1], "voxel_offset": offset, "resolution": (4, 4, 40),
        "chunk_size": chunk, "encoding": encoding,
    }  # fmt: skip
    if encoding == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = (8, 8, 8)
    if sharding:
        scale["sharding"] = sharding
    metadata = {"type": "image", "data_type": array.dtype.name, "num_channels": array.shape[0]}
    spec = {
        "driver": "neuroglancer_precomputed", "kvstore": kvstore,
        "multiscale_metadata": metadata, "scale_metadata": scale,
    }  # fmt: skip
    tensorstore.open(spec, create=True).result().write(array.T).result()


def ts_read(kvstore, mip=0):
    spec = {"driver": "neuroglancer_precomputed", "kvstore": kvstore, "scale_index": mip}
    return tensorstore.open(spec, read=True).result().read().result().T


def on_disk(folder):
    """The kvstore of a local folder."""
    return {"driver": "file", "path": f"{folder}/"}
