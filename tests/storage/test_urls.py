import pickle
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.registry import _registry

from xprecomputed import InvalidURLError, MissingDependencyError
from xprecomputed.storage import Blob, is_explicit, locate_url, resolve, strip_format
from xprecomputed.storage import fsspec as fsspec_storage
from xprecomputed.storage.addresses.hosts import is_this_machine
from xprecomputed.storage.fsspec import _without_secrets
from xprecomputed.testing import write_volume


@pytest.mark.parametrize(
    ("typed", "bare"),
    [
        ("gs://b/p", "gs://b/p"),
        ("gs://b/p/", "gs://b/p"),
        ("gs://b/p/info", "gs://b/p"),
        ("precomputed://gs://b/p", "gs://b/p"),
        ("precomputed://file:///a/b/", "file:///a/b"),
        ("gs://b/p/|neuroglancer-precomputed:", "gs://b/p"),
        ("gs://b/p|neuroglancer-precomputed:/", "gs://b/p"),
        ("  /a/b/info/ ", "/a/b"),
        ("/", "/"),
        ("memory://", "memory://"),
        ("precomputed://memory://|neuroglancer-precomputed:", "memory://"),
        ("my-info", "my-info"),
    ],
)
def test_all_forms_of_an_address(typed, bare):
    assert strip_format(typed) == bare


def test_explicit_addresses():
    assert is_explicit("precomputed://a")
    assert is_explicit("a/|neuroglancer-precomputed:")
    assert not is_explicit("gs://a/b")


def test_paths_become_file_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for typed in (
        "v",
        "./v",
        "x/../v/",
        tmp_path / "v",
        f"file://{tmp_path}/v",
        "~/v",
        f"precomputed://{tmp_path}/v",
    ):
        assert locate_url(typed).url == f"file://{tmp_path}/v"
    assert locate_url(Path("v")).child("info").url == f"file://{tmp_path}/v/info"


@pytest.mark.parametrize(
    ("directory", "relative", "key"),
    [
        ("a/b", "8_8_40", "a/b/8_8_40"),
        ("a/b", "../em/8_8_40", "a/em/8_8_40"),
        ("a/b", "./x//y/", "a/b/x/y"),
        ("a/b", "../../x", "x"),
        ("a/b", "x/../y", "a/b/y"),
        ("", "x", "x"),
    ],
)
def test_keys_resolve_lexically(directory, relative, key):
    assert resolve(directory, relative) == key


@pytest.mark.parametrize("relative", ["../../../x", "x/../../../../y"])
def test_keys_may_not_leave_the_store(relative):
    with pytest.raises(InvalidURLError, match="leads out of the bucket or folder tree"):
        resolve("a/b", relative)


@pytest.mark.parametrize("relative", ["/etc/passwd", "a\\..\\b", "a\0b"])
def test_keys_are_plain_relative_paths(relative):
    with pytest.raises(InvalidURLError, match="expected a relative path with plain slashes"):
        resolve("a/b", relative)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("memory://a/b/c", "memory://"),
        ("simplecache::memory://a/b/c", "simplecache::memory://"),
    ],
)
def test_fsspec_urls_keep_their_root(url, root):
    location = locate_url(url)
    assert location.storage.url == root
    assert location.key == "a/b/c"
    assert location.url == url


def test_the_root_of_a_protocol_is_no_local_folder():
    location = locate_url("memory://")
    assert (location.url, location.key) == ("memory://", "")
    assert location.child("a").url == "memory://a"


@pytest.mark.parametrize("scheme", ["graphene", "zarr", "n5", "brainmaps"])
def test_other_formats_are_refused(scheme):
    with pytest.raises(
        InvalidURLError, match=f"this is a {scheme} source; engine='precomputed' reads"
    ):
        locate_url(f"{scheme}://gs://a/b")


def test_unknown_protocols_and_empty_addresses():
    with pytest.raises(InvalidURLError, match="nosuch://a/b: Protocol not known"):
        locate_url("nosuch://a/b")
    for url in ("", "   ", "a\0b"):
        with pytest.raises(InvalidURLError, match="expected a path or a URL"):
            locate_url(url)


def test_a_protocol_whose_package_is_absent_comes_with_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(
        MissingDependencyError, match=r"simplecache::s3://b/p: Install s3fs.*\n    pip install"
    ):
        locate_url("simplecache::s3://b/p")


