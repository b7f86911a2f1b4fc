"""What a row of the table is: one job, and who does it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

__all__ = ["LIMIT", "OURS", "PEERS", "Contender", "Operation", "Place", "Row", "Target", "checksum"]

OURS, LIMIT = "xprecomputed", "limit"
#: Who may be missing, and the module that tells.
PEERS = {"CloudVolume": "cloudvolume", "TensorStore": "tensorstore"}


@dataclass(frozen=True)
class Place:
    """Where a contender finds its data.

    Parameters
    ----------
    data : Path
        The folder of layers.
    scratch : Path
        A folder of its own, empty.
    side : int
        Voxels along each side of the layers.
    port : int
        Of the server that holds the row's layer; 0 if there is none.
    """

    data: Path
    scratch: Path
    side: int
    port: int = 0


#: The timed part; what it returns is looked at afterwards.
Operation: TypeAlias = Callable[[], Any]
#: Opens what is needed, and returns the timed part.
Contender: TypeAlias = Callable[[Place], Operation]


@dataclass(frozen=True)
class Target:
    """Seconds of `of` divided by ours should be at least `least`.

    `of` is a contender, or ``"best peer"``. `slack_s` is taken from our seconds first.
    """

    of: str
    least: float
    slack_s: float = 0.0


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    name, group : str
    contenders : mapping of str to Contender
        `OURS` among them.
    targets : tuple of Target
    nbytes : callable, optional
        Decoded bytes, from the side of the layers; without it seconds are printed.
    summary : callable
        What a result is compared by: numbers by name, of the result and the place. Looked at
        after the clock has stopped.
    tolerance : float
        Relative, of the summary; 0: equal.
    latency_s : float or None
        The row's `layer` is on a web server that answers so late; None: no server.
    layer : str
    ideal_s : float
        What latency alone costs: shown as the limit.
    repeats : int
        In one process; the first of several is not counted, nor the second of quick ones (then
        there is one more): they also load what is loaded at first use, or after some.
    writes : bool
        The scratch folder is removed before each run, outside of the clock.
    needs : mapping of str to str
        The module without which a contender is left out, beside its own of `PEERS`.
    """

    name: str
    group: str
    contenders: Mapping[str, Contender]
    targets: tuple[Target, ...] = ()
    nbytes: Callable[[int], int] | None = None
    summary: Callable[[Any, Place], dict[str, float]] = field(
        default=lambda result, _: checksum(result)
    )
    tolerance: float = 0.0
    latency_s: float | None = None
    layer: str = ""
    ideal_s: float = 0.0
    repeats: int = 3
    writes: bool = False
    needs: Mapping[str, str] = field(default_factory=dict)


def checksum(result: Any) -> dict[str, float]:
    """An array with axes (..., z, y, x) by what it holds."""
    data = np.ascontiguousarray(np.squeeze(result))
    return {"crc32": float(zlib.crc32(data.view(np.uint8).reshape(-1)))}
