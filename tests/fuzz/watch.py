"""Running cases in a process that is watched, so that its death is a count and not the end."""

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.cases import target

SECONDS = 60.0  # without a result, a case has hung


@dataclass
class Tally:
    """What came of the cases of one target."""

    name: str
    counts: Counter = field(default_factory=Counter)
    notes: dict = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def cases(self):
        return self.counts.total()

    def note(self, number, outcome, message):
        self.counts[outcome] += 1
        if outcome in ("foreign", "crash", "hang"):
            self.notes.setdefault(message, (number, outcome))


def child(name, seed, start, stop):
    """Run cases and tell the outcome of each on stdout, one line a case."""
    with tempfile.TemporaryDirectory() as folder:
        fuzzed = target(name, seed, folder)
        for number in range(start, stop):
            outcome, message = fuzzed.run(number)
            print(json.dumps([number, outcome, message[:300]]), flush=True)


def fuzz(name, count, seed=0, start=0):
    """Run `count` cases of a target in watched processes."""
    tally, at, stop = Tally(name), start, start + count
    began = time.monotonic()
    while at < stop:
        command = [
            sys.executable,
            "-m",
            "tests.fuzz",
            "--child",
            name,
            str(seed),
            str(at),
            str(stop),
        ]
        root = Path(__file__).resolve().parents[2]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, bufsize=0)
        at, hung = _follow(process, tally, at)
        if hung:
            process.kill()
        code = process.wait()
        process.stdout.close()
        if at < stop:  # it has not come to its end
            outcome = "hang" if hung else "crash"
            tally.note(at, outcome, f"{outcome} (exit code {code})")
            at += 1
    tally.seconds = time.monotonic() - began
    return tally


def _follow(process, tally, at):
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(SECONDS):
            received = os.read(process.stdout.fileno(), 1 << 16)
            if not received:
                return at, False
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                number, outcome, message = json.loads(line)
                tally.note(number, outcome, message)
                at = number + 1
    return at, True
