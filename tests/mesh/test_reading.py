"""Many meshes at once: requests, and files that lie."""

import gzip
import struct

import numpy as np
import pytest

from tests.mesh.handmade import (
    EXAMPLE,
    fragment,
    info,
    manifest,
    mesh,
    sharding,
    stream,
    write,
    write_legacy,
)  # fmt: skip
from xprecomputed import CorruptDataError, set_options, trace
from xprecomputed.mesh import open_meshes
from xprecomputed.storage import index_cache, locate_url

LOW = [[0, 0, 0], [65535, 0, 0], [0, 65535, 0]]
LODS = [{(0, 0, 0): LOW, (1, 0, 0): LOW}, {(0, 0, 0): LOW}]


def opened(path):
    return open_meshes(locate_url(str(path)))


def many(path, count=1000, spec=None):
    one = mesh(LODS)
    return opened(write(path, dict.fromkeys(range(1, count + 1), one), info(spec)))


def test_a_thousand_meshes_out_of_shards(tmp_path):
    meshes = many(tmp_path, spec=sharding(2))
    ids = meshes.ids()
    assert len(ids) == 1000
    again = opened(tmp_path)
    index_cache.clear()
    with trace() as t:
        found = again.get(ids[::-1])
    assert list(found) == ids[::-1].tolist()
    # of each of four shards: both indexes, all manifests, all fragments
    assert t.requests == 4 * 4
    assert {len(each.vertices) for each in found.values()} == {6}


def test_requests_of_meshes_that_are_not_in_shards(tmp_path):
    meshes = many(tmp_path, 20)
    with trace() as t:
        meshes.get(range(1, 21))
    assert t.requests == 40
    assert max(t.objects.values()) == 1
    with trace() as t:  # one lod at a time, from the coarsest on
        meshes.get(range(1, 21), max_vertices=6)
    assert t.requests == 60


def test_ranges_are_joined_where_they_are_near(tmp_path):
    many(tmp_path, 1)
    sizes = opened(tmp_path)
    with trace() as t, set_options(coalesce_max_bytes=1):
        sizes.get(1)
    assert t.requests == 3
    box = ((0, 0, 0), (10, 64, 64))
    with trace() as whole:
        sizes.get(1)
    with trace() as part:
        assert len(sizes.get(1, bbox=box).vertices) == 3
    assert part.bytes < whole.bytes


def test_only_bytes_of_the_lod_are_fetched(tmp_path):
    meshes = many(tmp_path, 1)
    index = (tmp_path / "1.index").stat().st_size
    with trace() as t:
        meshes.get(1, lod=1)
    assert t.bytes == index + len(stream(np.array(LOW, np.uint32)))


def test_finer_lods_than_fit_are_not_fetched(tmp_path):
    meshes = opened(write(tmp_path, {7: mesh([LODS[0], LODS[0], LODS[1]])}, info()))
    with trace() as t:
        assert meshes.get(7, max_vertices=5).lod == 2
    assert t.requests == 1 + 2
    with trace() as t:
        assert meshes.get(7, max_vertices=6).lod == 0
    assert t.requests == 1 + 3


def test_empty_cells_alone_make_no_request(tmp_path):
    meshes = opened(write(tmp_path, {7: mesh([{(0, 0, 0): None}])}, info()))
    with trace() as t:
        assert len(meshes.get(7).vertices) == 0
        assert len(meshes.get(7, max_vertices=5).vertices) == 0
    assert t.requests == 2


# ---- what lies


def one_shard(path, value, fragments=b"", data_encoding="raw", **document):
    return write(path, {7: (value, fragments)}, info(sharding(0, data_encoding), **document))


def test_fragments_before_the_shard(tmp_path):
    one_shard(tmp_path, EXAMPLE, bytes(369))
    with pytest.raises(
        CorruptDataError, match="lists fragments of 370 bytes, which would begin before the end of"
    ):
        opened(tmp_path).get(7)


def test_fragments_of_four_gigabytes(tmp_path):
    lods = [([(0, 0, 0)], [2**32 - 1])]
    write(tmp_path, {7: (manifest(lods), b"")}, info())
    with pytest.raises(
        CorruptDataError, match=r"7\.index: a fragment of 4294967295 bytes, at most"
    ):
        opened(tmp_path).get(7)


def test_fragments_beyond_the_file(tmp_path):
    value, fragments = mesh(LODS)
    write(tmp_path, {7: (value, fragments[:-1])}, info())
    assert len(opened(tmp_path).get(7).vertices) == 6
    with pytest.raises(
        CorruptDataError, match=r"7\.index: it lists fragments up to .*/7, which ends at"
    ):
        opened(tmp_path).get(7, lod=1)


