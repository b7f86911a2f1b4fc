"""crackle streams made by hand, and damaged ones.

Those of version 0 have no checksums, so that what the kernels make of damage can be seen.
"""

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codecs.test_crackle import DTYPES, assert_decodes, crackled, old, patched, volumes
from tests.codecs.test_floats import spec
from tests.images import labels, noise
from xprecomputed import CorruptDataError, jit
from xprecomputed.codecs import ChunkSpec, _isolated
from xprecomputed.codecs.crackle import Crackle


def stream(codes, *, sx=2, values=(7, 9), counts=(2,), keys=(0, 1), bits=0, model=b"", claim=None):
    """A stream of version 0 of one slice of two rows of uint8 labels."""
    section = (claim or len(values)).to_bytes(8, "little") + bytes([*values, *counts, *keys])
    head = struct.pack("<4sBHIIIBI", b"crkl", 0, 1 << 7 | bits, sx, 2, 1, 31, len(section))
    return head + struct.pack("<I", len(codes)) + section + model + codes


def packed(*moves, chains=((1, 0),)):
    """Plain codes of moves (0 up, 1 right, 2 down, 3 left) from corners (x, y), one a row."""
    index = bytes([len(chains)])
    word = last = last_y = 0
    for x, y in chains:
        index += bytes([y - last_y, 1, x])
        last_y = y
    for i, move in enumerate(moves):
        word |= (move - last & 3) << 2 * i
        last = move
    length = -(-len(moves) // 4)
    return len(index).to_bytes(4, "little") + index + word.to_bytes(length, "little")


BRANCH, OTHER_BRANCH = (0, 2), (3, 1)  # up and down, left and right: a branch begins
END, OTHER_END = (2, 0), (1, 3)  # down and up, right and left: it ends


def decoded(codes, sx=2, **parts):
    chunk = ChunkSpec((1, 1, 2, sx), np.dtype("u1"))
    return Crackle().decode(stream(codes, sx=sx, **parts), chunk).ravel().tolist()


def test_streams_made_by_hand(either_path):
    """A crack down the middle; one to the right from there; two chains; none; all but one."""
    assert decoded(packed(2, 2, *END)) == [7, 9, 7, 9]
    assert decoded(packed(2, 2, *OTHER_END)) == [7, 9, 7, 9]
    three = {"values": (5, 6, 7), "counts": (3,), "keys": (2, 0, 1)}
    assert decoded(packed(2, *OTHER_BRANCH, 1, *END, 2, *END), **three) == [7, 5, 7, 6]
    chains = packed(2, *END, 3, 3, *END, chains=((1, 0), (2, 1)))
    assert decoded(chains, **three) == [7, 5, 6, 6]
    assert decoded(b"\1\0\0\0\0", values=(4,), counts=(1,), keys=(0,)) == [4] * 4
    joined = {"bits": 1 << 4, "values": (4, 8), "counts": (3,), "keys": (1, 0, 1)}
    assert decoded(packed(2, *END), **joined) == [8, 8, 4, 8]


def test_cracks_at_the_border_part_nothing():
    around = packed(1, 2, 2, 3, 3, 0, 0, 1, 2, 2, *END)
    assert decoded(around) == [7, 9, 7, 9]
    assert decoded(around, bits=1 << 4) == [7, 7, 9, 9]


@pytest.mark.parametrize("length", [1, 62, 63, 64, 65, 98])
@pytest.mark.parametrize("first", [0, 1])
def test_cracks_that_end_somewhere_part_nothing(either_path, first, length):
    one = {"values": (4,), "counts": (1,), "keys": (0,)}
    data = packed(*[1] * length, *END, chains=((first, 1),))
    assert decoded(data, sx=100, **one) == [4] * 200


@pytest.mark.parametrize(
    ("codes", "match"),
    [
        (b"", "list of chains contradicts its length"),
        (b"\1\0\0\0", "list of chains contradicts its length"),
        (b"\0\0\0\0", "list of chains contradicts its length"),
        (b"\0\0\0\0\0", "list of chains contradicts its length"),
        (b"\2\0\0\0\0\0", "list of chains contradicts its length"),
        (b"\xff\xff\xff\xff\1\0\1\1", "list of chains contradicts its length"),
        (b"\2\0\0\0\1\0", "list of chains contradicts its length"),
        (b"\4\0\0\0\1\0\2\1\0\0", "list of chains contradicts its length"),
        (b"\4\0\0\0\1\0\xff\1\0\0", "list of chains contradicts its length"),
        (b"\5" + packed(2, 2, *END)[1:-1] + b"\0\x0a\1", "contradicts its length"),
        (b"\4\0\0\0\1\0\1\1", "ends within a chain"),
        (packed(2, 2, 1, 1), "ends within a chain"),
        (packed(2, 2, *END) + b"\0", "does not end with its last chain"),
        (b"\1\0\0\0\0" + b"\0", "does not end with its last chain"),
        (packed(*END, chains=((3, 0),)), "draws outside the slice"),
        (packed(*END, chains=((0, 3),)), "draws outside the slice"),
        (packed(0, 0, *OTHER_END), "draws outside the slice"),
        (packed(1, 1, *END), "draws outside the slice"),
        (packed(3, 3, *END), "draws outside the slice"),
        (packed(2, 2, 2, *OTHER_END), "draws outside the slice"),
        (packed(*BRANCH * 19, *END * 20), "more branches than corners"),
        (packed(*END), "its labels and its slices contradict each other"),
    ],
)
def test_codes_that_cannot_be(monkeypatch, codes, match):
    with pytest.raises(CorruptDataError, match=match):
        decoded(codes)
    monkeypatch.setattr(jit, "_compile", lambda kernel: kernel)  # Python checks all indexes
    with pytest.raises(CorruptDataError, match=match), np.errstate(over="ignore"):
        decoded(codes)


def test_as_many_branches_as_a_slice_may_have():
    assert decoded(packed(*BRANCH * 18, *END * 18, 2, 2, *END)) == [7, 9, 7, 9]


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"claim": 60}, "whose 60 labels need 69 bytes"),
        ({"claim": 2**64 - 1}, f"whose {2**64 - 1} labels need {2**64 + 8} bytes"),
        ({"values": (0,) * 256, "keys": (0,)}, "a multiple of 2, of 266"),
        ({"keys": (0, 2)}, "numbers of labels and of components contradict"),
        ({"keys": (0, 1, 1)}, "numbers of labels and of components contradict"),
        ({"counts": (3,)}, "numbers of labels and of components contradict"),
        ({"counts": (3,), "keys": (0, 0, 1)}, "labels and its slices contradict each other"),
    ],
)
def test_labels_that_cannot_be(parts, match):
    with pytest.raises(CorruptDataError, match=match):
        decoded(packed(2, 2, *END), **parts)


