"""Memory for results; how long it takes is for benchmarks."""

import sys

import numpy as np
import pytest

from xprecomputed.volume.results import MOST_BYTES, PAGE_BYTES, empty_result

SHAPES = [(), (0, 3), (1, 5, 3, 2), (1, 64, 64, 64), (2, 100, 90, 64), (1, 128, 128, 300)]


@pytest.mark.parametrize("dtype", ["u1", "<f4", "u8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_result_is_a_plain_array_of_its_own(shape, dtype):
    first, second = (empty_result(shape, np.dtype(dtype)) for _ in range(2))
    assert (first.shape, first.dtype) == (shape, np.dtype(dtype))
    assert first.flags.c_contiguous
    assert first.flags.writeable
    first[...], second[...] = 1, 2
    assert (first == 1).all()
    assert (second == 2).all()
    assert not np.shares_memory(first, second)


@pytest.mark.skipif(sys.platform != "linux", reason="large pages are asked for on Linux")
@pytest.mark.parametrize(
    ("nbytes", "is_worth_it"),
    [
        (PAGE_BYTES, True),
        (PAGE_BYTES * 7 // 8, True),
        (PAGE_BYTES // 2, False),  # the rest of the page would be as much again
        (PAGE_BYTES * 5 // 4, False),
        (PAGE_BYTES * 9 // 2, True),
        (MOST_BYTES, True),
        (MOST_BYTES + PAGE_BYTES, False),
    ],
)
def test_results_begin_with_a_large_page_where_it_is_filled(nbytes, is_worth_it):
    results = [empty_result((nbytes,), np.dtype("u1")) for _ in range(3)]
    at_pages = [each.ctypes.data % PAGE_BYTES == 0 for each in results]
    assert all(at_pages) == is_worth_it
