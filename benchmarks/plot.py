"""A chart of what ``python -m benchmarks --out results.json`` found.

Run it as ``python -m benchmarks.plot results.json benchmarks/latest.svg``; it needs matplotlib.
For each row that a peer has too: how many times as fast as the best of them, and how far that
went from round to round. At 1 both are as fast; 1.3 is what most rows are to reach.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

AS_FAST, WANTED = 1.0, 1.3


def draw(rows: list[dict[str, Any]], machine: str, path: Path) -> None:
    """Save the chart; the ending of `path` says as what."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = [each for each in rows if each["to_best_peer"]]
    ratios = [each["to_best_peer"] for each in rows]
    spread = [
        [ratio - each["to_best_peer_spread"][0] for ratio, each in zip(ratios, rows, strict=True)],
        [each["to_best_peer_spread"][1] - ratio for ratio, each in zip(ratios, rows, strict=True)],
    ]
    figure = Figure(figsize=(9, 1.5 + 0.22 * len(rows)), layout="constrained")
    axes = figure.subplots()
    colors = [_color(ratio) for ratio in ratios]
    beyond = [ratio - AS_FAST for ratio in ratios]
    places = range(len(rows))
    axes.barh(places, beyond, 0.7, AS_FAST, xerr=spread, color=colors, ecolor="0.4")
    axes.set_yticks(places, [f"{each['row']} ({each['best_peer']})" for each in rows])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xscale("log")
    ticks = [
        each for each in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if _is_shown(each, ratios)
    ]
    axes.set_xticks(ticks, [f"{each:g}" for each in ticks])
    axes.minorticks_off()
    for at, style in ((AS_FAST, "-"), (WANTED, "--")):
        axes.axvline(at, color="black", linestyle=style, linewidth=0.8)
    axes.set_xlabel("times as fast as the best peer (lines at 1 and 1.3)")
    figure.suptitle(machine, fontsize=6, wrap=True)
    with rc_context({"svg.fonttype": "none"}):  # text as text: a fifth of the bytes
        figure.savefig(path, dpi=80, metadata={"Date": None} if path.suffix == ".svg" else None)


def _is_shown(tick: float, ratios: list[float]) -> bool:
    return min([AS_FAST, *ratios]) / 2 < tick < max([WANTED, *ratios]) * 2


def _color(ratio: float) -> str:
    if ratio < AS_FAST:
        return "tab:red"
    return "tab:orange" if ratio < WANTED else "tab:green"


def main() -> None:
    """Read the figures, save the chart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("results", type=Path, help="JSON, made by --out")
    parser.add_argument("chart", type=Path, help="file that is made: .svg or .png")
    arguments = parser.parse_args()
    found = json.loads(arguments.results.read_text())
    draw(found["rows"], found["machine"], arguments.chart)


if __name__ == "__main__":
    main()
