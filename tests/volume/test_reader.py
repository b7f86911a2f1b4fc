"""Requests, holes and damage; what is read is compared in tests/parity with the peers."""

import gzip
import itertools
import json
import os
import pickle
import threading
import warnings

import numpy as np
import pytest

from tests.images import labels, noise
from tests.memory import peak_bytes
from xprecomputed import (
    AccessDeniedError,
    Box,
    ChunkMissingError,
    ConflictError,
    CorruptDataError,
    InvalidInfoError,
    InvalidURLError,
    OutOfBoundsError,
    PrecomputedError,
    ScaleNotFoundError,
    StorageError,
    UnsupportedEncodingError,
    open_store,
    parallel,
    set_options,
    trace,
)
from xprecomputed.storage import LocalStorage, index_cache
from xprecomputed.storage.shards import FEW_KEYS
from xprecomputed.testing import write_volume

ARRAY = noise((33, 50, 47), "u1")
SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1, "hash": "identity",
    "minishard_bits": 2, "shard_bits": 3, "minishard_index_encoding": "gzip", "data_encoding": "gzip",
}  # fmt: skip


RAW = SHARDING | {"minishard_index_encoding": "raw", "data_encoding": "raw"}


def write(path, array=ARRAY, **options):
    options = {"chunk_size": (16, 16, 16), "voxel_offset": (100, -7, 3)} | options
    return write_volume(str(path), [array], **options)


def whole(store):
    return store.read(store.info.scales[0].bounds)


def edit_info(path, edit):
    document = json.loads((path / "info").read_text())
    edit(document)
    (path / "info").write_text(json.dumps(document))


# ---- requests


def test_opening_is_one_request(tmp_path):
    write(tmp_path)
    with trace() as t:
        open_store(tmp_path).reader()
    assert t.requests == 1
    assert list(t.objects) == [f"{tmp_path}/info"]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_box_of_n_chunks_is_n_requests(tmp_path, compression):
    write(tmp_path, compression=compression)
    store = open_store(tmp_path)
    with trace() as t:
        part = store.read(((110, 0, 10), (120, 30, 20)))  # 2 x 3 x 2 chunks
    np.testing.assert_array_equal(part[0], ARRAY[7:17, 7:37, 10:20])
    assert t.requests == 2 * 3 * 2
    assert max(t.objects.values()) == 1


def test_an_empty_box_is_no_request(tmp_path):
    write(tmp_path)
    with trace() as t:
        open_store(tmp_path).read(((110, 0, 10), (110, 30, 20)))
    assert t.requests == 1  # the info


@pytest.mark.parametrize("hashed", ["identity", "murmurhash3_x86_128"])
def test_requests_of_sharded_volumes(tmp_path, hashed):
    spec = SHARDING | {"hash": hashed, "preshift_bits": 0 if hashed != "identity" else 1}
    write(tmp_path, sharding=spec)
    store = open_store(tmp_path)
    scale = store.info.scales[0]
    with trace() as t:
        np.testing.assert_array_equal(whole(store)[0], ARRAY)
    shards = len(os.listdir(tmp_path / scale.key))
    # one shard index each, its minishard indexes and its values in one coalesced range each
    assert t.requests == 3 * shards
    with set_options(coalesce_gap_bytes=0), trace() as apart:
        index_cache.clear()
        np.testing.assert_array_equal(whole(store)[0], ARRAY)
    minishards = sum(
        int((np.diff(np.frombuffer(file.read_bytes()[:64], "<u8").reshape(4, 2)) > 0).sum())
        for file in (tmp_path / scale.key).iterdir()
    )
    # indexes lie between values: each is a request of its own, and so is what lies between
    assert apart.requests == shards + 2 * minishards
    with trace() as again:
        whole(store)
    assert again.requests == shards  # the indexes are remembered
    with trace() as one:
        store.read(((100, -7, 3), (101, -6, 4)))
    assert one.requests == 1


