"""Addresses of objects in clouds and on the web: text to values, without asking anybody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import quote, unquote

from xprecomputed.errors import InvalidURLError
from xprecomputed.storage.addresses.pasted import (
    OTHER_FORMATS,
    is_explicit,
    split_web,
    strip_format,
    without_secrets,
)
from xprecomputed.storage.base import resolve

__all__ = [
    "OTHER_FORMATS",
    "SCHEMES",
    "Address",
    "Provider",
    "is_explicit",
    "parse_address",
    "strip_format",
    "without_secrets",
]

Provider = Literal["s3", "gs", "az", "http"]

#: Every scheme that is understood without an alias.
SCHEMES: dict[str, Provider] = {
    **dict.fromkeys(("s3", "s3a", "s3+https", "s3+http"), "s3"),
    **dict.fromkeys(("gs", "gcs", "gs+xml", "gs+https", "gs+http"), "gs"),
    **dict.fromkeys(("az", "abfs", "abfss", "az+https", "az+http"), "az"),
    **dict.fromkeys(("http", "https", "middleauth+http", "middleauth+https"), "http"),
}
#: Schemes that stand for a server, as CloudFiles knows them.
ALIASES = {
    "matrix": "s3://https://s3-hpcrc.rc.princeton.edu/",
    "tigerdata": "s3://https://td.princeton.edu/",
    "nokura": "s3://https://c10s.pni.princeton.edu/",
}
SECRETS = {"s3": "aws", "gs": "google", "az": "azure", "http": "http"}

_URL = re.compile(r"([A-Za-z][\w+.-]*)://(.*)", re.DOTALL)
_NGAUTH = re.compile(r"(?:gs\+)?ngauth\+https?")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_BUCKET = re.compile(r"[A-Za-z0-9_$][\w.:-]*", re.ASCII)
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: Characters of a name that would mean something else in a URL that shows it.
_AMBIGUOUS = frozenset("%/\\?#|")
_BLOB_HOST = re.compile(r"https://[a-z0-9-]+\.(?:[a-z0-9-]+\.)?blob\.[a-z0-9.-]+")
_LOOPBACK = re.compile(r"localhost|127\.")
_PLAIN_IN_PATHS = "/%:@!$&'()*+,;=~"


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a bucket, in a container or on a web server.

    Parameters
    ----------
    provider : {"s3", "gs", "az", "http"}
        The protocol that the server speaks.
    bucket : str
        Bucket or container; empty for ``http``.
    key : str
        Without a slash at either end. Of ``http`` it is the path of the URL with its
        percent-encoding undone where that is not ambiguous, see `object_name`; of the others
        it is the name as it is.
    endpoint_url : str or None
        ``scheme://host[:port]`` of the server, of Azure with ``/account`` where the host does
        not say it. None is the cloud that gave the protocol its name.
    scheme : str
        How it is shown: ``s3 gs az abfss http https matrix s3+https middleauth+https`` …
    secret : str
        Which secrets file belongs to it: ``aws google azure http cave``, or an alias.
    query : str
        Of ``http``, repeated with every request. May be a secret, so it shows nowhere.
    userinfo : str
        Of ``http``, ``user:password`` as it was typed; shows nowhere.

    Examples
    --------
    >>> address = parse_address("https://me:pw@host/my%20layer?token=1")
    >>> address.url, address.key
    ('https://host/', 'my layer')
    """

    provider: Provider
    bucket: str
    key: str
    endpoint_url: str | None
    scheme: str
    secret: str
    query: str = field(default="", repr=False)
    userinfo: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The root, without key and credentials; ``url + key`` opens the same place again."""
        if self.provider == "http":
            login = "middleauth+" if self.scheme.startswith("middleauth+") else ""
            return f"{login}{self.endpoint_url}/"
        if "+" in self.scheme:
            return f"{self.provider}+{self.endpoint_url}/{self.bucket}/"
        if self.scheme == "abfss":
            host = (self.endpoint_url or "").removeprefix("https://").replace(".blob.", ".dfs.", 1)
            return f"abfss://{self.bucket}@{host}/"
        return f"{self.scheme}://{self.bucket}/"

    def object_name(self, key: str) -> str:
        """What the server calls the object of a key here.

        Examples
        --------
        >>> parse_address("https://host/a%23b").object_name("a%23b/info")
        'a#b/info'
        >>> parse_address("gs://bucket/a%23b").object_name("a%23b/info")
        'a%23b/info'
        """
        return unquote(key) if self.provider == "http" else key

    def web_path(self, key: str) -> str:
        """The percent-encoded path of a key, for ``http``.

        Examples
        --------
        >>> parse_address("https://host/a%23b").web_path("a%23b/x y")
        'a%23b/x%20y'
        """
        return quote(_only_escapes(key), safe=_PLAIN_IN_PATHS)


def parse_address(
    text: str,
    *,
    endpoint_url: str | None = None,
    account_name: str | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Address | None:
    """The address that a bare URL means.

    Parameters
    ----------
    text : str
        As `strip_format` gives it.
    endpoint_url : str, optional
        The server, where the URL does not name it.
    account_name : str, optional
        Azure's, where the URL does not name it.
    aliases : mapping of str to str, optional
        Schemes and the beginning of the URL that each stands for, besides `ALIASES`.

    Returns
    -------
    Address or None
        None: no cloud and not the web, such as a path, ``memory://``, or a chain.

    Raises
    ------
    InvalidURLError

    Examples
    --------
    >>> parse_address("s3://https://minio:9000/bucket/layer").url
    's3+https://minio:9000/bucket/'
    >>> parse_address("matrix://bucket/layer").endpoint_url
    'https://s3-hpcrc.rc.princeton.edu'
    >>> parse_address("/data/layer") is None
    True
    """
    found = _URL.fullmatch(text)
    if found is None:
        return None
    scheme, rest = found[1].lower(), found[2]
    if _CONTROL.search(text):
        raise InvalidURLError(f"{without_secrets(text)!r}: control characters in an address")
    if _NGAUTH.fullmatch(scheme):
        bucket_and_key = rest.partition("/")[2] or "BUCKET/PATH"
        raise InvalidURLError(
            f"{without_secrets(text)}: {scheme} is not supported; with Google credentials of your "
            f"own open\n    gs://{bucket_and_key}"
        )
    provider = SCHEMES.get(scheme)
    if provider is None:
        known = {**ALIASES, **(aliases or {})}
        return _of_alias(scheme, rest, known[scheme], endpoint_url) if scheme in known else None
    if provider == "http":
        if endpoint_url is not None:
            raise InvalidURLError(f"{without_secrets(text)}: endpoint_url means nothing for http")
        return _of_web(scheme, text)
    if provider == "az":
        return _of_azure(scheme, rest, endpoint_url, account_name)
    return _of_bucket(provider, scheme, rest, endpoint_url)


def _of_bucket(provider: Provider, scheme: str, rest: str, endpoint_url: str | None) -> Address:
    asked = endpoint_of(endpoint_url) if endpoint_url is not None else None
    endpoint, rest = _endpoint_in(scheme, rest)
    if endpoint and asked and endpoint != asked:
        raise InvalidURLError(
            f"{provider}+{endpoint}: the URL names this server, endpoint_url={asked!r} another one"
        )
    endpoint = endpoint or asked
    bucket, key = _bucket_and_key(provider, f"{provider}+{endpoint}/" if endpoint else "", rest)
    shown = f"{provider}+{endpoint.partition('://')[0]}" if endpoint else provider
    return Address(provider, bucket, key, endpoint, shown, SECRETS[provider])


def _endpoint_in(scheme: str, rest: str) -> tuple[str | None, str]:
    """The server that a URL names, if it does, and what follows it."""
    _, plus, transport = scheme.partition("+")
    if plus and transport in ("http", "https"):
        rest = f"{transport}://{rest}"
    elif not re.match(r"https?://", rest, re.IGNORECASE):
        return None, rest
    transport, _, rest = rest.partition("://")
    host, _, rest = rest.partition("/")
    return endpoint_of(f"{transport}://{host}"), rest


def endpoint_of(text: str, *, with_account: bool = False) -> str:
    """A server's address in its one spelling.

    Raises
    ------
    InvalidURLError
        It is more, or less, than ``https://host[:port]``.

    Examples
    --------
    >>> endpoint_of("HTTPS://Host:443/")
    'https://host'
    """
    found = re.fullmatch(r"(https?)://([^/]*)(.*)", text.strip(), re.IGNORECASE | re.DOTALL)
    transport, host, path = (found[1], found[2], found[3].strip("/")) if found else ("", "", "")
    is_account = with_account and re.fullmatch(r"[a-z0-9-]*", path)
    if not _HOST.fullmatch(host) or (path and not is_account):
        raise InvalidURLError(
            f"{without_secrets(text).rpartition('@')[2]!r} is not the address of a server; "
            "expected https://HOST or https://HOST:PORT, with credentials in storage_options"
        )
    transport, host = transport.lower(), host.lower()
    default = ":443" if transport == "https" else ":80"
    return f"{transport}://{host.removesuffix(default)}" + (f"/{path}" if path else "")


def _bucket_and_key(shown: str, server: str, rest: str) -> tuple[str, str]:
    """The first component, which is not left again, and the key in it."""
    before, _, key = rest.partition("/")
    _, at, bucket = before.rpartition("@")
    form = f"{server or shown + '://'}BUCKET/PATH"
    if at:
        raise InvalidURLError(
            f"{shown}://…@{bucket}: credentials do not belong into this URL; give them in "
            f"storage_options and open {form}"
        )
    if re.fullmatch(r"[\w.-]+:\d+", bucket):
        transport = "http" if _LOOPBACK.match(bucket) else "https"
        raise InvalidURLError(
            f"{shown}://{bucket}/…: {bucket} looks like a server; a bucket of it is opened with\n"
            f"    {shown}+{transport}://{bucket}/{key or 'BUCKET/PATH'}"
        )
    if not _BUCKET.fullmatch(bucket):
        raise InvalidURLError(f"{server or shown + '://'}{rest}: expected {form}")
    return bucket, _key_of(f"{server or shown + '://'}{bucket}/", key)


def _key_of(root: str, path: str) -> str:
    try:
        return resolve("", path.strip("/"))
    except InvalidURLError as error:
        raise InvalidURLError(f"{root}{path}: {error}") from None


def _of_azure(scheme: str, rest: str, endpoint: str | None, account: str | None) -> Address:
    if account is not None and not re.fullmatch("[a-z0-9-]+", account):
        raise InvalidURLError("az: account_name: expected lower-case letters and digits")
    if "+" in scheme:
        named, rest = _endpoint_in(scheme, rest)
        owner, _, rest = rest.partition("/")
        named = endpoint_of(f"{named}/{owner}", with_account=True)
    else:
        container, at, host = rest.partition("/")[0].rpartition("@")
        named = endpoint_of(f"https://{host.replace('.dfs.', '.blob.', 1)}") if at else None
        if at:
            rest = f"{container}/{rest.partition('/')[2]}"
    asked = endpoint_of(endpoint, with_account=True) if endpoint is not None else None
    if asked and account and asked.count("/") == 2 and not asked.startswith(f"https://{account}."):
        asked = f"{asked}/{account}"
    if account and not asked and not (named and re.search(rf"//{account}\.|/{account}$", named)):
        asked = endpoint_of(f"https://{account}.blob.core.windows.net")
    if named and asked and named != asked:
        raise InvalidURLError(f"{named}: the URL names this account, storage_options {asked!r}")
    server = named or asked
    bucket, key = _bucket_and_key("az", "", rest)
    if server is None:
        shown = "az"
    elif _BLOB_HOST.fullmatch(server):
        shown = "abfss"
    elif server.count("/") == 3:
        shown = "az+" + server.partition("://")[0]
    else:
        raise InvalidURLError(
            f"{server}: whose container? Expected https://ACCOUNT.blob.core.windows.net, "
            "https://HOST/ACCOUNT, or account_name with it"
        )
    return Address("az", bucket, key, server, shown, "azure")


def _of_web(scheme: str, text: str) -> Address:
    secret = "cave" if scheme.startswith("middleauth+") else "http"
    rest, query = split_web(text)
    rest = rest.partition("://")[2]
    place, _, path = rest.partition("/")
    userinfo, _, host = place.rpartition("@")
    transport = scheme.removeprefix("middleauth+")
    if not _HOST.fullmatch(host):
        raise InvalidURLError(f"{without_secrets(text)}: expected {scheme}://HOST/PATH")
    endpoint = endpoint_of(f"{transport}://{host}")
    key = _key_of(f"{endpoint}/", _readable(path))
    key = re.sub(" +$", lambda each: "%20" * len(each[0]), key)  # where it would be stripped
    return Address("http", "", key, endpoint, scheme, secret, query, userinfo)


def _readable(path: str) -> str:
    """A path of a URL, percent-decoded but for what would then mean something else."""

    def undone(found: re.Match[str]) -> str:
        try:
            text = bytes.fromhex(found[0].replace("%", "")).decode()
        except UnicodeDecodeError:
            return found[0]
        kept = (char in _AMBIGUOUS or not char.isprintable() for char in text)
        return "".join(
            quote(char, safe="") if keep else char for char, keep in zip(text, kept, strict=True)
        )

    return _ESCAPES.sub(undone, _only_escapes(path))


def _only_escapes(path: str) -> str:
    """The same name, in which every ``%`` begins an escape."""
    return re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", path)


def _of_alias(scheme: str, rest: str, target: str, endpoint_url: str | None) -> Address:
    meant = parse_address(f"{target.rstrip('/')}/{rest}", endpoint_url=endpoint_url, aliases={})
    if meant is None:
        raise InvalidURLError(
            f"{scheme}://{rest}: {scheme} is an alias of {without_secrets(target)}, which is "
            f"neither a cloud nor the web; open\n    {without_secrets(target).rstrip('/')}/{rest}"
        )
    if meant.provider != "s3":
        return meant
    of_server = _endpoint_in("s3", target.partition("://")[2])
    if meant.endpoint_url is not None and not of_server[1].strip("/"):
        return replace(meant, scheme=scheme, secret=scheme)
    return replace(meant, secret=scheme)
