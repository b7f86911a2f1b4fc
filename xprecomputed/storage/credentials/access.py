"""Who asks: credentials that were given, kept in files, or lie in the environment."""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from xprecomputed.errors import InvalidURLError
from xprecomputed.storage.addresses.address import SCHEMES, Address, endpoint_of, parse_address
from xprecomputed.storage.credentials import ambient
from xprecomputed.storage.credentials.options import needs_fsspec, server_of, words_of
from xprecomputed.storage.credentials.secrets import read_aliases, secret_words

__all__ = [
    "Access",
    "bucket_region",
    "find_access",
    "find_address",
    "needs_fsspec",
    "without_credentials",
]

#: Words that say who asks, of each provider.
WHO = {
    "s3": ("anon", "key", "profile"),
    "gs": ("anon", "token"),
    "az": ("anon", "account_key", "sas_token", "credential", "client_secret"),
    "http": ("anon", "token", "user"),
}
#: Servers that Microsoft's credentials may be shown to.
_OF_AZURE = re.compile(
    r"https://[a-z0-9-]+\.(?:[a-z0-9-]+\.)?blob\."
    r"(core\.windows\.net|core\.chinacloudapi\.cn|core\.usgovcloudapi\.net|fabric\.microsoft\.com)"
)
#: Servers of the clouds themselves.
_OF_CLOUD = re.compile(
    _OF_AZURE.pattern
    + r"|https://([a-z0-9.-]+\.)?amazonaws\.com(\.cn)?|https://([a-z0-9.-]+\.)?googleapis\.com"
)
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")


@dataclass(frozen=True, slots=True)
class Access:
    """With which credentials a store is asked.

    What was not `given` is found again in each process, so it refuses to be pickled.

    Parameters
    ----------
    source : str
        Where the credentials are from, for messages; never a value of them.
    given : bool
        Whether the user passed them.
    words : mapping
        In fsspec's words: ``anon key secret token region requester_pays project account_name``
        and so on; ``endpoint_url`` only where neither URL nor options name the server.

    Examples
    --------
    >>> Access("storage_options", True, {"key": "K", "secret": "S"})
    Access(source='storage_options', given=True)
    """

    source: str
    given: bool
    words: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.given:
            raise TypeError(
                f"credentials from {self.source} do not travel: find_access() finds them again"
            )
        return Access, (self.source, self.given, dict(self.words))


def find_address(text: str, storage_options: Mapping[str, Any]) -> Address | None:
    """What a bare URL means here: with the aliases of this user and the server of the options.

    Parameters
    ----------
    text : str
        As `strip_format` gives it.
    storage_options : mapping

    Returns
    -------
    Address or None
        None: no cloud and not the web.

    Raises
    ------
    InvalidURLError
        The URL or the server cannot be.
    AccessDeniedError
        The file of aliases cannot be used.

    Examples
    --------
    >>> find_address("s3://bucket/layer", {"endpoint_url": "https://minio:9000"}).url
    's3+https://minio:9000/bucket/'
    """
    scheme, mark, _ = text.partition("://")
    scheme = scheme.lower()
    if not mark or scheme in ("file", "local", "memory") or "::" in scheme:
        return None
    provider = SCHEMES.get(scheme)
    aliases = None if provider else read_aliases()
    named = server_of(provider or "s3", storage_options)
    address = parse_address(text, aliases=aliases, **named)
    if address is None or address.endpoint_url is not None:
        return address
    # so that nobody takes the bucket of one server for that of another
    ambient_server = _ambient_server(address, storage_options)
    return parse_address(text, aliases=aliases, **named, **ambient_server)


def _ambient_server(address: Address, options: Mapping[str, Any]) -> dict[str, str]:
    """The server that the environment names, where neither the URL nor the options do."""
    if address.provider == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
        named = "account_name" in options or "connection_string" in options
        return {"account_name": account} if account and not named else {}
    settings = _settings(address, {"profile": options.get("profile")}, {})
    return {"endpoint_url": settings["endpoint_url"]} if "endpoint_url" in settings else {}


def find_access(
    address: Address, storage_options: Mapping[str, Any], *, trusted: bool = True
) -> Access:
    """The credentials to ask an address with. No network is touched.

    The first of these: `storage_options`; what the URL itself holds; the secrets folders of
    CloudVolume and CloudFiles; the cloud's own variables and files; nobody.

    Parameters
    ----------
    address : Address
    storage_options : mapping
        In the words of s3fs, gcsfs, adlfs and fsspec's http.
    trusted : bool
        Whether the user named this server. False for where a stranger's ``info`` leads: then a
        password or token that is kept for all web servers alike is not sent.

    Raises
    ------
    InvalidURLError
        An option is unknown or cannot be.
    AccessDeniedError
        A file of credentials cannot be used, or a profile is absent.

    Examples
    --------
    >>> from xprecomputed.storage.addresses.address import parse_address
    >>> find_access(parse_address("gs://bucket/layer"), {"token": "anon"})
    Access(source='storage_options', given=True)
    """
    needs_fsspec(address, storage_options)  # which knows the words
    words = words_of(address, storage_options)
    source, found = _who(address, words, trusted)
    settings = _settings(address, words, found)
    merged = {
        name: value for name, value in {**settings, **words, **found}.items() if value is not None
    }
    if merged.get("requester_pays") and merged.get("anon"):
        raise InvalidURLError(
            f"{address.url}: requester_pays needs credentials, since somebody has to pay"
        )
    if address.provider == "gs" and merged.get("requester_pays") and not merged.get("project"):
        raise InvalidURLError(
            f"{address.url}: requester_pays needs the project that pays: storage_options={{"
            '"requester_pays": True, "project": "…"}'
        )
    return Access(source, source in ("storage_options", "URL"), merged)