def test_chunks_of_a_local_shard_are_read_in_pieces_for_all_cores(tmp_path, monkeypatch):
    """The next core begins with the second; where requests take long, one brings them all."""
    array = noise((64, 128, 128), "u1")  # chunks of 256 KiB, of which decoding holds the double
    spec = RAW | {"preshift_bits": 9, "minishard_bits": 0, "shard_bits": 0}

    def requests(chunk_size, threads):
        write(tmp_path, array, chunk_size=chunk_size, sharding=spec)
        store = open_store(tmp_path)
        whole(store)
        with trace() as t, set_options(threads=threads):
            np.testing.assert_array_equal(whole(store)[0], array)
        return t.requests

    assert [requests((64, 64, 64), threads) for threads in (1, 2)] == [4, 4]
    assert [requests((64, 64, 32), threads) for threads in (1, 2)] == [4, 8]
    assert requests((32, 32, 32), 2) == 1  # small chunks
    monkeypatch.setattr(LocalStorage, "is_local", False)
    assert requests((64, 64, 64), 2) == 1


def test_one_chunk_of_a_local_shard_wakes_no_thread_and_looks_at_its_file_once(
    tmp_path, monkeypatch
):
    write(tmp_path, sharding=SHARDING)
    store = open_store(tmp_path)
    box = ((100, -7, 3), (116, 9, 19))
    store.read(box)
    looks = []
    fingerprint = LocalStorage.fingerprint
    monkeypatch.setattr(parallel, "_pool", lambda _: pytest.fail("a thread was woken"))
    monkeypatch.setattr(
        LocalStorage, "fingerprint", lambda *args: looks.append(1) or fingerprint(*args)
    )
    with set_options(threads=4), trace() as t:
        np.testing.assert_array_equal(store.read(box)[0], ARRAY[:16, :16, :16])
    assert (t.requests, len(looks)) == (1, 1)


@pytest.mark.parametrize("chunks", [2, 4])
def test_few_and_many_keys_are_found_in_the_same_places(tmp_path, chunks):
    """Few are sorted by Python, many by NumPy."""
    array = noise((8 * chunks,) * 3, "u1")
    write(tmp_path, array, chunk_size=(8, 8, 8), sharding=RAW)
    values = open_store(tmp_path).reader().sharded_values()
    keys = np.arange(chunks**3, dtype="u8")[::-1]
    together, alone = values.find(keys), [values.find(keys[at : at + 1]) for at in range(len(keys))]
    assert (len(keys) > FEW_KEYS) == (chunks == 4)
    assert (together.starts >= 0).all()
    for name in ("shards", "starts", "stops"):
        each = [getattr(one, name)[0] for one in alone]
        assert getattr(together, name).tolist() == each


def test_ranges_far_apart_are_not_joined(tmp_path):
    write(tmp_path, sharding=SHARDING | {"shard_bits": 0, "minishard_bits": 0, "preshift_bits": 9})
    store = open_store(tmp_path)
    reader = store.reader()
    points = [np.array([0, 46]), np.array([0, 49]), np.array([0, 32])]
    with set_options(coalesce_gap_bytes=0), trace() as t:
        found = reader.read_points([np.zeros(2, int), *points[::-1]], range(4))
    assert found.tolist() == [ARRAY[0, 0, 0], ARRAY[32, 49, 46]]
    assert t.requests == 2 + 2  # both indexes, two far values
    with set_options(coalesce_gap_bytes=1 << 30), trace() as t:
        reader.read_points([np.zeros(2, int), *points[::-1]], range(4))
    assert t.requests == 1
    with set_options(coalesce_max_bytes=5000), trace() as t:
        np.testing.assert_array_equal(whole(store)[0], ARRAY)
    assert t.requests > 10


def test_the_index_cache_is_bounded_and_may_be_off(tmp_path):
    write(tmp_path, sharding=SHARDING)
    store = open_store(tmp_path)
    with set_options(index_cache_bytes=0):
        for _ in range(2):
            with trace() as t:
                store.read(((100, -7, 3), (101, -6, 4)))
            assert t.requests == 3
    assert index_cache.nbytes == 0


def test_a_rewritten_shard_is_not_read_with_its_old_index(tmp_path):
    write(tmp_path, sharding=SHARDING)
    store = open_store(tmp_path)
    np.testing.assert_array_equal(whole(store)[0], ARRAY)
    other = noise(ARRAY.shape, "u1", seed=5) // 3
    write(tmp_path, other, sharding=SHARDING)
    np.testing.assert_array_equal(whole(store)[0], other)


