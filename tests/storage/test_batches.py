"""Local files by machine code: the same bytes as by Python, and the same answers where it fails."""

import os
import subprocess
import sys

import numpy as np
import pytest

import xprecomputed as xp
from xprecomputed.storage import FileBatches, LocalStorage, batches

pytest.importorskip("numba")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Python does it"),
    pytest.mark.usefixtures("files_by_kernels"),
]

SHAPE = 2, 6, 5, 7  # channel, z, y, x


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(), str(tmp_path)[1:]


def stored(folder, dtype="u2", name="chunk"):
    values = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    (folder / name).write_bytes(values.tobytes())
    return values


def box_of(region, out, at, dtype):
    """As `copy_boxes` takes it: `region` of a file of `SHAPE` goes to `at` in `out`."""
    values = np.empty(SHAPE, dtype)
    c, z, y, x = values.strides
    part = values[region]
    first = sum(each.start * n for each, n in zip(region, values.strides, strict=True))
    target = sum(i * n for i, n in zip(at, out.strides, strict=True))
    return values.nbytes, first, c, z, y, *part.shape[:3], part.shape[3] * x, target


REGIONS = [
    (slice(0, 2), slice(0, 6), slice(0, 5), slice(0, 7)),
    (slice(1, 2), slice(2, 5), slice(1, 3), slice(3, 7)),
    (slice(0, 2), slice(5, 6), slice(4, 5), slice(6, 7)),
]


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "u8"])
@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("buffer", [1, 1 << 16])
def test_boxes(storage, tmp_path, monkeypatch, dtype, region, buffer):
    """Row by row, plane by plane or in one piece."""
    monkeypatch.setattr(batches, "BUFFER_BYTES", buffer)
    values = stored(tmp_path, dtype)
    part = values[region]
    out = np.full([n + 3 for n in part.shape], 255, dtype)
    at = 1, 2, 0, 3
    files = storage[0].batches(storage[1], 1)
    boxes = np.array([box_of(region, out, at, dtype)], np.int64)
    with xp.trace() as traced:
        assert files.copy_boxes(["chunk"], boxes, out).tolist() == [True]
    wanted = np.full_like(out, 255)
    wanted[tuple(slice(i, i + n) for i, n in zip(at, part.shape, strict=True))] = part
    np.testing.assert_array_equal(out, wanted)
    assert traced.requests == 1
    assert part.nbytes <= traced.bytes <= values.nbytes


def test_rows_that_are_far_apart_are_asked_for_alone(storage, tmp_path):
    values = np.arange(40 * 100 * 100, dtype="u4").reshape(1, 40, 100, 100)
    (tmp_path / "chunk").write_bytes(values.tobytes())
    out = np.zeros((1, 40, 1, 5), "u4")
    c, z, y, x = values.strides
    box = (values.nbytes, 7 * y + 9 * x, c, z, y, 1, 40, 1, 5 * x, 0)
    with xp.trace() as traced:
        files = storage[0].batches(storage[1], 1)
        assert files.copy_boxes(["chunk"], np.array([box]), out).all()
    np.testing.assert_array_equal(out, values[:, :, 7:8, 9:14])
    assert traced.bytes == out.nbytes


@pytest.mark.parametrize("count", [1, 50])  # few are asked for one by one
def test_points(storage, tmp_path, count):
    random = np.random.default_rng(1)
    values = random.integers(0, 1 << 60, 16_000)
    for name in "ab":
        (tmp_path / name).write_bytes((values + ord(name)).tobytes())
    sources, targets = random.integers(0, len(values), 2 * count), random.permutation(2 * count)
    out = np.zeros(2 * count, "i8")
    found = (
        storage[0]
        .batches(storage[1], 2)
        .copy_points(
            ["a", "b"],
            np.array([[values.nbytes, 0, count], [values.nbytes, count, 2 * count]]),
            sources * 8,
            targets * 8,
            out,
        )
    )
    assert found.tolist() == [True, True]
    np.testing.assert_array_equal(
        out[targets], values[sources] + np.repeat([ord("a"), ord("b")], count)
    )


def test_what_is_not_the_expected_file_is_left(storage, tmp_path):
    values = stored(tmp_path, name="good")
    (tmp_path / "short").write_bytes(values.tobytes()[:-1])
    (tmp_path / "long").write_bytes(values.tobytes() + b"\0")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link").symlink_to(tmp_path / "good")
    names = ["short", "good", "long", "folder", "pipe", "dangling", "absent", "link"]
    out = np.zeros((len(names), *SHAPE), "u2")
    boxes = np.array(
        [(*box_of(REGIONS[0], out[0], (0, 0, 0, 0), "u2")[:-1], k * values.nbytes)
         for k in range(len(names))]
    )  # fmt: skip
    files = storage[0].batches(storage[1], len(names))
    merged = out.reshape(-1, *SHAPE[1:])
    is_read = [name in ("good", "link") for name in names]
    with xp.trace() as traced:
        assert files.copy_boxes(names, boxes, merged).tolist() == is_read
    assert traced.requests == 2
    np.testing.assert_array_equal(out[1], values)
    spans = np.array([[values.nbytes, k, k + 1] for k in range(len(names))])
    each = np.arange(len(names)) * 2
    assert files.copy_points(names, spans, each, each, out).tolist() == is_read


