import base64
import copy
import json
import pickle
import stat
import sys

import pytest

from tests.storage.machine import access_of, put
from xprecomputed import AccessDeniedError, InvalidURLError
from xprecomputed.storage.addresses.address import parse_address
from xprecomputed.storage.clients.obstore import StoreArguments
from xprecomputed.storage.credentials.access import (
    Access,
    find_address,
    needs_fsspec,
    without_credentials,
)

pytestmark = pytest.mark.usefixtures("home")

SECRET = "hunter2"
AZURE_KEY = base64.b64encode(b"hunter2-hunter2-hunter2-hunter2-").decode()


AWS_SECRET = {"AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": SECRET}
SERVICE = {"type": "service_account", "project_id": "proj", "private_key": SECRET}


# ---- values that hold secrets


def test_nothing_shows():
    access = Access("storage_options", True, {"secret": SECRET})
    made = StoreArguments({"k": SECRET}, {"h": SECRET}, lambda: SECRET)
    assert SECRET not in repr(access) + str(access) + repr(made)


def test_only_what_was_given_travels():
    given = Access("storage_options", True, {"secret": SECRET})
    assert pickle.loads(pickle.dumps(given)) == given
    found = Access("environment", False, {"secret": SECRET})
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="credentials from environment do not travel") as caught:
            way(found)
        assert SECRET not in str(caught.value)


def test_the_same_server_asked_as_nobody():
    words = {"key": "K", "secret": SECRET, "endpoint_url": "http://h", "requester_pays": True}
    nobody = without_credentials(Access("environment", False, words))
    assert (nobody.source, nobody.given) == ("anonymous", False)
    assert nobody.words == {"endpoint_url": "http://h", "anon": True}


# ---- storage_options


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("s3://b", {"anon": True}, {"anon": True}),
        ("s3://b", {"key": "K", "secret": "S"}, {"key": "K", "secret": "S"}),
        ("s3://b", {"username": "K", "password": "S"}, {"key": "K", "secret": "S"}),
        (
            "s3://b",
            {"key": "K", "secret": "S", "token": "T", "client_kwargs": {"region_name": "r"}},
            {"key": "K", "secret": "S", "token": "T", "region": "r"},
        ),
        ("gs://b", {"token": "anon"}, {"anon": True}),
        ("gs://b", {"token": "ya29.abc"}, {"token": "ya29.abc"}),
        ("gs://b", {"token": SERVICE}, {"token": SERVICE, "project": "proj"}),
        (
            "gs://b",
            {"token": "t", "requester_pays": "payer"},
            {"token": "t", "requester_pays": True, "project": "payer"},
        ),
        (
            "az://c",
            {"account_name": "me", "sas_token": "s"},
            {"account_name": "me", "sas_token": "s"},
        ),
        (
            "az://c",
            {"connection_string": "AccountName=me;AccountKey=a2V5"},
            {"account_name": "me", "account_key": "a2V5"},
        ),
        (
            "az://c",
            {"account_name": "me", "credential": "k"},
            {"account_name": "me", "account_key": "k"},
        ),
        (
            "az://c",
            {"account_name": "me", "credential": "?sv=1&sig=x"},
            {"account_name": "me", "sas_token": "?sv=1&sig=x"},
        ),
        ("https://h", {"token": "T"}, {"token": "T"}),
        (
            "https://h",
            {"client_kwargs": {"headers": {"Authorization": "X"}}, "headers": {"A": "1"}},
            {"headers": {"Authorization": "X", "A": "1"}},
        ),
        ("https://h", {"client_kwargs": {"auth": ("me", "pw")}}, {"user": "me", "password": "pw"}),
    ],
)
def test_what_is_given_wins(url, options, words, home, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ENV")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ENV")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "ENV")
    for name, content in (("aws", AWS_SECRET), ("google", SERVICE), ("http", {"token": "F"})):
        put(home / f".cloudvolume/secrets/{name}-secret.json", content)
    access = access_of(url, options)
    assert access == Access("storage_options", True, words)
    assert pickle.loads(pickle.dumps(access)) == access


