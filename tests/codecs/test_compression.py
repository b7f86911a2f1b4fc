import contextlib
import gzip
import sys
import tracemalloc
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.memory import peak_bytes
from xprecomputed import CorruptDataError, MissingDependencyError
from xprecomputed.codecs import _optional, compress, compression, decompress

zstd = compression._zstd()

ENCODERS = {
    "gzip": lambda data: gzip.compress(data),
    "br": lambda data: brotli.compress(data),
    "zstd": lambda data: zstd.compress(data),
}
EVERY = pytest.mark.parametrize("encoding", list(ENCODERS))


@EVERY
@pytest.mark.parametrize("data", [b"", b"a", bytes(100_000), bytes(range(256)) * 500])
def test_what_the_libraries_write_is_read(encoding, data):
    assert decompress(ENCODERS[encoding](data), encoding, len(data)) == data
    assert decompress(compress(data, encoding), encoding, len(data)) == data
    assert decompress(memoryview(compress(data, encoding, 1)), encoding, 10**6) == data


@EVERY
def test_bombs_stop_at_the_limit(encoding):
    bomb = ENCODERS[encoding](bytes(200 << 20))
    assert len(bomb) < 1 << 20
    warm_up = f"""
from xprecomputed.codecs import decompress, compress
decompress(compress(b"x", {encoding!r}), {encoding!r}, 1)
bomb = sys.stdin.buffer.read()
"""
    code = f"""
try:
    decompress(bomb, {encoding!r}, 1000)
except ValueError as error:
    assert "more than the 1000 bytes expected" in str(error), error
else:
    raise AssertionError("not refused")
"""
    assert peak_bytes(warm_up, code, stdin=bomb) < 40 << 20


@EVERY
def test_one_byte_too_many_is_refused(encoding):
    with pytest.raises(
        CorruptDataError, match=f"{encoding} data that holds more than the 999 bytes"
    ):
        decompress(ENCODERS[encoding](bytes(1000)), encoding, 999)


@EVERY
def test_truncation_is_found_wherever_it_is(encoding):
    packed = ENCODERS[encoding](bytes(range(256)) * 4)
    for cut in range(1, len(packed)):
        with pytest.raises(CorruptDataError, match="truncated|does not decompress"):
            decompress(packed[:-cut], encoding, 1024)
    with pytest.raises(CorruptDataError, match="zero bytes"):
        decompress(b"", encoding, 1024)


@EVERY
def test_garbage_behind_is_refused(encoding):
    with pytest.raises(CorruptDataError, match="truncated|does not decompress"):
        decompress(ENCODERS[encoding](b"abc") + b"xyz", encoding, 1024)


def test_damaged_gzip_is_found_by_its_checksum():
    packed = bytearray(gzip.compress(b"abcdefgh" * 10, 0))
    packed[20] ^= 1
    with pytest.raises(CorruptDataError, match="gzip data that does not decompress"):
        decompress(bytes(packed), "gzip", 1000)


def test_several_gzip_members_are_one_object():
    assert decompress(gzip.compress(b"ab") + gzip.compress(b"cd"), "gzip", 4) == b"abcd"


@pytest.mark.parametrize("second", [b"b" * 5000, b"a" * 5000], ids=["another", "the same"])
def test_members_of_one_length_are_all_read(second):
    """The last bytes tell the length of the first as well."""
    data = gzip.compress(b"a" * 5000) + gzip.compress(second)
    assert decompress(data, "gzip", 20_000) == b"a" * 5000 + second
    with pytest.raises(CorruptDataError, match="holds more than the 9999 bytes"):
        decompress(data, "gzip", 9999)


def test_a_trailer_that_lies_about_the_length_is_found():
    data = gzip.compress(b"a" * 5000)
    for length in (4999, 5001, 1, 2**32 - 1):
        with pytest.raises(CorruptDataError, match="gzip data that does not decompress"):
            decompress(data[:-4] + length.to_bytes(4, "little"), "gzip", 2**33)


def test_a_trailer_that_lies_about_the_length_allocates_nothing():
    data = gzip.compress(b"a" * 5000)[:-4] + (2**32 - 1).to_bytes(4, "little")
    tracemalloc.start()
    with pytest.raises(CorruptDataError, match="gzip data that does not decompress"):
        decompress(data, "gzip", 2**33)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_zlib_is_not_gzip():
    with pytest.raises(CorruptDataError, match="does not decompress"):
        decompress(zlib.compress(b"abc"), "gzip", 10)


def test_gzip_is_deterministic():
    assert compress(b"abc" * 99, "gzip")[:8] == b"\x1f\x8b\x08\0\0\0\0\0"


@EVERY
def test_levels_are_used_and_checked(encoding):
    data = b"".join(b"%d," % (n * n % 1009) for n in range(20_000))
    least, most = {"gzip": (0, 9), "br": (0, 11), "zstd": (1, 22)}[encoding]
    sizes = [len(compress(data, encoding, level)) for level in range(least, most + 1)]
    assert sizes[0] > sizes[-1]
    assert len(compress(data, encoding)) in sizes
    for level in (least, most):
        assert decompress(compress(data, encoding, level), encoding, len(data)) == data
    for level in (least - 1, most + 1, 2.5, True, "6"):
        with pytest.raises(
            ValueError, match=f"{encoding}: level=.*, expected an integer {least} to {most}"
        ):
            compress(data, encoding, level)


@EVERY
def test_the_same_bytes_every_time(encoding):
    data = bytes(range(256)) * 50
    assert compress(data, encoding) == compress(memoryview(data), encoding)


def test_unknown_compression():
    with pytest.raises(CorruptDataError, match="unknown compression 'lzma', known are"):
        decompress(b"abc", "lzma", 10)
    with pytest.raises(ValueError, match="compression 'lzma': expected one of"):
        compress(b"abc", "lzma")


@given(st.binary(max_size=400), st.sampled_from(list(ENCODERS)))
def test_any_bytes_are_data_or_an_error_of_ours(data, encoding):
    with contextlib.suppress(CorruptDataError):
        assert len(decompress(data, encoding, 1000)) <= 1000


@pytest.mark.parametrize("module", sorted(_optional.INSTALL))
def test_absent_packages_come_with_the_install_line(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"reading x: the package .*\n    pip install"):
        _optional.optional(module, "reading x")
