"""Counting what Python calls: the calls hold the GIL, for which all threads wait."""

import sys


def calls_of(work):
    """How often Python calls something while `work` runs, in this thread."""
    count = 0

    def called(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count
