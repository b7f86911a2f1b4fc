"""One server of each kind for all tests here, and an environment that knows of no others."""

import hashlib
import os
from contextlib import ExitStack

import pytest

from xprecomputed.storage.clients import process as _clients

# gcsfs asks another service what kind of bucket it has, for a minute; read when it is imported
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


TOKEN_OF_TENSORSTORE = "GOOGLE_AUTH_TOKEN_FOR_TESTING"
CLOUDY = ("AWS_", "GOOGLE_", "AZURE_", "STORAGE_EMULATOR", "CLOUD_VOLUME")


@pytest.fixture(scope="package")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="package", autouse=True)
def no_credentials(patched, tmp_path_factory):
    """No credentials of whoever runs the tests, and no cloud to ask for them."""
    for name in list(os.environ):
        if name.startswith(CLOUDY) and name != TOKEN_OF_TENSORSTORE:
            patched.delenv(name)
    home = tmp_path_factory.mktemp("home")
    patched.setenv("HOME", str(home))
    patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patched.setenv("NO_PROXY", "127.0.0.1")
    return home


@pytest.fixture(autouse=True)
def few_connections():
    """Hundreds of buckets in one process: their idle connections go with the test."""
    yield
    _clients._process.clients.clear()


@pytest.fixture(scope="session")
def s3():
    from tests.remote.s3 import S3Server

    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def gcs():
    """The only fake of GCS in this process: the peers read its address and token once."""
    from tests.remote.gcs import GcsServer

    with GcsServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", server.url)
        patch.setenv(TOKEN_OF_TENSORSTORE, server.issue_token())
        yield server


@pytest.fixture(scope="session")
def azure():
    from tests.remote.azure import AzureServer

    with AzureServer() as server:
        yield server


@pytest.fixture
def bucket(request):
    """A name that no other test uses, and the same in each run, as faults depend on it."""
    return f"bucket-{hashlib.blake2b(request.node.nodeid.encode(), digest_size=6).hexdigest()}"


@pytest.fixture(scope="package")
def samples(tmp_path_factory):
    """The samples by name, each written when it is first asked for."""
    from tests.remote.samples import write_sample

    folder, written = tmp_path_factory.mktemp("samples"), {}

    def get(name):
        if name not in written:
            written[name] = write_sample(name, folder / name.replace(" ", "-"))
        return written[name]

    return get


#: Kinds of places; those of CLOUDS can be written.
CLOUDS = [
    "s3 anonymous",
    "s3 signed",
    "gcs anonymous",
    "gcs signed",
    "azure anonymous",
    "azure signed",
]
WEB = ["web raw", "web plain", "web undone", "nginx twins", "nginx plain"]


@pytest.fixture
def place_of(request, bucket, tmp_path):
    """Makes a new, empty place of a kind."""
    with ExitStack() as stack:
        yield lambda kind: _make_place(kind, request, bucket, tmp_path, stack)


def _make_place(kind, request, bucket, tmp_path, stack):
    from tests.remote.places import Place, PlainWebPlace, WebPlace

    name, _, how = kind.partition(" ")
    path = "some/layer"
    if name in ("web", "nginx"):
        root = tmp_path / "www"
        root.mkdir()
        url, server = _start_web(name, how, root, tmp_path, stack)
        cls = PlainWebPlace if kind == "nginx plain" else WebPlace
        kvstore = {"driver": "http", "base_url": url, "path": f"/{path}/"}
        place = cls(root, "", path, f"{url}/{path}", {}, f"{url}/{path}", kvstore)
        place.web = server
        return place
    server = request.getfixturevalue(name)
    server.make_bucket(bucket, public=how == "anonymous")
    host = server.url.removeprefix("http://")
    below = f"{bucket}/{path}"
    if name == "s3":
        given = {"key": server.key, "secret": server.secret} if how == "signed" else {}
        credentials = {"type": "environment" if how == "signed" else "anonymous"}
        kvstore = {
            "driver": "s3", "bucket": bucket, "path": f"{path}/", "endpoint": server.url,
            "aws_region": server.region, "aws_credentials": credentials,
        }  # fmt: skip
        return Place(
            server,
            bucket,
            path,
            f"s3+http://{host}/{below}",
            given,
            f"fakes3://{below}",
            kvstore,
        )
    if name == "gcs":
        given = {"token": server.service_account()} if how == "signed" else {}
        kvstore = {"driver": "gcs", "bucket": bucket, "path": f"{path}/"}
        return Place(
            server, bucket, path, f"gs+http://{host}/{below}", given, f"gs://{below}", kvstore
        )
    given = {"account_key": server.key} if how == "signed" else {}
    return Place(server, bucket, path, f"az+http://{host}/{server.account}/{below}", given)


def _start_web(name, how, root, tmp_path, stack):
    from tests.remote.web import WebServer, has_nginx, nginx

    if name == "web":
        server = stack.enter_context(WebServer(root))
        server.twins = how if how in ("raw", "plain", "undone", "silent") else "raw"
        return server.url, server
    if not has_nginx():
        pytest.skip("nginx is not installed")
    habits = {
        "twins": ["twins"],
        "403": ["twins", "403 for missing"],
        "no ranges": ["twins", "no ranges"],
    }
    return stack.enter_context(nginx(root, tmp_path / "nginx", *habits.get(how, []))), None
