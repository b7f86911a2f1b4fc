"""Ids that are masked, mapped, renumbered and counted; the oracle is a Python dict of ints."""

import pickle
from collections import Counter

import dask
import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.images import labels as image_of_labels
from tests.memory import peak_bytes
from xprecomputed import jit, trace
from xprecomputed.jobs import _label_kernels as kernels
from xprecomputed.jobs.labels import mask, remap, renumber, unique_labels
from xprecomputed.testing import write_volume

FLYWIRE = 720575940623044103
TOP = 2**64 - 1
DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]


# the fixture that chooses the path does the same for each example
either_path_for_all = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def row(values, dtype="u8"):
    return xr.DataArray(np.array(values, dtype), dims="x")


def fails_if_computed():
    def refuse(block):
        raise AssertionError("computed")

    blocks = dask.array.zeros((8, 8), dtype="u8", chunks=4).map_blocks(
        refuse, dtype="u8", meta=np.empty((0, 0), "u8")
    )
    return xr.DataArray(blocks, dims=("y", "x"))


@pytest.fixture
def computed():
    """How often each task of `read` ran, by a scheduler of its own."""
    runs = Counter()

    def get(graph, keys, **options):
        runs["graphs"] += 1
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=get):
        yield runs


@pytest.fixture
def counted(computed):
    """A dask array that counts how often its blocks are made."""

    def make(block):
        computed["blocks"] += 1
        return block

    volume = image_of_labels((12, 12, 12))
    array = dask.array.from_array(volume, chunks=6).map_blocks(
        make, dtype="u8", meta=np.empty((0, 0, 0), "u8")
    )
    return xr.DataArray(array, dims=("z", "y", "x"), name="seg"), volume


@pytest.fixture
def url(tmp_path):
    return write_volume(
        str(tmp_path),
        [image_of_labels((20, 24, 28))],
        encoding="compressed_segmentation",
        chunk_size=(8, 8, 8),
    )


def opened(url, **options):
    return xr.open_dataset(url, engine="precomputed", **options)["segmentation"]


# ---- the largest ids, by hand


def test_large_ids_survive(either_path):
    da = row([0, FLYWIRE, FLYWIRE + 1, TOP, TOP - 1])
    assert mask(da, [FLYWIRE, TOP]).values.tolist() == [0, FLYWIRE, 0, TOP, 0]
    assert mask(da, TOP, other=FLYWIRE).values.tolist() == [FLYWIRE] * 3 + [TOP, FLYWIRE]
    swapped = remap(da, {FLYWIRE: TOP, TOP: FLYWIRE}, missing="keep")
    assert swapped.values.tolist() == [0, TOP, FLYWIRE + 1, FLYWIRE, TOP - 1]
    small, original = renumber(da)
    assert small.dtype == "u1"
    assert small.values.tolist() == [0, 1, 2, 4, 3]
    assert original.values.tolist() == [FLYWIRE, FLYWIRE + 1, TOP - 1, TOP]
    assert original.dtype == "u8"
    assert original.sel(label=4).item() == TOP
    counts = unique_labels(da)
    assert counts.label.values.tolist() == [0, FLYWIRE, FLYWIRE + 1, TOP - 1, TOP]
    assert counts.sel(label=FLYWIRE).item() == counts.sel(label=TOP).item() == 1


@pytest.mark.parametrize(
    "ids",
    [
        [FLYWIRE, TOP],
        (TOP, FLYWIRE),
        {TOP, FLYWIRE},
        [[FLYWIRE], [TOP]],
        [-1, TOP, FLYWIRE, 2**70],  # NumPy would make floats of them
        [np.uint64(TOP), FLYWIRE, -5],
        np.array([TOP, FLYWIRE, TOP], "u8"),
        np.array([FLYWIRE, TOP, -1], object),
        np.array([FLYWIRE, TOP], ">u8"),
        pd.Index([FLYWIRE, TOP], dtype="u8"),
        pd.Series([FLYWIRE, TOP], dtype="UInt64"),
        xr.DataArray(np.array([FLYWIRE, TOP], "u8"), dims="label"),
        dict.fromkeys([FLYWIRE, TOP]).keys(),
        (each for each in [FLYWIRE, TOP]),
    ],
)
def test_ids_in_any_container(ids):
    da = row([FLYWIRE - 7, FLYWIRE, TOP, 0])
    assert mask(da, ids).values.tolist() == [0, FLYWIRE, TOP, 0]