def test_fragments_that_are_missing(tmp_path):
    write(tmp_path, {7: mesh(LODS)}, info())
    (tmp_path / "7").unlink()
    with pytest.raises(
        CorruptDataError, match=r"7\.index: it lists fragments in .*/7, but there is"
    ):
        opened(tmp_path).get([7, 8], missing="skip")


def test_fragments_that_are_compressed_as_a_whole(tmp_path):
    value, fragments = mesh(LODS)
    write(tmp_path, {7: (value, b"")}, info())
    (tmp_path / "7").unlink()
    (tmp_path / "7.gz").write_bytes(gzip.compress(fragments))
    with pytest.raises(CorruptDataError, match="the whole file is compressed with gzip"):
        opened(tmp_path).get(7)


def test_manifests_that_are_none(tmp_path):
    write(tmp_path / "a", {7: (EXAMPLE[:-1], b"")}, info())
    with pytest.raises(CorruptDataError, match=r"7\.index: mesh manifest of 115 bytes"):
        opened(tmp_path / "a").get(7)
    one_shard(tmp_path / "b", EXAMPLE[:-1])
    with pytest.raises(CorruptDataError, match=r"0\.shard, minishard 0, key 7: mesh manifest of"):
        opened(tmp_path / "b").get(7)


def test_a_gzipped_manifest_that_is_none(tmp_path):
    one_shard(tmp_path, EXAMPLE, bytes(370))
    document = info(sharding(0, "gzip"))
    write(tmp_path, {}, document)
    with pytest.raises(CorruptDataError, match="key 7: gzip data that does not decompress"):
        opened(tmp_path).get(7)


def test_a_manifest_that_is_longer_than_any(tmp_path, monkeypatch):
    monkeypatch.setattr("xprecomputed.mesh.reading.MAX_MANIFEST_BYTES", 115)
    one_shard(tmp_path, EXAMPLE, bytes(370))
    with pytest.raises(CorruptDataError, match="a mesh manifest of 116 bytes, at most 115"):
        opened(tmp_path).get(7)


@pytest.mark.parametrize("max_vertices", [None, 10])
def test_fragments_that_are_none(tmp_path, max_vertices):
    one_shard(tmp_path, manifest([([(0, 0, 0)], [40])]), bytes(40))
    with pytest.raises(CorruptDataError, match=r"key 7: lod 0.*: not a Draco stream: 40 bytes"):
        opened(tmp_path).get(7, max_vertices=max_vertices)


def test_an_error_names_the_cell(tmp_path):
    value, fragments = mesh([{(5, 6, 7): LOW}])
    write(tmp_path, {7: (value, fragments[:-30] + bytes(30))}, info(bits=10))
    with pytest.raises(CorruptDataError, match=r"7\.index: lod 0, cell \[5, 6, 7\]: "):
        opened(tmp_path).get(7)


def test_legacy_fragments_that_are_none(tmp_path):
    write_legacy(tmp_path, {7: {"7:0:1": fragment(LOW)[:-1]}})
    with pytest.raises(CorruptDataError, match="/7:0:1: mesh fragment of 51 bytes"):
        opened(tmp_path).get(7)
    (tmp_path / "7:0").write_text("{")
    with pytest.raises(CorruptDataError, match="mesh manifest file://.*/7:0: not JSON"):
        opened(tmp_path).get(7)


def test_one_bad_mesh_does_not_end_as_an_empty_one(tmp_path):
    meshes = dict.fromkeys(range(20), mesh(LODS)) | {20: (mesh(LODS)[0], b"\0" * 500)}
    write(tmp_path, meshes, info(sharding(0)))
    with pytest.raises(CorruptDataError, match="key 20: lod 0"):
        opened(tmp_path).get(range(21))


# ---- any bytes


@pytest.mark.parametrize("data_encoding", ["raw", "gzip"])
def test_shards_of_any_size_of_fragments(tmp_path, data_encoding, rng):
    """Manifests that are compressed lie elsewhere than their own length says."""
    meshes = {}
    for key in range(30):
        cells = sorted(map(tuple, rng.integers(0, 4, (int(rng.integers(1, 9)), 3)).tolist()))
        lods = [dict.fromkeys(cells, LOW), {(0, 0, 0): None if key % 3 else LOW}]
        meshes[key] = mesh(lods, origin=(key, 0, 0))
    write(tmp_path, meshes, info(sharding(1, data_encoding)))
    found = opened(tmp_path).get(range(30))
    for key, each in found.items():
        count = struct.unpack_from("<I", meshes[key][0], 28 + 32)[0]
        assert len(each.faces) == count
        assert (each.vertices[:, 0] % 64 == key).all()
