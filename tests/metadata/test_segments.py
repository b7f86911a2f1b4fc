"""The info of meshes and skeletons."""

import pickle

import pytest

from xprecomputed.errors import InvalidInfoError
from xprecomputed.metadata import IDENTITY, MeshInfo, SkeletonInfo, VertexAttribute

ROWS = [2, 0, 0, 5, 0, 2, 0, 6, 0, 0, 2, 7]
SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 0,
    "hash": "murmurhash3_x86_128",
    "minishard_bits": 3,
    "shard_bits": 1,
    "minishard_index_encoding": "gzip",
    "data_encoding": "raw",
}
INDEX = {"resolution": [32, 32, 40], "chunk_size": [14336, 14336, 17920]}
MULTIRES = {
    "@type": "neuroglancer_multilod_draco",
    "vertex_quantization_bits": 16,
    "lod_scale_multiplier": 1.5,
    "transform": ROWS,
    "sharding": SHARDING,
    "spatial_index": INDEX,
    "mip": 2,
}
# as Igneous writes it, from the real data
LEGACY = {
    "@type": "neuroglancer_legacy_mesh",
    "mip": 2,
    "chunk_size": [448, 448, 448],
    "spatial_index": INDEX,
}
SKELETONS = {
    "@type": "neuroglancer_skeletons",
    "transform": ROWS,
    "vertex_attributes": [
        {"id": "radius", "data_type": "float32", "num_components": 1},
        {"id": "vertex_types", "data_type": "uint8", "num_components": 1},
    ],
    "sharding": SHARDING,
    "spatial_index": INDEX,
    "mip": 2,
}


@pytest.mark.parametrize(
    ("kind", "document"),
    [(MeshInfo, MULTIRES), (MeshInfo, LEGACY), (SkeletonInfo, SKELETONS)],
)
def test_documents_go_round(kind, document):
    with_more = document | {"made_by": {"whom": ["somebody"]}, "segment_properties": "props"}
    info = kind.from_json(with_more)
    assert info.to_json() == with_more
    assert pickle.loads(pickle.dumps(info)) == info
    info.to_json()["made_by"]["whom"].append("else")  # shares nothing
    assert info.to_json() == with_more


def test_members_are_what_they_say():
    info = MeshInfo.from_json(MULTIRES)
    assert info.is_multires
    assert info.vertex_quantization_bits == 16
    assert info.lod_scale_multiplier == 1.5
    assert info.sharding.minishard_bits == 3
    assert info.spatial_index.chunk_size == (14336, 14336, 17920)
    legacy = MeshInfo.from_json(LEGACY)
    assert not legacy.is_multires
    assert legacy.chunk_size == (448, 448, 448)
    assert legacy.transform is IDENTITY
    skeletons = SkeletonInfo.from_json(SKELETONS)
    assert skeletons.vertex_attributes[1] == VertexAttribute(id="vertex_types", data_type="uint8")
    assert skeletons.vertex_attributes[0].dtype == "<f4"


def test_what_peers_leave_out_is_forgiven():
    # Neuroglancer takes the identity for a transform that is not there
    short = {name: MULTIRES[name] for name in list(MULTIRES)[:3]}
    assert MeshInfo.from_json(short).transform.is_identity
    # and no attributes for those that are not there
    assert SkeletonInfo.from_json({"@type": "neuroglancer_skeletons"}).vertex_attributes == ()


def test_what_peers_require_is_always_written():
    assert MeshInfo().to_json() == {"@type": "neuroglancer_legacy_mesh"}
    written = SkeletonInfo().to_json()
    assert written["vertex_attributes"] == []
    assert written["transform"] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"@type": "neuroglancer_mesh"}, "@type: expected one of"),
        ({"@type": None}, "@type: expected one of"),
        ({"vertex_quantization_bits": 12}, "vertex_quantization_bits: expected 10 or 16"),
        ({"vertex_quantization_bits": ...}, "vertex_quantization_bits: missing"),
        ({"lod_scale_multiplier": 0}, "lod_scale_multiplier: expected a finite number > 0"),
        ({"lod_scale_multiplier": ...}, "lod_scale_multiplier: missing"),
        ({"sharding": 3}, "sharding: expected an object"),
        ({"sharding": SHARDING | {"hash": "md5"}}, "sharding.hash: expected one of"),
        ({"spatial_index": {}}, "spatial_index.resolution: missing"),
        ({"spatial_index": INDEX | {"chunk_size": [1, 0, 1]}}, "spatial_index.chunk_size: expec"),
        ({"mip": -1}, "mip: expected an integer >= 0"),
        ({"segment_properties": 3}, "segment_properties: expected a string"),
        ({"scales": []}, r"this is a volume: xp.open_store\(url\).mesh"),
        (
            {"@type": "neuroglancer_legacy_mesh"},
            "sharding: neuroglancer_legacy_mesh has no sharded form",
        ),
    ],
)
def test_unusable_mesh_documents_name_the_member(change, problem):
    document = {k: v for k, v in (MULTIRES | change).items() if v is not ...}
    with pytest.raises(InvalidInfoError, match=problem):
        MeshInfo.from_json(document, "gs://bucket/mesh/info")


RADIUS = {"id": "radius", "data_type": "float32", "num_components": 1}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"@type": "neuroglancer_legacy_mesh"}, "@type: expected"),
        ({"vertex_attributes": {}}, "vertex_attributes: expected a list"),
        ({"vertex_attributes": [3]}, r"vertex_attributes\[0\]: expected an object"),
        ({"vertex_attributes": [RADIUS | {"id": ""}]}, r"\[0\].id: expected a non-empty string"),
        (
            {"vertex_attributes": [RADIUS | {"data_type": "uint64"}]},
            r"\[0\].data_type: expected one of",
        ),
        (
            {"vertex_attributes": [RADIUS | {"num_components": 0}]},
            r"\[0\].num_components: expected an integer >= 1",
        ),
        ({"vertex_attributes": [RADIUS, RADIUS]}, "an id more than once"),
        ({"sharding": []}, "sharding: expected an object"),
        ({"scales": []}, r"this is a volume: xp.open_store\(url\).skeleton"),
    ],
)
def test_unusable_skeleton_documents_name_the_member(change, problem):
    with pytest.raises(InvalidInfoError, match=problem):
        SkeletonInfo.from_json(SKELETONS | change)


def test_all_problems_are_listed_and_the_document_named():
    with pytest.raises(InvalidInfoError, match="gs://bucket/info is not a usable mesh") as caught:
        MeshInfo.from_json({"mip": "a", "sharding": {}, "spatial_index": 1}, "gs://bucket/info")
    assert len(caught.value.problems) == 8
