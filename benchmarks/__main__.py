"""``python -m benchmarks``: the whole table, or some of its rows; see README.md here."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import layers, table
from benchmarks.machine import machine
from benchmarks.running import run
from benchmarks.table_of_rows import ROWS


def main() -> None:
    """Make the data, run the rows, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", default=["*"], help="names of rows, * and ? allowed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=512, help="voxels along each side")
    parser.add_argument("--data", type=Path, help="folder that keeps the layers between runs")
    parser.add_argument("--out", type=Path, help="file for the figures, JSON")
    arguments = parser.parse_args()
    data = arguments.data or Path(tempfile.gettempdir()) / f"xprecomputed-{arguments.side}"
    chosen = [
        row
        for name, row in ROWS.items()
        if any(fnmatch.fnmatch(name, each) for each in arguments.rows)
    ]
    if not chosen:
        parser.error(f"no row is called {arguments.rows}; there are: {', '.join(ROWS)}")
    layers.make(data, arguments.side)
    found: list[dict[str, Any]] = []
    failed = False
    print(machine(), table.HEADER, sep="\n\n", flush=True)
    for row in chosen:
        try:
            measured = run(
                row,
                data,
                arguments.side,
                arguments.rounds,
                lambda text: print(text, file=sys.stderr),
            )
        except (AssertionError, RuntimeError) as error:  # the others are still of use
            failed = True
            print(f"| {row.name} | failed: {str(error).splitlines()[-1]} |", flush=True)
            continue
        found.append(table.result(row, measured, arguments.side))
        print(table.line(found[-1]), flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps({"machine": machine(), "rows": found}, indent=1))
    sys.exit(failed)


if __name__ == "__main__":
    main()
