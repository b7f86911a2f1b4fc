import json
import pickle
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprecomputed import InvalidURLError
from xprecomputed.storage.addresses.address import (
    Address,
    is_explicit,
    parse_address,
    strip_format,
    without_secrets,
)


@pytest.mark.parametrize(
    ("text", "provider", "bucket", "key", "endpoint", "url", "secret"),
    [
        ("s3://b/k/x/", "s3", "b", "k/x", None, "s3://b/", "aws"),
        ("S3A://b", "s3", "b", "", None, "s3://b/", "aws"),
        ("s3+https://h/b/k", "s3", "b", "k", "https://h", "s3+https://h/b/", "aws"),
        ("s3+http://h:9000/b", "s3", "b", "", "http://h:9000", "s3+http://h:9000/b/", "aws"),
        ("s3://https://h/b/k", "s3", "b", "k", "https://h", "s3+https://h/b/", "aws"),
        ("s3://http://[::1]:80/b/k", "s3", "b", "k", "http://[::1]", "s3+http://[::1]/b/", "aws"),
        ("gs://b/a b#c%20?d", "gs", "b", "a b#c%20?d", None, "gs://b/", "google"),
        ("gcs://b//k//x", "gs", "b", "k/x", None, "gs://b/", "google"),
        ("gs+xml://b/k", "gs", "b", "k", None, "gs://b/", "google"),
        ("gs+http://h:1/b/k", "gs", "b", "k", "http://h:1", "gs+http://h:1/b/", "google"),
        ("az://c/k", "az", "c", "k", None, "az://c/", "azure"),
        ("abfs://c/k", "az", "c", "k", None, "az://c/", "azure"),
        (
            *("abfss://c@me.dfs.core.windows.net/k/./x", "az", "c", "k/x"),
            *("https://me.blob.core.windows.net", "abfss://c@me.dfs.core.windows.net/", "azure"),
        ),
        (
            *("az+http://h:10000/me/c/k", "az", "c", "k"),
            *("http://h:10000/me", "az+http://h:10000/me/c/", "azure"),
        ),
        ("https://H:443/a/../b", "http", "", "b", "https://h", "https://h/", "http"),
        ("http://h:8080", "http", "", "", "http://h:8080", "http://h:8080/", "http"),
        (
            *("middleauth+https://h/a", "http", "", "a", "https://h"),
            *("middleauth+https://h/", "cave"),
        ),
        (
            *("matrix://b/k", "s3", "b", "k", "https://s3-hpcrc.rc.princeton.edu"),
            *("matrix://b/", "matrix"),
        ),
        (
            *("tigerdata://b", "s3", "b", "", "https://td.princeton.edu"),
            *("tigerdata://b/", "tigerdata"),
        ),
    ],
)
def test_every_form(text, provider, bucket, key, endpoint, url, secret):
    address = parse_address(text)
    assert (address.provider, address.bucket, address.key) == (provider, bucket, key)
    assert (address.endpoint_url, address.url, address.secret) == (endpoint, url, secret)
    again = parse_address(address.url + address.key)
    assert again == address


@pytest.mark.parametrize(
    "text",
    ["/data/v", "v", "memory://a", "file:///a", "simplecache::s3://b/k", "ftp://h/x", "C:\\x"],
)
def test_what_is_neither_a_cloud_nor_the_web(text):
    assert parse_address(text) is None


def test_the_server_may_be_given_apart():
    address = parse_address("s3://b/k", endpoint_url="https://H:443/")
    assert address == parse_address("s3+https://h/b/k")
    assert parse_address("s3+https://h/b/k", endpoint_url="https://h") == address
    assert parse_address("gs://b/k", endpoint_url="http://h:1").url == "gs+http://h:1/b/"
    with pytest.raises(
        InvalidURLError, match=r"the URL names this server, endpoint_url='https://g'"
    ):
        parse_address("s3+https://h/b/k", endpoint_url="https://g")
    with pytest.raises(InvalidURLError, match="endpoint_url means nothing for http"):
        parse_address("https://h/b/k", endpoint_url="https://h")


@pytest.mark.parametrize("server", ["h", "ftp://h", "https://h/path", "https://me:hunter2@h", ""])
def test_a_server_is_no_more_and_no_less(server):
    with pytest.raises(InvalidURLError, match="is not the address of a server") as caught:
        parse_address("s3://b/k", endpoint_url=server)
    assert "hunter2" not in str(caught.value)


