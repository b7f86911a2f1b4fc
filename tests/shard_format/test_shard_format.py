"""Facts and worked examples of the format reference, sections 4 and 13."""

import itertools

import mmh3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprecomputed import CorruptDataError, InvalidInfoError, LayoutError, ShardingSpec
from xprecomputed.codecs import decompress
from xprecomputed.shard_format import (
    MinishardIndex,
    MortonCode,
    ShardLayout,
    encode_shards,
    locate,
    minishard_range,
    murmurhash3_x86_128,
    shard_box_shape,
    shard_name,
)

KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40, unique=True)


def spec(preshift=0, minishard=0, shard=0, hash="identity", **encodings):  # noqa: A002
    return ShardingSpec(
        preshift_bits=preshift, hash=hash, minishard_bits=minishard, shard_bits=shard, **encodings
    )


def u64(*values):
    return np.array(values, "<u8").tobytes()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (0, 0x4772B084E028AE41),
        (1, 0xE8BD67D616D4CE9A),
        (42, 0xC20B94F95119F47A),
        (2**64 - 1, 0x574F66BD212B5D1A),
    ],
)
def test_murmurhash_vectors(key, value):
    assert int(murmurhash3_x86_128(np.array([key], np.uint64))[0]) == value


@given(KEYS)
def test_murmurhash_equals_mmh3(keys):
    expected = [
        int.from_bytes(mmh3.hash_bytes(key.to_bytes(8, "little"), 0, x64arch=False)[:8], "little")
        for key in keys
    ]
    assert murmurhash3_x86_128(np.array(keys, np.uint64)).tolist() == expected


def morton(grid, cell):
    """The definition of the format reference 4.5, word by word."""
    j = code = 0
    for i in range(64):
        for dim in range(len(grid)):
            if 2**i < grid[dim]:
                code |= (cell[dim] >> i & 1) << j
                j += 1
    return code


@given(st.tuples(*[st.integers(1, 40)] * 3), st.data())
def test_morton_codes_follow_the_definition(grid, data):
    cells = data.draw(
        st.lists(st.tuples(*[st.integers(0, n - 1) for n in grid]), min_size=1, max_size=20)
    )
    expected = [morton(grid, cell) for cell in cells]
    assert MortonCode(grid).encode(cells).tolist() == expected
    assert MortonCode(grid).encode(cells * 20).tolist() == expected * 20  # many, as arrays


def test_morton_vectors():
    assert MortonCode((5, 3, 9)).encode([[4, 2, 8]]).tolist() == [336]
    assert MortonCode((4, 8, 12)).bits == 2 + 3 + 4  # of size (79,80,144)/(20,20,12): 2,2,4
    assert MortonCode((4, 4, 12)).bits == 8
    assert MortonCode((16, 4, 2)).encode([[0b1001, 0b10, 0b1]]).tolist() == [0b1010101]
    assert MortonCode((1, 1, 1)).encode([[0, 0, 0]]).tolist() == [0]


def test_morton_codes_of_more_than_64_bits_are_refused():
    assert MortonCode((2**22, 2**21, 2**21)).bits == 64
    big = MortonCode((2**22, 2**21, 2**21)).encode([[2**22 - 1, 2**21 - 1, 2**21 - 1]])
    assert big.tolist() == [2**64 - 1]
    many = MortonCode((2**22, 2**21, 2**21)).encode([[2**22 - 1, 2**21 - 1, 2**21 - 1]] * 20)
    assert many.tolist() == [2**64 - 1] * 20
    with pytest.raises(InvalidInfoError, match="needs a Morton code of 65 bits; at most 64"):
        MortonCode((2**22, 2**22, 2**21))


def test_places():
    places = locate(
        spec(preshift=0, minishard=4, shard=4, hash="murmurhash3_x86_128"),
        np.array([0, 1, 42], "u8"),
    )
    assert list(zip(places.shards.tolist(), places.minishards.tolist(), strict=True)) == [
        (4, 1),
        (9, 10),
        (7, 10),
    ]
    places = locate(spec(preshift=64, minishard=3, shard=3), np.array([2**64 - 1], "u8"))
    assert (places.shards.tolist(), places.minishards.tolist()) == ([0], [0])
    places = locate(spec(preshift=0, minishard=0, shard=64), np.array([2**64 - 1], "u8"))
    assert (places.shards.tolist(), places.minishards.tolist()) == ([2**64 - 1], [0])


