"""Mesh directories whose manifests and shards are packed by hand, from the format's description.

The Draco streams in them are DracoPy's, which is the peers' decoder and encoder too.
"""

import gzip
import json
import struct
from pathlib import Path

import DracoPy
import numpy as np

TRIANGLE = np.array([[0, 1, 2]], np.uint32)
#: The example of the format's description: two lods, 2 and 1 fragments, chunks of 64.
EXAMPLE = bytes.fromhex(
    "00008042 00008042 00008042 00000000 00000000 00002041 02000000"
    "0000803f 00000040 000000000000000000000000 000000000000000000000000 02000000 01000000"
    "00000000 01000000 00000000 00000000 00000000 00000000 64000000 78000000"
    "00000000 00000000 00000000 96000000"
)
#: One triangle of a legacy fragment.
FRAGMENT = bytes.fromhex(
    "03000000 000000000000000000000000 0000803f0000000000000000 000000000000803f00000000"
    "000000000100000002000000"
)


def manifest(lods, chunk=(64, 64, 64), origin=(0, 0, 10), scales=None, offsets=None):
    """`lods`: a list of cells and sizes for each."""
    count = len(lods)
    scales = scales or [float(2**lod) for lod in range(count)]
    offsets = np.zeros((count, 3)) if offsets is None else np.asarray(offsets, float)
    data = struct.pack("<6fI", *chunk, *origin, count)
    data += struct.pack(f"<{4 * count}f", *scales, *offsets.ravel())
    data += struct.pack(f"<{count}I", *(len(sizes) for _, sizes in lods))
    for cells, sizes in lods:
        for axis in range(3):
            data += struct.pack(f"<{len(cells)}I", *(cell[axis] for cell in cells))
        data += struct.pack(f"<{len(sizes)}I", *sizes)
    return data


def stream(points, faces=TRIANGLE, **options):
    """A Draco stream that keeps its order, so that vertices can be compared one by one."""
    points = np.asarray(points)
    return bytes(DracoPy.encode(points, faces, **{"preserve_order": True} | options))


def mesh(lods, **options):
    """Manifest and fragments; `lods`: a list of ``{cell: points or None}`` for each."""
    data, rows = b"", []
    for fragments in lods:
        sizes = []
        for points in fragments.values():
            one = b"" if points is None else stream(np.asarray(points, np.uint32))
            sizes.append(len(one))
            data += one
        rows.append((list(fragments), sizes))
    return manifest(rows, **options), data


def info(sharding=None, transform=None, bits=16, **members):
    return {
        "@type": "neuroglancer_multilod_draco",
        "vertex_quantization_bits": bits,
        "lod_scale_multiplier": 1,
        "transform": transform or [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
        **({} if sharding is None else {"sharding": sharding}),
        **members,
    }


def sharding(shard_bits=0, data_encoding="raw"):
    return {
        "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 0, "hash": "identity",
        "minishard_bits": 0, "shard_bits": shard_bits, "minishard_index_encoding": "raw",
        "data_encoding": data_encoding,
    }  # fmt: skip


def shard(entries, data_encoding="raw"):
    """A shard file of one minishard; `entries`: id -> (manifest, fragments)."""
    body, keys, offsets, sizes = b"", [], [], []
    key_before = end_before = 0
    for key, (value, fragments) in sorted(entries.items()):
        value = gzip.compress(value) if data_encoding == "gzip" else value
        body += fragments
        keys.append(key - key_before)
        offsets.append(len(body) - end_before)
        sizes.append(len(value))
        body += value
        key_before, end_before = key, len(body)
    index = struct.pack(f"<{3 * len(keys)}Q", *keys, *offsets, *sizes)
    return struct.pack("<2Q", len(body), len(body) + len(index)) + body + index


def write(path, meshes, document):
    """A multi-resolution directory; `meshes`: id -> (manifest, fragments)."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / "info").write_text(json.dumps(document))
    spec = document.get("sharding")
    if spec is None:
        for key, (value, fragments) in meshes.items():
            (path / f"{key}.index").write_bytes(value)
            (path / f"{key}").write_bytes(fragments)
        return path
    for number in range(1 << spec["shard_bits"]):
        mine = {k: v for k, v in meshes.items() if k & ((1 << spec["shard_bits"]) - 1) == number}
        if mine:
            (path / f"{number:x}.shard").write_bytes(shard(mine, spec["data_encoding"]))
    return path


def write_legacy(path, meshes, document=None):
    """A legacy directory; `meshes`: id -> {name: bytes of a fragment}."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    if document is not None:
        (path / "info").write_text(json.dumps({"@type": "neuroglancer_legacy_mesh", **document}))
    for key, fragments in meshes.items():
        (path / f"{key}:0").write_text(json.dumps({"fragments": list(fragments)}))
        for name, data in fragments.items():
            (path / name).write_bytes(data)
    return path


def fragment(points, faces=TRIANGLE):
    """The bytes of a legacy fragment."""
    points, faces = np.asarray(points, "<f4"), np.asarray(faces, "<u4")
    return struct.pack("<I", len(points)) + points.tobytes() + faces.tobytes()
