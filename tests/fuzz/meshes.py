"""What is fuzzed of meshes: streams, fragments, manifests, and whole reads of damaged folders."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from tests.fuzz.mutations import mutate
from tests.mesh import handmade
from tests.mesh.shapes import sphere
from xprecomputed.codecs import draco
from xprecomputed.mesh import Manifest, legacy, multires, open_meshes
from xprecomputed.metadata import MeshInfo
from xprecomputed.storage import index_cache, locate_url

FULL = 65535


@lru_cache
def streams():
    """Draco in all the forms that DracoPy writes."""
    vertices, faces = sphere(5, 500, (500, 500, 500))
    points = np.rint(vertices).astype(np.uint32)
    holes = faces[np.arange(len(faces)) % 5 > 0]
    made = [draco.encode(points, holes, compression_level=level) for level in (0, 1, 7, 10)]
    more = ({"create_metadata": True}, {"colors": np.zeros((len(points), 3), np.uint8)},
            {"preserve_order": True})  # fmt: skip
    made += [handmade.stream(points, faces, **{"preserve_order": False} | one) for one in more]
    return [*made, handmade.stream(vertices.astype("f4"), faces, quantization_bits=11)]


def same(found, right):
    return all(np.array_equal(a, b) for a, b in zip(found, right, strict=True))


class BytesTarget:
    """One function of bytes over some valid samples."""

    def __init__(self, name, seed, samples, read):
        self.name, self.seed, self.samples, self.read = name, seed, samples, read
        self.right = [read(sample) for sample in samples]

    def case(self, number):
        from tests.fuzz.cases import rng_of

        rng = rng_of(self.name, self.seed, number)
        at, other = (int(n) for n in rng.integers(len(self.samples), size=2))
        return at, mutate(self.samples[at], self.samples[other], rng)

    def run(self, number):
        return self._judge(*self.case(number))

    def replay(self, about, data):
        return self._judge(about["sample"], data)

    def fixture(self, number):
        at, data = self.case(number)
        return {"target": self.name, "sample": at}, data

    def _judge(self, at, data):
        from tests.fuzz.cases import judge

        return judge(lambda: same(self.read(data), self.right[at]))


def read_stream(data):
    """A stream, as a fragment of a mesh in nm too."""
    positions, faces = draco.decode(data)
    info = MeshInfo.from_json(handmade.info(transform=[9, 1, 0, 5, 0, 9, 0, 5, 0, 0, 9, 5]))
    place = Manifest.parse(handmade.EXAMPLE)
    multires.placed([(positions, faces)], np.array([[1, 2, 3]], np.uint32), place, info, 1)
    return positions, faces


def read_manifest(data):
    found = Manifest.parse(data)
    assert found.to_bytes() == bytes(data)
    info = MeshInfo.from_json(handmade.info())
    box = np.array([[0, 0, 0], [100, 100, 100]], float)
    for lod in found.stored_lods:
        multires.plan_lod(found, info, lod, box)
        multires.resolution_nm(found, info, lod)
    return (*found.positions, *found.sizes)


def manifests():
    cells = [(0, 0, 0), (1, 0, 0), (0, 1, 7)]
    return [
        handmade.EXAMPLE,
        handmade.manifest([(cells, [10, 0, 30]), ([], []), (cells[:1], [5])], scales=[1, 0, 4]),
    ]


def fragments():
    vertices, faces = sphere(4)
    return [handmade.FRAGMENT, handmade.fragment(vertices, faces), streams()[0]]


def legacy_manifests():
    names = ["7:0:0-256_-256-0_448-512", "7:0:1", "é"]
    return [json.dumps({"fragments": names[:n]}).encode() for n in (1, 3)]


class MeshShardTarget:
    """Reads of multi-resolution meshes while bytes of their shard are damaged."""

    def __init__(self, name, seed, folder):
        self.name, self.seed = name, seed
        low = [[0, 0, 0], [FULL, 0, 0], [0, FULL, 0]]
        lods = [{(0, 0, 0): low, (1, 0, 0): None, (0, 1, 0): low}, {(0, 0, 0): low}]
        meshes = {key: handmade.mesh(lods, origin=(key, 0, 0)) for key in (7, 8, 2**63)}
        spec = handmade.sharding(0, name.rpartition(" ")[2])
        self.path = handmade.write(Path(folder) / name, meshes, handmade.info(spec)) / "0.shard"
        self.data = self.path.read_bytes()
        self.meshes = open_meshes(locate_url(str(self.path.parent)))
        self.right = self._read()

    def _read(self):
        index_cache.clear()
        found = self.meshes.get([7, 8, 2**63], missing="skip", max_vertices=6)
        found |= {-key: each for key, each in self.meshes.get([7], -1, missing="skip").items()}
        return {key: (each.vertices, each.faces) for key, each in found.items()}

    def case(self, number):
        from tests.fuzz.cases import rng_of

        return mutate(self.data, self.data[::-1], rng_of(self.name, self.seed, number))

    def run(self, number):
        return self.replay({}, self.case(number))

    def replay(self, about, data):
        from tests.fuzz.cases import judge

        self.path.write_bytes(data)

        def action():
            found = self._read()
            return found.keys() == self.right.keys() and all(
                same(found[key], self.right[key]) for key in found
            )

        return judge(action)

    def fixture(self, number):
        return {"target": self.name}, self.case(number)


MESH_TARGETS = (
    "draco", "mesh fragment", "mesh manifest", "legacy manifest", "mesh shard, raw",
    "mesh shard, gzip",
)  # fmt: skip


def mesh_target(name, seed, folder):
    """A target of `MESH_TARGETS` by its name."""
    if name.startswith("mesh shard"):
        return MeshShardTarget(name, seed, folder)
    samples, read = {
        "draco": (streams, read_stream),
        "mesh fragment": (fragments, legacy.decode_fragment),
        "mesh manifest": (manifests, read_manifest),
        "legacy manifest": (legacy_manifests, lambda data: (legacy.parse_manifest(data, "x"),)),
    }[name]
    return BytesTarget(name, seed, samples(), read)
