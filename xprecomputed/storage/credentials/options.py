"""``storage_options``: the words of fsspec's file systems, in one spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from xprecomputed.errors import InvalidURLError
from xprecomputed.storage.addresses.address import Address
from xprecomputed.storage.credentials.ambient import connection_words
from xprecomputed.storage.credentials.secrets import json_of

__all__ = ["needs_fsspec", "server_of", "words_of"]

#: The words of each provider, as s3fs, gcsfs, adlfs and fsspec's http call them.
KNOWN: dict[str, tuple[str, ...]] = {
    "s3": (
        *("anon", "key", "secret", "token", "profile", "endpoint_url", "region"),
        *("requester_pays", "client_kwargs", "username", "password"),
    ),
    "gs": ("anon", "token", "project", "endpoint_url", "requester_pays"),
    "az": (
        *("anon", "account_name", "account_key", "sas_token", "connection_string", "credential"),
        *("client_id", "client_secret", "tenant_id", "account_host", "endpoint_url"),
    ),
    "http": ("anon", "headers", "token", "user", "password", "client_kwargs"),
}
#: What fsspec's file systems know and obstore has no notion of.
HANDED: dict[str, tuple[str, ...]] = {
    "s3": (
        *("use_ssl", "default_block_size", "default_fill_cache", "default_cache_type", "session"),
        *("version_aware", "config_kwargs", "s3_additional_kwargs", "cache_regions"),
        *("max_concurrency", "fixed_upload_size", "local_expiry_check"),
    ),
    "gs": (
        *("access", "block_size", "consistency", "cache_timeout", "secure_serialize", "timeout"),
        *("check_connection", "requests_timeout", "session_kwargs", "default_location"),
        "version_aware",
    ),
    "az": (
        *("location_mode", "socket_timeout", "request_session", "blocksize", "timeout"),
        *("default_fill_cache", "default_cache_type", "version_aware", "max_concurrency"),
        *("assume_container_exists", "connection_timeout", "read_timeout"),
    ),
    "http": (
        *("simple_links", "block_size", "same_scheme", "size_policy", "cache_type"),
        *("cache_options", "get_client", "encoded"),
    ),
}
_OF_ANY_FILE_SYSTEM = (
    *("asynchronous", "loop", "batch_size", "use_listings_cache", "listings_expiry_time"),
    *("max_paths", "skip_instance_cache"),
)
#: What `client_kwargs` may say before s3fs or aiohttp have to hear it themselves.
_CLIENT = {"s3": {"region_name", "endpoint_url"}, "http": {"headers", "auth"}}


def needs_fsspec(address: Address, storage_options: Mapping[str, Any]) -> bool:
    """Whether the address or an option is beyond obstore, so that fsspec must open it.

    Raises
    ------
    InvalidURLError
        An option that nobody knows.

    Examples
    --------
    >>> from xprecomputed.storage.addresses.address import parse_address
    >>> needs_fsspec(parse_address("s3://bucket/layer"), {"anon": True})
    False
    >>> needs_fsspec(parse_address("s3://bucket/layer"), {"config_kwargs": {}})
    True
    """
    given = {name for name, value in storage_options.items() if value is not None}
    beyond = {*HANDED[address.provider], *_OF_ANY_FILE_SYSTEM}
    unknown = sorted(map(str, given - beyond - set(KNOWN[address.provider])))
    if unknown:
        raise InvalidURLError(
            f"{address.url}: storage_options {unknown} are unknown; expected some of "
            f"{sorted(KNOWN[address.provider])}"
        )
    client = storage_options.get("client_kwargs") or {}
    if not isinstance(client, Mapping):
        raise InvalidURLError(f"{address.url}: storage_options 'client_kwargs': expected a mapping")
    if given & beyond or client.keys() - _CLIENT.get(address.provider, set()):
        return True
    if address.provider == "gs" and storage_options.get("token") in ("cache", "browser"):
        return True
    # names that are not the same when they are decoded and encoded again
    return address.provider == "http" and _is_more_than_its_name(address.key)


def _is_more_than_its_name(key: str) -> bool:
    """Whether a key of the web is another one when it is decoded and encoded again."""
    name = unquote(key)
    return "%2f" in key.lower() or "\ufffd" in name or re.search(r"[\x00-\x1f]", name) is not None


def server_of(provider: str, storage_options: Mapping[str, Any]) -> dict[str, str]:
    """What `parse_address` is told: ``endpoint_url`` and ``account_name``, where they are given."""
    client = storage_options.get("client_kwargs")
    client = client if isinstance(client, Mapping) else {}
    found = {name: storage_options.get(name) for name in ("endpoint_url", "account_name")}
    found["endpoint_url"] = found["endpoint_url"] or client.get("endpoint_url")
    if provider == "az":
        host = storage_options.get("account_host")
        of_string = connection_words(str(storage_options.get("connection_string") or ""))
        found["endpoint_url"] = (
            found["endpoint_url"]
            or (f"https://{host}" if host else None)
            or of_string.get("endpoint_url")
        )
        found["account_name"] = found["account_name"] or of_string.get("account_name")
    else:
        del found["account_name"]
    return {name: str(value) for name, value in found.items() if value}


def words_of(address: Address, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, checked, without what `parse_address` has taken.

    Raises
    ------
    InvalidURLError
        A value is of the wrong type, or two contradict each other; no value is shown.
    """
    words = {name: value for name, value in storage_options.items() if value is not None}
    client = dict(words.pop("client_kwargs", None) or {})
    words.pop("endpoint_url", None)
    read = {"s3": _s3, "gs": _gs, "az": _az, "http": _http}[address.provider]
    try:
        return {name: value for name, value in read(words, client).items() if value is not None}
    except _WrongOptionError as error:
        raise InvalidURLError(f"{address.url}: storage_options {error}") from None


