"""Downsampling against TensorStore, and against cells counted one by one in Python."""

import itertools
import math
from collections import Counter
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import assume, given
from hypothesis import strategies as st

import xprecomputed as xp
from xprecomputed import Box, jit
from xprecomputed.jit import compiled
from xprecomputed.metadata.volume import DATA_TYPES
from xprecomputed.volume import _downsample_kernels as kernels
from xprecomputed.volume import downsampling
from xprecomputed.volume.downsampling import (
    METHODS,
    auto_factor,
    auto_factors,
    coarse_box,
    default_method,
    downsample,
)

ORIGIN = (0, 0, 0)


def box_of(array, start):
    return Box.from_offset(start, array.shape[:0:-1])


def one_voxel(voxels, method):
    """The value of one cell from its voxels in the order z, y, x."""
    values = voxels.ravel().tolist()
    is_float = voxels.dtype.kind == "f"
    nan = is_float and np.isnan(voxels).any()
    if method == "stride":
        return values[0]
    if method == "mode":
        values = [math.inf if v != v else v for v in values]  # tests draw NaN or inf, not both
        counts = Counter(values)
        found = min(v for v in counts if counts[v] == max(counts.values()))
        return math.nan if nan and found == math.inf else found
    if nan:
        return math.nan
    if method in ("min", "max"):
        return {"min": min, "max": max}[method](values)
    if is_float:
        with np.errstate(invalid="ignore"):
            return np.sum(voxels, dtype=np.float64) / len(values)
    return round(Fraction(sum(values), len(values)))  # half to even


def slowly(array, factor, method, start):
    box = box_of(array, start)
    coarse = coarse_box(box, factor)
    out = np.empty((len(array), *coarse.shape[::-1]), array.dtype)
    for cell in itertools.product(*(range(n) for n in coarse.shape)):
        first = [(g + c) * f for g, c, f in zip(coarse.start, cell, factor, strict=True)]
        here = Box.from_offset(tuple(first), factor).intersection(box)
        x, y, z = (
            slice(a - o, b - o) for a, b, o in zip(here.start, here.stop, start, strict=True)
        )
        for channel, voxels in enumerate(array[:, z, y, x]):
            out[(channel, *cell[::-1])] = one_voxel(voxels, method)
    return out


def on_both_paths(array, factor, method, start=ORIGIN):
    """The result, the same to the bit with the kernels and with NumPy."""
    result = downsample(array, factor, method, start)
    with mock.patch.object(jit, "_compile", return_value=None):
        other = downsample(array, factor, method, start)
    for each in (result, other):
        assert each.dtype == array.dtype
        assert each.flags.c_contiguous
    np.testing.assert_array_equal(result, other)
    if array.dtype.kind == "f":
        np.testing.assert_array_equal(
            np.signbit(result[result == 0]), np.signbit(other[other == 0])
        )
    return result


def backwards(array):
    return np.ascontiguousarray(array[..., ::-1, ::-1])[..., ::-1, ::-1]


def with_gaps(array):
    wide = np.zeros([2 * n for n in array.shape], array.dtype)
    wide[::2, 1::2, ::2, 1::2] = array
    return wide[::2, 1::2, ::2, 1::2]


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    return np.frombuffer(b"?" + array.tobytes(), array.dtype, offset=1).reshape(array.shape)


LAYOUTS = {
    "plain": lambda a: a,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "channels last": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0),
    "backwards": backwards,
    "gaps": with_gaps,
    "read-only": frozen,
    "unaligned": unaligned,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
}
TRIPLES = st.tuples(*[st.integers(1, 7)] * 3)
FACTORS = st.tuples(*[st.integers(1, 4)] * 3) | st.sampled_from([(2, 2, 1), (2, 2, 2)])
STARTS = st.tuples(*[st.integers(-9, 9)] * 3)
DTYPES = st.sampled_from([np.dtype(each) for each in DATA_TYPES])


def few(rng, shape, dtype):
    """Few values: many ties."""
    values = rng.integers(0, 4, shape)
    return (values - 2 if dtype.kind in "if" else values).astype(dtype)


def all_kinds(rng, shape, dtype):
    """Anything, the extremes among it."""
    if dtype.kind == "f":
        values = rng.normal(size=shape).astype(dtype)
        odd = rng.choice(np.array([np.nan, -0.0, 0.0, -np.inf, 1], dtype), shape)
        return np.where(rng.random(shape) < 0.2, odd, values)
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    ends = rng.choice(np.array([info.min, info.max], dtype), shape)
    return np.where(rng.random(shape) < 0.3, ends, values)