def test_accounts_of_azure():
    named = parse_address("abfss://c@me.dfs.core.windows.net/k")
    assert parse_address("az://c/k", account_name="me") == named
    assert parse_address("az://c@me.blob.core.windows.net/k") == named
    own = parse_address("az+http://127.0.0.1:10000/me/c/k")
    assert parse_address("az://c/k", endpoint_url="http://127.0.0.1:10000/me") == own
    assert (
        parse_address("az://c/k", endpoint_url="http://127.0.0.1:10000", account_name="me") == own
    )
    china = parse_address("abfss://c@me.dfs.core.chinacloudapi.cn/k")
    assert china.endpoint_url == "https://me.blob.core.chinacloudapi.cn"
    with pytest.raises(InvalidURLError, match="names this account, storage_options 'https://you"):
        parse_address("abfss://c@me.dfs.core.windows.net/k", account_name="you")
    with pytest.raises(InvalidURLError, match="account_name: expected lower-case letters"):
        parse_address("az://c/k", account_name="me@evil")
    with pytest.raises(InvalidURLError, match="https://storage.example: whose container"):
        parse_address("az://c/k", endpoint_url="https://storage.example")


def test_aliases_of_the_user():
    aliases = {
        "lab": "s3://https://s3.lab.example/",
        "mine": "s3://bucket/prefix",
        "open": "gs://public/",
        "disk": "file:///data/",
    }
    lab = parse_address("lab://b/k", aliases=aliases)
    assert (lab.url, lab.key, lab.secret) == ("lab://b/", "k", "lab")
    assert lab.endpoint_url == "https://s3.lab.example"
    mine = parse_address("mine://k", aliases=aliases)
    assert (mine.url, mine.key, mine.secret) == ("s3://bucket/", "prefix/k", "mine")
    assert parse_address("open://k", aliases=aliases) == parse_address("gs://public/k")
    assert parse_address("lab://b/k") is None
    with pytest.raises(
        InvalidURLError, match="which is neither a cloud nor the web; open\n    file:"
    ):
        parse_address("disk://k", aliases=aliases)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://", "s3://: expected s3://BUCKET/PATH"),
        ("gs:///a", "expected gs://BUCKET/PATH"),
        ("s3+https://h", r"expected s3\+https://h/BUCKET/PATH"),
        ("s3://localhost:9000/b/k", r"looks like a server.*\n    s3\+http://localhost:9000/b/k$"),
        ("s3://minio.lab:9000/b", r"\n    s3\+https://minio.lab:9000/b$"),
        ("s3://../b", "expected s3://BUCKET/PATH"),
        ("https://", "expected https://HOST/PATH"),
        ("https://h:port/a", "expected https://HOST/PATH"),
        ("s3://b/../../x", r"^s3://b/\.\./\.\./x: key .* leads out of the bucket"),
        ("https://h/a/%2e%2e/%2E%2E/x", "^https://h/.* leads out of the bucket"),
        ("gs://b/a\nb", "control characters"),
        ("gs://b/a\0b", "control characters"),
        ("gs+ngauth+https://s/b/p", r"not supported; with Google credentials.*\n    gs://b/p$"),
        ("ngauth+https://s/b/p", r"\n    gs://b/p$"),
        ("ngauth+https://s", r"\n    gs://BUCKET/PATH$"),
        ("https://h/a#b", r"never sent to a server; .*\n    https://h/a%23…"),
    ],
)
def test_what_cannot_be_says_what_to_write(text, message):
    with pytest.raises(InvalidURLError, match=message):
        parse_address(text)


@pytest.mark.parametrize(
    "text", ["s3://KEY:hunter2@b/k", "gs://hunter2@b/k", "az://u:hunter2@c@h/k"]
)
def test_credentials_in_a_url_of_a_bucket_are_refused_unseen(text):
    with pytest.raises(InvalidURLError) as caught:
        parse_address(text)
    assert "hunter2" not in str(caught.value)


def test_user_password_and_query_travel_unseen():
    text = "https://me:hunter2@h/a b?sig=hunter3"
    address = parse_address(text)
    assert (address.userinfo, address.query) == ("me:hunter2", "sig=hunter3")
    assert (address.url, address.key) == ("https://h/", "a b")
    assert "hunter" not in repr(address) + address.url + without_secrets(text)
    assert pickle.loads(pickle.dumps(address)) == address