def without_credentials(access: Access) -> Access:
    """The same server and region, asked as nobody.

    Examples
    --------
    >>> without_credentials(Access("environment", False, {"key": "K", "region": "r"})).words
    {'region': 'r', 'anon': True}
    """
    kept = ("region", "default_region", "endpoint_url", "account_name")
    words = {name: access.words[name] for name in kept if name in access.words}
    return Access("anonymous", False, {**words, "anon": True})


def _who(address: Address, words: Mapping[str, Any], trusted: bool) -> ambient.Found:
    """Where the credentials are from, and the words that are to be added for them."""
    if words.get("anon"):
        return "storage_options", {"anon": True}
    if words.get("profile"):
        return _of_profile(words["profile"])
    if address.provider == "gs" and words.get("token") == "cloud":
        return "metadata server", {"token": None, "machine": True}
    if address.provider == "gs" and words.get("token") == "google_default":
        return ambient.google() or ("anonymous", {"token": None, "anon": True})
    headers = {name.lower() for name in words.get("headers", {})}
    if any(name in words for name in WHO[address.provider]) or "authorization" in headers:
        return "storage_options", {}
    if address.userinfo:
        user, _, password = address.userinfo.partition(":")
        return "URL", {"user": unquote(user), "password": unquote(password)}
    if not _may_be_shown_secrets(address, trusted):
        return "anonymous", {"anon": True}
    found = secret_words(address, for_any=trusted) or _of_cloud(address)
    return found or ("anonymous", {"anon": True})


def _may_be_shown_secrets(address: Address, trusted: bool) -> bool:
    """Whether what lies on this machine may be sent to this server at all."""
    server = address.endpoint_url
    if address.provider == "http" or server is None or _OF_CLOUD.fullmatch(server):
        return True
    # a token of Google's would be all that its server needs to pass for the user
    return trusted and address.provider != "gs"


def _of_profile(profile: str) -> ambient.Found:
    found = ambient.aws(profile)
    return found or (f"AWS profile {profile}, which has no credentials", {"anon": True})


def _of_cloud(address: Address) -> ambient.Found | None:
    """What the cloud's own tools would use, where it is meant for this server."""
    if address.provider == "s3":
        found = ambient.aws(None)
        # the role of a machine is Amazon's; a key may be meant for any server
        return None if found and address.endpoint_url and "machine" in found[1] else found
    if address.provider == "gs" and address.endpoint_url is None and not _gs_emulator():
        return ambient.google()
    if address.provider == "az":
        server = address.endpoint_url
        if server is not None and not _OF_AZURE.fullmatch(server):
            return None
        return ambient.azure(server.partition("//")[2].partition(".")[0] if server else None)
    return None


def _settings(
    address: Address, words: Mapping[str, Any], found: Mapping[str, Any]
) -> dict[str, Any]:
    """Region, server and the like, which say nothing about who asks."""
    settings: dict[str, Any] = {}
    if address.provider == "s3":
        settings.update(ambient.aws_settings(words.get("profile")))
        if address.endpoint_url is not None:
            settings.pop("endpoint_url", None)
        elif "endpoint_url" in settings:
            settings["endpoint_url"] = endpoint_of(settings["endpoint_url"])
    elif address.provider == "gs":
        project = ambient.google_project(found.get("token") or words.get("token"))
        settings["project"] = project
        if address.endpoint_url is None and (emulator := _gs_emulator()):
            settings["endpoint_url"] = endpoint_of(emulator)
    return {name: value for name, value in settings.items() if value}


def _gs_emulator() -> str | None:
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    return None if not host else host if "://" in host else f"http://{host}"


@lru_cache(maxsize=256)
def bucket_region(bucket: str, otherwise: str | None = None) -> str:
    """The region of a bucket of Amazon's, asked for once in a process with one request.

    Parameters
    ----------
    bucket : str
    otherwise : str, optional
        What is taken where there is no answer, else ``us-east-1``.

    Examples
    --------
    >>> bucket_region("janelia-cosem-datasets")  # doctest: +SKIP
    'us-east-1'
    """
    connection = http.client.HTTPSConnection("s3.amazonaws.com", timeout=5)
    try:
        connection.request("HEAD", f"/{bucket}")
        region = connection.getresponse().getheader("x-amz-bucket-region") or ""
    except (OSError, http.client.HTTPException):
        region = ""
    finally:
        connection.close()
    return region if _REGION.fullmatch(region) else otherwise or "us-east-1"