@pytest.mark.parametrize("start_of", ["index", "minishard"])
def test_a_shard_that_is_replaced_during_a_read(tmp_path, monkeypatch, start_of):
    """The index of one file with the values of another could pass for data."""
    write(tmp_path, sharding=RAW)
    store = open_store(tmp_path)
    read = LocalStorage.get_range
    other = noise(ARRAY.shape, "u1", seed=5)

    def replace_between(self, key, start, stop):
        data = read(self, key, start, stop)
        if (start == 0) == (start_of == "index") and key.endswith("0.shard"):
            monkeypatch.setattr(LocalStorage, "get_range", read)
            write(tmp_path, other, sharding=RAW)
        return data

    monkeypatch.setattr(LocalStorage, "get_range", replace_between)
    np.testing.assert_array_equal(store.read(((100, -7, 3), (101, -6, 4))), other[:1, :1, :1][None])
    np.testing.assert_array_equal(whole(store)[0], other)


def test_a_shard_that_is_replaced_again_and_again_is_told(tmp_path, monkeypatch):
    write(tmp_path, sharding=RAW)
    store = open_store(tmp_path)
    read = LocalStorage.get_range
    monkeypatch.setattr(
        LocalStorage,
        "get_range",
        lambda *args: (shard(tmp_path).touch(), read(*args))[1],
    )
    with pytest.raises(ConflictError, match="8_8_40/0.shard: the shard was replaced or removed"):
        whole(store)


def test_what_a_remembered_index_lacks_is_asked_for_again(tmp_path, monkeypatch):
    """A store that cannot tell cheaply whether a file was replaced: a hole may be filled since."""
    array = ARRAY.copy()
    array[:16, 16:32, :16] = 0
    write(tmp_path, array, sharding=RAW, skip_zeros=True)
    monkeypatch.setattr(LocalStorage, "fingerprint", lambda self, key: None)
    store = open_store(tmp_path)
    with pytest.raises(ChunkMissingError, match="is not stored"):
        whole(store)
    write(tmp_path, sharding=RAW)
    np.testing.assert_array_equal(whole(store)[0], ARRAY)
    with trace() as t:
        store.read(((100, -7, 3), (101, -6, 4)))
    assert t.requests == 1  # the value: what the index has is believed


