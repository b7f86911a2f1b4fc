"""Chunks and shards written by hand-made calls: repeated, merged, interrupted."""

import numpy as np
import pytest

from tests.images import labels
from xprecomputed import Box, ShardingSpec, StorageError, create_info, set_options, write_info
from xprecomputed.storage import Location
from xprecomputed.volume import ScaleWriter, assemble_shard, stored_shards

SIZE = (20, 18, 12)


@pytest.fixture
def data():
    return labels(SIZE[::-1], "u8")[None]


def layer(tmp_path, **options):
    info = create_info(
        size=SIZE, resolution=(8, 8, 8), data_type="uint64", chunk_size=(4, 4, 4), **options
    )
    store = write_info(str(tmp_path / "layer"), info, mode="w")
    return ScaleWriter(reader=store.reader())


def spec(**changes):
    return ShardingSpec(
        **{"preshift_bits": 1, "hash": "identity", "minishard_bits": 1, "shard_bits": 9} | changes
    )


WHOLE = Box((0, 0, 0), SIZE)


def split(data):
    """Two blocks with their boxes, cut along x at a chunk edge."""
    yield data[..., :8], Box((0, 0, 0), (8, *SIZE[1:]))
    yield data[..., 8:], Box((8, 0, 0), SIZE)


def pieces_by_shard(writer, blocks, inline_bytes):
    found = {}
    for number, (values, box) in enumerate(blocks):
        for shard, piece in writer.encode_box(values, box, f"token/{number}", inline_bytes).items():
            found.setdefault(shard, []).append(piece)
    return found


@pytest.mark.parametrize("inline_bytes", [0, 1 << 30])
@pytest.mark.parametrize(
    "bits",
    [
        {},
        {"shard_bits": 1},
        {"shard_bits": 0, "preshift_bits": 9},
        {"hash": "murmurhash3_x86_128", "shard_bits": 2},
    ],
)
def test_the_bytes_do_not_depend_on_the_way(tmp_path, data, inline_bytes, bits):
    writer = layer(tmp_path, sharding=spec(**bits))
    for shard, pieces in pieces_by_shard(writer, split(data), inline_bytes).items():
        assemble_shard(writer, shard, pieces, whole=True)
    folder = tmp_path / "layer" / "8_8_8"
    first = {path.name: path.read_bytes() for path in folder.glob("*.shard")}
    np.testing.assert_array_equal(writer.reader.read_box(WHOLE), data)
    writer = layer(tmp_path, sharding=spec(**bits))
    for shard, pieces in pieces_by_shard(writer, [(data, WHOLE)], 1 << 30).items():
        assemble_shard(writer, shard, pieces[::-1], whole=True)
    assert {path.name: path.read_bytes() for path in folder.glob("*.shard")} == first


def test_a_repeated_task_finds_its_work_done(tmp_path, data):
    writer = layer(tmp_path, sharding=spec(shard_bits=1))
    pieces = pieces_by_shard(writer, split(data), 0)
    for shard in pieces:
        assemble_shard(writer, shard, pieces[shard], whole=True)
    folder = tmp_path / "layer" / "8_8_8"
    before = {path.name: path.read_bytes() for path in folder.rglob("*.shard")}
    assert all(each.place is not None for each in pieces[0])
    # the worker died before it could say that it was done: pieces are gone, the shard is there
    for shard in pieces:
        assert assemble_shard(writer, shard, pieces[shard], whole=True) > 0
    assert {path.name: path.read_bytes() for path in folder.rglob("*.shard")} == before


@pytest.mark.parametrize("damage", ["shard too", "another shard", "longer"])
def test_lost_pieces_without_their_shard_are_an_error(tmp_path, data, damage):
    writer = layer(tmp_path, sharding=spec(shard_bits=1))
    pieces = pieces_by_shard(writer, split(data), 0)
    assemble_shard(writer, 0, pieces[0], whole=True)
    path = tmp_path / "layer" / "8_8_8" / "0.shard"
    if damage == "shard too":
        path.unlink()
    elif damage == "another shard":
        other = writer.encode_box(data * 0 + 3, WHOLE, "other/0", 1 << 30)
        assemble_shard(writer, 0, [other[0]], whole=True)
    else:
        path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(StorageError, match=r"token/0-0: a piece of .*0.shard is gone; write again"):
        assemble_shard(writer, 0, pieces[0], whole=True)


def test_a_piece_that_is_cut_short(tmp_path, data):
    writer = layer(tmp_path, sharding=spec(shard_bits=1))
    pieces = pieces_by_shard(writer, [(data, WHOLE)], 0)
    place = pieces[0][0].place
    place.storage.put(place.key, b"short")
    with pytest.raises(StorageError, match=r"bytes \d+ to \d+ are gone; write again"):
        assemble_shard(writer, 0, pieces[0], whole=True)
    assert not stored_shards(writer.reader, [0, 1])


def test_pieces_on_a_remote_store_are_fetched_once(tmp_path, data, monkeypatch):
    writer = layer(tmp_path, sharding=spec(shard_bits=1))
    pieces = pieces_by_shard(writer, split(data), 0)
    asked = []
    storage = type(writer.directory.storage)
    monkeypatch.setattr(storage, "is_local", False)
    get_range = storage.get_range
    monkeypatch.setattr(
        storage, "get_range", lambda self, *args: asked.append(args) or get_range(self, *args)
    )
    assemble_shard(writer, 0, pieces[0], whole=True)
    assert len(asked) == 2
    assemble_shard(writer, 1, pieces[1], whole=True)
    monkeypatch.undo()
    np.testing.assert_array_equal(writer.reader.read_box(WHOLE), data)


def test_a_part_of_a_shard_never_replaces_it(tmp_path, data):
    writer = layer(tmp_path, sharding=spec(shard_bits=0, preshift_bits=9))
    (first, box), (second, other) = split(data)
    assemble_shard(writer, 0, [writer.encode_box(first, box, "a/0", 1 << 30)[0]], whole=False)
    assemble_shard(writer, 0, [writer.encode_box(second, other, "b/0", 0)[0]], whole=False)
    np.testing.assert_array_equal(writer.reader.read_box(WHOLE), data)


def test_encoding_stays_within_the_budget(tmp_path, data):
    writer = layer(tmp_path)
    with set_options(read_budget_bytes=1):
        assert writer.write_box(data, WHOLE) == 5 * 5 * 3
    np.testing.assert_array_equal(writer.reader.read_box(WHOLE), data)


def test_a_failing_put_is_the_error_of_the_write(tmp_path, data, monkeypatch):
    writer = layer(tmp_path)

    def refuse(self, key, *args, **kwargs):
        raise StorageError(f"{key}: no room")

    monkeypatch.setattr(type(writer.directory.storage), "put", refuse)
    with pytest.raises(StorageError, match="no room"):
        writer.write_box(data, WHOLE)
    assert not list((tmp_path / "layer").glob("8_8_8/*"))


def test_asking_a_plain_scale_for_its_shards(tmp_path):
    writer = layer(tmp_path)
    with pytest.raises(ValueError, match="scale '8_8_8' is not sharded"):
        writer.sharding
    with pytest.raises(ValueError, match="scale '8_8_8' is not sharded"):
        stored_shards(writer.reader, [0])
    assert isinstance(writer.directory, Location)
