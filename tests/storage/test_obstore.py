"""What obstore makes of credentials, against servers on this machine."""

import base64
import json
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import obstore
import pytest

from tests.storage.machine import access_of, put
from xprecomputed import AccessDeniedError, InvalidURLError, MissingDependencyError
from xprecomputed.storage.addresses.address import parse_address
from xprecomputed.storage.clients import obstore as _obstore
from xprecomputed.storage.clients.obstore import build_store, store_arguments
from xprecomputed.storage.credentials import access as credentials
from xprecomputed.storage.credentials import providers as _providers
from xprecomputed.storage.credentials.access import Access, bucket_region, find_access, find_address

pytestmark = pytest.mark.usefixtures("home")

SECRET = "hunter2"
AZURE_KEY = base64.b64encode(b"hunter2-hunter2-hunter2-hunter2-").decode()


SERVICE = {"type": "service_account", "project_id": "proj", "private_key": SECRET}
AWS_FILES = """
[default]
aws_access_key_id = D
aws_secret_access_key = hunter2
[lab]
aws_access_key_id = L
aws_secret_access_key = hunter2
aws_session_token = T
"""
AWS_CONFIG = """
[default]
region = eu-west-1
[profile lab]
region = us-west-2
endpoint_url = http://lab:9000
s3 =
    max_concurrent_requests = 20
[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = default
"""


# ---- against servers


class Server(ThreadingHTTPServer):
    """Answers everything, and remembers how it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked = []
        self.answers = {}

    @property
    def last(self):
        return self.asked[-1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        names = {name.lower() for name in self.headers}
        headers = {name: ", ".join(self.headers.get_all(name)) for name in names}
        self.server.asked.append(SimpleNamespace(path=self.path, headers=headers, body=body))
        status, content = self.server.answers.get(self.path, (200, b"packed"))
        self.send_response(status)
        for name, value in (
            ("Content-Length", str(len(content))),
            ("ETag", '"1"'),
            ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815

    def log_message(self, *args):
        pass


@contextmanager
def serving():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(name="server")
def _server():
    with serving() as server:
        yield server


def ask(url, options=None, key="a/b c#d%", put=None):
    """What `find_access` and `build_store` make of a URL, tried out."""
    options = options or {}
    address = find_address(url, options)
    access = find_access(address, options)
    store = build_store(address, access, timeout_s=5, max_retries=0)
    if put is not None:
        return obstore.put(store, key, put)
    return obstore.get(store, key).bytes().to_bytes()


@pytest.fixture(name="noise")
def _noise(monkeypatch):
    """Variables that obstore reads by itself."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", "NOISE")
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "mars-1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    monkeypatch.setenv("AWS_S3_EXPRESS", "true")
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "NOISE")
    monkeypatch.setenv("GOOGLE_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "noise")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", "sv=NOISE&sig=NOISE")
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "NOISE")
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")


@pytest.mark.usefixtures("noise")
def test_s3_is_asked_with_what_was_given_and_nothing_else(server):
    url = f"s3+{server.url}/b/k"
    ask(url, {"anon": True})
    assert server.last.path == "/b/a/b%20c%23d%25"
    assert not [name for name in server.last.headers if name.startswith(("x-amz", "auth"))]
    ask(url, {"key": "K", "secret": "S", "region": "eu-west-1"})
    assert "Credential=K/" in server.last.headers["authorization"]
    assert "/eu-west-1/s3/" in server.last.headers["authorization"]
    assert "x-amz-security-token" not in server.last.headers
    assert "x-amz-request-payer" not in server.last.headers
    ask(url, {"key": "K", "secret": "S", "token": "T", "requester_pays": True})
    assert server.last.headers["x-amz-security-token"] == "T"
    assert server.last.headers["x-amz-request-payer"] == "requester"
    ask(url, {"key": "K", "secret": "S"}, put=b"x")
    assert "Credential=K/" in server.last.headers["authorization"]