@pytest.mark.parametrize(
    ("path", "key", "name", "wire"),
    [
        ("a%20b/c", "a b/c", "a b/c", "a%20b/c"),
        ("a b", "a b", "a b", "a%20b"),
        ("%C3%BC", "ü", "ü", "%C3%BC"),
        ("ü", "ü", "ü", "%C3%BC"),
        ("a+b", "a+b", "a+b", "a+b"),
        ("a%2Bb", "a+b", "a+b", "a+b"),
        ("a%23b%3Fc", "a%23b%3Fc", "a#b?c", "a%23b%3Fc"),
        ("50%", "50%25", "50%", "50%25"),
        ("50%25", "50%25", "50%", "50%25"),
        ("a%2541", "a%2541", "a%41", "a%2541"),
        ("%%411", "%25A1", "%A1", "%25A1"),
        ("a%2Fb", "a%2Fb", "a/b", "a%2Fb"),
        ("a%7Czip:x", "a%7Czip:x", "a|zip:x", "a%7Czip:x"),
        ("a%20/", "a ", "a ", "a%20"),
    ],
)
def test_names_of_the_web(path, key, name, wire):
    address = parse_address(f"https://h/{path}")
    assert address.key in (key, key.replace(" ", "%20"))
    assert address.object_name(address.key) == name
    assert address.web_path(address.key) == wire
    assert parse_address(strip_format(address.url + address.key)) == address


NAMES = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1
).filter(lambda name: name not in (".", "..") and name != "info")


@given(st.lists(NAMES, min_size=1, max_size=3))
def test_what_is_shown_opens_the_same_object(names):
    typed = "https://h/" + "/".join(quote(name, safe="") for name in names)
    address = parse_address(typed)
    assert address.object_name(address.key) == "/".join(names)
    again = parse_address(strip_format(address.url + address.key))
    assert again.object_name(again.key) == "/".join(names)


@given(
    st.text(max_size=30), st.sampled_from(["s3://", "https://", "az://", "lab://", "s3+http://"])
)
def test_any_text_is_an_address_or_an_error_of_ours(text, scheme):
    try:
        address = parse_address(strip_format(scheme + text), aliases={"lab": "s3://https://h/"})
    except InvalidURLError:
        return
    assert address is None or ".." not in address.key.split("/")


@pytest.mark.parametrize(
    ("typed", "bare"),
    [
        ("Precomputed://gs://b/p/", "gs://b/p"),
        ("gs://b/p/|neuroglancer-precomputed:", "gs://b/p"),
        ("gs://b/p/|NEUROGLANCER-Precomputed:", "gs://b/p"),
        ("gs://b/p|neuroglancer-precomputed:///", "gs://b/p"),
        ("gs://b/p///|neuroglancer-precomputed:", "gs://b/p"),
        ("gs://b/p/|neuroglancer-precomputed:#type=mesh", "gs://b/p"),
        ("gs://b/p/|neuroglancer-precomputed:?x=1#type=mesh", "gs://b/p"),
        ("gs://b/p/|neuroglancer-precomputed", "gs://b/p"),
        ("gs://b/p/|Neuroglancer-Precomputed/", "gs://b/p"),
        ("gs://b/p/%7Cneuroglancer-precomputed:", "gs://b/p"),
        ("precomputed://gs://b/p#type=mesh", "gs://b/p"),
        ("gs://b/my%20data/|neuroglancer-precomputed:", "gs://b/my data"),
        ("gs://b/my%20data/", "gs://b/my%20data"),
        ("https://h/my%20data/|neuroglancer-precomputed:", "https://h/my%20data"),
        ("https://h/a/info?key=1", "https://h/a?key=1"),
        ("https://h/a/?key=1|neuroglancer-precomputed:", "https://h/a?key=1"),
        ("https://h/a#type=mesh", "https://h/a"),
        ("https://h", "https://h"),
        ("https://h/info", "https://h"),
        ("s3://info", "s3://info"),
        ("s3://b//info//", "s3://b"),
        ("/data/a|b:c", "/data/a|b:c"),
        ("/info", "/"),
    ],
)
def test_formats_are_stripped(typed, bare):
    assert strip_format(typed) == bare