def test_options_that_are_no_credentials_join_those_that_are_found(home):
    put(home / ".cloudvolume/secrets/aws-secret.json", AWS_SECRET)
    access = access_of("s3://b", {"requester_pays": True, "region": "r"})
    assert access.words == {"key": "K", "secret": SECRET, "requester_pays": True, "region": "r"}
    assert (access.source, access.given) == ("~/.cloudvolume/secrets/aws-secret.json", False)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        (
            "s3://b",
            {"nokey": SECRET},
            r"s3://b/: storage_options \['nokey'\] are unknown; expected",
        ),
        ("gs://b", {"key": SECRET}, r"\['key'\] are unknown"),
        ("az://c", {"client_kwargs": {}}, r"\['client_kwargs'\] are unknown"),
        ("s3://b", {"key": SECRET}, "'key' and 'secret': expected both or none"),
        ("s3://b", {"token": SECRET}, "'token': expected 'key' and 'secret' with it"),
        ("s3://b", {"key": 3, "secret": SECRET}, "'key': expected a text of one line"),
        ("s3://b", {"key": "a\n", "secret": SECRET}, "'key': expected a text of one line"),
        ("s3://b", {"anon": SECRET}, "'anon': expected True or False"),
        ("s3://b", {"client_kwargs": SECRET}, "'client_kwargs': expected a mapping"),
        ("gs://b", {"token": 3}, "'token': expected 'anon', 'cloud'"),
        ("gs://b", {"token": "t", "requester_pays": True}, "needs the project that pays"),
        ("gs://b", {"token": "anon", "requester_pays": True}, "requester_pays needs credentials"),
        ("s3://b", {"requester_pays": True}, "requester_pays needs credentials"),
        ("az://c", {"account_name": "a", "credential": 3}, "'credential': expected a key"),
        ("https://h", {"headers": SECRET}, "'headers': expected a mapping of names"),
        ("https://h", {"headers": {"A": "b\r\nC: d"}}, "'headers': expected a mapping of names"),
        ("https://h", {"headers": {"A b": "c"}}, "'headers': expected a mapping of names"),
        ("https://h", {"client_kwargs": {"auth": 3}}, "'auth': expected a user and a password"),
        ("https://h", {"user": SECRET}, "'user' and 'password': expected both or none"),
    ],
)
def test_options_that_cannot_be(url, options, message):
    with pytest.raises(InvalidURLError, match=message) as caught:
        access_of(url, options)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options", "beyond"),
    [
        ("s3://b", {}, False),
        ("s3://b", {"anon": True, "config_kwargs": None}, False),
        ("s3://b", {"config_kwargs": {}}, True),
        ("s3://b", {"client_kwargs": {"verify": False}}, True),
        ("s3://b", {"asynchronous": True}, True),
        ("gs://b", {"token": "browser"}, True),
        ("gs://b", {"token": "anon", "access": "read_only"}, True),
        ("az://c", {"max_concurrency": 2}, True),
        ("https://h/a b", {"headers": {}}, False),
        ("https://h/a%2Fb", {}, True),
        ("https://h/a%FFb", {}, True),
        ("https://h/a%0Ab", {}, True),
        ("https://h/a?b=c", {}, False),
        ("https://h", {"client_kwargs": {"timeout": 3}}, True),
    ],
)
def test_what_is_left_to_fsspec(url, options, beyond):
    assert needs_fsspec(parse_address(url), options) is beyond