@pytest.mark.parametrize("ids", [[], set(), np.array([]), np.zeros(0, "u8"), pd.Series([])])
def test_no_ids(ids, either_path):
    assert mask(row([1, 2, 0]), ids, other=3).values.tolist() == [3, 3, 3]


def test_one_id():
    for one in (7, np.uint8(7), np.array(7), xr.DataArray(7)):
        assert mask(row([7, 8], "i2"), one).values.tolist() == [7, 0]


def test_ids_that_the_dtype_cannot_hold_are_absent():
    da = row([1, 255, 0], "u1")
    assert mask(da, [257, -1, 511, 1]).values.tolist() == [1, 0, 0]
    assert mask(da, np.array([257, -1, 1])).values.tolist() == [1, 0, 0]
    assert remap(da, {257: 9, -1: 8, 1: 2}, missing="keep").values.tolist() == [2, 255, 0]


@pytest.mark.parametrize(
    "mapping",
    [
        {FLYWIRE: TOP, 1: 2},
        pd.Series({1: 2, FLYWIRE: TOP}, dtype="u8"),
        pd.Series([TOP, 2], pd.Index([FLYWIRE, 1], dtype="u8"), dtype="UInt64"),
        ([1, FLYWIRE], [2, TOP]),
        (np.array([1, FLYWIRE, 1]), np.array([2, TOP, 2], "u8")),  # agreeing repetition
        (xr.DataArray([FLYWIRE, 1]), [TOP, 2]),
        ([1, FLYWIRE, -3, 2**80], [2, TOP, 1, 1]),
    ],
)
def test_mappings_in_any_container(mapping):
    found = remap(row([1, FLYWIRE, 0, 1]), mapping)
    assert found.dtype == "u8"
    assert found.values.tolist() == [2, TOP, 0, 2]


# ---- against a dict