def test_points_read_each_chunk_once(tmp_path):
    write(tmp_path)
    rng = np.random.default_rng(1)
    z, y, x = (rng.integers(0, n, 500) for n in ARRAY.shape)
    with trace() as t:
        found = open_store(tmp_path).reader().read_points([np.zeros(500, int), z, y, x], range(4))
    np.testing.assert_array_equal(found, ARRAY[z, y, x])
    assert t.requests == 1 + len(
        {(a // 16, b // 16, c // 16) for a, b, c in zip(z, y, x, strict=True)}
    )


# ---- shapes of sharding


@pytest.mark.parametrize("hashed", ["identity", "murmurhash3_x86_128"])
@pytest.mark.parametrize(
    "bits", [(0, 0, 0), (1, 2, 3), (5, 0, 0), (0, 0, 9), (2, 6, 12), (0, 1, 1), (64, 1, 1)]
)
@pytest.mark.parametrize("encodings", list(itertools.product(["raw", "gzip"], repeat=2)))
def test_any_bits(tmp_path, hashed, bits, encodings):
    spec = {
        "@type": "neuroglancer_uint64_sharded_v1", "hash": hashed, "preshift_bits": bits[0],
        "minishard_bits": bits[1], "shard_bits": bits[2],
        "minishard_index_encoding": encodings[0], "data_encoding": encodings[1],
    }  # fmt: skip
    write(tmp_path, sharding=spec)
    np.testing.assert_array_equal(whole(open_store(tmp_path))[0], ARRAY)


def test_a_shard_index_too_large_to_read_whole(tmp_path):
    write(tmp_path, sharding=SHARDING | {"minishard_bits": 17, "preshift_bits": 0})
    with trace() as t:
        np.testing.assert_array_equal(whole(open_store(tmp_path))[0], ARRAY)
    index = 16 << 17
    assert t.bytes < index


def test_a_large_shard_index_whose_entries_lie_far_apart(tmp_path):
    spec = SHARDING | {
        "minishard_bits": 20,
        "shard_bits": 0,
        "preshift_bits": 0,
        "hash": "murmurhash3_x86_128",
    }
    write(tmp_path, ARRAY[:16, :16, :32], sharding=spec)
    assert shard(tmp_path).stat().st_size > 16 << 20
    with trace() as t:
        found = whole(open_store(tmp_path))
    np.testing.assert_array_equal(found[0], ARRAY[:16, :16, :32])
    assert t.requests == 1 + 2 + 1 + 1  # info, two entries, two minishards in one, one range
    assert t.bytes < 20_000
    shard(tmp_path).unlink()
    with pytest.raises(ChunkMissingError, match="is not stored"):
        whole(open_store(tmp_path))


def test_a_shard_that_goes_away_during_a_read_is_no_hole(tmp_path, monkeypatch):
    write(tmp_path, sharding=SHARDING)
    store = open_store(tmp_path)
    read = LocalStorage.get_range

    def vanish(self, key, start, stop):
        return read(self, key, start, stop) if start == 0 else None

    monkeypatch.setattr(LocalStorage, "get_range", vanish)
    with pytest.raises(ConflictError, match="shard: the shard was replaced or removed"):
        store.read(store.info.scales[0].bounds, fill_missing=True)


# ---- holes


@pytest.mark.parametrize("sharding", [None, SHARDING])
def test_holes_are_errors_unless_asked(tmp_path, sharding):
    array = ARRAY.copy()
    array[:16, 16:32, :16] = 0
    write(tmp_path, array, sharding=sharding, skip_zeros=True)
    store = open_store(tmp_path)
    with pytest.raises(
        ChunkMissingError,
        match=rf"{tmp_path}/8_8_40/.*x\[100, 116\) y\[9, 25\) z\[3, 19\) is not stored.*fill_missing=True",
    ):
        whole(store)
    with trace() as t:
        found = store.read(store.info.scales[0].bounds, fill_missing=True)
    np.testing.assert_array_equal(found[0], array)
    assert t.filled == 1


def test_absent_shards_are_holes(tmp_path):
    write(tmp_path, sharding=SHARDING)
    os.remove(tmp_path / "8_8_40" / "0.shard")
    store = open_store(tmp_path)
    with pytest.raises(ChunkMissingError, match=r"0.shard, minishard 0, key 0"):
        store.read(((100, -7, 3), (101, -6, 4)))
    with trace() as t:
        found = store.read(store.info.scales[0].bounds, fill_missing=True)
    assert t.filled == 8
    assert not found[0, :16, :16, :16].any()
    np.testing.assert_array_equal(found[0, 32:], ARRAY[32:])


@pytest.mark.parametrize("error", [AccessDeniedError("denied"), StorageError("failed")])
@pytest.mark.parametrize("sharding", [None, SHARDING])
def test_only_a_definite_hole_is_filled(tmp_path, monkeypatch, error, sharding):
    write(tmp_path, sharding=sharding)
    store = open_store(tmp_path)

    def refuse(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(LocalStorage, "get", refuse)
    monkeypatch.setattr(LocalStorage, "get_range", refuse)
    with pytest.raises(type(error), match=str(error)):
        store.read(store.info.scales[0].bounds, fill_missing=True)


def test_a_placeholder_names_a_mip_that_has_data(tmp_path):
    write_volume(str(tmp_path), [ARRAY, ARRAY[:, ::2, ::2]], chunk_size=(16, 16, 16))
    edit_info(tmp_path, lambda d: d["scales"][0].update(key="8_8_40/placeholder"))
    store = open_store(tmp_path)
    assert store.mips[0].is_placeholder
    with pytest.raises(
        ScaleNotFoundError, match=r"placeholder without data; mip=1 \(\(16, 16, 40\) nm"
    ):
        store.read(((0, 0, 0), (1, 1, 1)), fill_missing=True)
    edit_info(tmp_path, lambda d: d["scales"][1].update(key="placeholder2"))
    with pytest.raises(ScaleNotFoundError, match="no mip of this volume has data"):
        open_store(tmp_path).read(((0, 0, 0), (1, 1, 1)))


# ---- damage


def chunk_path(path):
    return next(iter(sorted((path / "8_8_40").iterdir())))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda data: b"", "an object of zero bytes"),
        (lambda data: data[:-1], "bytes for raw uint8"),
        (lambda data: data + b"x", "bytes for raw uint8|can be valid"),
        (lambda data: data + bytes(10**6), "at most .* can be valid"),
        (lambda data: gzip.compress(data)[:-9], "truncated gzip data"),
        (
            lambda data: gzip.compress(bytes(10**7)),
            "holds more than the .* bytes expected|can be valid",
        ),
        (lambda data: gzip.compress(bytes(10**6)), "holds more than the .* bytes expected"),
    ],
)
def test_damaged_chunks_are_named(tmp_path, damage, match):
    write(tmp_path)
    path = chunk_path(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptDataError, match=match) as caught:
        open_store(tmp_path).read(open_store(tmp_path).info.scales[0].bounds, fill_missing=True)
    assert str(path) in str(caught.value)