def test_a_model_that_cannot_be():
    with pytest.raises(CorruptDataError, match="a row of its model that is none of the 24"):
        decoded(packed(2, 2, *END), bits=1 << 9, model=b"\xff" * 3)


@pytest.mark.parametrize("index", range(9))
def test_models_end_where_the_codes_end(index):
    """Codes of one to three bits: the last one may end with the last byte, and not behind it."""
    array = labels((1, 1, 9 + index, 13), "u1", seed=index, cell=3)
    _, data = crackled(array, markov_model_order=2)
    data = old(data)
    assert_decodes(data, array)
    length = int.from_bytes(data[24:28], "little")
    with pytest.raises(CorruptDataError, match="ends? with"):
        Crackle().decode(patched(data, 24, (length - 1).to_bytes(4, "little"))[:-1], spec(array))


def damaged(data):
    """Cut at each length, and each byte as others."""
    yield from (data[:length] for length in range(len(data)))
    for at in range(len(data)):
        for change in (1, 2, 16, 128, 255):
            yield patched(data, at, bytes([data[at] ^ change]))


@pytest.mark.parametrize("order", [0, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_damage_is_an_error_or_does_not_matter(monkeypatch, dtype, order):
    monkeypatch.setattr(_isolated, "run", None)
    array = labels((1, 3, 9, 17), dtype, cell=4)
    _, data = crackled(array, markov_model_order=order)
    errors = 0
    for other in damaged(data):
        try:
            decoded = Crackle().decode(other, spec(array))
        except CorruptDataError:
            errors += 1
        except TypeError:  # to the helper process: pins, or slices in parts
            assert other[5:7] != data[5:7]
        else:
            np.testing.assert_array_equal(decoded, array)
    assert errors > 0.9 * 6 * len(data)


@pytest.mark.parametrize("order", [0, 3])
@pytest.mark.parametrize(
    "array", [labels((1, 2, 9, 17), "u1", cell=4), noise((1, 2, 4, 7), "u1") % 3]
)
def test_the_kernels_stay_inside_their_arrays(monkeypatch, order, array):
    """Python checks what numba does not, and nothing else guards version 0."""
    monkeypatch.setattr(jit, "_compile", lambda kernel: kernel)
    monkeypatch.setattr(_isolated, "decode", lambda *args: array)
    data = old(crackled(array, markov_model_order=order)[1])
    begin = len(data) - int(np.frombuffer(data, "<u4", 2, 24).sum())
    for at in range(24, len(data)):
        for change in (1, 2, 16, 128, 255) if at >= begin else (255,):
            other = patched(data, at, bytes([data[at] ^ change]))
            with contextlib.suppress(CorruptDataError), np.errstate(over="ignore"):
                assert Crackle().decode(other, spec(array)).shape == array.shape


@given(volumes(), st.integers(0, 4), st.randoms(use_true_random=False))
def test_any_codes_stay_in_their_bounds(array, order, random):
    data = bytearray(old(crackled(array, markov_model_order=order)[1]))
    slices = array.shape[1]
    begin = len(data) - int(np.frombuffer(data, "<u4", slices, 24).sum())
    for _ in range(random.randint(1, 20)):
        data[random.randrange(begin, len(data))] = random.choice([0, 1, 255, random.randrange(256)])
    with contextlib.suppress(CorruptDataError):
        assert Crackle().decode(bytes(data), spec(array)).shape == array.shape