def test_servers_and_accounts_in_options():
    assert find_address("s3://b/k", {"endpoint_url": "http://h"}).url == "s3+http://h/b/"
    nested = {"client_kwargs": {"endpoint_url": "http://h"}}
    assert find_address("s3://b/k", nested).url == "s3+http://h/b/"
    me = "abfss://c@me.dfs.core.windows.net/"
    assert find_address("az://c/k", {"account_name": "me"}).url == me
    assert find_address("az://c/k", {"connection_string": "AccountName=me;AccountKey=k"}).url == me
    assert find_address("az://c/k", {"account_host": "me.blob.core.windows.net"}).url == me
    emulator = find_address("az://c/k", {"connection_string": "UseDevelopmentStorage=true"})
    assert emulator.url == "az+http://127.0.0.1:10000/devstoreaccount1/c/"
    for text in ("/data", "memory://a", "file:///a", "simplecache::s3://b", "ftp://h/a"):
        assert find_address(text, {}) is None


# ---- secrets folders


@pytest.mark.parametrize(
    ("url", "name", "content", "words"),
    [
        ("s3://b", "aws", AWS_SECRET, {"key": "K", "secret": SECRET}),
        (
            "s3+https://h/b",
            "aws",
            {**AWS_SECRET, "AWS_SESSION_TOKEN": "T", "AWS_DEFAULT_REGION": "r"},
            {"key": "K", "secret": SECRET, "token": "T", "default_region": "r"},
        ),
        ("matrix://b", "matrix", AWS_SECRET, {"key": "K", "secret": SECRET}),
        ("tigerdata://b", "tigerdata", AWS_SECRET, {"key": "K", "secret": SECRET}),
        ("gs://b", "google", SERVICE, {"token": SERVICE, "project": "proj"}),
        ("gs://b", "google", {"type": "authorized_user"}, {"token": {"type": "authorized_user"}}),
        (
            "https://h",
            "http",
            {"user": "me", "password": SECRET},
            {"user": "me", "password": SECRET},
        ),
        ("middleauth+https://h", "cave", {"token": SECRET}, {"token": SECRET}),
        ("middleauth+https://h", "cave", SECRET, {"token": SECRET}),
    ],
)
@pytest.mark.parametrize("folder", [".cloudvolume", ".cloudfiles"])
def test_the_files_of_cloudvolume(home, url, name, content, words, folder):
    assert access_of(url).source == "anonymous"
    put(home / folder / f"secrets/{name}-secret.json", json.dumps(content))
    access = access_of(url)
    assert access == Access(f"~/{folder}/secrets/{name}-secret.json", False, words)


def test_files_of_a_bucket_or_host_come_first(home):
    secrets = home / ".cloudvolume/secrets"
    put(secrets / "google-secret.json", {**SERVICE, "project_id": "all"})
    put(home / ".cloudfiles/secrets/b-google-secret.json", {**SERVICE, "project_id": "one"})
    assert access_of("gs://b").words["project"] == "one"
    assert access_of("gs://c").words["project"] == "all"
    put(secrets / "cave-secret.json", {"token": "all"})
    put(secrets / "h:8080-cave-secret.json", {"token": "one"})
    assert access_of("middleauth+https://h:8080/a").words == {"token": "one"}
    assert access_of("middleauth+https://h/a").words == {"token": "all"}


def test_folders_may_be_elsewhere(home, monkeypatch):
    put(home / ".cloudvolume/secrets/aws-secret.json", {**AWS_SECRET, "AWS_ACCESS_KEY_ID": "home"})
    put(home / "cf/secrets/aws-secret.json", {**AWS_SECRET, "AWS_ACCESS_KEY_ID": "cf"})
    monkeypatch.setenv("CLOUD_FILES_DIR", str(home / "cf"))
    assert access_of("s3://b").words["key"] == "home"
    monkeypatch.setenv("CLOUD_VOLUME_DIR", str(home / "cv"))
    assert access_of("s3://b").words["key"] == "cf"
    put(home / "cv/secrets/aws-secret.json", {**AWS_SECRET, "AWS_ACCESS_KEY_ID": "cv"})
    assert access_of("s3://b").words["key"] == "cv"


