"""Running rows: every contender in a fresh process, one after another, round by round."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.rows import PEERS, Row
from benchmarks.serving import folder, serving

__all__ = ["Measured", "run"]

#: One dict for each round, by contender: see `child`.
Measured = dict[str, list[dict[str, Any]]]
CHECKOUT = Path(__file__).resolve().parent.parent


def run(row: Row, data: Path, side: int, rounds: int, say: Callable[[str], None]) -> Measured:
    """Measure one row.

    Raises
    ------
    AssertionError
        Contenders got different results.
    """
    names = [name for name in row.contenders if _is_here(row, name)]
    measured: Measured = {name: [] for name in names}
    with _server(row, data) as port:
        for number in range(rounds):
            # who begins changes, so that nobody always follows the same
            at = number % len(names)
            for name in names[at:] + names[:at]:
                measured[name].append(_one(row, name, data, side, port))
            say(f"{row.name}: round {number + 1} of {rounds}")
    _require_equal(row, measured)
    return measured


def _is_here(row: Row, contender: str) -> bool:
    modules = (PEERS.get(contender), row.needs.get(contender))
    return all(find_spec(each) for each in modules if each)


@contextmanager
def _server(row: Row, data: Path) -> Iterator[int]:
    if row.latency_s is None:
        yield 0
        return
    with serving(folder(data / row.layer), row.latency_s) as server:
        yield server.port


def _one(row: Row, contender: str, data: Path, side: int, port: int) -> dict[str, Any]:
    # in memory where there is such a folder: how long a disk takes says nothing about a reader
    memory = Path("/dev/shm")
    scratch = (memory if memory.is_dir() else data) / f"xprecomputed-{data.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    command = [row.name, contender, str(data), str(scratch), str(side), str(port)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", *command],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(scratch, ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"{row.name} by {contender} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _require_equal(row: Row, measured: Measured) -> None:
    """All contenders have the same result, every time; those that have none say nothing."""
    found = [(name, each["summary"]) for name, runs in measured.items() for each in runs]
    found = [(name, summary) for name, summary in found if summary]
    for name, summary in found[1:]:
        wanted = found[0][1]
        if summary.keys() != wanted.keys() or not all(
            math.isclose(summary[key], wanted[key], rel_tol=row.tolerance) for key in wanted
        ):
            raise AssertionError(f"{row.name}: {found[0][0]} {wanted}, {name} {summary}")
