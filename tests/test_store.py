import gzip
import json
import pickle

import numpy as np
import pytest
from dask.base import tokenize

from tests.images import noise
from xprecomputed import (
    InfoMissingError,
    InvalidInfoError,
    InvalidURLError,
    StorageError,
    open_store,
    store,
    trace,
)
from xprecomputed.storage import locate_url
from xprecomputed.store import opening
from xprecomputed.testing import write_volume

ARRAY = noise((8, 9, 10), "u1")
SCALE = {
    "key": "s",
    "size": [4] * 3,
    "resolution": [1] * 3,
    "chunk_sizes": [[4] * 3],
    "encoding": "raw",
}
VOLUME = {"type": "image", "data_type": "uint8", "num_channels": 1, "scales": [SCALE]}


def test_mips_are_numbered_finest_first(tmp_path):
    write_volume(str(tmp_path), [ARRAY, ARRAY[:, ::2, ::2]])
    found = open_store(tmp_path)
    assert list(found.mips) == [0, 1]
    assert found.mips[1].resolution == (16, 16, 40)
    assert found.url == f"file://{tmp_path}"


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "{}/",
        "{}/info",
        "file://{}",
        "precomputed://file://{}/",
        "file://{}/|neuroglancer-precomputed:",
    ],
)
def test_every_form_of_the_address(tmp_path, form):
    write_volume(str(tmp_path), [ARRAY])
    assert open_store(form.format(tmp_path)).read(((0, 0, 0), (10, 9, 8))).sum() == ARRAY.sum()


@pytest.mark.parametrize(
    "url", ["memory://one/two", "precomputed://memory://one/two/", "memory:///one/two"]
)
def test_memory(url):
    write_volume("memory://one/two", [ARRAY])
    with trace() as t:
        found = open_store(url)
        np.testing.assert_array_equal(found.read(((0, 0, 0), (10, 9, 8)))[0], ARRAY)
    assert t.requests == 2


def test_a_missing_info_is_told_from_a_failing_one(tmp_path):
    with pytest.raises(
        InfoMissingError, match=f"file://{tmp_path}/no/info: there is no such object"
    ):
        open_store(tmp_path / "no")
    write_volume(str(tmp_path / "volume"), [ARRAY])
    with pytest.raises(InfoMissingError, match=r"volume has an info: is that the volume, and this"):
        open_store(tmp_path / "volume" / "8_8_40")
    (tmp_path / "info").mkdir()
    with pytest.raises(StorageError, match="not a regular file"):
        open_store(tmp_path)


def test_problems_name_the_object(tmp_path):
    (tmp_path / "info").write_text('{"type": "image"')
    with pytest.raises(
        InvalidInfoError, match=f"file://{tmp_path}/info: not JSON: .*line 1 column 17"
    ):
        open_store(tmp_path)
    (tmp_path / "info").write_text('{"@type": "neuroglancer_skeletons"}')
    with pytest.raises(
        InvalidInfoError, match=f"file://{tmp_path}/info is not a usable(.*\n)*.*skeleton directory"
    ):
        open_store(tmp_path)


def test_an_info_given_in_code_is_checked_too(tmp_path):
    with pytest.raises(InvalidInfoError, match="info= is not a usable volume description"):
        open_store(tmp_path, info={"type": "image"})


def test_compressed_info(tmp_path):
    write_volume(str(tmp_path), [ARRAY])
    (tmp_path / "info.gz").write_bytes(gzip.compress((tmp_path / "info").read_bytes()))
    (tmp_path / "info").unlink()
    assert open_store(tmp_path).info.type == "image"


# ---- redirects


def redirect(path, target, **members):
    path.mkdir(exist_ok=True)
    (path / "info").write_text(json.dumps({"redirect": target, **members}))


def test_redirects_are_followed(tmp_path):
    write_volume(str(tmp_path / "c"), [ARRAY])
    redirect(tmp_path / "b", f"precomputed://file://{tmp_path}/c")
    redirect(tmp_path / "a", f"{tmp_path}/b/")
    with trace() as t:
        found = open_store(tmp_path / "a")
    assert found.url == f"file://{tmp_path}/c"
    assert t.requests == 3


def test_a_redirect_to_itself_is_the_place(tmp_path):
    write_volume(str(tmp_path), [ARRAY])
    document = json.loads((tmp_path / "info").read_text())
    (tmp_path / "info").write_text(json.dumps(document | {"redirect": f"file://{tmp_path}/"}))
    assert open_store(tmp_path).url == f"file://{tmp_path}"


def test_redirects_that_do_not_end(tmp_path):
    redirect(tmp_path / "a", f"{tmp_path}/b")
    redirect(tmp_path / "b", f"{tmp_path}/a")
    with pytest.raises(InvalidInfoError, match=r"redirects that do not end .*/a -> .*/b -> .*/a"):
        open_store(tmp_path / "a")
    for i in range(12):
        redirect(tmp_path / f"r{i}", f"{tmp_path}/r{i + 1}")
    write_volume(str(tmp_path / "r12"), [ARRAY])
    with pytest.raises(InvalidInfoError, match=r"redirects that do not end \(max_redirects=10\)"):
        open_store(tmp_path / "r0")
    assert open_store(tmp_path / "r0", max_redirects=12).url.endswith("r12")


