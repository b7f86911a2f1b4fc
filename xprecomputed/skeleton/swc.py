"""SWC, the text form of skeletons that are trees: one line a vertex, with its parent (pure).

Written and read here, since osteoid's own leaves out vertices without an edge, cuts cycles
open and takes one blank between columns only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import CorruptDataError, LayoutError
from xprecomputed.skeleton.format import Skeleton, osteoid_skeleton

__all__ = ["parse_swc", "swc_text"]

HEADER = "# written by xprecomputed; x, y, z and radius in nm\n# id type x y z radius parent\n"
SOMA = 1
#: The parent of what has none.
ROOT = -1
#: float32 holds no more.
MOST = 3.4e38
COLUMNS = 7


def swc_text(skeleton: Skeleton, where: str = "skeleton") -> str:
    """A skeleton as SWC.

    Parameters
    ----------
    skeleton : osteoid.Skeleton
        In nm; of its attributes only ``radius`` and ``vertex_types`` have a place in SWC.
    where : str
        For messages.

    Returns
    -------
    str
        Parents before their children, ids from 1 on. Each component has a root, with parent
        -1: its first soma, or else its first vertex. Numbers read back as the same float32.

    Raises
    ------
    LayoutError
        The skeleton has a cycle, which would have to be cut open.

    Examples
    --------
    >>> import osteoid
    >>> path = osteoid.Skeleton([(0, 0, 0), (1, 2, 3)], [(0, 1)], radii=[1, 2])
    >>> print(swc_text(path).splitlines()[-1])
    2 0 1 2 3 2 1
    """
    points = np.asarray(skeleton.vertices, np.float32).reshape(-1, 3)
    count = len(points)
    types = np.asarray(getattr(skeleton, "vertex_types", np.zeros(count))).reshape(count)
    radii = np.asarray(getattr(skeleton, "radius", np.full(count, -1)), np.float32).reshape(count)
    edges = np.asarray(skeleton.edges).reshape(-1, 2).astype(np.int64)
    numbers: dict[int, int] = {-1: -1}
    lines = []
    for vertex, parent in _walk(edges, _roots(types), where):
        numbers[vertex] = len(numbers)
        x, y, z = points[vertex].tolist()
        lines.append(
            f"{numbers[vertex]} {int(types[vertex])} {x:.9g} {y:.9g} {z:.9g} "
            f"{float(radii[vertex]):.9g} {numbers[parent]}\n"
        )
    return HEADER + "".join(lines)


def _roots(types: NDArray[Any]) -> list[int]:
    """All vertices in the order in which they may become the root of their component."""
    is_soma = types == SOMA
    return [*np.flatnonzero(is_soma).tolist(), *np.flatnonzero(~is_soma).tolist()]


def _walk(edges: NDArray[np.int64], roots: list[int], where: str) -> Iterator[tuple[int, int]]:
    """Each vertex with its parent, or -1, after its parent."""
    distinct = np.unique(np.sort(edges[edges[:, 0] != edges[:, 1]], axis=1), axis=0)
    neighbours: dict[int, list[int]] = {}
    for a, b in distinct.tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    seen: set[int] = set()
    for root in roots:
        waiting = [] if root in seen else [(root, -1)]
        while waiting:
            vertex, parent = waiting.pop()
            if vertex in seen:
                raise LayoutError(
                    f"{where}: a cycle passes through vertex {vertex}, and SWC has trees only; "
                    "file_format='precomputed' keeps it"
                )
            seen.add(vertex)
            yield vertex, parent
            nearby = reversed(neighbours.get(vertex, []))
            waiting += [(each, vertex) for each in nearby if each != parent]


def parse_swc(text: str, where: str = "SWC", segment_id: int | None = None) -> Skeleton:
    r"""A skeleton out of SWC.

    Parameters
    ----------
    text : str
        Columns id, type, x, y, z, radius and parent, with blanks between; ``#`` begins a
        comment. Nothing is converted: the numbers should be in nm, as CloudVolume writes them
        too, whatever unit the header speaks of.
    where : str
        For messages.
    segment_id : int, optional

    Returns
    -------
    osteoid.Skeleton
        In space "physical"; vertices in the order of the lines, each edge from child to parent.
        A radius that is no number, such as ``NA``, is -1.

    Raises
    ------
    CorruptDataError
        With the line that cannot be understood.

    Examples
    --------
    >>> parse_swc("1 0 0 0 0 5 -1\n2 0 8 0 0 5 1").edges.tolist()
    [[1, 0]]
    """
    rows: dict[int, tuple[int, list[float]]] = {}
    parents: list[int] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        columns = line.partition("#")[0].split()
        if not columns:
            continue
        try:
            vertex, row, parent = _row(columns)
        except (ValueError, OverflowError):
            raise CorruptDataError(
                f"{where}, line {number}: {line[:100]!r}, expected whole id >= 0, type 0 to 255, "
                "finite x, y, z, radius, parent (-1: none)"
            ) from None
        if vertex in rows:
            raise CorruptDataError(f"{where}, line {number}: vertex {vertex} for the second time")
        rows[vertex] = (len(rows), row)
        parents.append(parent)
    edges = []
    for child, (vertex, parent) in enumerate(zip(rows, parents, strict=True)):
        if parent == ROOT:
            continue
        if parent not in rows or parent == vertex:
            raise CorruptDataError(f"{where}: vertex {vertex} has parent {parent}, which is none")
        edges.append((child, rows[parent][0]))
    table = np.array([row for _, row in rows.values()], np.float32).reshape(-1, 5)
    return osteoid_skeleton()(
        np.ascontiguousarray(table[:, 1:4]),
        np.array(edges, np.uint32).reshape(-1, 2),
        np.ascontiguousarray(table[:, 4]),
        table[:, 0].astype(np.uint8),
        segid=segment_id,
        space="physical",
    )


def _row(columns: list[str]) -> tuple[int, list[float], int]:
    if len(columns) < COLUMNS:
        raise ValueError
    kind = float(columns[1])  # some write 1.0
    if not (kind.is_integer() and 0 <= kind <= 255):
        raise ValueError
    try:
        radius = float(columns[5])
    except ValueError:
        radius = -1.0
    places = [float(each) for each in columns[2:5]]
    vertex, parent = (int(columns[at]) for at in (0, 6))
    if not (vertex >= 0 and parent >= ROOT and all(abs(each) < MOST for each in places)):
        raise ValueError
    return vertex, [kind, *places, radius if abs(radius) < MOST else -1.0], parent
