"""Fuzz every decoder and parser, and print a table.

::

    python -m tests.fuzz --encoding all --count 10000 --seed 0
    python -m tests.fuzz --encoding fpzip --encoding "shards, raw" --count 500 --start 7000
    python -m tests.fuzz --encoding crackle --count 10000 --keep tests/fuzz/findings

Valid chunks of each encoding, type and number of channels are damaged (bits, bytes, lengths,
header fields, truncation, extension, splices), bare and inside gzip, br and zstd, and decoded
through the public codecs in a process that is watched. So are ``info`` documents, shard indexes
and reads of whole sharded volumes. The same seed and number always make the same case.

The columns: cases; decoded to the same values; decoded to other values (encodings without a
checksum cannot know; 0 for those that have one; of a sharded volume only chunks outside the
damage count, 0 unless an index without a checksum is damaged); errors of xprecomputed; errors of anything else; crashes; hangs; seconds. The exit
status is 1 if there is an error of anything else, a crash or a hang. ``--keep`` writes the first
case of each such finding into a folder, which ``tests/fuzz/test_findings.py`` replays.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.fuzz.cases import OUTCOMES, TARGETS, target
from tests.fuzz.watch import child, fuzz

HEAD = ("cases", "equal", "other values", "our errors", "foreign errors", "crashes", "hangs", "s")


def keep(tally, seed, folder):
    """Write the first case of each finding as ``<name>.bin`` and ``<name>.json``."""
    with tempfile.TemporaryDirectory() as scratch:
        fuzzed = target(tally.name, seed, scratch)
        for message, (number, outcome) in tally.notes.items():
            about, data = fuzzed.fixture(number)
            stem = f"{tally.name.replace(', ', '-').replace(' ', '-')}-{seed}-{number}"
            (folder / f"{stem}.bin").write_bytes(data)
            text = json.dumps(about | {"was": outcome, "message": message}, indent=1)
            (folder / f"{stem}.json").write_text(text + "\n")


def main(arguments=None):
    if arguments is None and sys.argv[1:2] == ["--child"]:
        name, *numbers = sys.argv[2:]
        child(name, *map(int, numbers))
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--encoding", action="append", help=f"all, or one of: {'; '.join(TARGETS)}")
    parser.add_argument("--count", type=int, default=10_000, help="cases of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--keep", type=Path, help="folder for findings")
    options = parser.parse_args(arguments)
    names = options.encoding or ["all"]
    names = list(TARGETS) if "all" in names else names
    print(f"{'':24}" + "".join(f"{each:>15}" for each in HEAD))
    bad = 0
    for name in names:
        tally = fuzz(name, options.count, options.seed, options.start)
        row = [tally.cases, *(tally.counts[each] for each in OUTCOMES), round(tally.seconds)]
        print(f"{name:24}" + "".join(f"{each:>15}" for each in row), flush=True)
        for message, (number, outcome) in tally.notes.items():
            print(f"    {outcome}, case {number}: {message}", flush=True)
        bad += len(tally.notes)
        if options.keep and tally.notes:
            keep(tally, options.seed, options.keep)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