@pytest.mark.parametrize(
    ("column", "value"), [(0, 839), (1, -1), (1, 1), (5, 3), (8, 16), (9, -2), (9, 2)]
)
def test_no_copy_leaves_the_file_or_the_result(storage, tmp_path, column, value):
    stored(tmp_path)
    out = np.zeros(SHAPE, "u2")
    box = np.array([box_of(REGIONS[0], out, (0, 0, 0, 0), "u2")])
    assert out.nbytes == 840
    files = storage[0].batches(storage[1], 1)
    assert files.copy_boxes(["chunk"], box, out).all()
    box[0, column] = value
    with pytest.raises(ValueError, match="would leave its file or its result"):
        files.copy_boxes(["chunk"], box, out)


@pytest.mark.parametrize(("source", "target"), [(-1, 0), (839, 0), (0, -1), (0, 839)])
def test_no_point_leaves_the_file_or_the_result(storage, tmp_path, source, target):
    stored(tmp_path)
    out = np.zeros(SHAPE, "u2")
    files = storage[0].batches(storage[1], 1)
    with pytest.raises(ValueError, match="would leave its file or its result"):
        files.copy_points(
            ["chunk"], np.array([[840, 0, 1]]), np.array([source]), np.array([target]), out
        )


def test_the_kernels_are_loaded_once_there_were_many_files(storage, monkeypatch):
    monkeypatch.setattr(batches, "BEFORE", 100)
    monkeypatch.setattr(batches, "AT_ONCE", 1000)
    assert storage[0].batches(storage[1], 101) is None
    assert isinstance(storage[0].batches(storage[1], 1), FileBatches)
    monkeypatch.setattr(batches, "_count", 0)
    assert isinstance(storage[0].batches(storage[1], 1001), FileBatches)
    assert storage[0].batches(f"{storage[1]}/\0", 1) is None


def test_without_numba_python_does_it(tmp_path):
    """In a process of its own: here numba is imported already."""
    script = (
        "import sys; sys.modules['numba'] = None\n"
        "from xprecomputed.storage import LocalStorage, batches\n"
        "batches.BEFORE = -1\n"
        f"storage, folder = LocalStorage(), {str(tmp_path)[1:]!r}\n"
        "assert storage.batches(folder, 1) is None\n"
        "storage.put(f'{folder}/a', b'abc')\n"
        "assert storage.get(f'{folder}/a').data == b'abc'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("data", [b"", b"abc", memoryview(b"x" * 100_000), np.arange(9.0).data])
def test_a_file_is_written_and_replaced(storage, tmp_path, data):
    for content in (b"before", data):
        storage[0].put(f"{storage[1]}/new folder/a", content)
        found = storage[0].get(f"{storage[1]}/new folder/a")
        assert found.data == bytes(content)
    assert os.listdir(tmp_path / "new folder") == ["a"]


def test_a_written_file_may_be_read_by_whom_the_umask_says(storage, tmp_path):
    before = os.umask(0o027)
    try:
        storage[0].put(f"{storage[1]}/a", b"abc")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_write_leaves_one_variant(storage, tmp_path):
    names = ["a", "a.gz", "a.br", "a.zst", "ab", "a.tif"]
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    assert batches.replace_file(f"{tmp_path}/a", [f"{tmp_path}/a.{x}" for x in "bc"], b"1") == 0
    assert batches.replace_file(f"{tmp_path}/a", [f"{tmp_path}/ab", f"{tmp_path}/c"], b"2") == 1
    storage[0].put(f"{storage[1]}/a", b"3")
    assert sorted(os.listdir(tmp_path)) == ["a", "a.tif"]
    storage[0].put(f"{storage[1]}/a", b"4", encoding="gzip")
    assert sorted(os.listdir(tmp_path)) == ["a.gz", "a.tif"]
    assert (tmp_path / "a.gz").read_bytes() == b"4"


def test_what_cannot_be_written_is_left_to_python(storage, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b.gz").mkdir()
    assert batches.replace_file(f"{tmp_path}/a", [], b"abc") == -1
    assert batches.replace_file(f"{tmp_path}/nowhere/a", [], b"abc") == -1
    assert batches.replace_file(f"{tmp_path}/b", [f"{tmp_path}/b.gz"], b"abc") == -1
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "b.gz"]
    for name in "ab":
        with pytest.raises(xp.StorageError, match="irectory"):
            storage[0].put(f"{storage[1]}/{name}", b"abc")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "b.gz"]


def test_many_writers_of_one_file_leave_one_of_theirs(storage, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    contents = [bytes([k]) * 50_000 for k in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: storage[0].put(f"{storage[1]}/a", content), contents))
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() in contents


def test_a_name_with_a_nul_is_not_cut_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert batches.replace_file(f"{tmp_path}/a\0b", [], b"abc") == -1
    assert os.listdir(tmp_path) == []
    with pytest.raises(xp.StorageError, match="null"):
        LocalStorage().put(f"{tmp_path}/a\0b"[1:], b"abc")


def test_a_file_that_has_no_room_leaves_what_was_there(tmp_path):
    """As on a full disk: here the process may not write files that long."""
    (tmp_path / "a").write_bytes(b"old")
    script = (
        "import resource\n"
        "from xprecomputed.storage import batches\n"
        "batches.BEFORE = -1\n"
        f"assert batches.replace_file({str(tmp_path / 'b')!r}, [], b'new') == 0\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        f"assert batches.replace_file({str(tmp_path / 'a')!r}, [], bytes(99_999)) == -1\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_name_that_no_file_can_have_is_a_failure_of_the_store(tmp_path):
    with pytest.raises(xp.StorageError, match="surrogates"):
        LocalStorage().put(f"{tmp_path}/a\ud800"[1:], b"abc")