class _WrongOptionError(Exception):
    """What is wrong with an option."""


def _s3(words: dict[str, Any], client: dict[str, Any]) -> dict[str, Any]:
    for name, other in (("key", "username"), ("secret", "password")):
        if other in words:
            words[name] = words.pop(other)
    words.setdefault("region", client.get("region_name"))
    _check_texts(words, "key", "secret", "token", "profile", "region")
    _check_flags(words, "anon", "requester_pays")
    if ("key" in words) != ("secret" in words):
        raise _WrongOptionError("'key' and 'secret': expected both or none of them")
    if "token" in words and "key" not in words:
        raise _WrongOptionError("'token': expected 'key' and 'secret' with it")
    return words


def _gs(words: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    token = words.get("token")
    if token == "anon":
        words = {**words, "anon": True}
        del words["token"]
    elif isinstance(token, str) and token not in ("cloud", "google_default"):
        path = Path(token).expanduser()
        looks_like_file = token.endswith(".json") or "/" in token[:2] or path.is_file()
        words["token"] = json_of(path) if looks_like_file else token
    elif (
        token is not None
        and not isinstance(token, (str, Mapping))
        and not hasattr(token, "refresh")
    ):
        raise _WrongOptionError(
            "'token': expected 'anon', 'cloud', 'google_default', the path of a JSON file, "
            "its content, a token, or credentials of google.oauth2"
        )
    pays = words.get("requester_pays")
    if isinstance(pays, str):  # gcsfs takes the project that pays here
        words = {**words, "requester_pays": True, "project": pays}
    _check_flags(words, "anon", "requester_pays")
    _check_texts(words, "project")
    return words


def _az(words: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    names = ("account_name", "account_key", "sas_token", "connection_string", "account_host")
    _check_texts(words, *names, "client_id", "client_secret", "tenant_id")
    _check_flags(words, "anon")
    words.pop("account_host", None)
    of_string = connection_words(words.pop("connection_string", ""))
    of_string.pop("endpoint_url", None)
    words = {**of_string, **words}
    credential = words.get("credential")
    if isinstance(credential, str):
        del words["credential"]
        words["sas_token" if "sig=" in credential else "account_key"] = credential
    elif credential is not None and not hasattr(credential, "get_token"):
        raise _WrongOptionError(
            "'credential': expected a key, a SAS token or an object of azure.identity"
        )
    return words


def _http(words: dict[str, Any], client: dict[str, Any]) -> dict[str, Any]:
    headers = {**_headers(client.get("headers")), **_headers(words.get("headers"))}
    if headers:
        words["headers"] = headers
    auth = client.get("auth")
    if auth is not None:
        try:
            words["user"], words["password"] = auth[0], auth[1]
        except (TypeError, IndexError, KeyError):
            raise _WrongOptionError(
                "'client_kwargs' 'auth': expected a user and a password"
            ) from None
    _check_texts(words, "token", "user", "password")
    _check_flags(words, "anon")
    if ("user" in words) != ("password" in words):
        raise _WrongOptionError("'user' and 'password': expected both or none of them")
    return words


def _headers(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    pairs: dict[Any, Any] = dict(given) if isinstance(given, Mapping) else {None: None}
    for name, value in pairs.items():
        is_name = isinstance(name, str) and re.fullmatch(r"[!#$%&'*+.^`|~\w-]+", name, re.ASCII)
        if not is_name or not isinstance(value, str) or re.search(r"[\r\n\0]", value):
            raise _WrongOptionError("'headers': expected a mapping of names to texts of one line")
    return pairs


def _check_texts(words: Mapping[str, Any], *names: str) -> None:
    for name in names:
        value = words.get(name)
        is_line = isinstance(value, str) and value and not re.search(r"[\x00-\x1f\x7f]", value)
        if value is not None and not is_line:
            raise _WrongOptionError(f"{name!r}: expected a text of one line")


def _check_flags(words: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if words.get(name) is not None and not isinstance(words[name], bool):
            raise _WrongOptionError(f"{name!r}: expected True or False")
