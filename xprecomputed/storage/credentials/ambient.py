"""What the clouds' own tools leave in the environment and in files. Asks no network."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xprecomputed.errors import AccessDeniedError
from xprecomputed.storage.credentials.secrets import json_of, shown_path

__all__ = [
    "Found",
    "aws",
    "aws_settings",
    "azure",
    "connection_words",
    "google",
    "google_project",
    "is_machine_of",
]

#: Where the words are from, and the words.
Found = tuple[str, dict[str, Any]]

DMI = Path("/sys/class/dmi/id")
#: Settings of a profile that botocore turns into credentials.
BY_BOTOCORE = (
    "role_arn",
    "sso_session",
    "sso_start_url",
    "credential_process",
    "web_identity_token_file",
    "login_session",
)


def aws(profile: str | None) -> Found | None:
    """Credentials for AWS, looked for in the order of its tools.

    Raises
    ------
    AccessDeniedError
        A profile that was named is not there, or a file cannot be read.
    """
    env = os.environ
    if profile is None and env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        words = {"key": env["AWS_ACCESS_KEY_ID"], "secret": env["AWS_SECRET_ACCESS_KEY"]}
        token = env.get("AWS_SESSION_TOKEN") or env.get("AWS_SECURITY_TOKEN")
        return "environment", {**words, **({"token": token} if token else {})}
    if profile is None and env.get("AWS_WEB_IDENTITY_TOKEN_FILE") and env.get("AWS_ROLE_ARN"):
        words = {
            "web_identity_token_file": env["AWS_WEB_IDENTITY_TOKEN_FILE"],
            "role_arn": env["AWS_ROLE_ARN"],
        }
        session = env.get("AWS_ROLE_SESSION_NAME")
        return "environment", {**words, **({"role_session_name": session} if session else {})}
    found = _aws_profile(profile)
    if found is not None or profile is not None:
        return found
    for word in ("container_credentials_relative_uri", "container_credentials_full_uri"):
        if env.get(f"AWS_{word.upper()}"):
            words = {word: env[f"AWS_{word.upper()}"]}
            file = env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
            return "environment", {
                **words,
                **({"container_authorization_token_file": file} if file else {}),
            }
    disabled = env.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    return None if disabled or not is_machine_of("aws") else ("metadata server", {"machine": True})


def aws_settings(profile: str | None) -> dict[str, str]:
    """What the environment or a profile sets of ``default_region`` and ``endpoint_url``."""
    env = os.environ
    _, sections, services = _aws_files(profile)
    of_profile = {key: value for each in sections for key, value in each.items()}
    found = {}
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or of_profile.get("region")
    if region:
        found["default_region"] = region
    ignored = env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or of_profile.get(
        "ignore_configured_endpoint_urls", ""
    )
    endpoint = (
        env.get("AWS_ENDPOINT_URL_S3")
        or env.get("AWS_ENDPOINT_URL")
        or _service_endpoint(services.get(of_profile.get("services", "")))
        or of_profile.get("endpoint_url")
    )
    if endpoint and ignored.lower() != "true":
        found["endpoint_url"] = endpoint
    return found


def _aws_profile(profile: str | None) -> Found | None:
    name, sections, _ = _aws_files(profile)
    if not sections:
        if name == "default":
            return None
        raise AccessDeniedError(
            f"the AWS profile {name!r} is neither in {shown_path(_aws_path('credentials'))} nor "
            f"in {shown_path(_aws_path('config'))}"
        )
    merged = {key: value for each in sections for key, value in each.items()}
    source = f"{shown_path(_aws_path('credentials'))} [{name}]"
    if any(each in merged for each in BY_BOTOCORE):
        return f"AWS profile {name}", {"botocore_profile": name}
    if not merged.get("aws_access_key_id") or not merged.get("aws_secret_access_key"):
        return None
    words = {"key": merged["aws_access_key_id"], "secret": merged["aws_secret_access_key"]}
    token = merged.get("aws_session_token") or merged.get("aws_security_token")
    return source, {**words, **({"token": token} if token else {})}


def _aws_files(
    profile: str | None,
) -> tuple[str, list[Mapping[str, str]], dict[str, Mapping[str, str]]]:
    """The profile's name, its sections, the last of which counts, and all ``[services …]``."""
    name = profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    name = name or "default"
    config, keys = _aws_file(_aws_path("config")), _aws_file(_aws_path("credentials"))
    candidates = [config.get(f"profile {name}"), keys.get(name)]
    if name == "default":
        candidates.insert(0, config.get(name))
    services = {
        each.partition(" ")[2].strip(): section
        for each, section in config.items()
        if each.startswith("services ")
    }
    return name, [each for each in candidates if each is not None], services


def _aws_path(name: str) -> Path:
    variable = {"config": "AWS_CONFIG_FILE", "credentials": "AWS_SHARED_CREDENTIALS_FILE"}[name]
    given = os.environ.get(variable)
    return Path(given).expanduser() if given else Path.home() / ".aws" / name