ARRAYS = st.builds(
    lambda size, channels, dtype, fill, seed: fill(
        np.random.default_rng(seed), (channels, *size), dtype
    ),
    TRIPLES,
    st.integers(1, 2),
    DTYPES,
    st.sampled_from([few, all_kinds]),
    st.integers(0, 2**32),
)


# ---- what a voxel gets


@pytest.mark.parametrize("method", METHODS)
@given(ARRAYS, FACTORS, STARTS, st.sampled_from(sorted(LAYOUTS)))
def test_each_voxel_is_what_its_cell_says(method, array, factor, start, layout):
    expected = slowly(array, factor, method, start)
    given_ = LAYOUTS[layout](array)
    np.testing.assert_array_equal(given_, array)
    result = on_both_paths(given_, factor, method, start)
    if method == "mean" and array.dtype.kind == "f":
        tolerance = 4 * np.finfo(array.dtype).eps
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(given_, array)  # is left as it was


def tensorstore(array, factor, method, start):
    """What TensorStore makes of it, and of which coarse voxels (channel, z, y, x)."""
    store = ts.array(array)[ts.d[:].translate_to[[0, *start[::-1]]]]
    coarser = ts.downsample(store, [1, *factor[::-1]], method)
    return coarser.read().result(), coarser.domain


@pytest.mark.parametrize("method", METHODS)
@given(ARRAYS.filter(lambda a: not np.isnan(a.astype(float)).any()), FACTORS, STARTS)
def test_equals_tensorstore(method, array, factor, start):
    box = box_of(array, start)
    # TensorStore 0.1.86 reads beyond an array that lies inside of one cell
    assume(
        not any(
            a // f == b // f and a % f for a, b, f in zip(box.start, box.stop, factor, strict=True)
        )
    )
    if array.dtype.kind == "f" and method == "mean":
        # it adds float32 up as such: sums that are exact
        array = np.where(np.isfinite(array), np.trunc(array), 9).astype(array.dtype)
    expected, domain = tensorstore(array, factor, method, start)
    result = downsample(array, factor, method, start)
    box = coarse_box(box, factor)
    if method == "stride":
        # it leaves out cells whose own first voxel is not there
        first = [a - b for a, b in zip(domain.inclusive_min[:0:-1], box.start, strict=True)]
        assert set(first) <= {0, 1}
        x, y, z = (slice(a, None) for a in first)
        result = result[:, z, y, x]
    else:
        assert domain.inclusive_min == (0, *box.start[::-1])
    np.testing.assert_array_equal(result, expected)


def test_mode_of_all_cells_of_eight_with_four_labels():
    cells = np.array(list(itertools.product(range(4), repeat=8)), np.uint64)
    array = cells.reshape(1, 256, 256, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5)
    array = array.reshape(1, 512, 512, 2)
    counts = (cells[:, :, None] == np.arange(4)).sum(1)
    result = on_both_paths(array, (2, 2, 2), "mode")
    np.testing.assert_array_equal(result.ravel(), counts.argmax(1))


def test_mode_of_all_cells_of_four_with_four_labels():
    cells = np.array(list(itertools.product(range(4), repeat=4)), np.uint8)
    array = cells.reshape(1, 1, 256, 2, 2).reshape(1, 1, 512, 2)
    counts = (cells[:, :, None] == np.arange(4)).sum(1)
    result = on_both_paths(array, (2, 2, 1), "mode")
    np.testing.assert_array_equal(result.ravel(), counts.argmax(1))


@pytest.mark.parametrize("factor", [(2, 2, 2), (2, 2, 1), (3, 3, 3), (5, 4, 4)])
@pytest.mark.parametrize("labels", [2, 6, 40])
def test_mode_of_many_labels_some_of_them_next_to_each_other(factor, labels, rng):
    ids = rng.integers(2**63, 2**64 - 1, labels, dtype=np.uint64)
    array = rng.choice(np.concatenate([ids, ids + np.uint64(1)]), (1, 12, 15, 21))
    expected = slowly(array, factor, "mode", (1, 2, 3))
    np.testing.assert_array_equal(on_both_paths(array, factor, "mode", (1, 2, 3)), expected)


