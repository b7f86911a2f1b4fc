"""Every kind of volume in every kind of place: what the peers write and read, and so do we."""

import os
import re

import numpy as np
import pytest

from tests.images import labels, noise, smooth
from tests.jobs.arrays import label, opened
from tests.remote.conftest import CLOUDS, WEB
from tests.remote.places import cloudfiles, cv_read, cv_write, on_disk, ts_read, ts_write
from tests.remote.samples import CHUNK, OFFSET, RECIPES, SHAPE, sharding
from xprecomputed import (
    AccessDeniedError,
    ChunkMissingError,
    CorruptDataError,
    StorageError,
    open_store,
    to_precomputed,
    trace,
)


def read(place, **options):
    """All voxels, (channel, z, y, x)."""
    store = place.open()
    return store.read(store.mips[0].bounds, **options)


@pytest.fixture
def environment(monkeypatch, s3, gcs):
    """What the peers find their servers and credentials with."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "none")  # cloud-files wants one
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    cloudfiles.paths.add_alias("fakes3", f"s3://{s3.url}/")


# ---- reading


@pytest.mark.parametrize("sample", RECIPES)
@pytest.mark.parametrize("kind", CLOUDS + WEB)
def test_what_a_peer_wrote_is_read_equal(place_of, samples, kind, sample):
    sample, place = samples(sample), place_of(kind)
    place.upload(sample.folder)
    np.testing.assert_array_equal(read(place), sample.array)
    if sample.name in ("raw", "sharded cseg"):
        lazy = opened(place.url, storage_options=place.options)
        np.testing.assert_array_equal(lazy[3:20, 5:, 7:9], sample.array[0, 3:20, 5:, 7:9])


@pytest.mark.parametrize(
    ("kind", "spec"),
    [  # it fails to write shards to S3: a bool for Cache-Control
        ("s3 signed", None),
        ("gcs anonymous", None),
        ("gcs anonymous", sharding(2, 2, 0)),
    ],
)
def test_cloudvolume_writes_there_itself(place_of, environment, kind, spec):
    place, array = place_of(kind), labels((1, 16, 32, 32))
    cv_write(
        place.cloudvolume,
        array,
        "compressed_segmentation",
        offset=OFFSET,
        chunk=CHUNK,
        sharding=spec,
    )
    chunk = next(name for name in place.names() if name.startswith("4_4_40/"))
    encoding = place.get(chunk)[1].get("content-encoding")
    assert encoding in ((None, "") if spec else ("gzip",))
    np.testing.assert_array_equal(read(place), cv_read(place.cloudvolume))
    np.testing.assert_array_equal(read(place), array)


@pytest.mark.parametrize("kind", ["s3 anonymous", "s3 signed", "gcs anonymous", "gcs signed"])
@pytest.mark.parametrize("spec", [None, sharding(1, 1, 9)], ids=["unsharded", "sharded"])
def test_tensorstore_writes_there_itself(place_of, environment, kind, spec):
    place, array = place_of(kind), noise((1, *SHAPE), "u2")
    ts_write(place.tensorstore, array, "raw", offset=OFFSET, chunk=CHUNK, sharding=spec)
    np.testing.assert_array_equal(read(place), ts_read(place.tensorstore))
    np.testing.assert_array_equal(read(place), array)


@pytest.mark.parametrize("sample", ["raw", "cseg", "compresso"])
def test_compressed_bytes_without_a_header_are_an_error(place_of, samples, sample):
    """Or right; never anything else."""
    sample, place = samples(sample), place_of("web silent")
    place.upload(sample.folder)
    try:
        found = read(place)
    except CorruptDataError:
        return
    np.testing.assert_array_equal(found, sample.array)


def test_answers_without_their_length(place_of, samples):
    sample, place = samples("raw"), place_of("web raw")
    place.upload(sample.folder)
    place.web.chunked = True
    np.testing.assert_array_equal(read(place), sample.array)


def test_ranges_without_their_length(place_of, samples):
    """Such a server sends the whole."""
    place = place_of("web raw")
    place.upload(samples("sharded raw").folder)
    place.web.chunked = True
    with pytest.raises(StorageError, match="Range"):
        read(place)


@pytest.mark.parametrize("sample", ["cseg", "sharded raw"])
def test_one_request_a_chunk_and_few_a_shard(place_of, samples, sample):
    sample, place = samples(sample), place_of("s3 anonymous")
    place.upload(sample.folder)
    store = place.open()
    with place.server.watching() as seen, trace() as traced:
        store.read(store.mips[0].bounds)
    assert {each.method for each in seen} == {"GET"}
    assert len(seen) == traced.requests
    if not sample.is_sharded:
        assert len(seen) == 27
        assert traced.bytes == sum(len(place.get(name)[0]) for name in place.names() if "_" in name)


# ---- writing

#: encoding, array, arguments, and the compression that objects of chunks declare
WRITTEN = {
    "raw": ("raw", noise(SHAPE, "u1"), {}, "gzip"),
    "raw channels": ("raw", noise((3, *SHAPE), "u2"), {"compression": None}, None),
    "jpeg": ("jpeg", smooth(SHAPE), {}, None),
    "png": ("png", noise(SHAPE, "u1"), {}, None),
    "cseg": ("compressed_segmentation", labels(SHAPE), {}, "gzip"),
    "compresso": ("compresso", labels(SHAPE), {}, "gzip"),
    "sharded raw": ("raw", noise(SHAPE, "u2"), {"sharding": "auto"}, None),
    "sharded cseg": ("compressed_segmentation", labels(SHAPE), {"sharding": "auto"}, None),
}
#: Nobody writes to GCS unnamed.
WRITABLE = [
    *[(kind, name) for kind in ("s3 signed", "gcs signed", "azure signed") for name in WRITTEN],
    *[
        (kind, name)
        for kind in ("s3 anonymous", "azure anonymous")
        for name in ("raw", "sharded cseg")
    ],
]


@pytest.mark.parametrize(("kind", "name"), WRITABLE)
def test_what_we_write_is_read_equal_by_a_peer(place_of, tmp_path, kind, name):
    encoding, array, arguments, compression = WRITTEN[name]
    place = place_of(kind)
    store = to_precomputed(
        label(array, (4, 4, 40), OFFSET).chunk(x=32, y=32, z=32),
        place.url,
        encoding=encoding,
        chunk_size=CHUNK,
        downsample=1,
        cache_control="public, max-age=60",
        storage_options=place.options,
        **arguments,
    )
    wanted = store.read(store.mips[0].bounds)
    if encoding != "jpeg":
        np.testing.assert_array_equal(wanted, array if array.ndim == 4 else array[None])
    coarse = store.read(store.mips[1].bounds, 1)
    check_headers(place, compression)
    place.download(tmp_path / "copy")
    for mip, ours in enumerate((wanted, coarse)):
        if encoding != "compresso" and compression is None:
            np.testing.assert_array_equal(ts_read(on_disk(tmp_path / "copy"), mip), ours)
        if array.ndim == 3:
            np.testing.assert_array_equal(cv_read(f"file://{tmp_path}/copy", mip), ours)


def check_headers(place, compression):
    names = place.names()
    assert not [name for name in names if name.rpartition("/")[2].startswith(".")]
    for name in names:
        data, headers = place.get(name)
        declared = headers.get("content-encoding") or None
        if declared == "gzip":
            assert data[:2] == b"\x1f\x8b"
        if name.endswith(".shard") or "/" not in name:
            assert declared is None, name
        else:
            assert declared == compression, name
        if "/" in name:
            assert headers.get("cache-control") == "public, max-age=60", name


@pytest.mark.parametrize("name", ["raw", "cseg", "sharded raw", "sharded cseg"])
@pytest.mark.parametrize("kind", ["s3 signed", "gcs signed"])
def test_the_peers_read_it_there(place_of, environment, monkeypatch, kind, name):
    """TensorStore, and CloudVolume with credentials."""
    encoding, array, arguments, _ = WRITTEN[name]
    place = place_of(kind)
    to_precomputed(
        label(array, (4, 4, 40), OFFSET),
        place.url,
        encoding=encoding,
        chunk_size=CHUNK,
        storage_options=place.options,
        **arguments,
    )
    np.testing.assert_array_equal(ts_read(place.tensorstore)[0], array)
    if kind.startswith("s3"):
        np.testing.assert_array_equal(cv_read(place.cloudvolume)[0], array)


def test_regions_modes_and_copies(place_of):
    """Writing into what is there, by several tasks, replacing, refusing."""
    place, array = place_of("s3 signed"), labels(SHAPE)
    write = {"chunk_size": CHUNK, "storage_options": place.options, "provenance": False}
    to_precomputed(label(array, (4, 4, 40), OFFSET), place.url, **write)
    with pytest.raises(FileExistsError):
        to_precomputed(label(array, (4, 4, 40), OFFSET), place.url, **write)
    array[:, :, :32] += 1
    part = label(array[:, :, :32], (4, 4, 40), OFFSET)
    to_precomputed(part, place.url, region="auto", storage_options=place.options, provenance=False)
    np.testing.assert_array_equal(read(place)[0], array)
    smaller = label(array[:16], (4, 4, 40), (0, 0, 0))
    to_precomputed(smaller, place.url, mode="w", **write)
    np.testing.assert_array_equal(read(place)[0], array[:16])
    assert len(place.names()) == 1 + 9


# ---- holes


@pytest.fixture(params=["s3 signed", "gcs signed", "azure signed", "web raw", "nginx twins"])
def holed(request, place_of, samples):
    """A place with a volume that lacks a chunk, and what is to be read with zeros there."""

    def make(name):
        sample, place = samples(name), place_of(request.param)
        place.upload(sample.folder)
        wanted = sample.array.copy()
        if sample.is_sharded:
            shard = sorted(each for each in place.names() if each.endswith(".shard"))[0]
            place.delete(shard)
            return place, None
        hole = "4_4_40/9-25_116-132_19-35"
        place.delete(hole)
        wanted[:, 16:32, 16:32, 16:32] = 0
        return place, wanted

    return make


@pytest.mark.parametrize("name", ["raw", "cseg", "sharded raw"])
def test_a_hole_is_an_error_or_zeros_if_asked(holed, name):
    place, wanted = holed(name)
    with pytest.raises(ChunkMissingError, match="is not stored"):
        read(place)
    with trace() as traced:
        found = read(place, fill_missing=True)
    assert traced.filled >= 1
    if wanted is not None:
        np.testing.assert_array_equal(found, wanted)
        assert traced.filled == 1


@pytest.mark.parametrize("name", ["raw", "sharded raw"])
@pytest.mark.parametrize(
    "kind", ["s3 anonymous", "s3 signed", "gcs anonymous", "web raw", "nginx 403"]
)
def test_a_hole_that_is_denied(place_of, samples, kind, name):
    sample, place = samples(name), place_of(kind)
    place.upload(sample.folder)
    shards = sorted(each for each in place.names() if each.endswith(".shard"))
    hole = shards[0] if shards else "4_4_40/9-25_116-132_19-35"
    place.delete(hole)
    with hiding(place):
        for fill in (False, True):
            with pytest.raises(AccessDeniedError, match="fill_missing='denied'") as error:
                read(place, fill_missing=fill)
            assert hole in str(error.value)
            assert place.url in str(error.value)
        found = read(place, fill_missing="denied")
        lazy = opened(place.url, fill_missing="denied", storage_options=place.options)
        np.testing.assert_array_equal(lazy.values, found[0])
        place.delete("info")
        with pytest.raises(AccessDeniedError, match=re.escape(f"{place.url}/info")):
            place.open()
        with pytest.raises(AccessDeniedError, match="info"):
            opened(place.url, fill_missing="denied", storage_options=place.options)
    wanted = sample.array.copy()
    if not shards:
        wanted[:, 16:32, 16:32, 16:32] = 0
        np.testing.assert_array_equal(found, wanted)
    else:
        differing = found != sample.array
        assert differing.any()
        assert not found[differing].any()


class hiding:  # noqa: N801 - reads as a verb
    """While it lasts, what is missing is denied."""

    def __init__(self, place):
        self.server = getattr(place, "web", None) or place.server

    def __enter__(self):
        if hasattr(self.server, "missing"):
            self.server.missing = 403
        elif hasattr(self.server, "hides_missing"):
            self.server.hides_missing = True

    def __exit__(self, *exc):
        if hasattr(self.server, "hides_missing"):
            self.server.hides_missing = False


def test_a_denied_bucket_is_no_hole(place_of, samples):
    """Credentials that are wrong for all objects, not for one: info already says so."""
    place = place_of("s3 signed")
    place.upload(samples("raw").folder)
    with pytest.raises(AccessDeniedError, match="403.*storage_options"):
        open_store(place.url, storage_options={"anon": True})
    with pytest.raises(AccessDeniedError, match="credentials of: anonymous"):
        open_store(place.url)  # none are found


def test_a_missing_volume_and_a_missing_bucket(place_of):
    for kind in ("s3 signed", "gcs signed", "azure signed", "web raw"):
        place = place_of(kind)
        with pytest.raises(FileNotFoundError, match="info"):
            place.open()
        if kind.startswith("web"):
            continue
        nowhere = place.url.replace(place.bucket, "no-such-bucket")
        with pytest.raises((StorageError, FileNotFoundError), match="no-such-bucket"):
            open_store(nowhere, storage_options=place.options)


# ---- ranges


@pytest.mark.parametrize("kind", ["web ignored", "nginx no ranges"])
def test_a_server_that_ignores_range(place_of, samples, kind):
    place = place_of(kind)
    if place.web is not None:
        place.web.ranges = "ignored"
    sample = samples("sharded raw")
    place.upload(sample.folder)
    with pytest.raises(StorageError, match="ignores Range"):
        read(place)
    for path in [*place.server.rglob("*")][::-1]:
        path.unlink() if path.is_file() else path.rmdir()
    place.upload(samples("raw").folder)
    np.testing.assert_array_equal(read(place), samples("raw").array)


# ---- the web


def test_web_tokens_redirects_and_logins(place_of, samples):
    from tests.remote import serving

    sample, place = samples("sharded cseg"), place_of("web raw")
    place.upload(sample.folder)
    place.web.redirects, place.web.etag = 2, False
    np.testing.assert_array_equal(read(place), sample.array)
    place.web.redirects = 0
    with place.web.guarded(serving.denying(401, unless=serving.with_query("token", "t0p"))):
        store = open_store(f"{place.url}?token=t0p")
        np.testing.assert_array_equal(store.read(store.mips[0].bounds), sample.array)
        with pytest.raises(AccessDeniedError, match="401"):
            read(place)
    headers = {"Authorization": "Bearer t0p"}
    with place.web.guarded(serving.denying(401, unless=serving.bearer("t0p"))):
        store = open_store(place.url, storage_options={"headers": headers})
        np.testing.assert_array_equal(store.read(store.mips[0].bounds), sample.array)


def test_requester_pays(place_of, samples):
    from tests.remote import serving

    sample, place = samples("cseg"), place_of("s3 signed")
    place.upload(sample.folder)
    pays = serving.denying(unless=serving.with_header("x-amz-request-payer", "requester"))
    with place.server.guarded(pays):
        with pytest.raises(AccessDeniedError):
            place.open()
        place.options["requester_pays"] = True
        np.testing.assert_array_equal(read(place), sample.array)


def test_nothing_can_be_written_to_the_web(place_of):
    place = place_of("web raw")
    with pytest.raises(StorageError, match="the web "):
        to_precomputed(label(noise((4, 4, 4), "u1")), place.url)
    assert not os.listdir(place.server)
