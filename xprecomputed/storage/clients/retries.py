"""Asking again after failures that may pass: bounded, and later each time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from xprecomputed.options import get_options
from xprecomputed.parallel import is_given_up, pause
from xprecomputed.tracing import record_retry

__all__ = ["Failure", "persistently"]

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class Failure:
    """What came of a request.

    Parameters
    ----------
    error : Exception
        What to raise.
    passing : bool
        Whether the same request may succeed later: time-outs, 429, 5xx, broken connections.
    """

    error: Exception
    passing: bool = False


def persistently(ask: Callable[[], T], explain: Callable[[Exception], Failure]) -> T:
    """Call `ask` until it succeeds, fails for good, or ``options.max_retries`` are spent.

    It is not repeated for what was given up meanwhile: an interrupted read ends with its first
    time-outs, not with its last ones. Pauses grow and are random: many tasks that failed
    together do not come back together.

    Parameters
    ----------
    ask : callable
        Can be repeated.
    explain : callable
        What an exception of `ask` means.

    Raises
    ------
    PrecomputedError
        That of the last failure.
    """
    longest = FIRST_PAUSE_S
    for attempt in count():
        try:
            return ask()
        except Exception as error:
            failure = explain(error)
        if not failure.passing or attempt >= get_options().max_retries:
            break
        if is_given_up() or not pause(random.uniform(0, longest)):
            break
        record_retry()
        longest = min(2 * longest, LONGEST_PAUSE_S)
    raise failure.error from None