@st.composite
def problems(draw):
    """Labels in runs, and a mapping of some of them."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    info = np.iinfo(dtype)
    near = [0, 1, int(info.min), int(info.max), int(info.max) - 1, min(FLYWIRE, int(info.max))]
    label = st.sampled_from(near) | st.integers(int(info.min), int(info.max))
    few = draw(st.lists(label, min_size=1, max_size=6))
    runs = draw(st.lists(st.tuples(st.sampled_from(few), st.integers(1, 9)), max_size=12))
    values = [each for each, length in runs for _ in range(length)]
    chunk = draw(st.integers(1, 20))
    old = draw(st.lists(st.sampled_from(few) | label, max_size=6, unique=True))
    return row(values, dtype), chunk, old, label


def both(function, da, chunk):
    """The result in memory, which the lazy one equals."""
    found = function(da)
    assert isinstance(found.data, np.ndarray)
    lazy = function(da.chunk(x=chunk))
    assert lazy.chunks is not None
    assert lazy.dtype == found.dtype
    computed = lazy.compute(scheduler="synchronous")
    assert computed.dtype == found.dtype
    xr.testing.assert_identical(computed, found)
    return found


@pytest.mark.parametrize("piece", [3, kernels.PIECE])
@either_path_for_all
@given(problem=problems(), data=st.data())
def test_like_a_dict(either_path, piece, problem, data):
    da, chunk, old, label = problem
    new = data.draw(st.lists(label, min_size=len(old), max_size=len(old)))
    other = data.draw(label)
    mapping = dict(zip(old, new, strict=True))
    values = da.values.tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "PIECE", piece)
        masked = both(lambda da: mask(da, old, other=other), da, chunk)
        assert masked.values.tolist() == [v if v in old else other for v in values]
        assert masked.dtype == da.dtype
        kept = both(lambda da: remap(da, mapping, missing="keep"), da, chunk)
        assert kept.values.tolist() == [mapping.get(v, v) for v in values]
        assert kept.dtype == da.dtype
        filled = both(lambda da: remap(da, mapping, missing=other), da, chunk)
        with_background = {0: 0} | mapping
        assert filled.values.tolist() == [with_background.get(v, other) for v in values]
        lacking = [v for v in values if v not in with_background]
        if lacking:
            with pytest.raises(ValueError, match=rf"mapping lacks: {min(lacking)}\b"):
                remap(da, mapping)
        else:
            strict = both(lambda da: remap(da, mapping), da, chunk)
            assert strict.values.tolist() == [with_background[v] for v in values]


@given(problem=problems())
def test_the_kernel_stays_inside_its_arrays(problem):
    da, _, old, _ = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "_compile", lambda kernel: kernel)  # Python checks what numba does not
        masked = mask(da, old, other=1)
    assert masked.values.tolist() == [v if v in old else 1 for v in da.values.tolist()]


@either_path_for_all
@given(problem=problems(), start=st.sampled_from([1, 2, 250, 65530, 2**32 - 3, TOP - 9]))
def test_renumber_and_counts_like_python(either_path, problem, start):
    da, chunk, _, _ = problem
    values = da.values.tolist()
    counts = unique_labels(da)
    xr.testing.assert_identical(unique_labels(da.chunk(x=chunk)), counts)
    expected = sorted(Counter(values).items())
    assert list(zip(counts.label.values.tolist(), counts.values.tolist(), strict=True)) == expected
    assert (counts.label.dtype, counts.dtype, counts.name) == (da.dtype, "i8", "count")
    numbers = {v: i for i, v in enumerate(sorted(set(values) - {0}), start)} | {0: 0}
    small = both(lambda da: renumber(da, start=start)[0], da, chunk)
    original = renumber(da, start=start)[1]
    assert small.values.tolist() == [numbers[v] for v in values]
    assert small.dtype == np.min_scalar_type(max(numbers.values()))
    assert {v: n for n, v in original.to_series().items()} == {
        v: n for v, n in numbers.items() if v
    }
    assert (original.dtype, original.label.dtype) == (da.dtype, small.dtype)
    back = remap(small, original.to_series(), dtype=da.dtype)
    xr.testing.assert_identical(back, da)
    assert back.dtype == da.dtype


def test_negative_labels_are_numbered_in_order():
    small, original = renumber(row([-5, 0, 3, -9], "i4"), start=10)
    assert small.values.tolist() == [11, 0, 12, 10]
    assert original.to_series().to_dict() == {10: -9, 11: -5, 12: 3}


def test_bool(either_path):
    da = row([True, False, True], bool)
    assert mask(da, True).values.tolist() == [True, False, True]
    assert not mask(da, np.array([False])).values.any()
    assert mask(da, [], other=1).values.all()
    assert mask(da, 1).dtype == bool
    wide = remap(da, {1: 300})
    assert (wide.dtype, wide.values.tolist()) == ("u2", [300, 0, 300])
    proofread = pd.Series([True, False], index=[5, 6])
    chosen = remap(row([5, 6, 0]), proofread, dtype=bool)
    assert (chosen.dtype, chosen.values.tolist()) == (bool, [True, False, False])
    assert remap(row([1, 0]), pd.Series([5, 6], index=[True, False])).values.tolist() == [5, 6]
    small, original = renumber(da)
    assert small.values.tolist() == [1, 0, 1]
    assert original.dtype == bool
    counts = unique_labels(da)
    assert counts.label.dtype == bool
    assert counts.sel(label=True).item() == 2


def test_background_stays_unless_it_is_mapped():
    da = row([0, 5])
    assert remap(da, {5: 6}).values.tolist() == [0, 6]
    assert remap(da, {}, missing=9).values.tolist() == [0, 9]
    assert remap(da, {0: 4}, missing="keep").values.tolist() == [4, 5]
    # for mask the background is a label as any other
    assert mask(da, 5, other=2).values.tolist() == [2, 5]
    assert mask(da, [0], other=2).values.tolist() == [0, 2]


# ---- dtypes


@pytest.mark.parametrize(
    ("dtype", "new", "missing", "expected"),
    [
        ("u4", 2**32 - 1, "raise", "u4"),
        ("u4", 2**32, "raise", "u8"),
        ("u8", TOP, "keep", "u8"),
        ("u1", 256, "keep", "u2"),
        ("u1", 3, 256, "u2"),
        ("u4", -1, "keep", "i8"),
        ("i2", -(2**15), "keep", "i2"),
        ("i2", 2**15, "keep", "i4"),  # old negative ones stay
        ("i8", -1, "raise", "i8"),
        ("?", 2, "raise", "u1"),
    ],
)
def test_the_dtype_that_holds_old_and_new(dtype, new, missing, expected):
    da = row([1, 1, 0], dtype)
    for each in (da, da.chunk(x=2)):
        found = remap(each, {1: new}, missing=missing)
        assert found.dtype == found.compute().dtype == expected
        assert found.values.tolist() == [new, new, 0]


def test_the_dtype_that_is_asked_for(either_path):
    da = row([0, FLYWIRE, 7, TOP])
    narrow = remap(da, {FLYWIRE: 200, TOP: 3}, missing="keep", dtype="u1")
    assert (narrow.dtype, narrow.values.tolist()) == ("u1", [0, 200, 7, 3])
    signed = remap(da, {TOP: -1}, missing="keep", dtype="i8")
    assert (signed.dtype, signed.values.tolist()) == ("i8", [0, FLYWIRE, 7, -1])
    # what is kept must fit, too: no id wraps around
    lazy = remap(da.chunk(x=2), {TOP: 1}, missing="keep", dtype="u4")
    with pytest.raises(ValueError, match=f"do not fit uint32: {FLYWIRE}; give a wider dtype="):
        lazy.compute()
    with pytest.raises(ValueError, match=f"do not fit int64: {TOP};"):
        remap(da, {}, missing="keep", dtype="i8")
    with pytest.raises(ValueError, match="do not fit uint64: -7;"):
        remap(row([-7, 7], "i4"), {}, missing="keep", dtype="u8")


def test_foreign_byte_order(either_path):
    da = row([FLYWIRE, TOP, 0], ">u8")
    da.encoding["precomputed"] = {"data_type": "uint64"}
    assert mask(da, TOP).values.tolist() == [0, TOP, 0]
    assert mask(da, TOP).dtype == "u8"
    assert mask(da, TOP).encoding == da.encoding
    assert remap(da.chunk(x=1), {FLYWIRE: 1, TOP: 2}).values.tolist() == [1, 2, 0]
    assert unique_labels(da).label.values.tolist() == [0, FLYWIRE, TOP]


# ---- any shape, any strides


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a.T,
        lambda a: a[::-1, :, ::3],
        lambda a: a.transpose(1, 0, 2),
        lambda a: np.broadcast_to(a[:1], (4, *a.shape[1:])),
        lambda a: a[:0],
        lambda a: a[3, 4, 5],
        lambda a: a[:, :1, 0],
        lambda a: np.asfortranarray(a)[:, :, 2:5],
    ],
)
def test_shapes_and_strides(view, either_path):
    values = np.asanyarray(view(image_of_labels((9, 10, 11))))
    original = values.copy()
    values.flags.writeable = False
    da = xr.DataArray(values)
    ids = np.unique(original)
    for each in (da, da.chunk(dict.fromkeys(da.dims, 4))):
        np.testing.assert_array_equal(
            mask(each, ids[::2]), np.where(np.isin(original, ids[::2]), original, 0)
        )
        counts = unique_labels(each)
        np.testing.assert_array_equal(counts.label, ids)
        np.testing.assert_array_equal(counts, np.unique(original, return_counts=True)[1])
        small, _ = renumber(each)
        assert small.shape == original.shape
        np.testing.assert_array_equal(small, np.searchsorted(np.union1d(ids, [0]), original))
    np.testing.assert_array_equal(da, original)


def test_a_dask_array_without_dimensions():
    point = row([7, TOP]).chunk(x=1).isel(x=1)
    assert point.data.ndim == 0
    assert mask(point, TOP).compute() == TOP
    assert unique_labels(point).label == TOP
    assert renumber(point)[0].compute() == 1


def test_the_order_in_memory_is_kept():
    columns = xr.DataArray(np.asfortranarray(image_of_labels((4, 5, 6))))
    assert mask(columns, 0).data.flags.f_contiguous
    assert mask(columns.T, 0).data.flags.c_contiguous


def test_what_surrounds_the_labels_is_kept(url):
    da = opened(url).isel(z=3).load()
    da.encoding["dtype"] = "uint64"
    for same in (mask(da, 1), remap(da, {}, missing="keep")):
        assert (same.name, same.dims, same.attrs) == (da.name, da.dims, da.attrs)
        xr.testing.assert_identical(same.coords.to_dataset(), da.coords.to_dataset())
        assert same.encoding == da.encoding
        same.attrs["mine"] = 1
        same.encoding["mine"] = 1
        assert "mine" not in {**da.attrs, **da.encoding}
    before = pickle.dumps(da.encoding)
    small, _ = renumber(da)
    assert (small.name, small.attrs) == (da.name, da.attrs)
    remembered = small.encoding["precomputed"]
    # uint8 fits neither the data type nor compressed_segmentation
    assert set(da.encoding["precomputed"]) - set(remembered) == {
        "data_type",
        "encoding",
        "compressed_segmentation_block_size",
    }
    assert remembered["chunk_size"] == [8, 8, 8]
    assert "dtype" not in small.encoding
    assert small.encoding["source"] == da.encoding["source"]
    assert pickle.dumps(da.encoding) == before
    # while uint32 leaves the encoding as it is
    narrow = remap(da, {}, missing=1, dtype="u4").encoding["precomputed"]
    assert set(da.encoding["precomputed"]) - set(narrow) == {"data_type"}


def test_a_coordinate_has_labels_too():
    counts = unique_labels(row([5, 5, 9]))
    assert mask(counts.label, 9).values.tolist() == [0, 9]


# ---- laziness


def test_nothing_is_computed_at_the_call():
    da = fails_if_computed()
    for lazy in (mask(da, [1]), remap(da, {1: 2}), remap(da, {1: 2}, missing=0, dtype="u1")):
        with pytest.raises(AssertionError, match="computed"):
            lazy.compute()


def test_graphs_and_blocks_that_are_computed(counted, computed):
    da, volume = counted
    remap(da, dict.fromkeys(np.unique(volume).tolist(), 1))
    mask(da, 1)
    assert not computed
    counts = unique_labels(da)
    assert computed == {"graphs": 1, "blocks": 8}
    np.testing.assert_array_equal(counts.label, np.unique(volume))
    small, original = renumber(da)
    assert computed == {"graphs": 2, "blocks": 16}
    assert small.chunks == da.chunks
    xr.testing.assert_identical(
        remap(small, original.to_series(), dtype="u8"), da.copy(data=volume)
    )
    # a part needs only its own blocks
    computed.clear()
    small.isel(x=slice(3)).compute()
    assert computed["blocks"] == 4


def test_missing_labels_are_told_when_they_are_met(either_path):
    da = row([0, 3, 4, 5, 6, 7, 8, FLYWIRE]).chunk(x=4)
    lazy = remap(da, {6: 3, 7: 4, 8: 1, FLYWIRE: 2})
    assert lazy.isel(x=slice(6, 8)).values.tolist() == [1, 2]
    match = r"mapping lacks: 3, 4, 5; add them, or give missing='keep', or .* missing=0"
    with pytest.raises(ValueError, match=match):
        lazy.isel(x=slice(4)).compute()
    with pytest.raises(
        ValueError, match=r"mapping lacks: 3, 4, 5, 6, 7, … \(7 of one block\); add"
    ):
        remap(da.compute(), {})


@pytest.mark.parametrize("size", [1000, 300_000])
def test_the_table_travels_once(size):
    da = xr.DataArray(dask.array.zeros(64, dtype="u8", chunks=4), dims="x")
    table = (np.arange(size), np.arange(size))
    lazy = remap(da, table)
    (optimized,) = dask.optimize(lazy)
    tasks = dict(optimized.__dask_graph__())
    sizes = sorted((len(pickle.dumps(task)) for task in tasks.values()), reverse=True)
    assert len(sizes) >= 17
    assert sizes[0] > 16 * size
    assert sizes[1] < 4000
    # the same call has the same keys
    assert remap(da, table).data.name == lazy.data.name
    assert remap(da, table, missing=1).data.name != lazy.data.name


def test_results_pickle():
    lazy = remap(row([0, 5, TOP]).chunk(x=2), {5: FLYWIRE, TOP: 7})
    assert pickle.loads(pickle.dumps(lazy)).values.tolist() == [0, FLYWIRE, 7]


# ---- opened lazily


def test_opened_lazily_stays_unloaded(url):
    da = opened(url)
    whole = opened(url).values
    with trace() as t:
        one, two = mask(da, [1, 2]), remap(da, {1: 2}, missing="keep")
    assert t.requests <= 2
    assert all(name.endswith("info") for name in t.objects)
    assert not da.variable._in_memory
    assert one.chunks == two.chunks == da.precomputed.chunk().chunks
    with trace() as t:
        small, original = renumber(da)
    assert t.requests - 1 == 3 * 3 * 4
    assert small.chunks is not None
    assert not da.variable._in_memory
    np.testing.assert_array_equal(remap(small, original.to_series()), whole)
    np.testing.assert_array_equal(unique_labels(da), np.unique(whole, return_counts=True)[1])


def test_opened_lazily_of_another_resolution_or_without_source(url):
    strided = opened(url).isel(x=slice(None, None, 2))
    assert strided.precomputed.mip is None
    lonely = opened(url).drop_attrs(deep=False)
    point = opened(url).isel(x=1, y=1, z=1)
    one = int(point)
    assert mask(opened(url).isel(x=1, y=1, z=1), one) == one
    for da in (strided, lonely):
        assert not da.variable._in_memory
        lazy = mask(da, one)
        assert lazy.chunks is not None
        np.testing.assert_array_equal(lazy, np.where(da.values == one, one, 0))


def test_loaded_is_computed_now(url):
    da = opened(url).load()
    with trace() as t:
        assert isinstance(mask(da, 1).data, np.ndarray)
        assert isinstance(renumber(da)[0].data, np.ndarray)
    assert t.requests == 0


# ---- refusals


@pytest.mark.parametrize(
    "function", [lambda da: mask(da, 1), lambda da: remap(da, {}), renumber, unique_labels]
)
def test_labels_are_integers(function):
    with pytest.raises(ValueError, match=r"labels are float64: floats have lost .* open the seg"):
        function(row([1, 2], "f8"))
    with pytest.raises(ValueError, match="labels: expected an integer dtype or bool, found <U1"):
        function(row(["a"], "U1"))
    with pytest.raises(
        ValueError, match="labels: expected an integer dtype or bool, found complex"
    ):
        function(row([1], "c16"))


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        (1.0, "ids: expected a whole number, found 1.0"),
        ([1, 2.5], "ids: expected a whole number, found 2.5"),
        ("12", "ids: expected a whole number, found '1'"),
        ([None], "ids: expected a whole number, found None"),
        (np.array([1.0]), "ids: expected whole numbers, found float64, in which ids may be lost"),
        (pd.Series([1, None]), r"found float64(.*)dtype='UInt64', then .dropna\(\)"),
        (pd.Series([1, None], dtype="object"), "ids: expected a whole number, found (None|nan)"),
        (np.array(["2020-01-01"], "M8[D]"), r"found datetime64\[D\]"),
        (np.array([True, False]), r"found an array of bool(.*\n)*    labels.where\(mask, 0\)"),
    ],
)
def test_ids_are_whole_numbers(ids, match):
    with pytest.raises(ValueError, match=match):
        mask(row([1, 2]), ids)


def test_mask_refuses_an_other_that_does_not_fit():
    with pytest.raises(ValueError, match=r"other 256 does not fit uint8 \(0 to 255\)"):
        mask(row([1], "u1"), 1, other=256)
    with pytest.raises(ValueError, match="other -1 does not fit uint64"):
        mask(row([1]), 1, other=-1)
    with pytest.raises(ValueError, match="other: expected a whole number, found 0.5"):
        mask(row([1]), 1, other=0.5)


@pytest.mark.parametrize(
    ("mapping", "options", "match"),
    [
        ([(1, 2)], {}, "mapping: expected a mapping, a Series, or a tuple .*, found list"),
        (([1, 2], [1]), {}, "mapping: 2 old ids and 1 new ids"),
        ({1.5: 2}, {}, "old ids: expected a whole number, found 1.5"),
        ({1: 2.5}, {}, "new ids: expected a whole number, found 2.5"),
        (pd.Series([1.0], [1]), {}, "new ids: expected whole numbers, found float64"),
        (([1, 3, 1], [2, 2, 3]), {}, "mapping: old id 1 becomes both 2 and 3"),
        (
            {1: 2**64},
            {},
            "no integer dtype holds uint64 and the new ids: 0 to 18446744073709551616",
        ),
        ({1: -1}, {}, "no integer dtype holds uint64 and the new ids: -1 to"),
        ({1: 256}, {"dtype": "u1"}, "new id 256 does not fit uint8"),
        ({1: -4}, {"dtype": "u1"}, "new id -4 does not fit uint8"),
        ({}, {"dtype": "u1", "missing": 300}, "new id 300 does not fit uint8"),
        ({}, {"dtype": "f4"}, "dtype: expected an integer dtype or bool, found float32"),
        ({}, {"missing": "drop"}, "missing='drop': expected 'raise', 'keep' or a number"),
        ({}, {"missing": 0.5}, "missing: expected a whole number, found 0.5"),
    ],
)
def test_remap_refuses(mapping, options, match):
    with pytest.raises(ValueError, match=match):
        remap(fails_if_computed(), mapping, **options)


def test_renumber_refuses():
    with pytest.raises(ValueError, match="start=0: expected at least 1"):
        renumber(row([1]), start=0)
    with pytest.raises(ValueError, match="start: expected a whole number, found 1.5"):
        renumber(row([1]), start=1.5)
    with pytest.raises(ValueError, match="no integer dtype holds the new ids: 0 to 184467"):
        renumber(row([1, 2]), start=TOP)


# ---- the real thing


def test_real_volume(real_volume, either_path):
    da = opened(real_volume, mip=1).isel(z=slice(100, 200))
    values = da.copy().values
    assert not da.variable._in_memory
    small, original = renumber(da)
    assert small.chunks is not None
    assert small.dtype == "u2"
    ids, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(original, ids[ids != 0])
    np.testing.assert_array_equal(unique_labels(da), counts)
    back = remap(small, original.to_series())
    np.testing.assert_array_equal(back, values)
    one = int(ids[len(ids) // 2])
    np.testing.assert_array_equal(mask(da, one), np.where(values == one, one, 0))


def test_memory_of_a_large_array(either_path):
    prepare = (
        "import sys, numpy as np, xarray as xr\n"
        "from xprecomputed import jit\n"
        "from xprecomputed.jobs.labels import remap, unique_labels\n"
        "if sys.argv[1] == 'no numba': jit._compile = lambda kernel: None\n"
        "table = (np.arange(10_000), np.arange(10_000) + 1)\n"
        "def run(n):\n"
        "    da = xr.DataArray(np.repeat(np.arange(n // 32, dtype='u8') % 10_000, 32), dims='x')\n"
        "    return da, remap(da, table), unique_labels(da)\n"
        "run(1 << 21)"
    )
    mib = 1 << 20
    taken = peak_bytes(prepare, "run(1 << 24)", either_path)
    assert taken < (256 + 32) * mib  # the labels and the result
