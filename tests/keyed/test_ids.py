"""Ids as people give them."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xprecomputed.errors import SegmentMissingError
from xprecomputed.keyed import as_ids, check_missing, parse_id, raise_missing


@pytest.mark.parametrize(
    ("given", "ids", "single"),
    [
        (7, [7], True),
        (np.uint8(7), [7], True),
        (np.array(7), [7], True),
        (xr.DataArray(np.int32(7)), [7], True),
        ([], [], False),
        ([3, 2**64 - 1, 3], [3, 2**64 - 1], False),
        (range(3), [0, 1, 2], False),
        ({5: "five", 4: "four"}, [5, 4], False),
        (iter([9, 1]), [9, 1], False),
        (np.array([[1, 2], [2, 3]], np.int16), [1, 2, 3], False),
        (pd.Series([4, 2]), [4, 2], False),
        (pd.Index([2**63]), [2**63], False),
        (xr.DataArray([1, 5]), [1, 5], False),
    ],
)
def test_ids(given, ids, single):
    found, one = as_ids(given)
    assert (found.tolist(), one, found.dtype) == (ids, single, np.uint64)


@pytest.mark.parametrize("given", [1.0, [1.0], np.array([1.0]), "7", ["7"], True, [None]])
def test_other_things_are_no_ids(given):
    with pytest.raises(TypeError, match=r"segment id .* of type .*: expected an integer"):
        as_ids(given)


@pytest.mark.parametrize("given", [-1, [2**64], np.array([-1])])
def test_ids_that_no_uint64_has(given):
    with pytest.raises(ValueError, match=r"segment id .*: expected 0 to 2\*\*64 - 1"):
        as_ids(given)


@pytest.mark.parametrize("text", ["", "-1", "+1", "01", "1.0", "1e3", " 1", "1_0", "²", "1\n"])
def test_what_is_not_printed_as_an_id(text):
    assert parse_id(text) is None


def test_ids_are_parsed_up_to_the_last():
    assert (parse_id("0"), parse_id(str(2**64 - 1)), parse_id(str(2**64))) == (0, 2**64 - 1, None)


def test_missing_is_one_of_two_words():
    check_missing("skip")
    with pytest.raises(ValueError, match=r"missing='ignore': expected one of \('raise', 'skip'\)"):
        check_missing("ignore")


def test_segments_that_are_missing():
    raise_missing("mesh", "gs://b/m", [])
    with pytest.raises(SegmentMissingError, match="there is no mesh of segment 7; missing='skip'"):
        raise_missing("mesh", "gs://b/m", [7])
    with pytest.raises(KeyError, match="20 segments: 0, 1, .*9, …; missing=") as caught:
        raise_missing("mesh", "gs://b/m", range(20))
    assert caught.value.segment_ids == tuple(range(20))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.segment_ids) == (str(caught.value), caught.value.segment_ids)


@pytest.mark.parametrize("ids", [b"7", bytearray(b"7"), np.ma.array([7, 8], mask=[True, False])])
def test_what_only_looks_like_integers(ids):
    with pytest.raises(TypeError, match="segment ids of type .*: expected integers"):
        as_ids(ids)
