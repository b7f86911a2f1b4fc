import os
from pathlib import Path

import pytest

from xprecomputed import get_options, set_options


def test_a_with_block_restores_and_a_call_stays():
    before = get_options()
    with set_options(threads=3, coalesce_gap_bytes=0):
        assert get_options().threads == 3
        assert get_options().coalesce_gap_bytes == 0
    assert get_options() is before
    change = set_options(read_budget_bytes=123)
    assert get_options().read_budget_bytes == 123
    change.__exit__(None, None, None)
    assert get_options() is before


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4"])
def test_unusable_values_are_refused_and_change_nothing(value):
    before = get_options()
    with pytest.raises(ValueError, match=r"set_options\(threads=.*expected an integer >= 1"):
        set_options(threads=value)
    assert get_options() is before


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown \['thread'\], known are \['threads'"):
        set_options(thread=2)


def test_threads_default_to_the_processors_of_this_process():
    assert get_options().threads is None
    assert get_options().decode_threads >= 1


@pytest.mark.parametrize("path", ["/scratch/me", Path("/scratch/me"), "/scratch/you/../me"])
def test_a_folder_for_caching_is_a_path(path):
    assert (get_options().cache_dir, get_options().memory_cache_bytes) == (None, 0)
    with set_options(cache_dir=path, cache_bytes=5, memory_cache_bytes=0):
        assert get_options().cache_dir == os.path.abspath("/scratch/me")
        with set_options(cache_dir=None):
            assert get_options().cache_dir is None


def test_a_folder_for_caching_counts_from_home_or_from_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with set_options(cache_dir="~/kept"):
        assert get_options().cache_dir == str(tmp_path / "home" / "kept")
    with set_options(cache_dir="kept"):
        assert get_options().cache_dir == str(tmp_path / "kept")


@pytest.mark.parametrize("path", ["", "s3://bucket/kept", "a\0b", b"/kept", 5, True])
def test_what_is_no_folder_is_refused(path):
    before = get_options()
    with pytest.raises(ValueError, match=r"cache_dir=.*: expected the path of a local folder"):
        set_options(cache_dir=path)
    assert get_options() is before


def test_a_cache_on_disk_has_a_bound():
    with pytest.raises(ValueError, match=r"set_options\(cache_bytes=0\): expected an integer >= 1"):
        set_options(cache_bytes=0)
    with pytest.raises(ValueError, match=r"cache_bytes=None"):
        set_options(cache_bytes=None)