@pytest.mark.parametrize("target", [5, "../b", ["file:///a"]])
def test_redirects_are_addresses(tmp_path, target):
    redirect(tmp_path / "a", target)
    with pytest.raises(
        InvalidInfoError, match="/a/info: redirect is .*, expected a URL or an absolute path"
    ):
        open_store(tmp_path / "a")


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc",
        "/etc",
        "memory://x",
        "precomputed://file:///etc",
        "simplecache::https://example.org/x",
        "http://127.0.0.1/x",
        "s3+http://localhost:9000/bucket/x",
        "http://169.254.169.254/latest",
        "ftp://host/x",
        "http://vm/x",
        "http://metadata.google.internal/x",
        "http://[fd00:ec2::254]/x",
    ],
)
def test_a_remote_volume_may_not_redirect_to_this_machine(target):
    remote = locate_url("gs://bucket/layer")
    with pytest.raises(InvalidInfoError, match="a remote volume may not redirect to"):
        opening._redirected(remote, target, remote.storage)
    following = opening._redirected(remote, "https://example.org/x", remote.storage)
    assert following.url == "https://example.org/x"


def test_what_lies_on_this_machine_may_redirect_anywhere():
    for here in ("/data", "http://localhost/x", "s3+http://127.0.0.1:9000/bucket/x"):
        place = locate_url(here)
        following = opening._redirected(place, "http://127.0.0.1:80/x", place.storage)
        assert following.url == "http://127.0.0.1/x"


def test_redirects_to_other_formats_are_refused(tmp_path):
    redirect(tmp_path / "a", "graphene://https://host/x")
    with pytest.raises(InvalidURLError, match="this is a graphene source"):
        open_store(tmp_path / "a")


def test_options_do_not_travel_to_another_bucket(monkeypatch):
    """Nor on a second hop inside of it, nor by what is remembered for accessors."""
    secret = {"key": "name", "secret": "hunter2"}
    hops = {
        "s3://one/a": "s3://two/a",
        "s3://two/a": "s3://two/b",
        "s3://one/c": "precomputed://s3://one/d",
        "s3+https://minio.example.org/one/a": "s3://one/b",
        "s3+https://minio.example.org/one/c": "s3+https://minio.example.org/one/b",
        "s3://one/w": "https://example.org/w",
    }
    shown = []

    def read(location):
        shown.append((location.url, location.storage.options, location.storage.trusted))
        target = hops.get(location.url)
        return {"redirect": target} if target else VOLUME

    monkeypatch.setattr(opening, "read_info", read)
    assert open_store("s3://one/a", storage_options=secret).url == "s3://two/b"
    assert shown == [
        ("s3://one/a", secret, True), ("s3://two/a", {}, False), ("s3://two/b", {}, False),
    ]  # fmt: skip
    assert store.reopen("s3://two/b").location.storage.options == {}
    open_store("s3://one/w", storage_options=secret)
    assert shown[-1] == ("https://example.org/w", {}, False)
    # inside the bucket they do
    assert open_store("s3://one/c", storage_options=secret).url == "s3://one/d"
    assert shown[-1] == ("s3://one/d", secret, True)
    assert store.reopen("s3://one/d").location.storage.options == secret
    # a server that the options name is meant by the whole bucket
    there = secret | {"endpoint_url": "https://minio.example.org"}
    assert (
        open_store("s3://one/a", storage_options=there).url == "s3+https://minio.example.org/one/b"
    )
    assert shown[-1] == ("s3+https://minio.example.org/one/b", there, True)
    assert (
        open_store("s3://one/c", storage_options=there).url == "s3+https://minio.example.org/one/b"
    )


# ---- secrets and pickles


def test_options_travel_in_pickles_and_show_nowhere_else():
    write_volume("memory://secret/volume", [ARRAY])
    found = open_store("memory://secret/volume", storage_options={"secret": "hunter2"})
    assert b"hunter2" in pickle.dumps(found.reader())
    da = found.open_dataset()["image"]
    shown = [
        repr(found),
        repr(da),
        repr(da.attrs),
        repr(da.encoding),
        repr(found.reader()),
        str(found.url),
    ]
    assert "hunter2" not in "".join(shown)
    assert "hunter2" not in repr(found.__dask_tokenize__())
    plain = open_store("memory://secret/volume")
    assert tokenize(found) == tokenize(pickle.loads(pickle.dumps(found))) == tokenize(plain)
    assert tokenize(plain) == tokenize(open_store("memory://secret/volume"))
    # an accessor finds the options again in this process
    assert da.precomputed.store.location.storage.options == {"secret": "hunter2"}
    # nobody knows whether other options say which place it is
    other = open_store("memory://secret/volume", storage_options={"odd": "hunter2"})
    assert tokenize(found) != tokenize(other)
