import sys
from pathlib import Path

import pytest
from fsspec.registry import _registry

from xprecomputed import InvalidURLError, MissingDependencyError
from xprecomputed.storage import fsspec as fsspec_storage
from xprecomputed.storage import is_explicit, locate_url, resolve, strip_format
from xprecomputed.storage.fsspec import _without_secrets


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
        MissingDependencyError, match=r"s3://b/p: Install s3fs.*\n    pip install s3fs"
    ):
        locate_url("s3://b/p")


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