@pytest.mark.usefixtures("noise")
def test_google_is_asked_with_what_was_given_and_nothing_else(server):
    url = f"gs+{server.url}/b/k"
    for body in (None, b"x"):
        ask(url, put=body)
        assert server.last.path.replace("%2F", "/") == "/b/a/b%20c%23d%25"
        assert server.last.headers.get("authorization", "Bearer").strip() == "Bearer"
        assert server.last.headers["accept-encoding"] == "gzip"
        assert "x-goog-user-project" not in server.last.headers
        ask(url, {"token": "T", "requester_pays": "payer"}, put=body)
        assert server.last.headers["authorization"] == "Bearer T"
        assert server.last.headers["x-goog-user-project"] == "payer"


@pytest.mark.usefixtures("noise")
def test_azure_is_asked_with_what_was_given_and_nothing_else(server):
    url = f"az+{server.url}/me/c/k"
    ask(url)
    assert server.last.path == "/me/c/a/b%20c%23d%25"
    assert "authorization" not in server.last.headers
    ask(url, {"account_key": AZURE_KEY})
    assert server.last.headers["authorization"].startswith("SharedKey me:")
    ask(url, {"sas_token": "?sv=1&sig=a%2Bb"})
    assert server.last.path.endswith("?sv=1&sig=a%2Bb")
    assert "authorization" not in server.last.headers
    expires_on = int(datetime.now(UTC).timestamp()) + 3600
    token = SimpleNamespace(token="T", expires_on=expires_on)
    ask(url, {"credential": SimpleNamespace(get_token=lambda scope: token)})
    assert server.last.headers["authorization"] == "Bearer T"

    async def later(scope):
        return token

    ask(url, {"credential": SimpleNamespace(get_token=later)})
    assert server.last.headers["authorization"] == "Bearer T"


def test_azure_clients(monkeypatch):
    address = parse_address("abfss://c@me.dfs.core.windows.net")
    words = {"client_id": "i", "tenant_id": "t", "client_secret": SECRET}
    made = store_arguments(address, Access("x", False, words)).config
    assert (made["credential_type"], made["client_secret"]) == ("client_secret", SECRET)
    words = {"client_id": "i", "tenant_id": "t", "federated_token_file": "/f"}
    made = store_arguments(address, Access("x", False, words)).config
    assert made["credential_type"] == "workload_identity"
    with pytest.raises(
        InvalidURLError, match=r"whose\? Give .*\n    abfss://c@ACCOUNT.dfs.core.*/k"
    ):
        store_arguments(parse_address("az://c/k"), Access("anonymous", False, {"anon": True}))


def test_the_web_is_asked_with_logins_and_queries(server):
    ask(server.url)
    assert server.last.path == "/a/b%20c%23d%25"
    assert "authorization" not in server.last.headers
    basic = f"Basic {base64.b64encode(b'me:pw').decode()}"
    ask(server.url.replace("//", "//me:pw@") + "/x?sig=1&b=%2F")
    assert server.last.path == "/a/b%20c%23d%25?sig=1&b=%2F"
    assert server.last.headers["authorization"] == basic
    ask(server.url, {"user": "me", "password": "pw"})
    assert server.last.headers["authorization"] == basic
    ask(server.url, {"token": "T", "headers": {"authorization": "old", "X-Key": "k"}})
    assert server.last.headers["authorization"] == "Bearer T"
    assert server.last.headers["x-key"] == "k"
    access = Access("x", True, {"token": "T", "headers": {"authorization": "old"}})
    made = store_arguments(parse_address(server.url), access)
    assert made.client_options["default_headers"] == {"Authorization": "Bearer T"}
    ask(f"middleauth+{server.url}")
    assert server.last.headers["x-requested-with"] == "xprecomputed"
    ask(f"middleauth+{server.url}", {"token": "T"})
    assert server.last.headers["authorization"] == "Bearer T"
    assert "x-requested-with" not in server.last.headers


