"""Credentials that expire: fetched when they are needed, in the process that needs them."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from xprecomputed.errors import AccessDeniedError, MissingDependencyError

__all__ = ["OfAzure", "OfBotocore", "OfGoogle", "OfMachine", "OfUser", "has_role"]

_GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
_AZURE_SCOPE = "https://storage.azure.com/.default"
_SECONDS = 5


class OfUser:
    """Google credentials of a person: the refresh token that ``gcloud`` keeps.

    Parameters
    ----------
    content : mapping
        The JSON whose ``type`` is ``authorized_user``.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        content = self._content
        form = {
            "grant_type": "refresh_token",
            **{name: content.get(name) for name in ("client_id", "client_secret", "refresh_token")},
        }
        address = content.get("token_uri") or "https://oauth2.googleapis.com/token"
        body = urllib.parse.urlencode(form).encode()
        return _bearer(_asked(urllib.request.Request(address, body)))


class OfMachine:
    """Google's service account of the machine that this runs on."""

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        return _bearer(_asked(_google_metadata("token")))


class OfGoogle:
    """Credentials of ``google-auth``, made by the user or from JSON of any kind."""

    def __init__(self, credentials: Any) -> None:
        if isinstance(credentials, Mapping):
            auth = _needed("google.auth", "google-auth requests", "these Google credentials")
            credentials, _ = auth.load_credentials_from_dict(
                dict(credentials), scopes=[_GOOGLE_SCOPE]
            )
        elif getattr(credentials, "requires_scopes", False):
            credentials = credentials.with_scopes([_GOOGLE_SCOPE])
        self._credentials = credentials

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        credentials = self._credentials
        if not credentials.valid:
            transport = _needed(
                "google.auth.transport.requests", "google-auth requests", "these Google credentials"
            )
            credentials.refresh(transport.Request())
        expiry = credentials.expiry  # in UTC, without saying so
        return {
            "token": credentials.token,
            "expires_at": expiry.replace(tzinfo=UTC) if expiry is not None else None,
        }


class OfAzure:
    """An object of ``azure.identity``, of its synchronous or its asynchronous kind."""

    def __init__(self, credential: Any) -> None:
        self._credential = credential

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        found = self._credential.get_token(_AZURE_SCOPE)
        if inspect.isawaitable(found):
            found = asyncio.run(_awaited(found))
        return {"token": found.token, "expires_at": datetime.fromtimestamp(found.expires_on, UTC)}


class OfBotocore:
    """An AWS profile that says how to get credentials rather than what they are.

    Parameters
    ----------
    profile : str

    Raises
    ------
    MissingDependencyError
    """

    def __init__(self, profile: str) -> None:
        purpose = f"the AWS profile {profile!r} (a role, single sign-on or a process)"
        session = _needed("botocore.session", "botocore", purpose).Session(profile=profile)
        self._profile = profile
        self._credentials = session.get_credentials()

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        if self._credentials is None:
            raise AccessDeniedError(f"the AWS profile {self._profile!r} gives no credentials")
        frozen = self._credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # botocore itself refreshes them in time; asked again so that it can
            "expires_at": datetime.now(UTC) + timedelta(minutes=10),
        }


@lru_cache(maxsize=2)
def has_role(provider: str) -> bool:
    """Whether the machine's own account or role exists; one short request on the machine.

    Parameters
    ----------
    provider : {"s3", "gs"}
    """
    try:
        if provider == "gs":
            return bool(_asked(_google_metadata("email"), seconds=2, parse=False))
        base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
        base = f"{base.rstrip('/')}/latest"
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        request = urllib.request.Request(f"{base}/api/token", headers=lifetime, method="PUT")
        token = _asked(request, seconds=2, parse=False)
        roles = urllib.request.Request(
            f"{base}/meta-data/iam/security-credentials/",
            headers={"X-aws-ec2-metadata-token": token},
        )
        return bool(_asked(roles, seconds=2, parse=False))
    except AccessDeniedError:
        return False


def _google_metadata(name: str) -> urllib.request.Request:
    host = os.environ.get("GCE_METADATA_HOST") or "169.254.169.254"
    path = f"computeMetadata/v1/instance/service-accounts/default/{name}"
    return urllib.request.Request(f"http://{host}/{path}", headers={"Metadata-Flavor": "Google"})


def _asked(
    request: urllib.request.Request, *, seconds: float = _SECONDS, parse: bool = True
) -> Any:
    """The answer of a server of credentials; an error shows neither request nor answer."""
    host = request.host
    if request.type not in ("http", "https"):
        raise AccessDeniedError(f"{host}: expected the address of a server of tokens")
    is_local = request.type == "http"  # metadata: never through a proxy
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_local else []))
    try:
        with opener.open(request, timeout=seconds) as answer:
            text = answer.read(1 << 20).decode()
        return json.loads(text) if parse else text
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
        raise AccessDeniedError(f"{host}: no token for these credentials (HTTP {status})") from None
    except (OSError, ValueError) as error:
        kind = type(error).__name__
        raise AccessDeniedError(f"{host}: no token for these credentials ({kind})") from None


def _bearer(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict) or not isinstance(answer.get("access_token"), str):
        raise AccessDeniedError("no token in the answer to these credentials")
    lifetime = answer.get("expires_in", 300)
    return {
        "token": answer["access_token"],
        "expires_at": datetime.now(UTC) + timedelta(seconds=float(lifetime)),
    }


def _needed(module: str, packages: str, purpose: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose}: the package {module.partition('.')[0]!r} cannot be imported ({error}).\n"
            f"    pip install {packages}"
        ) from None


async def _awaited(value: Any) -> Any:
    return await value
