import pytest

from xprecomputed import set_options
from xprecomputed.storage.cache import ENTRY_BYTES, ByteBoundedCache


@pytest.fixture
def cache():
    with set_options(index_cache_bytes=3 * (100 + ENTRY_BYTES)):
        yield ByteBoundedCache()


def test_the_least_recently_used_goes_first(cache):
    for key in "abc":
        cache.put(key, key.upper(), 100)
    assert cache.get("a") == "A"
    cache.put("d", "D", 100)
    assert [cache.get(key) for key in "abcd"] == ["A", None, "C", "D"]


def test_bytes_are_bounded_and_counted(cache):
    for key in range(100):
        cache.put(key, key, 100)
    assert cache.nbytes == 3 * (100 + ENTRY_BYTES)
    cache.put(99, "again", 50)
    assert cache.nbytes == 3 * (100 + ENTRY_BYTES) - 50
    cache.clear()
    assert (cache.nbytes, cache.get(99)) == (0, None)


def test_what_is_too_large_is_not_kept(cache):
    cache.put("a", "A", 100)
    cache.put("huge", "H", 10**9)
    assert (cache.get("huge"), cache.get("a")) == (None, "A")
