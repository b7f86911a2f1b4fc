import pytest

from xprecomputed import set_options
from xprecomputed.storage.caching.memory import (
    ENTRY_BYTES,
    ByteBoundedCache,
    index_cache,
    memory_cache,
)


@pytest.fixture
def cache():
    with set_options(index_cache_bytes=3 * (100 + ENTRY_BYTES)):
        yield ByteBoundedCache("index_cache_bytes")


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
    assert (cache.nbytes, cache.get(99), cache.groups()) == (0, None, [])


def test_what_is_too_large_is_not_kept(cache):
    cache.put("a", "A", 100)
    cache.put("huge", "H", 10**9)
    assert (cache.get("huge"), cache.get("a")) == (None, "A")


def test_nothing_stale_stays_where_the_new_one_is_too_large(cache):
    cache.put("a", "A", 100)
    cache.put("a", "AA", 10**9)
    assert (cache.get("a"), cache.nbytes) == (None, 0)


def test_each_has_the_bound_of_its_own_option():
    assert memory_cache.max_bytes == 0
    with set_options(index_cache_bytes=10_000, memory_cache_bytes=20_000):
        assert (index_cache.max_bytes, memory_cache.max_bytes) == (10_000, 20_000)


def test_without_a_bound_nothing_is_kept():
    cache = ByteBoundedCache("memory_cache_bytes")
    cache.put("a", "A", 0)
    assert (cache.get("a"), cache.nbytes) == (None, 0)


def test_a_lowered_bound_holds_from_the_next_call_on():
    cache = ByteBoundedCache("memory_cache_bytes")
    with set_options(memory_cache_bytes=10_000):
        cache.put("a", "A", 100)
        cache.put("b", "B", 100)
        with set_options(memory_cache_bytes=100 + ENTRY_BYTES):
            assert (cache.get("a"), cache.get("b")) == (None, "B")
    assert cache.get("b") is None
    assert (cache.nbytes, cache.groups()) == (0, [])


def test_a_group_is_forgotten_at_once(cache):
    cache.put("a1", 1, 100, "a")
    cache.put("a2", 2, 100, "a")
    cache.put("b1", 3, 100, "b")
    assert cache.groups() == ["a", "b"]
    cache.forget("a")
    cache.forget("nothing")
    assert [cache.get(key) for key in ("a1", "a2", "b1")] == [None, None, 3]
    assert (cache.groups(), cache.nbytes) == (["b"], 100 + ENTRY_BYTES)


def test_groups_go_with_their_last_entry(cache):
    cache.put("a1", 1, 100, "a")
    for key in range(3):
        cache.put(key, key, 100, "b")
    assert cache.groups() == ["b"]
    cache.put(0, 0, 100, "c")  # another group
    cache.put(1, 1, 100)
    cache.put(2, 2, 100)
    assert cache.groups() == ["c"]