@pytest.mark.parametrize(
    ("bits", "name"),
    [
        (0, "0.shard"),
        (1, "0.shard"),
        (4, "0.shard"),
        (5, "00.shard"),
        (9, "000.shard"),
        (64, "0" * 16 + ".shard"),
    ],
)
def test_shard_names(bits, name):
    assert shard_name(spec(shard=bits), 0) == name


# the shard that TensorStore writes for a 5x4x1 volume (format reference 4.3)
EXAMPLE = b"".join(
    [
        u64(0x08, 0x38), u64(0x40, 0x70),
        bytes([0, 1, 5, 6]), bytes([2, 3, 7, 8]), u64(0, 1), u64(0, 0), u64(4, 4),
        bytes([0x0A, 0x0B, 0x0F, 0x10]), bytes([0x0C, 0x0D, 0x11, 0x12]),
        u64(2, 1), u64(56, 0), u64(4, 4),
    ]
)  # fmt: skip


def test_the_worked_example_byte_for_byte():
    values = {0: bytes([0, 1, 5, 6]), 1: bytes([2, 3, 7, 8]), 2: bytes([10, 11, 15, 16]),
              3: bytes([12, 13, 17, 18]), 4: bytes([4, 9]), 6: bytes([14, 19])}  # fmt: skip
    shards = encode_shards(values, spec(preshift=1, minishard=1, shard=1))
    assert list(shards) == ["0.shard", "1.shard"]
    assert shards["0.shard"] == EXAMPLE
    assert len(shards["1.shard"]) == 84


def test_the_worked_example_is_read():
    one = spec(preshift=1, minishard=1, shard=1)
    assert minishard_range(one, EXAMPLE[16:32]) == (96, 144)
    index = MinishardIndex.parse(EXAMPLE[96:144], one)
    assert index.keys.tolist() == [2, 3]
    assert index.starts.tolist() == [88, 92]
    assert index.stops.tolist() == [92, 96]
    assert index.find(np.array([3, 4, 2], "u8")).tolist() == [1, -1, 0]


def test_empty_minishards():
    one = spec(minishard=1)
    assert minishard_range(one, u64(0, 0)) is None
    assert minishard_range(one, u64(77, 77)) is None
    assert MinishardIndex.parse(b"", one).find(np.array([1], "u8")).tolist() == [-1]


def test_unsorted_keys_are_read_with_their_deltas_modulo_2_to_the_64():
    index = MinishardIndex.parse(
        u64(5, 2**64 - 3, 2**63) + u64(10, 0, 2**64 - 6) + u64(2, 3, 1), spec()
    )
    assert index.keys.tolist() == [2, 5, 2**63 + 2]
    # 5 at [26, 28), 2 at [28, 31), the last at 31 - 6 = 25
    assert index.starts.tolist() == [28, 26, 25]
    assert index.stops.tolist() == [31, 28, 26]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (bytes(25), "minishard index of 25 bytes, expected a multiple of 24"),
        (u64(1, 0) + u64(0, 0) + u64(1, 1), "with key 1 more than once"),
        (u64(1) + u64(2**63) + u64(4), "with a value beyond any file"),
        (u64(1) + u64(0) + u64(2**64 - 1), "with a value beyond any file"),
        (u64(1) + u64(2**64 - 20) + u64(10), "with a value beyond any file"),
    ],
)
def test_indexes_are_claims(data, match):
    with pytest.raises(CorruptDataError, match=match):
        MinishardIndex.parse(data, spec())


@pytest.mark.parametrize("entry", [u64(5, 4), u64(0, 2**63), u64(2**64 - 1, 2**64 - 1)])
def test_minishard_ranges_are_claims(entry):
    with pytest.raises(CorruptDataError, match="not a range"):
        minishard_range(spec(), entry)


