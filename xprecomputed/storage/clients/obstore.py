"""From an address and credentials to a store of obstore.

obstore reads the environment by itself, and what it finds there fills every gap: a session
token of one account joins the key of another. So all that it would look for is said, and
credentials go through a provider, which the environment cannot change.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from xprecomputed.errors import AccessDeniedError, InvalidURLError, PrecomputedError
from xprecomputed.storage.addresses.address import Address
from xprecomputed.storage.credentials.access import Access, bucket_region
from xprecomputed.storage.credentials.providers import (
    OfAzure,
    OfBotocore,
    OfGoogle,
    OfMachine,
    OfUser,
    has_role,
)

__all__ = ["StoreArguments", "build_store", "store_arguments"]

_AWS_HOST = re.compile(r"https://s3[.-](?:dualstack\.)?([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
#: What obstore does by itself with the words of AWS.
_AWS_ROLES = (
    *("web_identity_token_file", "role_arn", "role_session_name"),
    *("container_credentials_relative_uri", "container_credentials_full_uri"),
    "container_authorization_token_file",
)
_GOOGLE = "https://storage.googleapis.com"
AUTHORIZATION = "authorization"
#: Nobody waits longer than this for a connection.
_CONNECT_S = 10.0
#: A write is answered when all of it has come, which takes as long as it takes.
_WRITE_S = 3600.0


@dataclass(frozen=True)
class StoreArguments:
    """What a store of obstore is made with, besides time-outs and retries.

    Parameters
    ----------
    config : dict
        Empty for ``http``.
    client_options : dict
    credential_provider : callable or None
    """

    config: dict[str, Any] = field(default_factory=dict, repr=False)
    client_options: dict[str, Any] = field(default_factory=dict, repr=False)
    credential_provider: Callable[[], Any] | None = field(default=None, repr=False)


def store_arguments(address: Address, access: Access) -> StoreArguments:
    """Translate. Of the network, only a machine of a cloud is asked whether it has a role.

    Raises
    ------
    MissingDependencyError
        These credentials need a package that is not installed.
    InvalidURLError
        Azure's account is not known.

    Examples
    --------
    >>> from xprecomputed.storage.addresses.address import parse_address
    >>> address = parse_address("s3+https://host/bucket/layer")
    >>> found = store_arguments(address, Access("anonymous", False, {"anon": True}))
    >>> found.config["endpoint"], found.config["skip_signature"]
    ('https://host', True)
    """
    made = {"s3": _s3, "gs": _gs, "az": _az, "http": _http}[address.provider]
    return made(address, access.words)


def build_store(
    address: Address,
    access: Access,
    *,
    timeout_s: float,
    max_retries: int,
    for_writing: bool = False,
) -> Any:
    """A store of obstore for the bucket or server; its paths are `Address.object_name` of keys.

    Parameters
    ----------
    address : Address
    access : Access
    timeout_s : float
        Seconds without a byte of an answer, after which a request has failed.
    max_retries : int
        Of obstore itself: 408, 429, 5xx, broken connections and time-outs.
    for_writing : bool
        Wait ten times as long, since the answer to a write begins only after its body was sent.

    Raises
    ------
    AccessDeniedError
        obstore cannot use the credentials; the message holds none of them.
    MissingDependencyError, InvalidURLError
    """
    from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

    try:
        made = store_arguments(address, access)
        common = _common(made, timeout_s, max_retries, for_writing)
        if address.provider == "http":
            query = f"?{address.query}" if address.query else ""
            return HTTPStore(f"{address.endpoint_url}/{query}", **common)
        kind = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[address.provider]
        return kind(
            address.bucket,
            config=made.config,
            credential_provider=made.credential_provider,
            **common,
        )
    except PrecomputedError:
        raise
    except Exception as error:  # its text may quote what it was given
        raise AccessDeniedError(
            f"{address.url}: cannot use the credentials of: {access.source} "
            f"({type(error).__name__}); or a variable of the environment that obstore reads, such "
            "as GOOGLE_SERVICE_ACCOUNT, is in its way"
        ) from None


def _common(
    made: StoreArguments, timeout_s: float, max_retries: int, for_writing: bool
) -> dict[str, Any]:
    pause = timedelta(seconds=min(15.0, timeout_s))
    idle, whole = timedelta(seconds=timeout_s), timedelta(seconds=max(_WRITE_S, timeout_s))
    return {
        "client_options": {
            **made.client_options,
            "connect_timeout": timedelta(seconds=min(_CONNECT_S, timeout_s)),
            "read_timeout": min(10 * idle, whole) if for_writing else idle,
            "timeout": whole,
        },
        "retry_config": {
            "max_retries": max_retries,
            "retry_timeout": (idle + pause) * (max_retries + 1),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": pause,
                "base": 2,
            },
        },
    }


def _s3(address: Address, words: Mapping[str, Any]) -> StoreArguments:
    endpoint = address.endpoint_url or words.get("endpoint_url")
    region = words.get("region")
    if endpoint is None:
        region = region or bucket_region(address.bucket, words.get("default_region"))
        suffix = ".cn" if region.startswith("cn-") else ""
        endpoint = f"https://s3.{region}.amazonaws.com{suffix}"
        is_amazon = True
    else:
        named = _AWS_HOST.fullmatch(endpoint)
        region = region or (named[1] if named else words.get("default_region")) or "us-east-1"
        is_amazon = named is not None
    roles = {name: words[name] for name in _AWS_ROLES if name in words}
    provider = _aws_provider(words)
    is_signed = provider is not None or bool(roles)
    if words.get("machine"):
        is_signed = has_role("s3")
    config = {
        **roles,
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "region": region,
        "virtual_hosted_style_request": False,
        "s3_express": False,
        "request_payer": bool(words.get("requester_pays")),
        "skip_signature": not is_signed,
        "disable_bulk_delete": not is_amazon,  # which not every look-alike has
    }
    return StoreArguments(config, _client(endpoint, {}), provider)


def _aws_provider(words: Mapping[str, Any]) -> Callable[[], Any] | None:
    if words.get("anon"):
        return None
    if "key" in words:
        return _constant(
            {
                "access_key_id": words["key"],
                "secret_access_key": words["secret"],
                "token": words.get("token"),
                "expires_at": None,
            }
        )
    return OfBotocore(words["botocore_profile"]) if "botocore_profile" in words else None


def _gs(address: Address, words: Mapping[str, Any]) -> StoreArguments:
    endpoint = address.endpoint_url or words.get("endpoint_url") or _GOOGLE
    token = None if words.get("anon") else words.get("token")
    config: dict[str, Any] = {"base_url": endpoint, "skip_signature": False}
    provider: Callable[[], Any] | None = None
    if isinstance(token, Mapping) and token.get("type") == "service_account":
        config["service_account_key"] = json.dumps(dict(token))
    elif token is not None:
        provider = _google_provider(token)
    elif words.get("machine") and has_role("gs"):
        provider = OfMachine()
    else:
        config["skip_signature"] = True
        # asked for writes all the same; without it, obstore looks for Google's machines
        provider = _constant({"token": "", "expires_at": None})
    # else Google undoes gzip and does not say how long the answer is
    headers = {"Accept-Encoding": "gzip"}
    if words.get("requester_pays"):
        headers["x-goog-user-project"] = words["project"]
    return StoreArguments(config, _client(endpoint, headers), provider)


def _google_provider(token: Any) -> Callable[[], Any]:
    if isinstance(token, str):
        return _constant({"token": token, "expires_at": None})
    if isinstance(token, Mapping) and token.get("type") == "authorized_user":
        return OfUser(token)
    return OfGoogle(token)


def _az(address: Address, words: Mapping[str, Any]) -> StoreArguments:
    endpoint = address.endpoint_url or words.get("endpoint_url")
    account = words.get("account_name") or _account_in(endpoint)
    if not account:
        raise InvalidURLError(
            f'{address.url}{address.key}: whose? Give storage_options={{"account_name": …}}, or '
            f"open\n    abfss://{address.bucket}@ACCOUNT.dfs.core.windows.net/{address.key}"
        )
    endpoint = endpoint or f"https://{account}.blob.core.windows.net"
    config: dict[str, Any] = {
        "account_name": account,
        "endpoint": endpoint,
        "use_emulator": False,
        "use_fabric_endpoint": False,
        "skip_signature": False,
    }
    provider: Callable[[], Any] | None = None
    if words.get("anon"):
        config["skip_signature"] = True
    elif "account_key" in words:
        provider = _constant({"access_key": words["account_key"], "expires_at": None})
    elif "sas_token" in words:
        provider = _constant({"sas_token": words["sas_token"], "expires_at": None})
    elif "credential" in words:
        provider = OfAzure(words["credential"])
    elif "client_id" in words and "tenant_id" in words:
        names = ("client_id", "client_secret", "tenant_id", "federated_token_file")
        config.update({name: words[name] for name in names if name in words})
        is_client = "client_secret" in words
        config["credential_type"] = "client_secret" if is_client else "workload_identity"
    else:
        config["skip_signature"] = True
    return StoreArguments(config, _client(endpoint, {}), provider)


def _account_in(endpoint: str | None) -> str | None:
    """The account in a server's address: its first label, or its path."""
    if endpoint is None:
        return None
    host, _, path = endpoint.partition("://")[2].partition("/")
    return path or (host.partition(".")[0] if ".blob." in host else None)


def _http(address: Address, words: Mapping[str, Any]) -> StoreArguments:
    headers = dict(words.get("headers", {}))
    login = None if words.get("anon") else _login(words)
    if login is not None:
        headers = {name: value for name, value in headers.items() if name.lower() != AUTHORIZATION}
        headers["Authorization"] = login
    elif address.secret == "cave" and AUTHORIZATION not in map(str.lower, headers):
        # else the server takes this for a browser and answers with a page to log in
        headers["X-Requested-With"] = "xprecomputed"
    return StoreArguments({}, _client(address.endpoint_url or "", headers))


def _login(words: Mapping[str, Any]) -> str | None:
    if "token" in words:
        return f"Bearer {words['token']}"
    if "user" not in words:
        return None
    login = f"{words['user']}:{words['password']}".encode()
    return f"Basic {base64.b64encode(login).decode()}"


def _client(endpoint: str, headers: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {"allow_http": endpoint.startswith("http://")}
    return {**options, "default_headers": dict(headers)} if headers else options


def _constant(credentials: Mapping[str, Any]) -> Callable[[], Any]:
    return lambda: dict(credentials)