def test_moto_with_keys_sessions_profiles_and_nobody(home, monkeypatch):
    import boto3
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="K",
            aws_secret_access_key="S",
        )
        client.create_bucket(Bucket="bucket", ACL="public-read")
        client.put_object(Bucket="bucket", Key="a/b c", Body=b"data", ACL="public-read")
        url = f"s3+{endpoint}/bucket/layer"
        for options in (
            {"key": "K", "secret": "S"},
            {"key": "K", "secret": "S", "token": "T"},
            {"anon": True},
            {},
        ):
            assert ask(url, options, key="a/b c") == b"data"
        assert ask(f"s3://{endpoint}/bucket", key="a/b c") == b"data"
        assert ask("s3://bucket", {"endpoint_url": endpoint}, key="a/b c") == b"data"
        put(home / ".aws/credentials", AWS_FILES)
        put(home / ".aws/config", f"[profile lab]\nendpoint_url = {endpoint}\n")
        assert ask("s3://bucket", {"profile": "lab"}, key="a/b c") == b"data"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert ask("s3://bucket", key="a/b c") == b"data"
        ask(url, {"key": "K", "secret": "S"}, key="new", put=b"written")
        assert client.get_object(Bucket="bucket", Key="new")["Body"].read() == b"written"
        client.close()
    finally:
        moto.stop()


# ---- stores


def test_the_servers_of_amazon(monkeypatch):
    def config(url, **words):
        access = Access("anonymous", False, {"anon": True, **words})
        return store_arguments(parse_address(url), access).config

    monkeypatch.setattr(_obstore, "bucket_region", lambda bucket, otherwise: f"asked-{otherwise}")
    found = config("s3://b", default_region="mars")
    assert (found["region"], found["endpoint"]) == (
        "asked-mars",
        "https://s3.asked-mars.amazonaws.com",
    )
    assert config("s3://b", region="r")["region"] == "r"
    assert config("s3://b", region="cn-north-1")["endpoint"].endswith("cn-north-1.amazonaws.com.cn")
    found = config("s3+https://s3.us-west-2.amazonaws.com/b", default_region="mars")
    assert (found["region"], found["disable_bulk_delete"]) == ("us-west-2", False)
    found = config("s3+https://h/b", default_region="mars")
    assert (found["region"], found["disable_bulk_delete"]) == ("mars", True)
    assert config("s3+https://h/b")["region"] == "us-east-1"


@pytest.mark.parametrize(
    ("answer", "region"),
    [
        ("eu-central-1", "eu-central-1"),
        ("us-gov-west-1", "us-gov-west-1"),
        (None, "mars-1"),
        ("evil.example/", "mars-1"),
        (OSError(), "mars-1"),
    ],
)
def test_the_region_of_a_bucket_is_asked_for_once(monkeypatch, answer, region):
    asked = []

    class Connection:
        def __init__(self, host, timeout):
            assert (host, timeout) == ("s3.amazonaws.com", 5)

        def request(self, method, path):
            asked.append((method, path))
            if isinstance(answer, OSError):
                raise answer

        def getresponse(self):
            return SimpleNamespace(getheader=lambda name: answer)

        def close(self):
            asked.append("closed")

    monkeypatch.setattr(credentials.http.client, "HTTPSConnection", Connection)
    assert bucket_region("b", "mars-1") == bucket_region("b", "mars-1") == region
    assert asked == [("HEAD", "/b"), "closed"]


def test_credentials_that_obstore_cannot_use_are_not_quoted():
    address = parse_address("gs://b")
    access = Access("~/key.json", False, {"token": SERVICE})
    with pytest.raises(
        AccessDeniedError, match=r"cannot use the credentials of: ~/key.json"
    ) as caught:
        build_store(address, access, timeout_s=5, max_retries=0)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_writes_are_not_hurried(server):
    address = parse_address(server.url)
    access = Access("anonymous", False, {"anon": True})
    read = build_store(address, access, timeout_s=2, max_retries=1)
    write = build_store(address, access, timeout_s=2, max_retries=1, for_writing=True)
    assert read.client_options["read_timeout"] != write.client_options["read_timeout"]
    assert read.retry_config["max_retries"] == 1


# ---- tokens that expire


def test_tokens_of_a_google_user(server):
    content = {
        "type": "authorized_user",
        "client_id": "i",
        "client_secret": SECRET,
        "refresh_token": "r",
        "token_uri": f"{server.url}/token",
    }
    server.answers["/token"] = 200, json.dumps({"access_token": "T", "expires_in": 60}).encode()
    ask(f"gs+{server.url}/b", {"token": content})
    assert server.last.headers["authorization"] == "Bearer T"
    assert b"refresh_token=r" in server.asked[0].body
    provider = _providers.OfUser(content)
    assert provider()["expires_at"] < datetime.now(UTC) + timedelta(seconds=61)
    for status, answer, message in (
        (400, SECRET.encode(), "no token for these credentials .HTTP 400"),
        (200, b"{", "no token for these credentials .JSONDecodeError"),
        (200, b"{}", "no token in the answer"),
    ):
        server.answers["/token"] = status, answer
        with pytest.raises(AccessDeniedError, match=message) as caught:
            provider()
        assert SECRET not in str(caught.value)
    with pytest.raises(AccessDeniedError, match="expected the address of a server of tokens"):
        _providers.OfUser({**content, "token_uri": "file:///etc/passwd"})()


