"""The stores of obstore that this process has, made when the first request needs them.

A process forked from one that has used them would hang in its first request, also with a new
store: it is refused at once.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xprecomputed.errors import StorageError
from xprecomputed.options import get_options
from xprecomputed.storage.addresses.address import Address
from xprecomputed.storage.clients.obstore import build_store
from xprecomputed.storage.credentials.access import Access, find_access, without_credentials

__all__ = ["Client", "client_for"]

PLAIN = frozenset({str, bool, type(None)})


@dataclass(frozen=True, slots=True)
class Client:
    """A store of obstore, and with what it asks."""

    store: Any = field(repr=False)
    access: Access
    #: Kept, since the identity of what is in them is how a client is found again.
    options: Mapping[str, Any] = field(repr=False)


def client_for(
    address: Address,
    options: Mapping[str, Any],
    *,
    trusted: bool,
    anonymous: bool = False,
    retries: int = 0,
    for_writing: bool = False,
) -> Client:
    """The client of an address; the same one for the same question.

    Parameters
    ----------
    address, options, trusted
        As `find_access` takes them.
    anonymous : bool
        Whether to ask the same server as nobody.
    retries : int
        Of obstore itself.
    for_writing : bool
        Whether bodies are so long that sending them takes its time.

    Raises
    ------
    StorageError
        This process was forked from one that had clients.
    AccessDeniedError, InvalidURLError, MissingDependencyError
    """
    if _process.forked:
        raise StorageError(
            f"{address.url}: this process was forked from one that had used clouds or the web, "
            "after which their client would hang. Start processes with 'spawn' or 'forkserver': "
            'multiprocessing.get_context("forkserver"), '
            'DataLoader(..., multiprocessing_context="forkserver")'
        )
    timeout_s = get_options().request_timeout_s
    wanted = address, _told(options), trusted, anonymous, timeout_s, retries, for_writing
    client = _process.clients.get(wanted)
    if client is not None:
        return client
    with _process.lock:
        lock = _process.locks.setdefault(wanted, threading.Lock())
    with lock:  # finding out who asks, and where, can take seconds
        if wanted not in _process.clients:
            access = find_access(address, options, trusted=trusted)
            if anonymous:
                access = without_credentials(access)
            store = build_store(
                address, access, timeout_s=timeout_s, max_retries=retries, for_writing=for_writing
            )
            _process.clients[wanted] = Client(store, access, options)
    return _process.clients[wanted]


def _told(options: Mapping[str, Any]) -> str:
    """Options as a text; what is no plain value, by its identity."""
    if PLAIN.issuperset(map(type, options.values())):
        return repr(options)  # the usual ones, at each request: in a tenth of the time
    return json.dumps(dict(options), sort_keys=True, default=id)


class _Process:
    """What belongs to one process."""

    def __init__(self, parent: _Process | None = None) -> None:
        self.clients: dict[Hashable, Client] = {}
        self.locks: dict[Hashable, threading.Lock] = {}
        self.lock = threading.Lock()
        self.forked: bool = parent is not None and (bool(parent.clients) or parent.forked)
        #: Kept, since clients of another process must not be taken down here.
        self.parent = parent


_process = _Process()


def _begin_again() -> None:
    global _process
    _process = _Process(_process)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)