def test_the_secret_of_one_cloud_is_not_anothers(home):
    put(home / ".cloudvolume/secrets/aws-secret.json", AWS_SECRET)
    assert access_of("matrix://b").source == "anonymous"
    assert access_of("gs://b").source == "anonymous"


def test_a_stranger_gets_no_login_that_is_kept_for_all(home):
    secrets = home / ".cloudvolume/secrets"
    put(secrets / "http-secret.json", {"user": "me", "password": SECRET})
    put(secrets / "cave-secret.json", {"token": SECRET})
    for url in ("https://h", "middleauth+https://h"):
        assert access_of(url).words != {"anon": True}
        assert access_of(url, trusted=False) == Access("anonymous", False, {"anon": True})
    put(secrets / "h-cave-secret.json", {"token": SECRET})
    assert access_of("middleauth+https://h", trusted=False).words == {"token": SECRET}


@pytest.mark.parametrize(
    ("url", "name", "content", "message"),
    [
        ("s3://b", "aws", f"{{{SECRET}", "not a JSON document"),
        ("s3://b", "aws", "[" * 100_000, "not a JSON document"),
        ("s3://b", "aws", {"AWS_ACCESS_KEY_ID": SECRET}, 'expected {"AWS_ACCESS_KEY_ID": …'),
        ("s3://b", "aws", {**AWS_SECRET, "AWS_SESSION_TOKEN": 3}, 'expected {"AWS_ACC'),
        ("s3://b", "aws", "[]", 'expected {"AWS_ACCESS_KEY_ID": …'),
        ("gs://b", "google", {"private_key": SECRET}, "expected the JSON of a service account"),
        ("https://h", "http", {"user": SECRET}, 'expected {"user": …, "password": …}'),
        ("https://h", "http", "3", 'expected {"user": …'),
        ("middleauth+https://h", "cave", {"token": f"{SECRET}\nX: y"}, 'expected {"token": …}'),
    ],
)
def test_files_that_cannot_be_used_are_named_and_not_quoted(home, url, name, content, message):
    put(home / f".cloudvolume/secrets/{name}-secret.json", content)
    with pytest.raises(AccessDeniedError) as caught:
        access_of(url)
    assert str(caught.value).startswith(f"~/.cloudvolume/secrets/{name}-secret.json: {message}")
    assert SECRET not in str(caught.value)


def test_a_file_that_cannot_be_read(home, monkeypatch):
    path = put(home / ".cloudvolume/secrets/aws-secret.json", AWS_SECRET)
    path.chmod(0)
    if path.stat().st_uid == 0 or stat.S_IMODE(path.stat().st_mode):
        monkeypatch.setattr(
            type(path), "read_bytes", lambda self: (_ for _ in ()).throw(PermissionError(13, "No"))
        )
    with pytest.raises(AccessDeniedError, match=r"aws-secret\.json: "):
        access_of("s3://b")


def test_aliases_are_those_of_cloudfiles(home):
    path = home / ".cloudfiles/aliases.json"
    assert find_address("lab://b/k", {}) is None
    put(path, "")
    assert find_address("lab://b/k", {}) is None
    put(path, {"lab": {"host": "s3://https://s3.lab.example/"}})
    address = find_address("lab://b/k", {})
    assert (address.url, address.endpoint_url) == ("lab://b/", "https://s3.lab.example")
    put(home / ".cloudfiles/secrets/lab-secret.json", AWS_SECRET)
    assert access_of("lab://b/k").source == "~/.cloudfiles/secrets/lab-secret.json"
    for content in ([], {"lab": "s3://x"}, {"lab": {"host": "x"}}):
        put(path, content)
        with pytest.raises(
            AccessDeniedError, match=r"aliases.json: expected {NAME: {\"host\": URL}}"
        ):
            find_address("lab://b/k", {})
        assert find_address("s3://b/k", {}).url == "s3://b/"