def test_the_account_of_a_google_machine(server, monkeypatch):
    host = server.url.removeprefix("http://")
    monkeypatch.setenv("GCE_METADATA_HOST", host)
    place = "/computeMetadata/v1/instance/service-accounts/default"
    server.answers[f"{place}/token"] = 200, b'{"access_token": "T", "expires_in": 60}'
    address = parse_address("gs://b")
    made = store_arguments(address, find_access(address, {}))
    assert made.credential_provider()["token"] == "T"
    assert server.last.headers["metadata-flavor"] == "Google"
    _providers.has_role.cache_clear()
    server.answers[f"{place}/email"] = 404, b""
    assert store_arguments(address, find_access(address, {})).config["skip_signature"]


def test_the_role_of_an_amazon_machine(server, home, monkeypatch):
    put(home / "dmi/sys_vendor", "Amazon EC2")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url + "/")
    monkeypatch.setattr(_obstore, "bucket_region", lambda bucket, otherwise: "r")
    address = parse_address("s3://b")
    assert not store_arguments(address, find_access(address, {})).config["skip_signature"]
    assert server.last.headers["x-aws-ec2-metadata-token"] == "packed"
    _providers.has_role.cache_clear()
    server.answers["/latest/meta-data/iam/security-credentials/"] = 404, b""
    assert store_arguments(address, find_access(address, {})).config["skip_signature"]


def test_google_auth_objects():
    from google.auth.credentials import AnonymousCredentials
    from google.oauth2.credentials import Credentials

    later = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)
    found = _providers.OfGoogle(Credentials("T", expiry=later))()
    assert found == {"token": "T", "expires_at": later.replace(tzinfo=UTC)}
    assert isinstance(
        store_arguments(
            parse_address("gs://b"),
            access_of("gs://b", {"token": Credentials("T")}),
        ).credential_provider,
        _providers.OfGoogle,
    )
    assert AnonymousCredentials().valid
    external = {"type": "external_account", "audience": "a"}
    with pytest.raises(AccessDeniedError, match="cannot use the credentials of: storage_options"):
        build_store(
            parse_address("gs://b"),
            access_of("gs://b", {"token": external}),
            timeout_s=5,
            max_retries=0,
        )


def test_profiles_that_botocore_understands(home, monkeypatch):
    put(home / ".aws/credentials", AWS_FILES)
    script = put(
        home / "give.py",
        "import json; print(json.dumps({'Version': 1, 'AccessKeyId': 'P', 'SecretAccessKey': 'S', "
        "'SessionToken': 'T', 'Expiration': '2999-01-01T00:00:00Z'}))",
    )
    put(
        home / ".aws/config",
        f"[profile process]\ncredential_process = {sys.executable} {script}\n{AWS_CONFIG}",
    )
    with serving() as server:
        ask(f"s3+{server.url}/b", {"profile": "process"})
        assert "Credential=P/" in server.last.headers["authorization"]
        assert server.last.headers["x-amz-security-token"] == "T"
    found = access_of("s3://b", {"profile": "role"})
    assert found.words["botocore_profile"] == "role"
    for module in [name for name in sys.modules if name.startswith("botocore")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(
        MissingDependencyError, match=r"AWS profile 'role'.*\n    pip install botocore"
    ):
        store_arguments(parse_address("s3+https://h/b"), found)


def test_a_profile_that_gives_nothing(monkeypatch, home):
    put(home / ".aws/config", "[profile p]\nsso_start_url = x\n")
    provider = _providers.OfBotocore("p")
    provider._credentials = None
    with pytest.raises(AccessDeniedError, match="the AWS profile 'p' gives no credentials"):
        provider()