def read_all(shards, one):
    """A reader that follows section 4.3 and knows nothing of the package's own."""
    found = {}
    for data in shards.values():
        count = 16 << one.minishard_bits
        for at in range(0, count, 16):
            start, stop = np.frombuffer(data[at : at + 16], "<u8").tolist()
            packed = data[count + start : count + stop]
            if not packed:
                continue
            if one.minishard_index_encoding == "gzip":
                packed = decompress(packed, "gzip", 10**6)
            ids, offsets, sizes = np.frombuffer(packed, "<u8").reshape(3, -1).tolist()
            key, position = 0, count
            for delta, gap, size in zip(ids, offsets, sizes, strict=True):
                key, position = (key + delta) % 2**64, position + gap
                value = data[position : position + size]
                if one.data_encoding == "gzip":
                    value = decompress(value, "gzip", 10**6)
                found[key] = value
                position += size
    return found


@given(
    KEYS,
    st.integers(0, 10),
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from(["identity", "murmurhash3_x86_128"]),
    st.sampled_from(list(itertools.product(["raw", "gzip"], repeat=2))),
)
def test_any_keys_are_found_again(keys, preshift, minishard, shard, hashed, encodings):
    one = spec(preshift, minishard, shard, hashed,
               minishard_index_encoding=encodings[0], data_encoding=encodings[1])  # fmt: skip
    values = {key: str(key).encode() * (key % 5) for key in keys}
    shards = encode_shards(values, one)
    assert read_all(shards, one) == values
    assert shards == encode_shards(dict(reversed(values.items())), one)


def test_the_boxes_of_shards():
    # format reference 4.6 and 4.7
    assert shard_box_shape(spec(1, 2, 3), (2, 4, 8)) == (2, 2, 2)
    assert shard_box_shape(spec(11, 2, 11), (157, 157, 157)) == (32, 16, 16)
    assert shard_box_shape(spec(60, 0, 0), (3, 3, 3)) == (4, 4, 4)
    assert shard_box_shape(spec(1, 2, 3, "murmurhash3_x86_128"), (2, 4, 8)) is None


def test_bytes_before_values_are_gaps_of_the_index():
    """Two minishards; `before` is in the file and in no entry."""
    one = spec(minishard=1)
    stored = {2: b"aaaaVAL2", 4: b"V4", 1: b"bV1", 3: b"ccV3"}
    before = {2: 4, 4: 0, 1: 1, 3: 2}
    keys = np.array(list(stored), "u8")
    sizes = np.array([len(stored[key]) - before[key] for key in stored])
    layout = ShardLayout.plan(keys, sizes, one, np.array([before[key] for key in stored]))
    data = b"".join(layout.parts(lambda at: stored[int(keys[at])]))
    assert data == b"".join(
        [u64(10, 58), u64(65, 113), b"aaaaVAL2V4", u64(2, 2), u64(4, 0), u64(4, 2),
         b"bV1ccV3", u64(1, 2), u64(59, 2), u64(2, 2)]
    )  # fmt: skip
    for minishard in (0, 1):
        start, stop = minishard_range(one, data[16 * minishard : 16 * minishard + 16])
        index = MinishardIndex.parse(data[start:stop], one)
        for key, begin, end in zip(index.keys, index.starts, index.stops, strict=True):
            assert data[begin:end] == stored[int(key)][before[int(key)] :]
            assert data[begin - before[int(key)] : end] == stored[int(key)]


def test_indexes_at_the_end_are_the_bytes_of_cloudvolume():
    from cloudvolume.datasource.precomputed.sharding import ShardingSpecification

    spec = ShardingSpec(preshift_bits=0, hash="murmurhash3_x86_128", minishard_bits=2, shard_bits=0)
    keys = np.arange(1, 40, dtype=np.uint64)
    values = [b"%d" % key * int(key % 5) for key in keys.tolist()]
    sizes = np.array([len(each) for each in values])
    layout = ShardLayout.plan(keys, sizes, spec, indexes_last=True)
    order = np.lexsort((keys, locate(spec, keys).minishards))
    theirs = ShardingSpecification.from_dict(spec.to_json()).synthesize_shard(
        {int(keys[i]): values[i] for i in order}  # it keeps the order of its minishards
    )
    assert b"".join(layout.parts(values.__getitem__)) == theirs
    assert theirs.endswith(layout.minishards[-1][1])


def test_an_index_that_does_not_fit_into_memory_is_not_begun():
    spec = ShardingSpec(preshift_bits=0, hash="identity", minishard_bits=32, shard_bits=0)
    with pytest.raises(LayoutError, match="an index of 65536 MiB; up to 24 are written"):
        ShardLayout.plan(np.array([7], np.uint64), np.array([1]), spec)