def test_an_edge_chunk_stored_at_full_size_is_refused(tmp_path):
    write(tmp_path)
    edge = tmp_path / "8_8_40" / "132-147_-7-9_3-19"
    assert edge.exists()
    edge.write_bytes(bytes(16**3))
    with pytest.raises(CorruptDataError, match="4096 bytes for raw uint8 of 15 x 16 x 16 .*3840"):
        whole(open_store(tmp_path))


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png", "compressed_segmentation", "compresso"])
def test_undeclared_gzip_is_recognised_where_the_bytes_are_impossible(tmp_path, encoding):
    array = labels(ARRAY.shape, "u4") if encoding.startswith("compress") else ARRAY
    write(tmp_path, array, encoding=encoding)
    expected = whole(open_store(tmp_path))
    for path in (tmp_path / "8_8_40").iterdir():
        path.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(whole(open_store(tmp_path)), expected)


def test_raw_voxels_that_look_like_gzip_stay_voxels(tmp_path):
    array = np.zeros((16, 16, 16), "u1")
    array[0, 0, :4] = [0x1F, 0x8B, 8, 0]
    write(tmp_path, array)
    np.testing.assert_array_equal(whole(open_store(tmp_path))[0], array)


def shard(path, name="0.shard"):
    return path / "8_8_40" / name