def test_cloudfiles_itself_reads_these_aliases(home):
    import subprocess

    code = (
        "import cloudfiles.paths as p; p.add_persistent_alias('lab', 's3://https://s3.lab.example/');"
        "e = p.extract('lab://b/k/x'); print(e.host, e.bucket, e.path, e.alias)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    address = find_address("lab://b/k/x", {})
    found = (address.endpoint_url, address.bucket, address.key, address.secret)
    assert " ".join(found) == done.stdout.strip()


# ---- the clouds' own places


def test_aws_environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "K")
    assert access_of("s3://b").source == "anonymous"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "T")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    words = {"key": "K", "secret": SECRET, "token": "T", "default_region": "eu-west-1"}
    assert access_of("s3://b") == Access("environment", False, words)


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
[profile keys]
aws_access_key_id = C
aws_secret_access_key = hunter2
services = mine
[services mine]
s3 =
  endpoint_url = http://mine:9000
[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = default
[profile empty]
region = eu-west-1
"""


def test_aws_files(home, monkeypatch):
    put(home / ".aws/credentials", AWS_FILES)
    found = access_of("s3://b")
    assert found == Access("~/.aws/credentials [default]", False, {"key": "D", "secret": SECRET})
    put(home / ".aws/config", AWS_CONFIG)
    assert access_of("s3://b").words["default_region"] == "eu-west-1"
    monkeypatch.setenv("AWS_PROFILE", "lab")
    words = {
        "key": "L",
        "secret": SECRET,
        "token": "T",
        "default_region": "us-west-2",
    }
    # the server is a part of the address: another one has other buckets
    assert find_address("s3://b/k", {}).url == "s3+http://lab:9000/b/"
    assert access_of("s3://b") == Access("~/.aws/credentials [lab]", False, words)
    # the URL names another server
    assert "endpoint_url" not in access_of("s3+https://h/b").words
    found = access_of("s3://b", {"profile": "keys"})
    assert found.words["key"] == "C"
    assert find_address("s3://b", {"profile": "keys"}).endpoint_url == "http://mine:9000"
    assert not found.given
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert find_address("s3://b", {"profile": "keys"}).endpoint_url is None
    both = AWS_FILES + "[keys]\naws_access_key_id = B\n"
    put(home / ".aws/credentials", both)
    assert access_of("s3://b", {"profile": "keys"}).words["key"] == "B"


def test_a_profile_that_is_named_comes_before_the_environment(home, monkeypatch):
    put(home / "elsewhere", AWS_FILES)
    put(home / "config", AWS_CONFIG)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "elsewhere"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ENV")
    assert access_of("s3://b", {"profile": "lab"}).words["key"] == "L"
    assert access_of("s3://b").words["key"] == "ENV"
    found = access_of("s3://b", {"profile": "empty"})
    assert (found.source, found.words["anon"]) == (
        "AWS profile empty, which has no credentials",
        True,
    )
    with pytest.raises(
        AccessDeniedError, match="the AWS profile 'absent' is neither in ~/elsewhere"
    ):
        access_of("s3://b", {"profile": "absent"})
    put(home / "config", "no section")
    with pytest.raises(AccessDeniedError, match="~/config: not a file of AWS profiles"):
        access_of("s3://b", {"profile": "lab"})
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home))
    with pytest.raises(AccessDeniedError, match="Is a directory"):
        access_of("s3://b", {"profile": "lab"})


def test_roles_of_containers_and_machines(home, monkeypatch):
    put(home / "dmi/sys_vendor", "Amazon EC2\n")
    assert access_of("s3://b") == Access("metadata server", False, {"machine": True})
    assert access_of("s3+https://h/b").source == "anonymous"  # where that role means nothing
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert access_of("s3://b").source == "anonymous"
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/token")
    assert access_of("s3://b").words == {
        "container_credentials_full_uri": "http://169.254.170.23/v1",
        "container_authorization_token_file": "/token",
    }
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/web")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:x")
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "me")
    assert access_of("s3://b").words == {
        "web_identity_token_file": "/web",
        "role_arn": "arn:x",
        "role_session_name": "me",
    }


def test_google_files_and_machines(home, monkeypatch):
    put(home / "dmi/product_name", "Google Compute Engine")
    assert access_of("gs://b").words == {"machine": True}
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    assert access_of("gs://b").source == "anonymous"
    user = {"type": "authorized_user", "quota_project_id": "q"}
    put(home / ".config/gcloud/application_default_credentials.json", user)
    name = "~/.config/gcloud/application_default_credentials.json"
    assert access_of("gs://b") == Access(name, False, {"token": user, "project": "q"})
    assert access_of("gs://b", {"token": "google_default"}).source == name
    put(home / "key.json", SERVICE)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(home / "key.json"))
    assert access_of("gs://b").words["token"] == SERVICE
    assert access_of("gs://b", {"token": "cloud"}).words == {"machine": True}
    # they are Google's, not for who says to be like Google
    assert access_of("gs+https://h/b").source == "anonymous"
    put(home / "key.json", {"private_key": SECRET})
    with pytest.raises(AccessDeniedError, match=r"~/key.json: expected the JSON of Google"):
        access_of("gs://b")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(home / "absent.json"))
    with pytest.raises(AccessDeniedError, match=r"~/absent.json: No such file"):
        access_of("gs://b")


def test_a_google_token_may_be_a_file(home):
    path = put(home / "key.json", SERVICE)
    found = access_of("gs://b", {"token": str(path)})
    assert found.words["token"] == SERVICE
    with pytest.raises(AccessDeniedError, match="~/absent.json: No such file"):
        access_of("gs://b", {"token": "~/absent.json"})


def test_google_projects_and_emulators(monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "env")
    pays = {"token": "t", "requester_pays": True}
    assert access_of("gs://b", pays).words["project"] == "env"
    assert access_of("gs://b", {**pays, "project": "p"}).words["project"] == "p"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:4443")
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    found = access_of("gs://b")
    assert found.words == {"anon": True, "project": "env"}
    assert find_address("gs://b/k", {}).url == "gs+http://127.0.0.1:4443/b/"


def test_azure_environment(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", SECRET)
    words = {"account_name": "me", "account_key": SECRET}
    assert access_of("az://c") == Access("environment", False, words)
    assert access_of("abfss://c@me.dfs.core.windows.net").words == words
    assert access_of("abfss://c@you.dfs.core.windows.net").source == "anonymous"
    assert access_of("az+https://h/me/c").source == "anonymous"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    assert access_of("abfss://c@me.dfs.core.windows.net").words == {"account_key": SECRET}
    assert access_of("az+https://h/me/c").source == "anonymous"  # Microsoft's, for nobody else
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", SECRET)
    assert access_of("abfss://c@me.dfs.core.windows.net").source == "anonymous"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    assert access_of("abfss://c@me.dfs.core.windows.net").words["sas_token"] == SECRET
    assert access_of("abfss://c@you.dfs.core.windows.net").source == "anonymous"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    monkeypatch.delenv("AZURE_STORAGE_SAS_TOKEN")
    for name in ("CLIENT_ID", "TENANT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(f"AZURE_{name}", SECRET)
    found = access_of("abfss://c@me.dfs.core.windows.net").words
    assert found.keys() == {"client_id", "tenant_id", "client_secret"}
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=him;AccountKey=a2V5")
    assert access_of("az://c").words["account_key"] == "a2V5"


def test_a_login_in_the_url(home):
    access = access_of("https://me%40x:p%3Aw@h/a")
    assert access == Access("URL", True, {"user": "me@x", "password": "p:w"})
    assert access_of("https://me:pw@h/a", {"token": "T"}).words == {"token": "T"}
    assert access_of("https://me:pw@h/a", {"headers": {"X": "y"}}).words["user"] == "me"