def test_a_protocol_whose_package_is_absent(monkeypatch):
    for module in ("smbprotocol", "smbclient"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match="smb://host/share: "):
        locate_url("smb://host/share")


def test_options_mean_nothing_for_local_files(tmp_path):
    with pytest.raises(InvalidURLError, match=r"storage_options \['anon'\] mean nothing for local"):
        locate_url(tmp_path, {"anon": True})


def test_credentials_do_not_show():
    location = locate_url("memory://a/b", {"secret": "hunter2"})
    assert "hunter2" not in repr(location) + str(location)
    assert _without_secrets("https://me:hunter2@host/a/b?token=hunter2") == "https://host/a/b"


@pytest.mark.parametrize(
    ("url", "path", "root", "key"),
    [
        ("s3://bucket/a/b", "bucket/a/b", "s3://bucket/", "a/b"),
        ("s3://bucket", "bucket", "s3://bucket/", ""),
        ("https://host/a/b", "https://host/a/b", "https://host/", "a/b"),
    ],
)
def test_no_key_leaves_its_bucket_or_host(monkeypatch, url, path, root, key):
    monkeypatch.setattr(fsspec_storage, "_url_to_fs", lambda *args: (None, path))
    location = locate_url(url)
    assert (location.storage.url, location.key) == (root, key)
    with pytest.raises(InvalidURLError, match="leads out of the bucket"):
        location.child("../" * (key.count("/") + 2) + "x")


def test_an_address_that_cannot_be_split_is_refused(monkeypatch):
    monkeypatch.setattr(fsspec_storage, "_url_to_fs", lambda *args: (None, "elsewhere/x"))
    with pytest.raises(InvalidURLError, match="cannot be split into a root and 'elsewhere/x'"):
        locate_url("odd://a/b")


# ---- file systems that somebody has made


def test_what_has_a_file_system_of_its_own(tmp_path):
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/own/v/a", b"1")
    for given in (
        locate_url(fs.get_mapper("own/v")),
        locate_url(fsspec.open("memory://own/v")),
        locate_url("own/v", {"fs": fs}),
        locate_url("memory://own/v/info", {"fs": fs}),
    ):
        assert given.url == "memory://own/v"
        assert given.storage.get(given.child("a").key) == Blob(b"1")
        again = pickle.loads(pickle.dumps(given))
        assert again.storage.get(again.child("a").key) == Blob(b"1")
    inner = DirFileSystem("/own", fs)
    inside = locate_url("v", {"fs": inner})
    assert inside.storage.get(inside.child("a").key) == Blob(b"1")


def test_a_volume_in_a_file_system_of_its_own():
    array = np.arange(24, dtype="u1").reshape(2, 3, 4)
    url = write_volume("memory://own/volume", [array])
    fs = fsspec.filesystem("memory")
    for given, options in [(fs.get_mapper(url), None), (url, {"fs": fs})]:
        ds = xr.open_dataset(given, engine="precomputed", storage_options=options)
        np.testing.assert_array_equal(ds["image"], array)
        assert ds["image"].attrs["precomputed_source"] == "memory://own/volume"
        assert ds["image"].precomputed.mip == 0


def test_file_systems_that_are_none():
    with pytest.raises(InvalidURLError, match="fs=int: expected a file system of fsspec, such as"):
        locate_url("a", {"fs": 5})
    with pytest.raises(InvalidURLError, match=r"\['anon'\] beside fs= mean nothing"):
        locate_url("a", {"fs": fsspec.filesystem("memory"), "anon": True})


# ---- this machine


@pytest.mark.parametrize(
    ("url", "is_ours"),
    [
        ("http://127.0.0.1:9000/a", True),
        ("http://127.1/a", True),
        ("http://2130706433/a", True),
        ("http://0x7f.1/a", True),
        ("http://[::1]/a", True),
        ("http://[::ffff:127.0.0.1]/a", True),
        ("http://0.0.0.0/a", True),
        ("http://169.254.169.254/latest", True),
        ("http://LOCALHOST./a", True),
        ("http://me.localhost/a", True),
        ("http://user:pw@127.0.0.1/a", True),
        ("http://[::1/a", True),
        ("http://127.0.0.1.example.org/a", False),
        ("http://10.0.0.1/a", False),
        ("https://example.org/127.0.0.1", False),
        ("", False),
    ],
)
def test_which_hosts_are_this_machine(url, is_ours):
    assert is_this_machine(url) is is_ours