def u64(*values):
    return np.array(values, "<u8").tobytes()


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda d: b"", "the file ends inside its shard index, which is 64 bytes long"),
        (lambda d: d[:63], "the file ends inside its shard index"),
        (lambda d: d[:-1], "reach beyond the end of the file"),
        (lambda d: u64(9, 8) + d[16:], r"minishard index at \[9, 8\): not a range"),
        (lambda d: u64(0, 2**63) + d[16:], "not a range"),
        (lambda d: u64(0, 2**62) + d[16:], "at most .* can be valid"),
        (lambda d: u64(10**6, 10**6 + 24) + d[16:], "reach beyond the end of the file"),
        (lambda d: u64(0, 25) + d[16:], "minishard index of 25 bytes, expected a multiple of 24"),
        (lambda d: u64(0, 24) + d[16:64] + u64(0, 2**40, 4096) + d[88:], "reach beyond the end"),
        (lambda d: u64(0, 24) + d[16:64] + u64(0, 24, 2**40) + d[88:], "at most .* can be valid"),
        (lambda d: u64(0, 24 * 10**4) + bytes(48) + bytes(24 * 10**4), "at most .* can be valid"),
        (lambda d: u64(0, 48) + d[16:64] + u64(0, 0, 0, 0, 0, 0) + d[112:], "key 0 more than once"),
        (lambda d: u64(0, 24) + d[16:64] + u64(0, 24, 0) + d[88:], "an object of zero bytes"),
        (lambda d: u64(0, 24) + d[16:64] + u64(0, 0, 4096) + d[88:], "places values where it lies"),
        (lambda d: u64(0, 24) + d[16:64] + u64(0, 24, 4095) + d[88:], "4095 bytes for raw uint8"),
    ],
)  # fmt: skip
def test_damaged_shards_are_named(tmp_path, damage, match):
    write(tmp_path, sharding=RAW)
    path = shard(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    store = open_store(tmp_path)
    with pytest.raises(CorruptDataError, match=match) as caught:
        store.read(store.info.scales[0].bounds, fill_missing=True)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("member", ["minishard_index_encoding", "data_encoding"])
@pytest.mark.parametrize("declared", ["raw", "gzip"])
def test_wrong_declarations_inside_shards(tmp_path, member, declared):
    stored = {"raw": "gzip", "gzip": "raw"}[declared]
    write(tmp_path, sharding=SHARDING | {member: stored})
    edit_info(tmp_path, lambda d: d["scales"][0]["sharding"].update({member: declared}))
    with pytest.raises(CorruptDataError, match=r"\.shard"):
        whole(open_store(tmp_path))


def test_bombs_inside_shards(tmp_path):
    bomb = gzip.compress(bytes(2 << 20))
    write(tmp_path, sharding=SHARDING)
    # one minishard whose index is a bomb
    shard(tmp_path).write_bytes(u64(0, len(bomb)) + bytes(48) + bomb)
    with pytest.raises(
        CorruptDataError, match="index of minishard 0: gzip data that holds more than"
    ):
        open_store(tmp_path).read(((100, -7, 3), (101, -6, 4)))
    # and one whose value is
    index = gzip.compress(u64(0, 0, len(bomb)))
    shard(tmp_path).write_bytes(u64(len(bomb), len(bomb) + len(index)) + bytes(48) + bomb + index)
    with pytest.raises(CorruptDataError, match="holds more than|can be valid"):
        open_store(tmp_path).read(((100, -7, 3), (101, -6, 4)))


def test_a_shard_that_is_compressed_as_a_whole(tmp_path):
    write(tmp_path, sharding=SHARDING)
    path = shard(tmp_path)
    path.with_name("0.shard.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    with pytest.raises(CorruptDataError, match=r"0.shard.gz: the whole file is compressed"):
        open_store(tmp_path).read(((100, -7, 3), (101, -6, 4)), fill_missing=True)


def test_background_chunks_of_another_extent_name_the_likely_cause(tmp_path):
    """CloudVolume's defect, format reference 4.6: the same bytes for all extents."""
    write(tmp_path, np.zeros_like(ARRAY), sharding=RAW)
    store = open_store(tmp_path)
    from xprecomputed.shard_format import MortonCode, encode_shards

    scale = store.info.scales[0]
    cells = list(scale.grid.cells(scale.bounds))
    values = {int(key): bytes(16**3) for key in MortonCode(scale.grid.shape).encode(cells)}
    for name, data in encode_shards(values, scale.sharding).items():
        shard(tmp_path, name).write_bytes(data)
    with pytest.raises(
        CorruptDataError, match="CloudVolume and Igneous store one encoded background"
    ):
        whole(store)


# ---- opening


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"encoding": "of_next_year"}, UnsupportedEncodingError, "unknown encoding 'of_next_year'"),
        ({"key": "../" * 50 + "x"}, InvalidURLError, "leads out of the bucket or folder tree"),
        ({"key": "/etc"}, InvalidURLError, "expected a relative path"),
        (
            {"sharding": SHARDING, "size": [2**60, 2**60, 2**60], "chunk_sizes": [[1, 1, 1]]},
            InvalidInfoError,
            r"8_8_40: a grid of .* needs a Morton code of 180 bits",
        ),
    ],
)
def test_a_scale_that_cannot_be_read_leaves_the_others_usable(tmp_path, change, error, match):
    write_volume(str(tmp_path), [ARRAY, ARRAY[:, ::2, ::2]], chunk_size=(16, 16, 16))
    edit_info(tmp_path, lambda d: d["scales"][0].update(change))
    store = open_store(tmp_path)
    with pytest.raises(error, match=match):
        store.reader(0)
    np.testing.assert_array_equal(
        store.read(store.info.scales[1].bounds, mip=1)[0], ARRAY[:, ::2, ::2]
    )


def test_keys_may_climb_inside_the_tree(tmp_path):
    write(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "info").write_bytes((tmp_path / "a" / "info").read_bytes())
    edit_info(tmp_path / "b", lambda d: d["scales"][0].update(key="../a/8_8_40"))
    np.testing.assert_array_equal(whole(open_store(tmp_path / "b"))[0], ARRAY)