@pytest.mark.parametrize("factor", [(16, 16, 8), (40, 40, 2), (64, 64, 40)])
@pytest.mark.parametrize("dtype", ["u8", "i2"])
def test_mode_of_large_cells(factor, dtype, rng):
    array = rng.integers(0, 9, (1, 40, 64, 128)).astype(dtype)
    start = (-3, 0, 0)
    expected = slowly(array, factor, "mode", start)
    np.testing.assert_array_equal(on_both_paths(array, factor, "mode", start), expected)


@pytest.mark.parametrize(("factor", "sorted_with_numba"), [((16, 16, 8), 0), ((64, 64, 32), 1)])
def test_cells_too_large_for_a_table_are_sorted_one_by_one(factor, sorted_with_numba):
    array = np.ones((1, *factor[::-1]), np.uint64)
    by_cell = kernels.numpy_mode_by_cell
    with mock.patch.object(kernels, "numpy_mode_by_cell", side_effect=by_cell) as used:
        downsample(array, factor, "mode", ORIGIN)
        assert used.call_count == sorted_with_numba
        on_both_paths(array, factor, "mode")
        assert used.call_count == 2 * sorted_with_numba + 1


def row(*values, dtype):
    return np.array([[[values]]], dtype)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("uint64", [2**64 - 1] * 3, 2**64 - 1),
        ("uint64", [2**64 - 1, 2**64 - 1, 2**64 - 3], 2**64 - 2),
        ("uint64", [2**64 - 1, 2**64 - 2], 2**64 - 2),
        ("uint64", [2**64 - 3, 2**64 - 2], 2**64 - 2),
        ("uint64", [2**64 - 1, 0, 0, 0], 2**62),
        ("int64", [2**63 - 1] * 4, 2**63 - 1),
        ("int64", [-(2**63)] * 4, -(2**63)),
        ("int64", [-(2**63), 2**63 - 1], 0),
        ("int64", [-(2**63), -(2**63) + 1], -(2**63)),
        ("int32", [-(2**31)] * 3, -(2**31)),
        ("uint32", [2**32 - 1] * 3, 2**32 - 1),
        ("int8", [-3, -2], -2),
        ("int8", [-2, -1], -2),
        ("int8", [-1, 0], 0),
        ("int8", [-128, -127], -128),
        ("int8", [-1, -1, -1, -3, -1, -2], -2),
        ("uint8", [255, 254], 254),
        ("uint8", [1, 2, 2, 1], 2),
        ("uint8", [0, 1, 1, 0], 0),
    ],
)
def test_mean_is_exact_and_halves_go_to_even(dtype, values, expected):
    result = on_both_paths(row(*values, dtype=dtype), (len(values), 1, 1), "mean")
    assert result.item() == expected


