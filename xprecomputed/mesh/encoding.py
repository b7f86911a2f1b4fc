"""From triangles in nm to a manifest and fragments in Draco (format reference 5.2, pure).

Vertices are rounded first, to a lattice that all fragments of a level share: a cell is
``2**bits - 1`` steps long, and what lies on the plane between two is the last step of one and
step 0 of the other, the same place in the stored model. Then triangles are cut on that lattice.
So what is cut fits together exactly, and no rounding comes after that could move a vertex over a
plane, neither that of a neighbour nor, from level 1 on, that of a cell's halves, which
Neuroglancer puts at the integer ``2**(bits - 1)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import draco
from xprecomputed.mesh.lods import make_lods, resolution
from xprecomputed.mesh.manifest import Manifest
from xprecomputed.mesh.octree import Cells, cut, sort_into_cells, spread, weld, zorder
from xprecomputed.metadata import MeshInfo

__all__ = [
    "Encoded",
    "Grid",
    "Levels",
    "check_pieces",
    "count_lods",
    "encode_mesh",
    "lods_for",
    "nothing_left",
    "on_lattice",
    "scales",
    "stored_model",
]

#: About so many triangles are in a fragment, on average, where nobody says otherwise.
USUAL_TRIANGLES = 1 << 14
MOST_LODS = 16
#: Along an axis; the planes between them are listed.
MOST_CELLS = 1 << 16
#: Where nobody says how many levels, a triangle lies in so many more cells than one, on average.
USUAL_PIECES = 0.25
#: Whatever somebody says, it lies in no more than so many, and all in so many more.
MOST_PIECES, FREE_PIECES = 4, 1 << 16

Triple = tuple[float, float, float]
Floats = NDArray[np.float64]
Faces = NDArray[np.int64]
#: Vertices in nm, (N, 3), and faces, (M, 3), of each level of detail, the finest first.
Levels = Sequence[tuple[NDArray[np.floating], NDArray[np.integer]]]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A mesh as it is stored.

    Parameters
    ----------
    manifest : Manifest
    fragments : bytes
        All Draco streams, in the order of the manifest.
    """

    manifest: Manifest
    fragments: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The cells of all levels: where they begin and how large those of level 0 are.

    In the stored model; the numbers are those that float32 holds.
    """

    origin: Floats
    shape: Floats
    steps: int

    @classmethod
    def around(
        cls, stored: Sequence[Floats], info: MeshInfo, count: int, chunk_shape: Triple | None
    ) -> Grid:
        """The grid for `count` levels, of some of which these are the vertices of all triangles.

        Raises
        ------
        ValueError
            It is not one of float32, or an axis has more than 65,536 cells.
        """
        corners = np.concatenate(stored)
        low, high = corners.min(axis=0), corners.max(axis=0)
        if chunk_shape is None:
            nm = np.linalg.norm(info.transform.matrix[:, :3], axis=0)  # of a step along each axis
            edge = ((high - _rounded(low, -np.inf)) * nm).max() / 2 ** (count - 1)
            shape = (edge or 1.0) / nm
        else:
            shape = np.asarray(chunk_shape, np.float64)
        steps = (1 << (info.vertex_quantization_bits or 16)) - 1
        grid = cls(_rounded(low, -np.inf), _rounded(shape, np.inf), steps)
        numbers = np.concatenate([grid.origin, grid.shape])
        if not (np.isfinite(numbers).all() and high.max() < 3e38):
            raise ValueError(
                f"a mesh from {low.tolist()} to {high.tolist()} in the stored model, which has "
                "float32: check its vertices and the transform of the info"
            )
        with np.errstate(over="ignore"):
            cells = np.ceil((high - grid.origin) / grid.shape).max()
        if cells > MOST_CELLS:
            raise ValueError(
                f"chunk_shape={shape.tolist()}: {cells:.0f} cells along an axis of a mesh from "
                f"{low.tolist()} to {high.tolist()}, at most {MOST_CELLS} are written; units are "
                "those of the stored model"
            )
        return grid


def stored_model(vertices: NDArray[np.floating], info: MeshInfo) -> Floats:
    """From nm to units of the stored model, shape (N, 3), in float64."""
    points = vertices.astype(np.float64)
    if info.transform.is_identity:
        return points
    matrix = info.transform.inverse().matrix
    mapped: Floats = points @ matrix[:, :3].T + matrix[:, 3]
    return mapped


def count_lods(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> int:
    """How many levels of detail a mesh should have.

    So many that the cells of level 0, which begin as one cube around the mesh and are halved
    with each level, have 16,384 triangles on average; but fewer where large triangles lie among
    small ones, so that cutting the large ones does not make more than there are.

    Parameters
    ----------
    vertices : ndarray of float, shape (N, 3)
        nm.
    faces : ndarray of integers, shape (M, 3)

    Examples
    --------
    >>> count_lods(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    1
    """
    if len(faces) <= USUAL_TRIANGLES:
        return 1
    centres = vertices.astype(np.float64)[faces].mean(axis=1)
    low = centres.min(axis=0)
    extent = (centres.max(axis=0) - low).max() or 1.0
    finest = np.floor((centres - low) / extent * ((1 << MOST_LODS) - 1)).astype(np.int64)
    codes = np.sort(zorder(finest))
    areas, lengths = spread(vertices / extent, faces)
    for lods in range(1, MOST_LODS):
        cells = codes >> np.uint64(3 * (MOST_LODS - lods + 1))
        pieces = areas * 4**lods + lengths * 2**lods  # with one level more
        if len(faces) <= USUAL_TRIANGLES * (
            1 + np.count_nonzero(np.diff(cells))
        ) or pieces > USUAL_PIECES * len(faces):
            return lods
    return MOST_LODS


def encode_mesh(
    levels: Levels,
    info: MeshInfo,
    *,
    num_lods: int | None = None,
    reduction: float = 0.25,
    chunk_shape: Triple | None = None,
) -> Encoded:
    """Encode one mesh.

    Parameters
    ----------
    levels : sequence of (vertices, faces)
        float (N, 3) nm, x, y, z, finite, and integers (M, 3). One, of which coarser ones are
        made (see `make_lods`), or all that there will be, the finest first, which has triangles.
    info : MeshInfo
        Multi-resolution: its transform, bits and multiplier.
    num_lods : int, optional
        How many levels are made of one; otherwise see `count_lods`, or with `chunk_shape` as
        many as make the coarsest a single fragment, 16 at most; fewer where coarser ones
        cannot be made.
    reduction : float
        See `make_lods`.
    chunk_shape : tuple of three float, optional
        A cell of level 0 in units of the stored model, x, y, z; those of level l are ``2**l`` as
        large. Otherwise cubes in nm, of which the coarsest of those levels has a single one.

    Returns
    -------
    Encoded
        The same for the same mesh. Vertices are at most half a step off, which is the cell of
        their level divided by ``2**bits - 1``, and half a step more where triangles were cut;
        triangles that have two corners in one place are left out.

    Raises
    ------
    ValueError
        Not one triangle with three corners in different places, as they are or as they are
        stored; so small a `chunk_shape` that an axis has more than 65,536 cells, or one or so
        many levels that cutting makes many more triangles (`check_pieces`); or a mesh or scales
        that leave the range of float32.
    MissingDependencyError
        DracoPy is absent, or fast-simplification where it is needed.

    Examples
    --------
    >>> info = MeshInfo(type="neuroglancer_multilod_draco", vertex_quantization_bits=16)
    >>> corners = np.array([[0.0, 0, 0], [8, 0, 0], [0, 8, 0]])
    >>> manifest = encode_mesh([(corners, np.array([[0, 1, 2]]))], info).manifest
    >>> manifest.chunk_shape, manifest.positions[0].tolist(), manifest.lod_scales
    ((8.0, 8.0, 8.0), [[0, 0, 0]], (8.0,))
    """
    surfaces = [weld(vertices.astype(np.float64), faces) for vertices, faces in levels]
    if not len(surfaces[0][1]):
        raise ValueError("not one triangle with three corners in different places")
    count = lods_for(surfaces, info, num_lods, chunk_shape)
    if len(surfaces) == 1:
        surfaces = make_lods(*surfaces[0], count, reduction, only_coarser=num_lods is None)
    stored = [(stored_model(vertices, info), faces) for vertices, faces in surfaces]
    grid = Grid.around([vertices for vertices, _ in stored], info, count, chunk_shape)
    check_pieces(stored, grid, len(stored))
    cells = [_cells(*each, grid, lod) for lod, each in enumerate(stored)]
    if not len(cells[0][1].positions):
        raise ValueError(nothing_left(grid))
    return _assembled(cells, grid, scales(surfaces, grid, info))


def lods_for(
    levels: Levels, info: MeshInfo, num_lods: int | None, chunk_shape: Triple | None
) -> int:
    """How many levels there will be, at most; nm, only vertices that triangles have."""
    if num_lods is not None or len(levels) > 1:
        return num_lods or len(levels)
    vertices, faces = levels[0]
    if chunk_shape is None:
        return count_lods(vertices, faces)
    with np.errstate(over="ignore"):
        times = (np.ptp(stored_model(vertices, info), axis=0) / np.asarray(chunk_shape)).max()
    if times > MOST_CELLS:
        return MOST_LODS
    return 1 + min(int(np.ceil(np.log2(max(times, 1.0)))), MOST_LODS - 1)


def nothing_left(grid: Grid) -> str:
    """What to say of a mesh that is smaller than a step."""
    return (
        f"nothing is left of the mesh where a step is {(grid.shape / grid.steps).tolist()} in the "
        "stored model: take a smaller chunk_shape, or 16 vertex_quantization_bits"
    )


def check_pieces(stored: Sequence[tuple[Floats, Faces]], grid: Grid, count: int) -> None:
    """Refuse cells that would cut a mesh to pieces without number.

    Parameters
    ----------
    stored : sequence of (vertices, faces)
        float64 (N, 3), in the stored model; the last is taken for all levels that follow.
    grid : Grid
    count : int
        Levels.

    Raises
    ------
    ValueError
        In all levels, triangles lie in more than 4 further cells for each that is in level 0,
        and 65,536.

    Examples
    --------
    >>> triangle = np.array([[0.0, 0, 0], [8, 0, 0], [0, 8, 0]]), np.array([[0, 1, 2]])
    >>> check_pieces([triangle], Grid(np.zeros(3), np.ones(3), 65535), 4)
    """
    spreads = [spread(vertices / grid.shape, faces) for vertices, faces in stored]
    pieces = 0.0
    for lod in range(count):
        areas, lengths = spreads[min(lod, len(spreads) - 1)]
        finer = (2 if lod else 1) / 2**lod  # cells from level 1 on are cut in halves, too
        pieces += areas * finer**2 + lengths * finer
    faces = len(stored[0][1])
    most = MOST_PIECES * faces + FREE_PIECES
    if pieces > most:
        raise ValueError(
            f"{count} levels, the finest with cells of {grid.shape.tolist()} in the stored model, "
            f"cut {faces} triangles to pieces in about {pieces:.3g} cells, at most {most} are "
            "written: take a larger chunk_shape or a smaller num_lods"
        )


def _rounded(values: Floats, toward: float) -> Floats:
    """The nearest numbers of float32 in one direction."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    wrong = near.astype(np.float64) > values if toward < 0 else near.astype(np.float64) < values
    return np.where(wrong, np.nextafter(near, np.float32(toward)), near).astype(np.float64)


def on_lattice(vertices: Floats, grid: Grid, lod: int) -> NDArray[np.int64]:
    """Vertices in steps of a level."""
    along = (vertices - grid.origin) / (grid.shape * 2**lod)
    rounded: NDArray[np.int64] = np.rint(along * grid.steps).astype(np.int64)
    return rounded


def _cells(
    vertices: Floats, faces: NDArray[np.int64], grid: Grid, lod: int
) -> tuple[NDArray[np.int64], Cells]:
    """Vertices of a level on its lattice, and its triangles by cell."""
    steps = grid.steps
    lattice, corners = weld(on_lattice(vertices, grid, lod), faces)
    if not len(corners):
        return lattice, sort_into_cells(lattice, corners, steps)
    counts = np.maximum(-(-lattice.max(axis=0) // steps), 1)
    planes = [_planes(int(count), steps, lod > 0) for count in counts]
    lattice, corners = cut(lattice, corners, planes)
    return lattice, sort_into_cells(lattice, corners, steps)


def _planes(count: int, steps: int, halves: bool) -> NDArray[np.int64]:
    """Between `count` cells, and through the middle of each as Neuroglancer sees it."""
    planes = np.arange(1, count) * steps
    if halves:
        middles = np.arange(count) * steps + (steps + 1) // 2
        planes = np.sort(np.concatenate([planes, middles]))
    return planes


def scales(levels: Levels, grid: Grid, info: MeshInfo) -> tuple[float, ...]:
    """How fine each level is, times the multiplier of the info; never finer than one before.

    Raises
    ------
    ValueError
        float32 does not hold one.
    """
    linear = info.transform.matrix[:, :3]
    step = float((grid.shape * np.linalg.norm(linear, axis=0)).max()) / grid.steps
    nm = [max(resolution(*each), step * 2**lod) for lod, each in enumerate(levels)]
    unit = float(np.linalg.norm(linear, 2)) * info.lod_scale_multiplier
    found = np.maximum.accumulate(nm) / unit
    with np.errstate(over="ignore", under="ignore"):
        stored = found.astype(np.float32)
    if not (np.isfinite(stored).all() and (stored > 0).all()):
        raise ValueError(
            f"lod_scales of {found.tolist()}, which float32 does not hold: they are nm divided by "
            f"the lod_scale_multiplier of the info, {info.lod_scale_multiplier}, and by its "
            "transform; make the folder with others"
        )
    return tuple(found.tolist())


def _assembled(
    cells: Sequence[tuple[NDArray[np.int64], Cells]],
    grid: Grid,
    lod_scales: tuple[float, ...],
) -> Encoded:
    positions: list[NDArray[np.uint32]] = []
    sizes: list[NDArray[np.uint32]] = []
    streams: list[bytes] = []
    parents = np.zeros((0, 3), np.int64)
    for lattice, level in cells:
        coded = [
            _fragment(lattice, faces, position * grid.steps)
            for position, faces in zip(level.positions, level.faces, strict=True)
        ]
        streams += coded
        # a fragment whose parent is not listed is never found: it is, and is empty
        listed = np.unique(np.concatenate([level.positions, parents]), axis=0)
        codes = zorder(listed)
        listed, codes = listed[np.argsort(codes)], np.sort(codes)
        nbytes = np.zeros(len(listed), np.uint32)
        nbytes[np.searchsorted(codes, zorder(level.positions))] = [len(each) for each in coded]
        positions.append(listed.astype(np.uint32))
        sizes.append(nbytes)
        parents = np.unique(listed >> 1, axis=0)
    manifest = Manifest(
        _triple(grid.shape),
        _triple(grid.origin),
        lod_scales,
        np.zeros((len(cells), 3), np.float32),
        tuple(positions),
        tuple(sizes),
    )
    return Encoded(manifest, b"".join(streams))


def _fragment(
    lattice: NDArray[np.int64], faces: NDArray[np.int64], begin: NDArray[np.int64]
) -> bytes:
    used, local = np.unique(faces, return_inverse=True)
    return draco.encode((lattice[used] - begin).astype(np.uint32), local.reshape(-1, 3))


def _triple(values: Floats) -> Triple:
    x, y, z = values.tolist()
    return x, y, z