@pytest.mark.parametrize(
    ("url", "explicit"),
    [
        ("PRECOMPUTED://gs://b/p", True),
        (" precomputed://p", True),
        ("gs://b/|neuroglancer-precomputed:#type=mesh", True),
        ("gs://b/|zip:a|Neuroglancer-Precomputed:/", True),
        ("gs://b/p", False),
        ("gs://b/p|zarr2:", False),
        ("https://h/#!{}", False),
    ],
)
def test_what_says_that_it_is_precomputed(url, explicit):
    assert is_explicit(url) is explicit


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "gs://b/p.zip|zip:a/|neuroglancer-precomputed:",
            r"gs://b/p.zip: the adapter \|zip: is not",
        ),
        ("gs://b/p|gzip:|neuroglancer-precomputed:", r"the adapter \|gzip: is not supported"),
        ("gs://b/p|ocdbt:x|neuroglancer-precomputed:", r"the adapter \|ocdbt: is not"),
        ("gs://b/p|icechunk:|neuroglancer-precomputed:", r"the adapter \|icechunk: is not"),
        ("gs://b/p|zip:a/", r"the adapter \|zip: is not"),
        ("gs://b/p|zarr3:", "this is a zarr3 source; engine='precomputed' reads"),
        ("/data/p|n5:", "this is a n5 source"),
        ("gs://b/p|unheard-of:", r"the adapter \|unheard-of: is not"),
        (
            "https://h/a?token=hunter2|neuroglancer-precomputed:x/y",
            r"takes no path; write\n    https://h/a/x/y/\|neuroglancer-precomputed:$",
        ),
    ],
)
def test_other_stages_of_a_pipeline_are_refused(url, message):
    with pytest.raises(InvalidURLError, match=message) as caught:
        strip_format(url)
    assert "hunter2" not in str(caught.value)


STATE = {
    "layers": [
        {"name": "em", "source": "precomputed://gs://b/em_1"},
        {
            "name": "it's, ok",
            "source": [{"url": "s3://b/seg/|neuroglancer-precomputed:"}, "local://annotations"],
        },
        {"name": "auth", "source": "precomputed://https://me:hunter2@h/a?sig=hunter2#x"},
        {"name": "none"},
        "odd",
    ]
}
LINES = (
    '\n    "precomputed://gs://b/em_1"  # em'
    '\n    "s3://b/seg/|neuroglancer-precomputed:"  # it\'s, ok'
    '\n    "local://annotations"  # it\'s, ok'
    '\n    "precomputed://https://h/a"  # auth'
)


@pytest.mark.parametrize(
    "state",
    [
        json.dumps(STATE),
        quote(json.dumps(STATE)),
        quote(json.dumps(STATE, separators=(",", ":")), safe=""),
        # as Neuroglancer writes JSON into URLs: quotes and commas are other characters
        "{'layers':[{'name':'em'_'source':'precomputed://gs://b/em_1'}_{'name':'it\\'s, ok'_"
        "'source':[{'url':'s3://b/seg/|neuroglancer-precomputed:'}_'local://annotations']}_"
        "{'name':'auth'_'source':'precomputed://https://me:hunter2@h/a?sig=hunter2#x'}]}",
    ],
)
@pytest.mark.parametrize("host", ["https://neuroglancer-demo.appspot.com/", "host/v/2/"])
def test_links_to_neuroglancer_name_their_layers(host, state):
    with pytest.raises(InvalidURLError, match="not to a volume; its layers come from") as caught:
        strip_format(f"{host}#!{state}")
    assert LINES in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_old_states_and_long_ones():
    old = {"layers": {"em": "precomputed://gs://b/em", "seg": {"source": "gs://b/seg"}}}
    with pytest.raises(InvalidURLError, match='"gs://b/seg"  # seg'):
        strip_format(f"https://h/#!{json.dumps(old)}")
    many = {"layers": [{"name": f"l{i}", "source": f"gs://b/{i}"} for i in range(50)]}
    with pytest.raises(InvalidURLError, match=r"# l29\n    … and 20 more$"):
        strip_format(f"https://h/#!{json.dumps(many)}")


@pytest.mark.parametrize("state", ["{}", '{"layers": 3}', "{broken", '{"layers": [{"source": 3}]}'])
def test_links_without_sources(state):
    with pytest.raises(InvalidURLError, match="no source was found in it"):
        strip_format(f"https://h/#!{state}")


@pytest.mark.parametrize("state", ["gs://b/state.json", "middleauth+https://h/s/1?token=hunter2"])
def test_links_whose_state_lies_elsewhere(state):
    shown = state.partition("?")[0].replace("+", r"\+")
    with pytest.raises(InvalidURLError, match=f"whose state is kept at {shown}: open it"):
        strip_format(f"https://h/#!{state}")
    with pytest.raises(InvalidURLError, match=f"whose state is kept at {shown}: open it"):
        strip_format(f"https://h/#!{quote(state, safe='')}")


def test_an_address_is_a_value():
    address = parse_address("s3://b/k")
    assert address == Address("s3", "b", "k", None, "s3", "aws")
    assert hash(address) == hash(parse_address("s3a://b/k/"))