@pytest.mark.parametrize(
    ("dtype", "edge"), [("uint8", 204), ("uint16", 33), ("uint32", 103), ("uint64", 33)]
)
def test_mean_of_large_cells_does_not_overflow(dtype, edge):
    array = np.full((1, edge, edge, edge), np.iinfo(dtype).max, dtype)
    array[0, 0, 0, : edge // 2] -= 1
    result = on_both_paths(array, (edge, edge, edge), "mean")
    assert result.item() == np.iinfo(dtype).max
    array[:, :, :, ::2] -= 7
    total = sum(int(v) * int(n) for v, n in zip(*np.unique(array, return_counts=True), strict=True))
    result = on_both_paths(array, (edge, edge, edge), "mean")
    assert result.item() == round(Fraction(total, edge**3))


def test_mean_of_a_near_half_in_large_cells_of_uint32():
    edge = 141  # a little more than a half, by less than float64 can tell
    array = np.full((1, edge, edge, edge), 2**32 - 1, np.uint32)
    array.reshape(-1)[: edge**3 // 2] -= 1
    total = (2**32 - 1) * edge**3 - edge**3 // 2
    result = on_both_paths(array, (edge, edge, edge), "mean")
    assert result.item() == round(Fraction(total, edge**3)) == 2**32 - 1


def test_mean_over_too_many_integers_is_refused():
    array = np.broadcast_to(np.uint8(1), (1, 1024, 1024, 1024))
    with pytest.raises(ValueError, match=r"mean over 1073741824 integers .*fewer than 1073741824"):
        downsample(array, (1024, 1024, 1024), "mean", ORIGIN)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_that_are_not_finite_and_zeros(dtype):
    nan, inf = np.nan, np.inf
    array = row(nan, 1, 2, inf, 1, -inf, inf, 1, 2, -0.0, 0, -0.0, nan, nan, -3, dtype=dtype)
    expected = {
        "mean": [nan, nan, inf, 0, nan],
        "min": [nan, -inf, 1, 0, nan],
        "max": [nan, inf, inf, 0, nan],
        "mode": [1, -inf, 1, 0, nan],
        "stride": [nan, inf, inf, 0, nan],
    }
    for method, values in expected.items():
        result = on_both_paths(array, (3, 1, 1), method)
        np.testing.assert_array_equal(result.ravel(), np.array(values, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_of_either_sign_are_one(dtype):
    array = row(-0.0, -0.0, 0.0, 0.0, 1, 1, 1, dtype=dtype)
    assert on_both_paths(array, (7, 1, 1), "mode").item() == 0
    assert not np.signbit(on_both_paths(-np.zeros((1, 2, 2, 3), dtype), (3, 2, 2), "mean")).any()


def test_nans_of_any_bits_are_one_value_and_nothing_is_warned_of():
    bits = np.array([0x7F800001, 0xFFC00000, 0x7FC12345, 0x3F800000, 0x3F800000], np.uint32)
    array = bits.view(np.float32).reshape(1, 1, 1, 5)
    for method in METHODS:
        result = on_both_paths(array, (5, 1, 1), method)
        assert np.isnan(result).all()


def test_float32_is_added_up_in_float64():
    array = row(2.0**24, 1, 1, 1, dtype="float32")
    assert on_both_paths(array, (4, 1, 1), "mean").item() == np.float32((2**24 + 3) / 4)
    huge = row(3e38, 3e38, dtype="float32")
    assert on_both_paths(huge, (2, 1, 1), "mean").item() == np.float32(3e38)
    with np.errstate(over="raise"):
        assert on_both_paths(row(1.7e308, 1.7e308, dtype="f8"), (2, 1, 1), "mean").item() == np.inf


def test_stride_takes_the_first_voxel_there_is_of_a_cell():
    array = row(*range(10, 19), dtype="uint8")
    assert on_both_paths(array, (3, 1, 1), "stride", (0, 0, 0)).ravel().tolist() == [10, 13, 16]
    assert on_both_paths(array, (3, 1, 1), "stride", (2, 0, 0)).ravel().tolist() == [10, 11, 14, 17]
    assert on_both_paths(array, (3, 1, 1), "stride", (-1, 0, 0)).ravel().tolist() == [
        10,
        11,
        14,
        17,
    ]


@given(ARRAYS, FACTORS, STARTS, st.sampled_from(METHODS), st.integers(0, 8))
def test_pieces_cut_at_cells_make_the_whole(array, factor, start, method, cut):
    whole = downsample(array, factor, method, start)
    edge = (start[0] // factor[0] + cut) * factor[0] - start[0]
    edge = min(max(edge, 0), array.shape[3])
    pieces = [array[..., :edge], array[..., edge:]]
    starts = [start, (start[0] + edge, *start[1:])]
    results = [
        downsample(piece, factor, method, at)
        for piece, at in zip(pieces, starts, strict=True)
        if piece.size
    ]
    np.testing.assert_array_equal(np.concatenate(results, axis=3), whole)


def test_factor_one_is_a_copy(rng):
    array = rng.normal(size=(2, 3, 4, 5))
    for method in METHODS:
        result = downsample(array, (1, 1, 1), method, (5, 5, 5))
        np.testing.assert_array_equal(result, array)
        assert not np.shares_memory(result, array)


@pytest.mark.parametrize("method", METHODS)
def test_no_voxels_make_no_voxels(method):
    for shape in ((1, 0, 3, 4), (1, 3, 4, 0), (0, 3, 4, 5)):
        result = downsample(np.zeros(shape, np.uint8), (2, 2, 2), method, (1, 1, 1))
        assert result.shape == (
            shape[0],
            *coarse_box(box_of(np.zeros(shape), (1, 1, 1)), (2, 2, 2)).shape[::-1],
        )
        assert result.size == 0


# ---- the real segmentation


@pytest.mark.parametrize("factor", [(2, 2, 1), (2, 2, 2), (4, 3, 5)])
@pytest.mark.parametrize("method", ["mode", "mean"])
def test_a_real_segmentation_is_as_tensorstore_makes_it(real_volume, factor, method):
    box = ((101, 203, 45), (230, 330, 173))
    array = np.asarray(xp.open_store(real_volume).read(box)).astype(np.uint64)
    array = array.reshape((1, *array.shape[-3:]))
    assert len(np.unique(array)) > 10
    expected, _ = tensorstore(array, factor, method, box[0])
    np.testing.assert_array_equal(on_both_paths(array, factor, method, box[0]), expected)


# ---- threads


class Recorder:
    """Stands for `run_bounded`: what would run, and on how many threads."""

    def __init__(self, monkeypatch):
        self.run = downsampling.run_bounded
        monkeypatch.setattr(downsampling, "run_bounded", self)

    def __call__(self, tasks, work, *, workers):
        self.tasks, self.workers = list(tasks), workers
        self.run(self.tasks, work, workers=workers)


@pytest.mark.parametrize(
    "shape", [(1, 250, 250, 200), (1, 1, 3001, 4003), (3, 2, 2001, 1003), (9, 103, 107, 111)]
)
@pytest.mark.parametrize("method", METHODS)
def test_large_arrays_are_cut_into_regions_of_whole_cells(shape, method, rng, monkeypatch):
    array = rng.integers(0, 5, shape, dtype=np.uint8)
    start, factor = (-1, 3, 5), (2, 2, 3)
    recorder = Recorder(monkeypatch)
    with xp.set_options(threads=3):
        result = downsample(array, factor, method, start)
    assert recorder.workers == 3
    assert len(recorder.tasks) >= array.nbytes / downsampling.REGION_BYTES
    for region in recorder.tasks:
        voxels = math.prod(region.count) * region.voxels
        assert voxels <= 1.5 * downsampling.REGION_BYTES
    expected, domain = tensorstore(array, factor, method, start)
    box = coarse_box(box_of(array, start), factor)
    x, y, z = (
        slice(a - b, None) for a, b in zip(domain.inclusive_min[:0:-1], box.start, strict=True)
    )
    np.testing.assert_array_equal(result[:, z, y, x], expected)


def test_small_arrays_stay_in_the_thread_that_asks(monkeypatch):
    recorder = Recorder(monkeypatch)
    with xp.set_options(threads=3):
        downsample(np.zeros((1, 128, 256, 256), np.uint8), (2, 2, 2), "mean", ORIGIN)
    assert recorder.workers == 1
    assert len(recorder.tasks) == 2


@pytest.mark.parametrize(
    ("method", "factor", "function"),
    [
        ("mode", (2, 2, 1), kernels.mode_of_four),
        ("mode", (2, 2, 2), kernels.mode_of_eight),
        ("mode", (3, 2, 2), kernels.mode_of_any),
        ("mean", (2, 2, 2), kernels.mean_of_integers),
        ("mean", (2, 2, 2), kernels.mean_of_long_integers),
        ("mean", (3, 1, 2), kernels.mean_of_floats),
    ],
)
def test_kernels_see_one_kind_of_array(method, factor, function, monkeypatch):
    """Whatever is given: each other kind would be compiled anew, or not work."""
    seen = []

    def spied(wanted):
        kernel = compiled(wanted)
        assert kernel is not None

        def run(source, *rest):
            if wanted is function:
                seen.append(source)
            kernel(source, *rest)

        return run

    monkeypatch.setattr(downsampling, "compiled", spied)
    array = np.arange(216).reshape(1, 6, 6, 6)
    for make, dtype in itertools.product(LAYOUTS.values(), ["int16", "int64", "float32"]):
        downsample(make(array.astype(dtype)), factor, method, ORIGIN)
    assert len(seen) >= len(LAYOUTS)
    for source in seen:
        assert source.flags.c_contiguous
        assert source.flags.aligned
        assert not source.flags.writeable
        assert source.dtype.isnative


# ---- factors


@given(STARTS, TRIPLES, FACTORS)
def test_a_coarse_box_holds_the_cells_of_all_voxels(start, size, factor):
    box = Box.from_offset(start, size)
    coarse = coarse_box(box, factor)
    for a, b, c, d, f in zip(box.start, box.stop, coarse.start, coarse.stop, factor, strict=True):
        assert {v // f for v in range(a, b)} == set(range(c, d))


def test_a_coarse_box_of_nothing_is_nothing():
    assert coarse_box(Box((1, 1, -1), (1, 4, 2)), (2, 2, 2)) == Box((0, 0, -1), (0, 2, 1))


@pytest.mark.parametrize(
    ("resolution", "size", "factor"),
    [
        ((8, 8, 8), None, (2, 2, 2)),
        ((8, 8, 40), None, (2, 2, 1)),
        ((16, 16, 40), None, (2, 2, 1)),
        ((32, 32, 40), None, (2, 2, 2)),
        ((4, 4, 8), None, (2, 2, 1)),
        ((4, 4, 7.9), None, (2, 2, 2)),
        ((40, 8, 8), None, (1, 2, 2)),
        ((8, 8, 40), (100, 1, 100), (2, 1, 1)),
        ((8, 8, 1), (100, 100, 1), (2, 2, 1)),
        ((8, 8, 40), (1, 1, 100), (1, 1, 2)),
        ((8, 8, 40), (1, 1, 1), (1, 1, 1)),
    ],
)
def test_auto_factor_halves_what_is_finer_than_twice_the_finest(resolution, size, factor):
    assert auto_factor(resolution, size) == factor


def test_auto_factors_end_when_a_mip_fits_into_a_chunk():
    chunk = (64, 64, 64)
    thick = auto_factors((8, 8, 40), (1000, 1000, 100), ORIGIN, chunk)
    assert thick == [(2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2)]
    assert auto_factors((8, 8, 8), chunk, (7, 7, 7), chunk) == []
    assert auto_factors((8, 8, 8), (65, 64, 64), ORIGIN, chunk) == [(2, 2, 2)]
    # 128 voxels from an odd one on have 65 cells
    assert auto_factors((8, 8, 8), (128, 1, 1), ORIGIN, chunk) == [(2, 1, 1)]
    assert auto_factors((8, 8, 8), (128, 1, 1), (1, 0, 0), chunk) == [(2, 1, 1), (2, 1, 1)]


def test_auto_factors_end_where_halving_does_not_help():
    # the two voxels at -1 and 0 are in two cells at every factor
    assert auto_factors((8, 8, 8), (2, 1, 1), (-1, 0, 0), (1, 1, 1)) == []
    # those at 1 and 2 are so once
    assert auto_factors((8, 8, 8), (2, 1, 1), (1, 0, 0), (1, 1, 1)) == [(2, 1, 1)] * 2
    assert len(auto_factors((8, 8, 8), (2**60, 1, 1), ORIGIN, (64, 64, 64))) == 32


def test_default_method_keeps_labels():
    assert default_method("segmentation") == "mode"
    assert default_method("image") == default_method("anything") == "mean"


# ---- errors


@pytest.mark.parametrize(
    "factor", [(2, 2), (2, 2, 2, 2), (2, 2, 0), (2, -1, 2), (2, 2, 2.0), 2, "222", None]
)
def test_factors_are_three_positive_integers(factor):
    message = r"downsampling by .*expected three integers >= 1 \(x, y, z\)"
    with pytest.raises(ValueError, match=message):
        downsample(np.zeros((1, 4, 4, 4), np.uint8), factor, "mean", ORIGIN)
    with pytest.raises(ValueError, match=message):
        coarse_box(Box(ORIGIN, (4, 4, 4)), factor)


def test_numpy_integers_are_factors():
    array = np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2)
    factor = tuple(np.array([2, 2, 2]))
    assert downsample(array, factor, "max", ORIGIN).item() == 7


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match=r"method 'median': expected one of mean, mode, stride"):
        downsample(np.zeros((1, 4, 4, 4), np.uint8), (2, 2, 2), "median", ORIGIN)


def test_arrays_of_other_axes_are_refused():
    with pytest.raises(
        ValueError, match=r"shape \(4, 4, 4\): expected the axes \(channel, z, y, x"
    ):
        downsample(np.zeros((4, 4, 4), np.uint8), (2, 2, 2), "mean", ORIGIN)


@pytest.mark.parametrize("dtype", ["bool", "complex64", "float16"])
def test_arrays_of_other_types_are_refused(dtype):
    with pytest.raises(ValueError, match=rf"downsampling {dtype}: expected one of uint8, int8"):
        downsample(np.zeros((1, 4, 4, 4), dtype), (2, 2, 2), "mean", ORIGIN)
