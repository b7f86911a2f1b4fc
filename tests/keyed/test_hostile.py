"""Shards that lie: each lie an error that names the file, and none a large allocation."""

import gzip
import re
import struct
import tracemalloc

import pytest

from tests.keyed.places import count_before, read_all, spec, u64, values_at, with_before
from xprecomputed import CorruptDataError, set_options
from xprecomputed.keyed import Value
from xprecomputed.keyed import values as values_module

RAW = spec("identity", 1, 1, "raw", "raw")  # keys 0 and 1 in 0.shard, 2 and 3 in 1.shard


def shard(*minishards, values=b"", tail=b""):
    """A file of two minishards: values, then their indexes, whatever they say."""
    index, at = b"", len(values)
    for each in minishards:
        index += u64(at, at + len(each))
        at += len(each)
    return index + values + b"".join(minishards) + tail


def entry(*rows):
    """Of (delta of key, gap, size)."""
    return b"".join(u64(*column) for column in zip(*rows, strict=True))


GOOD = shard(entry((0, 0, 3)), b"", values=b"abc")

CASES = {
    "empty": (b"", r"ends inside its shard index, which is 32 bytes long \(0 of"),
    "cut index": (GOOD[:20], r"ends inside its shard index"),
    "reversed": (u64(9, 8, 0, 0), r"minishard index at \[9, 8\): not a range"),
    "absurd": (u64(0, 2**63, 0, 0), r"not a range"),
    "beyond the file": (u64(0, 48, 0, 0), r"reach beyond the end of the file"),
    "too long": (u64(0, 2**40, 0, 0), r"minishard 0: 1099511627776 bytes, at most \d+ can be"),
    "no multiple of 24": (shard(b"x" * 25, b""), r"minishard 0: .*25 bytes, expected a multiple"),
    "twice": (shard(entry((0, 0, 3), (0, 0, 0)), b"", values=b"abc"), r"key 0 more than once"),
    "another minishard": (shard(b"", entry((4, 0, 0))), r"minishard 1: key 4 belongs to 0.shard, "
                          r"minishard 0, where every reader"),
    "another shard": (shard(entry((2, 0, 0)), b""), r"minishard 0: key 2 belongs to 1.shard"),
    "in itself": (shard(entry((0, 0, 9)), b"", values=b"abc"), r"places values where it lies"),
    "overlapping": (u64(0, 24, 0, 24) + entry((0, 0, 0)), r"indexes of minishards 0 and 1 overlap"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_an_index_says_is_checked(tmp_path, case):
    data, match = CASES[case]
    (tmp_path / "0.shard").write_bytes(data)
    values = values_at(str(tmp_path), RAW)
    with pytest.raises(CorruptDataError, match=rf"0\.shard: .*{match}"):
        values.ids()
    with pytest.raises(CorruptDataError, match=match):
        values.put({1: Value(b"new")})
    assert (tmp_path / "0.shard").read_bytes() == data


def test_the_good_one_is_good(tmp_path):
    (tmp_path / "0.shard").write_bytes(GOOD)
    assert read_all(values_at(str(tmp_path), RAW)) == {0: b"abc"}


@pytest.mark.parametrize(
    ("name", "bits"),
    [("00.shard", 1), ("2.shard", 1), ("a.shard", 3), ("A.shard", 4), ("x.shard", 4),
     ("0.shard", 5), (".shard.shard", 4), ("-1.shard", 4), ("+1.shard", 5), ("0_1.shard", 9)],
)  # fmt: skip
def test_names_that_no_shard_has(tmp_path, name, bits):
    (tmp_path / name).write_bytes(GOOD)
    values = values_at(str(tmp_path), spec(shard=bits))
    if name.startswith("."):  # of unfinished writes
        assert not len(values.ids())
        return
    match = f"/{re.escape(name)}: not the name of a shard, which are 0+.shard to"
    with pytest.raises(CorruptDataError, match=match):
        values.ids()


def test_a_small_index_cannot_become_large(tmp_path, monkeypatch):
    monkeypatch.setattr(values_module, "MAX_ENTRIES", 1000)
    bomb = gzip.compress(bytes(24 * 1_000_000))
    (tmp_path / "0.shard").write_bytes(u64(0, len(bomb)) + bomb)
    values = values_at(str(tmp_path), spec("identity", 0, 0))
    tracemalloc.start()
    with pytest.raises(CorruptDataError, match="minishard 0: gzip data that holds more than the"):
        values.ids()
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_an_index_of_millions_of_minishards_is_read_in_parts(tmp_path):
    (tmp_path / "0.shard").write_bytes(bytes(1 << 20))
    values = values_at(str(tmp_path), spec("identity", 32, 0, "raw", "raw"))
    with set_options(index_cache_bytes=0):
        tracemalloc.start()
        with pytest.raises(CorruptDataError, match="ends inside its shard index, .* 68719476736"):
            values.ids()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()


def test_a_large_shard_index_is_read_in_spans(tmp_path):
    values = values_at(str(tmp_path), spec("identity", 18, 0, "raw", "raw"))
    keys = [0, 1, 65535, 65536, 2**18 - 1, 2**18 + 5]
    values.put({key: Value(b"%d" % key) for key in keys})
    assert values.ids().tolist() == keys
    assert read_all(values) == {key: b"%d" % key for key in keys}


# ---- values that are kept


def one_value(size, start=0, values=b""):
    return shard(entry((0, start, size)), b"", values=values)


def test_a_kept_value_beyond_the_file(tmp_path):
    (tmp_path / "0.shard").write_bytes(shard(entry((0, 100, 50)), b"", values=b"abc"))
    values = values_at(str(tmp_path), RAW)
    with pytest.raises(CorruptDataError, match="values: bytes 132 to 182 reach beyond the end"):
        values.put({1: Value(b"new")})


def test_a_kept_value_that_is_too_long(tmp_path):
    (tmp_path / "0.shard").write_bytes(shard(entry((0, 100, 2**50)), b"", values=b"abc"))
    values = values_at(str(tmp_path), RAW, max_value_bytes=1000)
    with pytest.raises(
        CorruptDataError, match=r"key 0: a value of 1125899906842624 bytes, at most"
    ):
        values.put({1: Value(b"new")})


def test_kept_values_that_share_bytes(tmp_path):
    sharing = entry((0, 0, 30), (4, 2**64 - 30, 30))
    (tmp_path / "0.shard").write_bytes(shard(sharing, b"", values=b"x" * 30))
    values = values_at(str(tmp_path), RAW)
    assert len(read_all(values)) == 2
    with pytest.raises(CorruptDataError, match="key 4: its bytes from 32 on belong to another"):
        values.put({1: Value(b"new")})


@pytest.mark.parametrize("count", [-1, 1, 2**62])
def test_what_lies_before_a_value_lies_in_the_file(tmp_path, count):
    (tmp_path / "0.shard").write_bytes(one_value(8, values=struct.pack("<q", count)))
    values = values_at(str(tmp_path), RAW, bytes_before=count_before)
    with pytest.raises(CorruptDataError, match=rf"key 0: {count} bytes before .*, 0 are there"):
        values.put({1: with_before(b"new")})


def test_what_lies_before_a_value_is_not_another_value(tmp_path):
    both = b"abcdefgh" + struct.pack("<q", 8)
    index = entry((0, 0, 8), (4, 0, 8))
    (tmp_path / "0.shard").write_bytes(shard(index, b"", values=struct.pack("<q", 0) + both[8:]))
    values = values_at(str(tmp_path), RAW, bytes_before=count_before)
    with pytest.raises(CorruptDataError, match="key 4: its bytes from 32 on belong to another"):
        values.put({1: with_before(b"new")})


def test_a_value_that_does_not_tell_what_lies_before(tmp_path):
    (tmp_path / "0.shard").write_bytes(GOOD)
    values = values_at(str(tmp_path), RAW, bytes_before=count_before)
    with pytest.raises(CorruptDataError, match=r"0.shard, minishard 0, key 0: 3 bytes, expected 8"):
        values.put({1: with_before(b"new")})