def _aws_file(path: Path) -> dict[str, Mapping[str, str]]:
    parser = configparser.RawConfigParser(strict=False, default_section="\0")
    try:
        parser.read_string(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise AccessDeniedError(f"{shown_path(path)}: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError):
        raise AccessDeniedError(f"{shown_path(path)}: not a file of AWS profiles") from None
    return {" ".join(name.split()): dict(parser[name]) for name in parser.sections()}


def _service_endpoint(services: Mapping[str, str] | None) -> str | None:
    nested = (services or {}).get("s3", "")
    found = re.search(r"^\s*endpoint_url\s*=\s*(\S+)", nested, re.MULTILINE)
    return found[1] if found else None


def google() -> Found | None:
    """Google's application default credentials.

    Raises
    ------
    AccessDeniedError
        The file that ``GOOGLE_APPLICATION_CREDENTIALS`` names is absent or no JSON.
    """
    env = os.environ
    named = env.get("GOOGLE_APPLICATION_CREDENTIALS")
    folder = env.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud"
    usual = Path(folder) / "application_default_credentials.json"
    if named or usual.is_file():
        path = Path(named) if named else usual
        content = json_of(path)
        if not isinstance(content, dict) or not isinstance(content.get("type"), str):
            raise AccessDeniedError(f"{shown_path(path)}: expected the JSON of Google credentials")
        return shown_path(path), {"token": content}
    if env.get("NO_GCE_CHECK", "").lower() == "true":
        return None
    if env.get("GCE_METADATA_HOST") or env.get("K_SERVICE") or is_machine_of("google"):
        return "metadata server", {"machine": True}
    return None


def google_project(token: Any) -> str | None:
    """The project that pays where nobody says another one."""
    of_token = token if isinstance(token, Mapping) else {}
    named = (of_token.get("quota_project_id"), of_token.get("project_id"))
    found = (*named, os.environ.get("GOOGLE_CLOUD_PROJECT"))
    return next((each for each in found if isinstance(each, str) and each), None)


def azure(account: str | None) -> Found | None:
    """Azure's environment variables, where they are not of another account."""
    env = os.environ

    def first(*names: str) -> str | None:
        values = (
            env.get(prefix + name) for name in names for prefix in ("AZURE_STORAGE_", "AZURE_")
        )
        return next((value for value in values if value), None)

    words = connection_words(env.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    named = words.get("account_name") or first("ACCOUNT_NAME", "ACCOUNT")
    if account and named and account != named:
        words, named, is_other = {}, None, True
    else:
        is_other = False
    secrets = {
        "account_key": first("ACCOUNT_KEY", "ACCESS_KEY", "KEY"),
        # who gets it can use it, so it goes to no account but its own
        "sas_token": first("SAS_TOKEN", "SAS_KEY") if named else None,
    }
    if not is_other:
        words.update(
            {name: value for name, value in secrets.items() if value and name not in words}
        )
    client = {
        "client_id": first("CLIENT_ID"),
        "tenant_id": first("TENANT_ID"),
        "client_secret": first("CLIENT_SECRET"),
        "federated_token_file": env.get("AZURE_FEDERATED_TOKEN_FILE"),
    }
    if not ({"account_key", "sas_token"} & words.keys()) and client["client_id"]:
        words.update({name: value for name, value in client.items() if value})
    if named:
        words["account_name"] = named
    return ("environment", words) if words else None


def connection_words(text: str) -> dict[str, Any]:
    """The words of an Azure connection string.

    Examples
    --------
    >>> connection_words("AccountName=me;BlobEndpoint=http://127.0.0.1:10000/me;AccountKey=a2V5")
    {'account_name': 'me', 'account_key': 'a2V5', 'endpoint_url': 'http://127.0.0.1:10000/me'}
    """
    pairs = dict(part.split("=", 1) for part in text.strip().strip(";").split(";") if "=" in part)
    lower = {name.strip().lower(): value.strip() for name, value in pairs.items()}
    words = {
        "account_name": lower.get("accountname"),
        "account_key": lower.get("accountkey"),
        "sas_token": lower.get("sharedaccesssignature"),
        "endpoint_url": lower.get("blobendpoint"),
    }
    if lower.get("usedevelopmentstorage") == "true":
        words["account_name"] = "devstoreaccount1"
        words["endpoint_url"] = "http://127.0.0.1:10000/devstoreaccount1"
    elif words["endpoint_url"] is None and words["account_name"]:
        suffix = lower.get("endpointsuffix", "core.windows.net")
        words["endpoint_url"] = f"https://{words['account_name']}.blob.{suffix}"
    return {name: value for name, value in words.items() if value}


def is_machine_of(cloud: str) -> bool:
    """Whether this machine says that it is one of a cloud, without asking the network.

    Parameters
    ----------
    cloud : {"aws", "google"}
    """
    names = {
        "aws": {"sys_vendor": "amazon", "board_vendor": "amazon", "bios_vendor": "amazon"},
        "google": {"product_name": "google"},
    }[cloud]
    for name, beginning in names.items():
        try:
            text = (DMI / name).read_text("utf-8", "replace")
        except OSError:
            continue
        if text.strip().lower().startswith(beginning):
            return True
    return False
