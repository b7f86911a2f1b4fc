"""Figures to lines: medians, ratios round by round, and what is under its target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.rows import LIMIT, OURS, PEERS, Row, Target
from benchmarks.running import Measured

__all__ = ["HEADER", "line", "result", "verdicts"]

HEADER = (
    "| row | unit | xprecomputed | CloudVolume | TensorStore | other | limit "
    "| to best peer (min to max) | of limit | MiB beyond the result | target |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def _median(measured: Measured, name: str, what: str = "seconds") -> float:
    return statistics.median(each[what] for each in measured[name])


def _ratios(measured: Measured, name: str, slack_s: float = 0.0) -> list[float]:
    """Seconds of `name` over ours, in each round."""
    return [
        other["seconds"] / max(mine["seconds"] - slack_s, 1e-9)
        for mine, other in zip(measured[OURS], measured[name], strict=True)
    ]


def _best_peer(measured: Measured) -> str | None:
    present = [name for name in PEERS if name in measured]
    return min(present, key=lambda name: _median(measured, name), default=None)


def verdicts(row: Row, measured: Measured) -> list[tuple[Target, float]]:
    """Each target that can be judged here, and the median ratio that was found."""
    found = []
    for target in row.targets:
        name = _best_peer(measured) if target.of == "best peer" else target.of
        if target.of == LIMIT and row.ideal_s:
            found.append((target, row.ideal_s / _median(measured, OURS)))
        elif name in measured:
            found.append((target, statistics.median(_ratios(measured, name, target.slack_s))))
    return found


def result(row: Row, measured: Measured, side: int) -> dict[str, Any]:
    """Everything about a row, for JSON."""
    best = _best_peer(measured)
    ratios = _ratios(measured, best) if best else []
    limit = row.ideal_s or (_median(measured, LIMIT) if LIMIT in measured else None)
    return {
        "row": row.name,
        "group": row.group,
        "nbytes": row.nbytes(side) if row.nbytes else None,
        "seconds": {name: _median(measured, name) for name in measured},
        "limit_s": limit,
        "best_peer": best,
        "to_best_peer": statistics.median(ratios) if ratios else None,
        "to_best_peer_spread": [min(ratios), max(ratios)] if ratios else None,
        "of_limit": limit / _median(measured, OURS) if limit else None,
        "peak_mib": {name: _median(measured, name, "peak_mib") for name in measured},
        "beyond_mib": {name: _median(measured, name, "beyond_mib") for name in measured},
        "targets": [
            {"of": target.of, "least": target.least, "slack_s": target.slack_s, "found": ratio}
            for target, ratio in verdicts(row, measured)
        ],
    }


def line(found: dict[str, Any]) -> str:
    """A row of the table in Markdown."""
    nbytes, seconds = found["nbytes"], found["seconds"]

    def shown(value: float | None) -> str:
        if value is None:
            return ""
        return f"{nbytes / value / 1e6:.0f}" if nbytes else f"{value:.3f}"

    others = ", ".join(
        f"{name} {shown(value)}"
        for name, value in seconds.items()
        if name not in (OURS, LIMIT, *PEERS)
    )
    spread = found["to_best_peer_spread"]
    cells: Sequence[str] = [
        found["row"],
        "MB/s" if nbytes else "s",
        shown(seconds[OURS]),
        *(shown(seconds.get(name)) for name in PEERS),
        others,
        shown(found["limit_s"]),
        f"**{found['to_best_peer']:.2f}** ({spread[0]:.2f} to {spread[1]:.2f})" if spread else "",
        f"{found['of_limit']:.2f}" if found["of_limit"] else "",
        f"{found['beyond_mib'][OURS]:.0f}",
        ", ".join(_verdict(each) for each in found["targets"]),
    ]
    return "| " + " | ".join(cells) + " |"


def _verdict(target: dict[str, Any]) -> str:
    mark = "yes" if target["found"] >= target["least"] else "**no**"
    return f"{mark}: {target['found']:.2f} of {target['of']} (≥ {target['least']})"
