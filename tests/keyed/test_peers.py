"""What we write is read by TensorStore and CloudVolume, and the other way round."""

import numpy as np
import pytest

from tests.keyed.places import (
    SPECS,
    count_before,
    cv_reader,
    cv_sharding,
    cv_spec,
    data_of,
    read_all,
    some,
    spec,
    ts_key,
    ts_store,
    values_at,
    with_before,
)
from xprecomputed.keyed import Value


@pytest.mark.parametrize("sharding", SPECS)
def test_tensorstore_reads_what_we_write(tmp_path, rng, sharding):
    values = values_at(str(tmp_path), sharding)
    first = some(rng, 100)
    values.put(first)
    values.put({key: Value(b"again") for key in list(first)[:20]})
    values.delete(list(first)[20:40])
    store = ts_store(tmp_path, sharding)
    expected = read_all(values)
    assert len(expected) == len(first) - 20
    for key in first:
        result = store.read(ts_key(key)).result()
        assert (bytes(result.value) if result.state == "value" else None) == expected.get(key)
    listed = {int.from_bytes(key, "big") for key in store.list().result()}
    assert listed == set(expected)


@pytest.mark.parametrize("sharding", SPECS)
def test_we_read_and_change_what_tensorstore_writes(tmp_path, rng, sharding):
    store = ts_store(tmp_path, sharding)
    written = data_of(some(rng, 60))
    for key, data in written.items():
        store.write(ts_key(key), data).result()
    values = values_at(str(tmp_path), sharding)
    assert values.ids().tolist() == sorted(written)
    assert read_all(values) == written
    values.put({5: Value(b"five")})
    values.delete(list(written)[:10])
    expected = {5: b"five"} | dict(list(written.items())[10:])
    assert read_all(values) == expected
    again = ts_store(tmp_path, sharding)
    assert {key: bytes(again.read(ts_key(key)).result().value) for key in expected} == expected


@pytest.mark.parametrize("sharding", SPECS)
def test_cloudvolume_reads_what_we_write(tmp_path, rng, sharding):
    values = values_at(str(tmp_path), sharding)
    new = {key: Value(value.data or b"x") for key, value in some(rng, 100).items()}
    values.put(new)
    reader = cv_reader(tmp_path, sharding)
    found = reader.get_data(np.array(list(new), np.uint64), progress=False)
    assert {int(key): bytes(data) for key, data in found.items()} == data_of(new)
    names = [path.name for path in tmp_path.iterdir()]
    listed = np.concatenate([np.asarray(list(reader.list_labels(name)), "u8") for name in names])
    assert sorted(listed.tolist()) == sorted(new)


@pytest.mark.parametrize("sharding", SPECS)
def test_we_read_and_change_what_cloudvolume_writes(tmp_path, rng, sharding):
    written = data_of(some(rng, 100))
    files = cv_sharding.synthesize_shard_files(cv_spec(sharding), dict(written))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    values = values_at(str(tmp_path), sharding)
    assert read_all(values) == written
    gone = list(written)[::2]
    assert values.delete(gone).tolist() == sorted(gone)
    assert read_all(values) == {key: written[key] for key in list(written)[1::2]}


def test_what_cloudvolume_puts_before_values_is_kept(tmp_path, rng):
    """As in its shards of multi-resolution meshes: fragments, then the manifest with the entry."""
    sharding = spec(data="raw")
    before = {int(key): rng.bytes(int(rng.integers(0, 99))) for key in rng.integers(1, 999, 50)}
    binaries = {key: data + with_before(data).data for key, data in before.items()}
    files = cv_sharding.synthesize_shard_files(
        cv_spec(sharding), dict(binaries), data_offset=dict.fromkeys(before, 8)
    )
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    values = values_at(str(tmp_path), sharding, bytes_before=count_before)
    more = {key: rng.bytes(20) for key in (2000, 3000, *list(before)[:5])}
    values.put({key: with_before(data) for key, data in more.items()})
    reader = cv_reader(tmp_path, sharding)
    for key, data in (before | more).items():
        name, start, size = ranges(reader, key)
        stored = (tmp_path / name).read_bytes()
        assert stored[start - len(data) : start + size] == data + with_before(data).data


def ranges(reader, key):
    """Where CloudVolume finds a value."""
    found = reader.exists([key], return_byte_range=True, progress=False)
    path, start, size = next(iter(found.values())) if isinstance(found, dict) else found
    return path.rpartition("/")[2], int(start), int(size)
