"""Values by id and spatial indexes on clouds and on the web."""

import gzip
import threading

import numpy as np
import pytest

from tests.keyed.places import SPECS, data_of, read_all, some, spec
from tests.remote.conftest import CLOUDS
from xprecomputed import set_options, trace
from xprecomputed.errors import StorageError
from xprecomputed.keyed import KeyedValues, SpatialIndex, Value
from xprecomputed.metadata import SpatialIndexInfo
from xprecomputed.storage import cached, locate_url

INFO = SpatialIndexInfo(resolution=(4, 4, 40), chunk_size=(100, 200, 300))
BOUNDS = ((-50, 0, 40), (250, 300, 640))


def values_at(place, sharding=None, suffix="", **members):
    return KeyedValues(locate_url(place.url, place.options), sharding, suffix, **members)


@pytest.mark.parametrize("kind", CLOUDS[1::2])
@pytest.mark.parametrize("sharding", [None, SPECS[0]])
def test_a_life(place_of, rng, kind, sharding):
    place = place_of(kind)
    values = values_at(place, sharding, ":0")
    assert values.ids().tolist() == []
    first, second = some(rng, 40, b"a"), some(rng, 40, b"b")
    second |= {key: Value(b"again") for key in list(first)[:10]}
    values.put(first)
    values.put(second)
    expected = data_of(first | second)
    assert read_all(values) == expected
    asked = np.array([*expected, 1, 2, 3], np.uint64)
    assert values.exists(asked).tolist() == [int(key) in expected for key in asked]
    gone = list(expected)[::3]
    assert values.delete([*gone, 5]).tolist() == sorted(gone)
    for key in gone:
        del expected[key]
    assert read_all(values) == expected
    values.delete(expected)
    assert values.ids().tolist() == []
    # there is no conditional delete: shards stay, with nothing in them
    assert len(place.names()) == (4 if sharding else 0)
    values.put({7: Value(b"seven")})
    assert read_all(values) == {7: b"seven"}


def test_objects_are_compressed_where_a_header_tells_it(place_of):
    place = place_of("s3 anonymous")
    values = values_at(place)
    values.put({7: Value(b"x" * 999)}, compression="auto", cache_control="no-cache")
    data, headers = place.get("7")
    assert gzip.decompress(data) == b"x" * 999
    assert (headers["content-encoding"], headers["cache-control"]) == ("gzip", "no-cache")
    values.put({7: Value(b"y" * 999)})
    data, headers = place.get("7")
    assert data == b"y" * 999
    assert "content-encoding" not in headers
    assert read_all(values) == {7: b"y" * 999}
    sharded = values_at(place, spec(minishard=0, shard=0))
    sharded.put({7: Value(b"x")}, compression="auto", cache_control="no-cache")
    headers = place.get("0.shard")[1]
    assert "content-encoding" not in headers
    assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("behind", ["nothing", "a cache"])
def test_writers_of_one_shard_lose_nothing(place_of, tmp_path, behind):
    place = place_of("s3 anonymous")
    values = values_at(place, spec(minishard=1, shard=0))
    if behind == "a cache":
        with set_options(memory_cache_bytes=1 << 20):
            here = cached(locate_url(place.url, place.options), tmp_path)
        values = KeyedValues(here, values.sharding)
    values.put({1000: Value(b"goes")})
    assert read_all(values) == {1000: b"goes"}
    parts = [{key * 4 + n: Value(b"%d" % n) for key in range(10)} for n in range(4)]
    threads = [threading.Thread(target=values.put, args=(part,)) for part in parts]
    threads.append(threading.Thread(target=values.delete, args=([1000],)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_all(values) == {key: b"%d" % (key % 4) for key in range(40)}


def test_a_rewrite_takes_few_requests(place_of, rng):
    values = values_at(place_of("s3 anonymous"), spec(minishard=2, shard=0))
    values.put({key: Value(rng.bytes(50)) for key in range(3000)})
    before = read_all(values)
    with trace() as traced:
        values.put({5: Value(b"new")})
    # the version, the shard index, 4 minishard indexes 40 KB apart, the values, the write
    assert traced.requests <= 8
    assert read_all(values) == before | {5: b"new"}


@pytest.mark.parametrize("bits", [3, 13])
def test_shards_on_the_web(place_of, bits, tmp_path):
    place = place_of("web raw")
    local = KeyedValues(locate_url(str(tmp_path / "here")), spec(minishard=0, shard=bits))
    local.put({key: Value(b"%d" % key) for key in range(20)})
    place.upload(tmp_path / "here")
    values = values_at(place, local.sharding)
    assert read_all(values, range(30)) == {key: b"%d" % key for key in range(20)}
    if bits == 3:
        assert values.ids().tolist() == list(range(20))
        return
    with pytest.raises(StorageError, match=r"no listings. Without a listing .* here are 2\*\*13"):
        values.ids()


@pytest.mark.parametrize("kind", CLOUDS[::2])
def test_a_spatial_index(place_of, kind):
    place = place_of(kind)
    index = SpatialIndex(locate_url(place.url, place.options), INFO, BOUNDS)
    index.update({7: [[0, 0, 50], [240, 0, 50]], 8: [[0, 0, 50]]})
    data, headers = place.get("-50-50_0-200_40-340.spatial")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(data) == b'{"7":[0,0,50,0,0,50],"8":[0,0,50,0,0,50]}'
    assert index.ids_in({"x": (200, 250)}).tolist() == [7]
    index.remove([7])
    assert index.ids_in({}).tolist() == [8]
    assert gzip.decompress(place.get("150-250_0-200_40-340.spatial")[0]) == b"{}"
    assert len(place.names()) == 12


def test_a_spatial_index_on_the_web(place_of, tmp_path):
    place = place_of("web raw")
    SpatialIndex(locate_url(str(tmp_path / "here")), INFO, BOUNDS).update({7: [[0, 0, 50]]})
    place.upload(tmp_path / "here")
    index = SpatialIndex(locate_url(place.url), INFO, BOUNDS)
    assert index.ids_in({}).tolist() == [7]
    with pytest.raises(StorageError, match="no listings. The files of the spatial index are found"):
        SpatialIndex(locate_url(place.url), INFO).ids_in({})
