"""What obstore's errors mean, said in our words.

Its messages hold URLs and the bodies of answers, so nothing of them is passed on but status
and code. The classes tell little: the status is in the text.
"""

from __future__ import annotations

import re

from xprecomputed.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidURLError,
    NotFoundError,
    PrecomputedError,
    StorageError,
)
from xprecomputed.storage.clients.retries import Failure

__all__ = ["LENGTH_UNKNOWN", "RANGE_BEYOND", "explain", "status_of"]

#: In what obstore adds for developers, which is the end of the text: keys and URLs come before.
STATUS = re.compile(r"inner: Status \{\s+status: (\d{3})")
CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
KIND = re.compile(r"kind: (Timeout|Connect|Interrupted|Request|Decode)\b")
#: What our own providers of credentials say, which is one line without secrets.
PROVIDER = re.compile(r"credential provider: AccessDeniedError: ([^\n]{1,500})")
KINDS = {
    "Timeout": "no answer in time",
    "Connect": "no connection",
    "Interrupted": "the connection broke",
    "Request": "the connection broke",
    "Decode": "the connection broke",
}
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
#: What a server says of a key that is absent, or may not be seen: it does not tell which.
MAYBE_ABSENT = (None, "AccessDenied")

LENGTH_UNKNOWN = "Content-Length Header missing"
RANGE_BEYOND = "status code: 416"


def explain(error: Exception, address: str, asked_with: str) -> Failure:
    """The meaning of an exception of obstore, for the object at `address`.

    Parameters
    ----------
    error : Exception
    address : str
    asked_with : str
        Where the credentials came from.
    """
    if isinstance(error, PrecomputedError):
        return Failure(error)
    if isinstance(error, EOFError):
        return Failure(StorageError(f"{address}: {error}"), passing=True)
    if isinstance(error, ValueError) and "Could not parse path" in str(error):
        return Failure(InvalidURLError(f"{address}: no name that an object can have"))
    if not type(error).__module__.startswith("obstore") and not isinstance(error, OSError):
        return Failure(error)  # a mistake of this program, which nobody should take for an answer
    text = str(error)
    status = status_of(error)
    code = _first(CODE, text)
    said = " ".join(["HTTP", status or "", code or ""]).strip() if status else ""
    if any(each in text for each in NO_BUCKET):
        return Failure(StorageError(f"{address}: there is no such bucket ({said})"))
    if provider := _first(PROVIDER, text):
        return Failure(AccessDeniedError(f"{address}: {provider}"))
    if type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        return Failure(_denied(address, said or type(error).__name__, code, asked_with, status))
    if type(error).__name__ in ("AlreadyExistsError", "PreconditionError", "NotModifiedError"):
        return Failure(ConflictError(f"{address}: somebody else has changed it meanwhile ({said})"))
    if isinstance(error, FileNotFoundError) and status in ("404", None):  # 405 is such one too
        return Failure(NotFoundError(f"{address}: there is no such object"))
    if type(error).__name__ == "NotSupportedError" or "non-partial response" in text:
        return Failure(
            StorageError(
                f"{address}: the server ignores Range, so shards cannot be read from it; copy the "
                "volume elsewhere, or ask the server's owner"
            )
        )
    if "redirect without LOCATION" in text:
        return Failure(
            StorageError(
                f"{address}: the bucket is in another region; name it: "
                'storage_options={"region": "..."}'
            )
        )
    if status:
        passing = status in ("408", "429") or status >= "500"
        return Failure(StorageError(f"{address}: {said}"), passing)
    kind = "Timeout" if "TimedOut" in text else _first(KIND, text)
    if kind is None:
        return Failure(StorageError(f"{address}: {type(error).__name__} ({_about(text)})"))
    return Failure(StorageError(f"{address}: {KINDS[kind]}"), passing=True)


def status_of(error: Exception) -> str | None:
    """HTTP's status in an exception of obstore."""
    found = STATUS.findall(str(error))
    return found[-1] if found else None


def _denied(
    address: str, said: str, code: str | None, asked_with: str, status: str | None
) -> AccessDeniedError:
    error = AccessDeniedError(
        f"{address}: {said}, asked with credentials of: {asked_with}; others can be given with "
        "storage_options="
    )
    error.may_be_absent = status == "403" and code in MAYBE_ABSENT
    return error


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found[1] if found else None


def _about(text: str) -> str:
    """The kind of an error that is not known, without anything that could be a secret."""
    named = re.search(r"source: (\w{1,40})", text)
    return named[1] if named else "no details"