@pytest.mark.parametrize("box", [((99, -7, 3), (101, -6, 4)), ((100, -7, 3), (148, -6, 4))])
def test_boxes_outside_are_refused(tmp_path, box):
    write(tmp_path)
    with pytest.raises(
        OutOfBoundsError, match=r"is not inside x\[100, 147\) y\[-7, 43\) z\[3, 36\)"
    ):
        open_store(tmp_path).read(box)


def test_an_end_before_its_begin_is_empty(tmp_path):
    write(tmp_path)
    assert open_store(tmp_path).read(Box((120, 0, 4), (110, 1, 5))).shape == (1, 1, 1, 0)


# ---- engine


def test_readers_pickle_small_and_read_elsewhere(tmp_path):
    write(tmp_path, sharding=SHARDING)
    data = pickle.dumps(open_store(tmp_path).reader())
    assert len(data) < 2500
    copy = pickle.loads(data)
    np.testing.assert_array_equal(copy.read_box(copy.scale.bounds)[0], ARRAY)


@pytest.mark.parametrize("sharding", [None, SHARDING])
def test_many_threads_read_at_once(tmp_path, sharding):
    write(tmp_path, sharding=sharding)
    store, results = open_store(tmp_path), []
    threads = [threading.Thread(target=lambda: results.append(whole(store)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all((each == ARRAY).all() for each in results)


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 7}, {"read_budget_bytes": 1}])
def test_options_do_not_change_the_result(tmp_path, options):
    write(tmp_path, sharding=SHARDING)
    with set_options(**options):
        np.testing.assert_array_equal(whole(open_store(tmp_path))[0], ARRAY)


def test_a_forked_child_reads_after_its_parent_has(tmp_path):
    write(tmp_path, sharding=SHARDING)
    store = open_store(tmp_path)
    whole(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        os._exit(0 if (whole(store)[0] == ARRAY).all() else 1)
    assert os.waitpid(pid, 0)[1] == 0


OPEN_AND_WARM = """
import xprecomputed as xp
store = xp.open_store(sys.argv[1])
store.read(((0, 0, 0), (1, 1, 1)))
"""


def test_memory_beyond_the_result_is_bounded(tmp_path):
    """512 MiB of gzipped chunks in 64 MiB and small change."""
    array = np.zeros((128, 1024, 1024), "u4")
    write_volume(str(tmp_path), [array], chunk_size=(256, 256, 32), compression="gzip")
    code = "with xp.set_options(threads=8): result = store.read(store.info.scales[0].bounds)"
    grown = peak_bytes(OPEN_AND_WARM, code, tmp_path)
    assert array.nbytes < grown < array.nbytes + (80 << 20)


def test_one_huge_chunk_in_a_small_box_is_decoded_where_it_is_wanted(tmp_path):
    """compressed_segmentation decodes the wanted part only: no temporary of the whole chunk."""
    array = labels((256, 512, 512), "u8", cell=64)
    write_volume(
        str(tmp_path), [array], chunk_size=(512, 512, 256), encoding="compressed_segmentation"
    )
    code = "result = store.read(((100, 100, 100), (228, 228, 228)))"
    # the chunk is 512 MiB, the box 16
    assert peak_bytes(OPEN_AND_WARM, code, tmp_path) < 64 << 20


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png", "compressed_segmentation", "compresso"])
def test_mutated_chunks_are_data_or_an_error_of_ours(tmp_path, encoding, rng):
    array = labels((16, 16, 16), "u8" if encoding == "compressed_segmentation" else "u4", cell=3)
    if not encoding.startswith("compress"):
        array = array.astype("u1")
    write(tmp_path, array)
    write(tmp_path, array, encoding=encoding)
    store, path = open_store(tmp_path), chunk_path(tmp_path)
    good = path.read_bytes()
    outcomes = set()
    for _ in range(300):
        data = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        if rng.random() < 0.2:
            del data[rng.integers(len(data)) :]
        path.write_bytes(data)
        try:
            found = whole(store)
            assert found.shape == (1, 16, 16, 16)
            outcomes.add("data")
        except PrecomputedError:
            outcomes.add("error")
    assert outcomes <= {"data", "error"}
    assert "error" in outcomes  # every damage of a PNG is one, by its checksums
