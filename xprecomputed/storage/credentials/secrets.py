"""The files in which users of CloudVolume and CloudFiles keep credentials and aliases."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xprecomputed.errors import AccessDeniedError
from xprecomputed.storage.addresses.address import Address

__all__ = ["json_of", "read_aliases", "secret_words", "shown_path"]


def secret_words(address: Address, *, for_any: bool = True) -> tuple[str, dict[str, Any]] | None:
    """The file that belongs to an address and what it says in fsspec's words; None: no file.

    Parameters
    ----------
    address : Address
    for_any : bool
        Whether a login that a file gives for every web server may be sent to this one.

    Raises
    ------
    AccessDeniedError
        The file cannot be read or is not what it should be; the message never quotes it.
    """
    found = next(_candidates(address, for_any), None)
    if found is None:
        return None
    content = json_of(found)
    read = {"google": _google, "http": _http, "cave": _cave}.get(address.secret, _aws)
    words = read(content)
    if words is None:
        expected = {
            "google": "the JSON of a service account or of an authorized user",
            "http": '{"user": …, "password": …} or {"token": …}',
            "cave": '{"token": …}',
        }.get(address.secret, '{"AWS_ACCESS_KEY_ID": …, "AWS_SECRET_ACCESS_KEY": …}')
        raise AccessDeniedError(f"{shown_path(found)}: expected {expected}")
    return shown_path(found), words


def read_aliases() -> dict[str, str]:
    """The aliases of CloudFiles: schemes, and the address that each stands for.

    Raises
    ------
    AccessDeniedError
        The file is there and cannot be used.
    """
    path = _home("CLOUD_FILES_DIR", ".cloudfiles") / "aliases.json"
    if not _is_file(path) or path.stat().st_size == 0:
        return {}
    content = json_of(path)
    entries = content.items() if isinstance(content, dict) else [("", None)]
    aliases = {}
    for name, each in entries:
        host = each.get("host") if isinstance(each, dict) else None
        if not isinstance(host, str) or "://" not in host:
            raise AccessDeniedError(f'{shown_path(path)}: expected {{NAME: {{"host": URL}}}}')
        aliases[name.lower()] = host
    return aliases


def json_of(path: Path) -> Any:
    """The JSON in a file of credentials.

    Raises
    ------
    AccessDeniedError
        It cannot be read, or is no JSON; its content is not shown.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise AccessDeniedError(f"{shown_path(path)}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise AccessDeniedError(f"{shown_path(path)}: not a JSON document") from None


def shown_path(path: Path) -> str:
    """A path for messages, with ``~`` for the home."""
    home = str(Path.home())
    text = str(path)
    return "~" + text[len(home) :] if text.startswith(home + os.sep) else text


def _candidates(address: Address, for_any: bool) -> Iterator[Path]:
    secret = address.secret
    if address.provider == "http":
        host = (address.endpoint_url or "").partition("://")[2]
        names = [f"{host}-{secret}-secret.json"] + [f"{secret}-secret.json"] * for_any
    elif secret == "azure":  # the two packages know none
        return
    else:
        names = [f"{address.bucket}-{secret}-secret.json", f"{secret}-secret.json"]
    folders = [_home("CLOUD_VOLUME_DIR", ".cloudvolume"), _home("CLOUD_FILES_DIR", ".cloudfiles")]
    for name in names:
        for folder in folders:
            path = folder / "secrets" / name
            if _is_file(path):
                yield path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False  # a folder of somebody else


def _home(variable: str, name: str) -> Path:
    given = os.environ.get(variable)
    return Path(given).expanduser() if given else Path.home() / name


def _aws(content: Any) -> dict[str, Any] | None:
    words = {
        word: content.get(name) or None
        for word, name in (
            ("key", "AWS_ACCESS_KEY_ID"),
            ("secret", "AWS_SECRET_ACCESS_KEY"),
            ("token", "AWS_SESSION_TOKEN"),
            ("default_region", "AWS_DEFAULT_REGION"),
        )
        if isinstance(content, dict)
    }
    words = {word: value for word, value in words.items() if value is not None}
    complete = {"key", "secret"} <= words.keys()
    return words if complete and all(isinstance(each, str) for each in words.values()) else None


def _google(content: Any) -> dict[str, Any] | None:
    is_known = isinstance(content, dict) and isinstance(content.get("type"), str)
    return {"token": content} if is_known else None


def _http(content: Any) -> dict[str, Any] | None:
    if not isinstance(content, dict):
        return None
    user, password = content.get("user"), content.get("password")
    if isinstance(user, str) and isinstance(password, str):
        return {"user": user, "password": password}
    return _cave(content) if "token" in content else None


def _cave(content: Any) -> dict[str, Any] | None:
    token = content.get("token") if isinstance(content, dict) else content
    token = token.strip() if isinstance(token, str) else ""
    return {"token": token} if token and token.isascii() and token.isprintable() else None
