"""One contender of one row, in a process of its own: prints what it measured as JSON."""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path

from benchmarks.rows import Place
from benchmarks.table_of_rows import ROWS

MIB = 1 << 20
#: What is loaded at first use is loaded in the first run; what is worth it only after some use, in
#: one more, where that does not take long.
MOST_UNCOUNTED, QUICK_S = 2, 1.5


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak_bytes() -> int:
    """Since `_forget_peak`, or since the process began where that is impossible."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main(row_name: str, contender: str, data: str, scratch: str, side: str, port: str) -> None:
    """Time one contender."""
    row = ROWS[row_name]
    place = Place(Path(data), Path(scratch), int(side), int(port))
    operation = row.contenders[contender](place)
    seconds: list[float] = []
    peak, beyond, uncounted = 0, 0, min(1, row.repeats - 1)
    while len(seconds) < row.repeats + (uncounted == MOST_UNCOUNTED):
        result = None
        if row.writes:
            shutil.rmtree(place.scratch, ignore_errors=True)
        gc.collect()
        _forget_peak()
        resident = _resident_bytes()
        began = time.perf_counter()
        result = operation()
        seconds.append(time.perf_counter() - began)
        peak = max(peak, _peak_bytes())
        beyond = _peak_bytes() - resident - getattr(result, "nbytes", 0)
        if uncounted and seconds[0] < QUICK_S:
            uncounted = MOST_UNCOUNTED
    summary = row.summary(result, place)
    print(
        json.dumps(
            {
                "seconds": min(seconds[uncounted:]),
                "first_s": seconds[0],
                "peak_mib": peak / MIB,
                "beyond_mib": beyond / MIB,  # of the last time: nothing is loaded any more
                "summary": summary,
            }
        ),
        flush=True,
    )
    os._exit(0)  # some peers take long to end


if __name__ == "__main__":
    main(*sys.argv[1:])
